"""Opening a model for a verb: progress and notices go to stderr."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import slmkit
from slmkit.cli import terminal
from slmkit.errors import RequestError

if TYPE_CHECKING:
    import argparse

    from rich.progress import Progress, TaskID

    from slmkit.model import Model
    from slmkit.options import LoadOptions
    from slmkit.sources.base import Source


WORTH_SHOWING = 100_000_000  # bytes; less is done before anybody reads the line


def add_model(parser: argparse.ArgumentParser, **settings: Any) -> None:
    """The positional argument MODEL."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="tiny, phi3.5 or another short name, owner/name on the hub, a folder or a .gguf file",
        **settings,
    )


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """The flag that leaves only errors on stderr."""
    parser.add_argument("-q", "--quiet", action="store_true", help="no notices and no progress on stderr")


def add_offline(parser: argparse.ArgumentParser) -> None:
    """The flag of verbs that look at a model and take no other options of loading."""
    parser.add_argument("--offline", action="store_true", default=None, help="fetch nothing")


def open_model(name: str, options: LoadOptions, *, quiet: bool = False) -> Model:
    """slmkit.load, watched."""
    refuse_prompt(name)
    with Watch(quiet) as watch:
        return slmkit.load(name, **vars(options), progress=watch.progress, notice=watch.notice)


def find_source(name: str, args: argparse.Namespace, watch: Watch, *, weights: bool = True) -> Source:
    """What the files of a model say; where it has to be fetched first, that is announced and watched.

    weights: False if template and tokenizer are enough.
    """
    from slmkit.sources.find import open_source

    offline = is_offline(args)
    return open_source(name, offline=offline, progress=watch.progress, notice=watch.notice, weights=weights)


def is_offline(args: argparse.Namespace) -> bool:
    """Whether nothing may be fetched: by flag where the verb has it, by variable or by config file."""
    from slmkit.cli.settings import effective
    from slmkit.options import LoadOptions

    return bool(effective(LoadOptions, args).offline)


def refuse_prompt(name: str) -> None:
    """Raise RequestError for a model's name that reads like a prompt."""
    if " " in name.strip() and "/" not in name and "\\" not in name and not os.path.exists(name):
        raise RequestError(f"the model comes first, and {name!r} looks like a prompt; try: slm run tiny {name!r}")


class Watch:
    """A bar on a terminal, one line for each long step elsewhere, nothing when quiet."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID | None] = {}

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def notice(self, line: str) -> None:
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(f"slm: {terminal.neutral(line)}", markup=False, highlight=False)
        else:
            terminal.say(line)

    def progress(self, what: str, done: int, total: int) -> None:
        """done and total in bytes."""
        if self._quiet or total < WORTH_SHOWING:
            return
        if what not in self._tasks:
            self._tasks[what] = self._begin(what, total)
        task = self._tasks[what]
        if self._bar is not None and task is not None:
            self._bar.update(task, completed=done, total=total)

    def _begin(self, what: str, total: int) -> TaskID | None:
        if sys.stderr is None or not sys.stderr.isatty():
            terminal.say(f"{what}, {total / 1e6:,.0f} MB")
            return None
        if self._bar is None:
            self._bar = _bar()
            self._bar.start()
        return self._bar.add_task(terminal.neutral(what), total=total)


def _bar() -> Progress:
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    return progress.Progress(*columns, console=Console(stderr=True), transient=True)
