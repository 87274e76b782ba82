"""Put the same prompts to several models, one after the other, and show the answers side by side.

Models of any runtime, by their prefixes. Temperature is 0 and max-tokens 512 where nothing else is said.
"""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from slmkit.cli import terminal
from slmkit.cli.adapters import with_adapter
from slmkit.cli.flags import add_flags
from slmkit.cli.images import add_images, given_images
from slmkit.cli.loading import add_quiet, refuse_prompt
from slmkit.cli.prompt import required_text
from slmkit.cli.settings import effective
from slmkit.cli.several import KEPT, add_of, given_entries, opener
from slmkit.errors import RequestError, StorageError
from slmkit.options import LoadOptions, Options
from slmkit.request import Message

if TYPE_CHECKING:
    from typing import TextIO

    from slmkit.compare.cases import Case
    from slmkit.compare.side_by_side import Column, Comparison, Row

_ONE_ANSWER = ("n", "logprobs")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", metavar="MODEL", nargs="+", help="tiny, phi3.5, ollama:phi3.5, openai:..., a folder")
    add_of(parser)
    add_cases(parser)
    parser.add_argument(
        "--price", metavar="MODEL=IN/OUT", action="append", default=[],
        help="what a million tokens of prompts and of answers cost; may be given several times",
    )  # fmt: skip
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page of it, which needs no other file")
    parser.add_argument("--results", metavar="FILE", type=Path, help="write each answer as a line of JSON as it comes")
    parser.add_argument("--json", action="store_true", help="one JSON object: prompts, models, answers and agreement")
    add_quiet(parser)
    add_flags(parser, Options, LoadOptions, without=(*_ONE_ANSWER, *KEPT))


def add_cases(parser: argparse.ArgumentParser) -> None:
    """The flags that `given_cases` reads."""
    parser.add_argument(
        "--prompt", metavar="TEXT", action="append", default=[], help="what to ask; may be given several times"
    )
    parser.add_argument(
        "--prompts", metavar="FILE", help="a file with a prompt on each line, or a .jsonl of objects (docs/compare.md)"
    )
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    add_images(parser)


def given_cases(args: argparse.Namespace, options: LoadOptions) -> list[Case]:
    """The prompts of the flags, in that order; none where there are none.   Raises RequestError."""
    from slmkit.compare.cases import Case, read_cases

    images = given_images(args, options)
    system = (Message("system", args.system),) if args.system else ()
    cases = [Case((*system, Message("user", text, images))) for text in args.prompt]
    if images and not cases:
        raise RequestError("an image needs a question about it; give one with --prompt, or images inside --prompts")
    return cases + (read_cases(args.prompts, args.system) if args.prompts else [])


def run(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from slmkit.cli.main import INTERRUPTED
    from slmkit.compare.prices import prices_of
    from slmkit.compare.side_by_side import Comparison

    for name in args.models:
        refuse_prompt(name)
    options, load_options = with_adapter(effective(Options, args), effective(LoadOptions, args))
    cases = given_cases(args, load_options) or _typed(args)
    comparison = Comparison(
        given_entries(args.models, args.of, load_options),
        cases,
        replace(options, **dict.fromkeys(_ONE_ANSWER)),
        prices_of(args.price),
    )
    with _Told(comparison, args) as told, suppress(KeyboardInterrupt):
        comparison.run(opener(args.quiet), told)
    _show(comparison, as_json=args.json)
    return INTERRUPTED if comparison.interrupted else comparison.exit_code


def _typed(args: argparse.Namespace) -> list[Case]:
    from slmkit.compare.cases import Case

    system = (Message("system", args.system),) if args.system else ()
    return [Case((*system, Message("user", required_text(None, "prompt"))))]


class _Told:
    """What is written while it runs: progress on stderr, a line of each answer, and the page after each model."""

    def __init__(self, comparison: Comparison, args: argparse.Namespace) -> None:
        self._comparison, self._quiet, self._html = comparison, args.quiet, args.html
        self._results: TextIO | None = None
        self._write_page()  # now, so that a folder that is not there is no surprise in an hour
        if args.results is not None:
            try:
                self._results = args.results.open("w", encoding="utf-8")
            except OSError as error:
                raise StorageError(
                    f"{args.results} could not be written ({error.strerror}); name another file"
                ) from None

    def __enter__(self) -> _Told:
        return self

    def __exit__(self, *_: object) -> None:
        if self._results is not None:
            self._results.close()
        self._write_page()

    def __call__(self, column: Column, row: Row | None) -> None:
        if row is None:
            self._write_page()
        elif self._results is not None:
            prompt = self._comparison.cases[row.case].name
            line = {"model": column.entry.label, "prompt": prompt, **row.as_dict()}
            self._results.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._results.flush()
        if not self._quiet:
            terminal.say(_progress(column, row, len(self._comparison.cases)))

    def _write_page(self) -> None:
        if self._html is not None:
            from slmkit.compare.page import page
            from slmkit.weights.atomic import write_atomically

            write_atomically(self._html, page(self._comparison).encode("utf-8", "replace"))


def _progress(column: Column, row: Row | None, n_prompts: int) -> str:
    label = column.entry.label
    if row is None:
        return f"{label}: {column.error}" if column.error else f"{label}: open after {column.load_s:.1f} s"
    said = row.error or f"{row.usage.completion_tokens} tokens in {row.total_s:.2f} s"
    return f"{label}, prompt {row.case + 1} of {n_prompts}: {said}"


def _show(comparison: Comparison, *, as_json: bool) -> None:
    if as_json:
        terminal.write(json.dumps(comparison.as_dict(), indent=2, ensure_ascii=False) + "\n")
        return
    from slmkit.cli.side_by_side import beside

    terminal.write(beside(comparison, terminal.columns()))
