"""Files that nobody vouches for: opened only if regular, read only up to a limit, JSON without surprises."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any, NoReturn

from slmkit.errors import CheckpointError, RequestError, SlmError

Kind = type[SlmError]  # what is raised: CheckpointError, or what the reader's own callers expect

_MOST_SHOWN = 100  # characters of a name in a message: a name may be megabytes long
_MOST_VALUES = 2_000_000  # of one JSON text, about; parsed they take 600 MB at most. Gemma's tokenizer.json has 1.9 M


def shown(text: object) -> str:
    """The text quoted for a message: control characters escaped, long ones cut in the middle."""
    try:
        quoted = repr(text)
    except ValueError:  # a whole number of thousands of digits
        return "a very long number"
    return quoted if len(quoted) <= _MOST_SHOWN else f"{quoted[: _MOST_SHOWN - 20]}...{quoted[-17:]}"


def brief(reason: BaseException) -> str:
    """What another package says of an error, in one line of bounded length: it may quote the file."""
    text = str(reason)
    text = text if len(text) <= 3 * _MOST_SHOWN else f"{text[: 2 * _MOST_SHOWN]}...{text[-_MOST_SHOWN:]}"
    return "".join(char if char.isprintable() else " " for char in text)


def is_there(path: Path, error: Kind = CheckpointError) -> bool:
    """Whether the folder has an entry of that name. A link that leads nowhere is one: its file did not arrive.

    Raises `error` where nobody may look.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as reason:
        raise error(f"{path} cannot be opened ({_reason(reason)}); check the path and its rights") from None
    return True


def open_regular(path: Path, error: Kind = CheckpointError) -> int:
    """A file descriptor for reading. Raises `error` if there is no such file or it is no regular one.

    A FIFO would block the open and /dev/zero never ends, so both the name and what was opened are looked at.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise error(f"{path} is not a regular file; put an ordinary file in its place")
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        is_named = issubclass(error, RequestError)  # by whoever calls, and no part of a model
        todo = "check the path" if is_named else "fetch the model again if it was downloaded only in part"
        raise error(f"{path} is missing; {todo}") from None
    except (OSError, ValueError) as reason:
        raise error(f"{path} cannot be opened ({_reason(reason)}); check the path and its rights") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise error(f"{path} is not a regular file; put an ordinary file in its place")
    return fd


def require_inside(path: Path, error: Kind = CheckpointError) -> None:
    """Raise `error` if a file of a model is a link that leads out of the model's folder.

    What else lies on this machine is no part of a model, and a copy of the model would carry it away. The hub's cache
    keeps the files of snapshots/COMMIT in blobs beside snapshots, or as blobs/HA/HASH beside the repository's folder:
    these are the ways out.
    """
    if not path.is_symlink():
        return
    folder, target = path.parent.resolve(), Path(os.path.realpath(path))
    repositories = [above.parent.parent for above in (folder, *folder.parents) if above.parent.name == "snapshots"]
    places = [folder, *(place / "blobs" for place in repositories)]
    if re.fullmatch("[0-9a-f]{64}", target.name):
        places += [place.parent / "blobs" / target.name[:2] / target.name for place in repositories]
    if not any(target.is_relative_to(place) for place in places):
        raise error(
            f"{path} is a link that leads out of the model's folder, to {shown(str(target))}; "
            "put the file itself in its place"
        )


def read_bytes(path: Path, limit: int, error: Kind = CheckpointError) -> bytes:
    """The whole file of a model. Raises `error` if it holds more than `limit` bytes, cannot be read or lies outside."""
    try:
        with os.fdopen(open_regular(path, error), "rb") as file:
            require_inside(path, error)
            data = file.read(limit + 1)
    except OSError as reason:
        raise error(f"{path} cannot be read ({_reason(reason)}); check the disk it lies on") from None
    if len(data) > limit:
        raise error(f"{path} has more than the {limit} bytes that are read of such a file; is it the right one?")
    return data


def read_text(path: Path, limit: int, error: Kind = CheckpointError) -> str:
    """The UTF-8 text of a file of at most `limit` bytes. Raises `error`."""
    try:
        return read_bytes(path, limit, error).decode("utf-8")
    except UnicodeDecodeError as reason:
        raise error(f"{path} is not UTF-8 text ({_reason(reason)}); the file is damaged") from None


def read_json(path: Path, limit: int, error: Kind = CheckpointError) -> dict[str, Any]:
    """The object in a JSON file of at most `limit` bytes. Raises `error`."""
    return parse_json(read_bytes(path, limit, error), str(path), error)


def parse_json(data: bytes, what: str, error: Kind = CheckpointError) -> dict[str, Any]:
    """The object that the bytes spell; `what` names them in messages. Raises `error`, also for a key twice."""
    if data.count(b",") + data.count(b"[") + data.count(b"{") > _MOST_VALUES:
        raise error(f"{what} holds more than {_MOST_VALUES} values; is it the right file?")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise error(f"{what} has the key {shown(twice)} twice; the file is damaged")
        return found

    def refuse(constant: str) -> NoReturn:
        raise error(f"{what} holds {constant}, which is not JSON; the file is damaged")

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except RecursionError:
        raise error(f"{what} is nested too deeply; the file is damaged") from None
    except ValueError as reason:  # also bad UTF-8, and numbers with too many digits
        raise error(f"{what} is not valid JSON ({_reason(reason)}); the file is damaged") from None
    if not isinstance(value, dict):
        raise error(f"{what} holds a JSON {type(value).__name__}, not an object; the file is damaged")
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is no UTF-8"
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
