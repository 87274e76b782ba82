"""What may reach a terminal: answers on stdout, all else on stderr, and no control characters from a model."""

from __future__ import annotations

import io
import os
import shutil
import sys
from contextlib import suppress

from slmkit.errors import StorageError

# A model's text can hold sequences that move the cursor, rename the window or press keys. On a terminal each control
# character but newline and tab is shown as its picture (ESC as U+241B), those of U+0080 to U+009F as U+FFFD.
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
_NEUTRAL = _PICTURES | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def prepare() -> None:
    """Let both streams take any text: UTF-8 into pipes and files, `?` for what a terminal's own encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="replace")


def neutral(text: str) -> str:
    """The text with every control character but newline and tab made visible."""
    return text.translate(_NEUTRAL)


def write(text: str) -> None:
    """Send part of an answer to stdout at once: as it is into a pipe or file, neutralised on a terminal.

    Raises BrokenPipeError if nobody reads any more, StorageError for a full disk and the like.
    """
    if sys.stdout is None:  # closed by `>&-`
        raise BrokenPipeError
    try:
        sys.stdout.write(neutral(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        abandon_output()
        raise StorageError(f"the output could not be written ({error.strerror}); write it elsewhere") from None


def say(message: str) -> None:
    """One line about the run, on stderr. Where that is closed or full nobody reads it, which is no reason to fail."""
    if sys.stderr is not None:  # print would take stdout instead
        with suppress(OSError):
            print(f"slm: {neutral(' '.join(message.splitlines()))}", file=sys.stderr, flush=True)


def columns() -> int:
    """How wide a line may be: that of the terminal, and of one that is common where there is none."""
    is_shown = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size((120, 24)).columns if is_shown else 120


def is_interactive() -> bool:
    """Whether a person can type and read here."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def abandon_output() -> None:
    """Throw away what stdout still holds: its reader is gone, and Python would complain when it flushes at exit."""
    if sys.stdout is not None:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (OSError, io.UnsupportedOperation):
            return
