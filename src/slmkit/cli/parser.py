"""An argparse parser whose complaints are one sentence, with the nearest right spelling."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, NoReturn

from slmkit.cli import terminal
from slmkit.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Parser(argparse.ArgumentParser):
    """argparse, with positionals and flags in any order, no abbreviated flags, and RequestError for wrong usage."""

    def __init__(self, **settings: object) -> None:
        settings.setdefault("allow_abbrev", False)
        super().__init__(**settings)  # type: ignore[arg-type]

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The arguments of a verb. Raises RequestError, or SystemExit once help was printed."""
        try:
            args, unknown = self.parse_known_intermixed_args(argv)
        except TypeError:  # a verb with verbs of its own, which argparse cannot mix
            args, unknown = self.parse_known_args(argv)
        if unknown:
            self._refuse(unknown[0])
        return args

    def print_help(self, file: object = None) -> None:
        terminal.write(self.format_help())  # argparse itself would keep quiet about a full disk

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{_in_our_words(message)}; `{self.prog} --help` shows what is accepted")

    def _refuse(self, word: str) -> NoReturn:
        if word.startswith("-"):
            flag = word.split("=")[0]
            hint = near(flag, self._option_string_actions) or " (a text that begins with a dash goes after --)"
            self.error(f"{flag} is not an option of {self.prog}{hint}")
        self.error(f"{word!r} is one argument too many (a text of several words needs quotes)")


def near(word: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)` for a misspelt word, or nothing."""
    import difflib

    found = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def _in_our_words(message: str) -> str:
    if found := re.fullmatch(r"argument (\S*?)([^\s/]+): expected one argument", message):
        return f"{found[2]} needs a value (one that begins with a dash is written {found[2]}=VALUE)"
    if found := re.fullmatch(r"the following arguments are required: (.+)", message):
        return f"{found[1]} is missing"
    if found := re.fullmatch(r"argument (\S*?)([^\s/]+): invalid choice: (.+) \(choose from (.+)\)", message):
        return f"{found[2]} is {found[3]}; it takes one of {found[4].replace(chr(39), '')}"
    return message.removeprefix("argument ")
