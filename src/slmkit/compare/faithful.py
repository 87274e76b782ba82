"""Whether one backend or quantization gives what another gives: text, tokens and numbers, in that order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from slmkit.backends.registry import split
from slmkit.compare.cases import Case, cases_of
from slmkit.compare.entry import Entry, Open, collect_garbage, entries_of, open_entry
from slmkit.compare.findings import Finding, finding
from slmkit.compare.questions import PROMPTS, Question, Seen, ask, force, long_questions, takes_ids
from slmkit.compare.texts import Difference, Reading, prompt_difference, read, reading_differences
from slmkit.compare.verdict import VERDICTS, Reason, Tolerances, judge, meets
from slmkit.errors import RequestError
from slmkit.options import MOST_LOGPROBS, LoadOptions

if TYPE_CHECKING:
    from slmkit.backends.base import Capabilities
    from slmkit.model import Model

LENGTHS = (256, 4095, 4096, 4097, 8192)  # tokens of long prompts: both sides of LongRoPE's switch, and beyond it
TOKENS = 48  # of an answer
TOP = 20  # alternatives of a token; more than most servers tell


@dataclass(frozen=True)
class Report:
    """What was found.

    verdict: "identical", "faithful", "cannot tell" or "different"; reasons, the weightiest first.
    differences: of template, tokenizer and vocabulary, the first of each.   findings: one for each question.
    left_out: what could not be looked at, and why.
    """

    a: Entry
    b: Entry
    verdict: str
    reasons: list[Reason]
    differences: list[Difference]
    findings: list[Finding]
    left_out: list[str]
    tolerances: Tolerances

    def meets(self, expected: str = "faithful") -> bool:
        """Whether the verdict is this or better.   Raises RequestError for a word that is no verdict."""
        if expected not in VERDICTS:
            raise RequestError(f"{expected!r} is no verdict; use one of {', '.join(VERDICTS)}")
        return meets(self.verdict, expected)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "a": {"model": self.a.name, "label": self.a.label},
            "b": {"model": self.b.name, "label": self.b.label},
            "verdict": self.verdict,
            "reasons": [asdict(reason) for reason in self.reasons],
            "differences": [asdict(difference) for difference in self.differences],
            "questions": [found.as_dict() for found in self.findings],
            "left_out": self.left_out,
            "tolerances": asdict(self.tolerances),
        }


@dataclass
class _Notes:
    """What one backend gave."""

    reading: Reading
    seen: list[Seen] = field(default_factory=list)


def verify(
    a: str | Entry,
    b: str | Entry,
    prompts: Any = PROMPTS,
    *,
    load_options: LoadOptions | None = None,
    tokens: int = TOKENS,
    lengths: Sequence[int] = LENGTHS,
    top: int = TOP,
    tolerances: Tolerances | None = None,
    open: Open = open_entry,
    tell: Callable[[str], None] | None = None,
) -> Report:
    """Whether B gives what A gives, which is the measure of it; A is closed before B is opened.

    prompts: as in `compare`; answers are greedy, of at most so many tokens.   load_options: of those given by name.
    lengths: of long prompts, in A's tokens; those beyond a context are left out and named.
    top: how many alternatives of each token are looked at.   tell: called with a line about what goes on.
    Raises RequestError, and what opening a model raises.
    """
    if tokens < 1 or not 1 <= top <= MOST_LOGPROBS or any(length < 2 for length in lengths):
        raise RequestError(
            f"tokens, top and lengths are {tokens}, {top} and {', '.join(map(str, lengths)) or 'none'}; they take 1 or "
            f"more, 1 to {MOST_LOGPROBS}, and lengths of 2 or more"
        )
    first, second = entries_of([a, b], load_options)
    say, limits = tell or (lambda line: None), tolerances or Tolerances()
    cases = cases_of(prompts)
    expected = _capabilities(second)
    with _opened(first, open, say) as model:
        questions, left_out = _questions(model, cases, tokens, lengths, expected)
        ours = _first_notes(model, questions, top, expected, _named(first, say))
    with _opened(second, open, say) as model:
        questions, ours, cut = _within(model, questions, ours)
        theirs = _second_notes(model, questions, ours, top, _named(second, say))
    differences = _differences(questions, ours, theirs)
    findings = [finding(q.name, x, y) for q, x, y in zip(questions, ours.seen, theirs.seen, strict=True)]
    verdict, reasons = judge(differences, findings, limits)
    return Report(first, second, verdict, reasons, differences, findings, left_out + cut, limits)


def _opened(entry: Entry, open: Open, say: Callable[[str], None]) -> Model:
    collect_garbage()
    say(f"opening {entry.label}")
    return open(entry)


def _named(entry: Entry, say: Callable[[str], None]) -> Callable[[str], None]:
    return lambda line: say(f"{entry.label}: {line}")


def _capabilities(entry: Entry) -> Capabilities:
    """What a model's backend is likely to do, known before it is opened."""
    found = split(entry.name)
    if found is None:
        from slmkit.backends.native import NativeBackend

        return NativeBackend.capabilities
    capabilities: Capabilities = found[0].load().CAPABILITIES
    return capabilities


def _questions(
    model: Model, cases: Sequence[Case], tokens: int, lengths: Sequence[int], expected: Capabilities
) -> tuple[list[Question], list[str]]:
    asked = [Question(case.name, tokens, messages=case.messages) for case in cases]
    long, left_out = long_questions(model, lengths, takes_ids(model.backend.capabilities, expected))
    return asked + long, left_out


def _first_notes(
    model: Model, questions: Sequence[Question], top: int, expected: Capabilities, say: Callable[[str], None]
) -> _Notes:
    notes = _Notes(read(model))
    scored = expected.prompt_logprobs and expected.token_ids and model.backend.capabilities.prompt_logprobs
    for question in questions:
        say(question.name)
        notes.seen.append(ask(model, question, top, scored))
    return notes


def _within(model: Model, questions: list[Question], ours: _Notes) -> tuple[list[Question], _Notes, list[str]]:
    """Those questions that the second context has room for."""
    kept, seen, cut = [], [], []
    for question, one in zip(questions, ours.seen, strict=True):
        if one.prompt_tokens + question.tokens > model.context:
            cut.append(f"{question.name}: over the context of {model.context:,} of {model.name}")
        else:
            kept.append(question)
            seen.append(one)
    return kept, _Notes(ours.reading, seen), cut


def _second_notes(
    model: Model, questions: Sequence[Question], ours: _Notes, top: int, say: Callable[[str], None]
) -> _Notes:
    notes = _Notes(read(model, ours.reading.probes))
    capabilities = model.backend.capabilities
    for question, first in zip(questions, ours.seen, strict=True):
        say(question.name)
        scores = bool(first.prompt) and capabilities.prompt_logprobs and capabilities.token_ids
        # A text of an exact length is scored as it is: its answer may cross the switch, which the text must not.
        is_exact = question.ids is not None
        seen = ask(model, question, top, scores and is_exact)
        if scores and not is_exact:
            seen.forced = force(model, first, top)
        notes.seen.append(seen)
    return notes


def _differences(questions: Sequence[Question], ours: _Notes, theirs: _Notes) -> list[Difference]:
    """The first of each kind."""
    found = {d.what: d for d in reversed(reading_differences(ours.reading, theirs.reading))}
    for question, a, b in zip(questions, ours.seen, theirs.seen, strict=True):
        if question.messages is not None:
            difference = prompt_difference(question.name, a, b, (ours.reading, theirs.reading))
            if difference is not None:
                found.setdefault(difference.what, difference)
    return list(found.values())
