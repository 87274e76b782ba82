"""What a backend is asked to be verified, and what came of it: conversations, and texts of exact lengths."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from slmkit.compare.cases import Case
from slmkit.compare.entry import told
from slmkit.errors import SlmError
from slmkit.events import TokenInfo, collect
from slmkit.options import Options
from slmkit.request import Message, Request

if TYPE_CHECKING:
    from slmkit.backends.base import Capabilities
    from slmkit.model import Model

# What a person sees first, then what breaks first: other scripts, code, digits, spaces, empty lines. No control words:
# backends that take those for control tokens refuse them, which says nothing of their numbers.
PROMPTS = tuple(
    Case((Message("user", text),), name)
    for name, text in (
        ("a story", "Tell me a story about a dog."),
        ("a sum", "What is 17 + 25? Answer with the number alone."),
        ("Chinese", "用三句话介绍一下北京。"),
        ("code", "Write a Python function that returns the n-th Fibonacci number."),
        ("German, emoji", "Übersetze ins Englische: „Der Käse schmeckt großartig“ 🧀"),
        ("spaces", "  Keep   the spaces,\n\n\tthe tab and the lines as they are.  "),
    )
)
SWITCH = 4096  # tokens from which on the family's LongRoPE turns by other angles; an answer that crosses it is apart
LONG_TOKENS = 8  # of an answer to a long prompt
# A penalty of the checkpoint's own would hide what the model says.
GREEDY = Options(temperature=0.0, repetition_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0)


@dataclass(frozen=True)
class Question:
    """messages, or ids as they are.   tokens: of the answer, at most."""

    name: str
    tokens: int
    messages: tuple[Message, ...] | None = None
    ids: tuple[int, ...] | None = None


@dataclass
class Seen:
    """What one backend said to a question.

    text: the rendered prompt, ids: its tokens, where the backend renders.   prompt_tokens: as usage has them.
    prompt: its tokens, scored, where that was asked for.   answer: the tokens, ended: whether by the model itself.
    said: the answer's text.
    forced: the other one's prompt and answer, scored.
    """

    text: str | None = None
    ids: tuple[int, ...] | None = None
    prompt_tokens: int = 0
    prompt: tuple[TokenInfo, ...] = ()
    answer: list[TokenInfo] = field(default_factory=list)
    ended: bool = False
    said: str = ""
    forced: tuple[TokenInfo, ...] = ()
    error: str = ""


def ask(model: Model, question: Question, top: int, scored: bool) -> Seen:
    """The greedy answer, with `top` alternatives of each token where the backend tells them.

    scored: the prompt's tokens too; the backend must be able to.   An error of the backend is in what was seen.
    """
    seen = Seen()
    capabilities = model.backend.capabilities
    if question.messages is not None:
        seen.text, seen.ids = rendered(model, question.messages)
    else:
        seen.ids = question.ids
    options = replace(GREEDY, max_tokens=question.tokens, logprobs=top if capabilities.logprobs else None)
    asked = Request(
        messages=question.messages, ids=question.ids, options=options, prompt_logprobs=top if scored else None
    )
    try:
        with closing(model.events(asked)) as events:
            answer = collect(events)
        choice = answer.choices[0]
    except Exception as error:
        seen.error = told(error)[0]
        return seen
    seen.prompt, seen.answer, seen.said = answer.prompt, choice.tokens, choice.text
    seen.prompt_tokens, seen.ended = choice.usage.prompt_tokens, choice.reason == "stop"
    return seen


def force(model: Model, first: Seen, top: int) -> tuple[TokenInfo, ...]:
    """The other one's prompt and answer, each token scored given those before it; nothing where that cannot be.

    An answer that crosses LongRoPE's switch was made with other angles than a prompt of its whole length is read with.
    """
    if first.error or first.ids is None or min(first.ids, default=-1) < 0:
        return ()
    answer = [token.id for token in first.answer]
    ids = (*first.ids, *answer)
    if min(answer, default=-1) < 0 or len(first.ids) <= SWITCH < len(ids) or len(ids) >= model.context:
        return ()
    options = replace(GREEDY, max_tokens=1)
    try:
        with closing(model.events(Request(ids=ids, options=options, prompt_logprobs=top))) as events:
            return collect(events).prompt
    except SlmError:
        return ()  # such ids are none of this model's: the vocabularies differ, which is told elsewhere


def rendered(model: Model, messages: Sequence[Message]) -> tuple[str | None, tuple[int, ...] | None]:
    """The prompt of a conversation as text and ids; None where the backend keeps them to itself."""
    try:
        prompt = model.render(messages)
    except SlmError:
        return None, None
    return prompt.text, tuple(prompt.ids)


def long_questions(model: Model, lengths: Sequence[int], by_ids: bool) -> tuple[list[Question], list[str]]:
    """Prompts of these lengths, in this model's tokens, and a line for each that cannot be.

    by_ids: both backends take ids; else they are conversations, which this one has to render.
    """
    questions, left_out = [], []
    for length in lengths:
        name = f"{length:,} tokens"
        if length + LONG_TOKENS > model.context:
            left_out.append(f"{name}: over the context of {model.context:,} of {model.name}")
            continue
        found = _long_ids(model, length) if by_ids else None
        if found is not None:
            questions.append(Question(name, LONG_TOKENS, ids=found))
        elif (message := _long_message(model, length)) is not None:
            questions.append(Question(name, LONG_TOKENS, messages=(message,)))
        else:
            left_out.append(f"{name}: {model.name} does not show its tokens, so no prompt of that length can be made")
    return questions, left_out


def takes_ids(a: Capabilities, b: Capabilities) -> bool:
    """Whether both continue ids as they are."""
    return a.token_ids and b.token_ids


def _long_ids(model: Model, length: int) -> tuple[int, ...] | None:
    try:
        return model.tokenize(prose(length))[:length]
    except SlmError:
        return None


def _long_message(model: Model, length: int) -> Message | None:
    """One that renders to exactly so many tokens, or to as few more as can be."""
    words = prose(length).split(" ")

    def count(n: int) -> int:
        ids = rendered(model, [Message("user", " ".join(words[:n]))])[1]
        return len(ids) if ids is not None else 0

    if count(1) == 0 or count(len(words)) < length:
        return None
    low, high = 1, len(words)  # the fewest words that make so many tokens
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if count(middle) >= length else (middle + 1, high)
    return Message("user", " ".join(words[:low]))


def prose(n_tokens: int) -> str:
    """A text of at least so many tokens, in any tokenizer that has whole words; no sentence comes twice."""
    what = ("an old map", "a red boat", "three blue stones", "a letter", "a small dog", "the lost key", "warm bread")
    where = ("by the river", "in the garden", "under the bridge", "near the school", "behind the mill")
    days = range(1, n_tokens // 12 + 2)  # a sentence has more than 12 tokens
    return " ".join(f"On day {day} she found {what[day % 7]} {where[day % 5]} and wrote it down." for day in days)
