"""The line that a chat is typed in: history, several lines, completion of commands."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings

from slmkit.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from prompt_toolkit.document import Document
    from prompt_toolkit.key_binding.key_processor import KeyPressEvent

QUOTES = '"""'


def line_reader(commands: Sequence[str]) -> Callable[[], str]:
    """A function that reads one message or command; it raises EOFError on Ctrl-D, KeyboardInterrupt on Ctrl-C."""
    session: PromptSession[str] = PromptSession(
        message=">>> ",
        prompt_continuation="... ",
        multiline=True,
        history=_history(),
        key_bindings=_keys(),
        completer=_Commands(commands),
        complete_while_typing=False,
    )
    return lambda: unquoted(session.prompt())


def unquoted(text: str) -> str:
    """The text without the quotes around a block of several lines."""
    block = text.strip()
    if len(block) >= 2 * len(QUOTES) and block.startswith(QUOTES) and block.endswith(QUOTES):
        return block.removeprefix(QUOTES).removesuffix(QUOTES).strip("\n")
    return text


def is_open(text: str) -> bool:
    """Whether the text has opened a block of several lines and not closed it."""
    block = text.strip()
    return block.startswith(QUOTES) and (len(block) < 2 * len(QUOTES) or not block.endswith(QUOTES))


class _Commands(Completer):
    def __init__(self, commands: Sequence[str]) -> None:
        self._commands = commands

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        typed = document.text
        if typed.startswith("/"):
            yield from (Completion(c, start_position=-len(typed)) for c in self._commands if c.startswith(typed))


class _KeptHistory(FileHistory):
    """History in a file that only its owner reads; a full disk is no reason to end a chat."""

    def store_string(self, string: str) -> None:
        try:
            super().store_string(string)
        except OSError as error:
            terminal.say(f"the history {self.filename!r} cannot be written ({error.strerror}); this line is not kept")


def _history() -> History:
    from platformdirs import user_state_path

    path = user_state_path("slmkit", appauthor=False) / "history"
    try:
        _create(path)
    except OSError as error:
        terminal.say(f"the history {path} cannot be written ({error.strerror}); it lasts for this chat only")
        return InMemoryHistory()
    return _KeptHistory(str(path))


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600))


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        if is_open(event.current_buffer.text):
            event.current_buffer.insert_text("\n")
        else:
            event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys
