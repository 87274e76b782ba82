"""The text that a verb works on: an argument, standard input, or both."""

from __future__ import annotations

import os
import stat
import sys
import threading
from typing import TYPE_CHECKING

from slmkit.cli import terminal
from slmkit.errors import RequestError

if TYPE_CHECKING:
    import argparse

_MOST_BYTES = 8 << 20  # a 128k context is about half a megabyte of English, and a megabyte takes seconds to tokenize
_PATIENCE_S = 2.0


def add_prompt(parser: argparse.ArgumentParser, name: str, help: str) -> None:
    """The positional argument that `given_text` reads."""
    parser.add_argument("text", nargs="?", metavar=name, help=f"{help}; also from standard input, which `-` asks for")


def given_text(argument: str | None) -> str | None:
    """The argument, then what is piped in, with an empty line between them; None if there is neither.

    Raises RequestError for text that is empty, not UTF-8, or endless.
    """
    if argument == "-":
        return _required(_standard_input())
    if argument is None:
        is_typed = sys.stdin is None or sys.stdin.isatty()
        return None if is_typed else _required(_standard_input())
    text = _required(_valid(argument))
    piped = _standard_input() if _is_piped() else ""
    return f"{text}\n\n{piped}" if piped.strip() else text


def required_text(argument: str | None, name: str) -> str:
    """As given_text, for verbs that do nothing without a text."""
    text = given_text(argument)
    if text is None:
        raise RequestError(f"there is no {name}; give one as an argument or on standard input")
    return text


def _required(text: str) -> str:
    if not text.strip():
        raise RequestError("the text is empty; give at least one character that is not white space")
    return text


def _valid(argument: str) -> str:
    try:
        argument.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"the text is not valid UTF-8 from character {error.start} on; convert it first") from None
    return argument


def _is_piped() -> bool:
    """Whether stdin is a pipe, a file or a socket: not a terminal, nor /dev/null, nor closed."""
    if sys.stdin is None:
        return False
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def _standard_input() -> str:
    """All of stdin as text, without one final newline."""
    if sys.stdin is None:
        raise RequestError("standard input is closed; give the text as an argument")
    # Another program's pipe may stay open without a word: say what we wait for.
    reminder = threading.Timer(
        _PATIENCE_S,
        terminal.say,
        ["waiting for text on standard input; end it with Ctrl-D, or use `< /dev/null` if there is none"],
    )
    reminder.daemon = True
    reminder.start()
    try:
        data = sys.stdin.buffer.read(_MOST_BYTES + 1)
    except OSError as error:
        raise RequestError(f"standard input cannot be read ({error.strerror}); give the text as an argument") from None
    finally:
        reminder.cancel()
    if len(data) > _MOST_BYTES:
        raise RequestError(f"standard input has more than {_MOST_BYTES >> 20} MiB, more than any context; shorten it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"standard input is not UTF-8 (byte {error.start} is 0x{data[error.start]:02x}); "
            "convert it, for example with iconv"
        ) from None
    return text.removesuffix("\n").removesuffix("\r")
