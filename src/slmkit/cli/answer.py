"""Showing an answer: streamed text, numbered choices, JSON, statistics."""

from __future__ import annotations

import json
import math
import sys
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from slmkit.cli import terminal
from slmkit.errors import ContextExceeded
from slmkit.events import Choice, Chunk, Event, TokenInfo, collect

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from slmkit.backends.base import Events
    from slmkit.model import Model
    from slmkit.request import Request


def add_display(parser: argparse.ArgumentParser) -> None:
    """How an answer is shown."""
    group = parser.add_argument_group("display")
    group.add_argument("--json", action="store_true", help="one JSON object: choices, usage and timing")
    group.add_argument("--stats", action="store_true", help="tokens, speed and the reason of the end, on stderr")


def show(model: Model, request: Request, *, as_json: bool, stats: bool, first: str = "") -> None:
    """Answer a request on stdout. `first` is printed before the text, but is no part of the choices.

    Raises ContextExceeded, after what there is was shown, if the context ended an answer.
    """
    several = (request.options.n or 1) > 1
    if as_json or several:
        with closing(model.events(request)) as events:  # which cancels what is still running
            choices = collect(events).choices
    else:
        choices = stream(model.events(request), first=first)
    if as_json:
        terminal.write(json.dumps(_summary(model.name, choices, request), ensure_ascii=False) + "\n")
    elif several:
        blocks = [f"[{number}]\n{first}{choice.text}\n" for number, choice in enumerate(choices, 1)]
        terminal.write("\n".join(blocks))
    if request.options.logprobs is not None and not as_json:
        _say_logprobs(choices)
    if stats:
        terminal.say(statistics(choices))
    for choice in choices:
        if is_cut_by_context(choice, model.context, request.options.max_tokens):
            raise ContextExceeded(cut_by_context(choice, model.context))


def context_text(context: int) -> str:
    """How much a model can hold, for people; some servers do not tell."""
    return "context not told" if context == sys.maxsize else f"context {context} tokens"


def is_cut_by_context(choice: Choice, context: int, max_tokens: int | None) -> bool:
    """Whether the answer ended because no more tokens fit, and not because it is as long as it was asked to be."""
    usage = choice.usage
    is_as_asked = usage.completion_tokens == max_tokens
    return choice.reason == "length" and not is_as_asked and usage.prompt_tokens + usage.completion_tokens >= context


def cut_by_context(choice: Choice, context: int) -> str:
    """What happened then, with the numbers."""
    usage = choice.usage
    return (
        f"the answer was cut off after {usage.completion_tokens} tokens: with the prompt's {usage.prompt_tokens} "
        f"they fill the context of {context}; shorten the prompt, or take a larger --ctx if the model allows it"
    )


def stream(events: Events, on_text: Callable[[str], None] = lambda text: None, first: str = "") -> list[Choice]:
    """Print one choice as it comes, telling on_text too; its line is ended also when it is interrupted."""
    last = ""

    def printed(events: Iterator[Event]) -> Iterator[Event]:
        nonlocal last
        for event in events:
            if isinstance(event, Chunk) and event.text:
                on_text(event.text)
                terminal.write(event.text)
                last = event.text
            yield event

    try:
        if first:
            terminal.write(first)
            last = first
        with closing(events):  # which cancels what is still running
            return collect(printed(events)).choices
    except KeyboardInterrupt:
        last = last or "^C"  # which the terminal itself has shown
        raise
    finally:
        if last and not last.endswith("\n"):
            terminal.write("\n")


def statistics(choices: list[Choice]) -> str:
    """One line: tokens in and out, speed, and why it ended."""
    usage, timing = choices[0].usage, choices[0].timing
    written = sum(choice.usage.completion_tokens for choice in choices)
    drafted = sum(choice.usage.drafted_tokens for choice in choices)
    accepted = sum(choice.usage.accepted_tokens for choice in choices)
    guessed = f" ({accepted} of {drafted} guessed ahead came true)" if drafted else ""
    cached = f" ({usage.cached_tokens} of them cached)" if usage.cached_tokens else ""
    first, total = timing.first_token_s, max(choice.timing.total_s for choice in choices)
    # The first token of each choice comes with the prompt, so it is no part of the decoding speed.
    steps, seconds = written - len(choices), total - first
    speed = f", then {steps / seconds:.1f} tokens/s" if steps > 0 and seconds > 0 else ""
    ends = ", ".join(_end(choice) for choice in choices)
    return (
        f"prompt {usage.prompt_tokens} tokens{cached}, answer {written}{guessed}; "
        f"first token after {first:.2f} s{speed}, {total:.2f} s in all; ended by {ends}"
    )


def _end(choice: Choice) -> str:
    return f"{choice.reason} ({choice.stop!r})" if choice.stop else choice.reason


def _summary(name: str, choices: list[Choice], request: Request) -> dict[str, Any]:
    """What --json prints."""
    usage = asdict(choices[0].usage)
    for counted in ("completion_tokens", "drafted_tokens", "accepted_tokens"):
        usage[counted] = sum(getattr(choice.usage, counted) for choice in choices)
    return {
        "model": name,
        "text": choices[0].text,
        "reason": choices[0].reason,
        "choices": [_choice(choice, with_tokens=request.options.logprobs is not None) for choice in choices],
        "usage": usage,
        "timing": asdict(choices[0].timing) | {"total_s": max(choice.timing.total_s for choice in choices)},
    }


def _choice(choice: Choice, *, with_tokens: bool) -> dict[str, Any]:
    facts = {"text": choice.text, "reason": choice.reason, "stop": choice.stop, "score": choice.score}
    return facts | {"tokens": [_token(token) for token in choice.tokens]} if with_tokens else facts


def _token(token: TokenInfo) -> dict[str, Any]:
    facts = asdict(token)
    for entry in (facts, *facts["top"]):
        del entry["data"]
        if entry["logprob"] is not None and not math.isfinite(entry["logprob"]):
            entry["logprob"] = None  # JSON has no infinities
    return facts


def _say_logprobs(choices: list[Choice]) -> None:
    for choice in choices:
        for token in choice.tokens:
            terminal.say(_logprob_line(token))


def _logprob_line(token: TokenInfo) -> str:
    chosen = f"{token.id:>6} {token.text!r:<16}" + (f" {token.logprob:8.4f}" if token.logprob is not None else "")
    others = "  ".join(f"{other.text!r} {other.logprob:.4f}" for other in token.top)
    return f"{chosen}   {others}".rstrip()
