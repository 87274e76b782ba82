"""Conversations in files: JSON that `/save` writes and `/load` reads."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slmkit.errors import RequestError
from slmkit.request import Message, as_messages
from slmkit.untrusted import is_there

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_MOST_BYTES = 16 << 20


def save(path: Path, model: str, messages: Sequence[Message]) -> None:
    """Write the conversation, whole or not at all. Replaces an older conversation, and no other file.

    Raises RequestError for a path that holds something else, StorageError if it cannot be written.
    """
    from slmkit.weights.atomic import write_atomically

    exists = is_there(path, RequestError)
    if not path.parent.is_dir():
        raise RequestError(f"there is no folder {path.parent}; make it first, or choose another one")
    if path.is_dir():
        raise RequestError(f"{path} is a folder; give the name of a file")
    if exists:
        try:
            load(path)
        except RequestError:
            raise RequestError(f"{path} exists and is no saved conversation; choose another name") from None
    turns = [_turn(m) for m in messages]
    data = json.dumps({"model": model, "messages": turns}, ensure_ascii=False, indent=2) + "\n"
    write_atomically(path.absolute(), data.encode())


def _turn(message: Message) -> dict[str, Any]:
    """As JSON; images by their names, which is where they are found again."""
    images = {"images": [image.name for image in message.images]} if message.images else {}
    return {"role": message.role, "content": message.content, **images}


def load(path: Path, open_image: Callable[[str], Any] | None = None) -> list[Message]:
    """The messages of a saved conversation, or of a bare JSON list of them. Raises RequestError.

    open_image: for the images that were saved by name; without it they stay names.
    """
    try:
        if not path.exists():
            raise RequestError(f"there is no file {path}; check the name")
        if not path.is_file():
            raise RequestError(f"{path} is not an ordinary file; give one that /save wrote")
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}); check its rights") from None
    if len(data) > _MOST_BYTES:
        raise RequestError(f"{path} is larger than {_MOST_BYTES >> 20} MiB; is it a conversation?")
    try:
        content = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise RequestError(f"{path} is not JSON in UTF-8; give a file that /save wrote") from None
    turns = content.get("messages") if isinstance(content, dict) else content
    if not isinstance(turns, list) or not turns:
        raise RequestError(f'{path} holds no conversation; it takes a list of {{role, content}} under "messages"')
    try:
        found = list(as_messages(turns))
        if open_image is None:
            return found
        return [replace(m, images=tuple(open_image(str(image)) for image in m.images)) for m in found]
    except RequestError as error:
        raise RequestError(f"{path} holds a broken conversation: {error}") from None
