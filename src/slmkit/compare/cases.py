"""The prompts of a comparison: written inline, one on each line of a file, or conversations with images as JSONL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slmkit.errors import RequestError
from slmkit.request import Message, as_messages
from slmkit.untrusted import parse_json, read_bytes, shown
from slmkit.vision.fetch import Fetching, is_url

MOST_BYTES = 64 << 20  # of a file of prompts
_KEYS = ("name", "prompt", "messages", "system", "images")


@dataclass(frozen=True)
class Case:
    """One prompt, the same for every model.   name: what it is called; its place where it has none."""

    messages: tuple[Message, ...]
    name: str = ""

    @property
    def text(self) -> str:
        """What is asked, the last message's text."""
        return self.messages[-1].content

    @property
    def images(self) -> tuple[Any, ...]:
        """Those of all messages, in order."""
        return tuple(image for message in self.messages for image in message.images)


def cases_of(prompts: Any) -> list[Case]:
    """Cases from texts (a user turn each), conversations and Cases, each with a name.   Raises RequestError."""
    if isinstance(prompts, (str, Case, Mapping)):
        raise RequestError("the prompts are a list; put the one prompt into a list")
    found = [each if isinstance(each, Case) else Case(as_messages(each)) for each in prompts]
    if not found:
        raise RequestError("there is no prompt; give at least one")
    if not all(case.messages for case in found):
        raise RequestError("a conversation needs at least one message; leave out the empty one")
    return [case if case.name else replace(case, name=f"prompt {i}") for i, case in enumerate(found, 1)]


def with_open_images(cases: Sequence[Case], fetching: Fetching) -> list[Case]:
    """The same cases with every image opened, once for all models.   Raises RequestError, DownloadError."""
    from slmkit.vision.picture import open_picture

    def opened(message: Message) -> Message:
        return Message(message.role, message.content, tuple(open_picture(image, fetching) for image in message.images))

    return [
        replace(case, messages=tuple(opened(m) if m.images else m for m in case.messages)) if case.images else case
        for case in cases
    ]


def read_cases(path: Path | str, system: str | None = None) -> list[Case]:
    """The prompts of a file: one on each line, or of `.jsonl` an object on each.   Raises RequestError.

    An object has "prompt" (a text) or "messages", and may have "name", "system" and "images" (paths, from the file's
    own folder on, or URLs).   system: of those prompts that have no system message.
    """
    path = Path(path)
    if not path.exists():
        raise RequestError(f"there is no file {path}; check the name of the file of prompts")
    data = read_bytes(path, MOST_BYTES, RequestError)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{path} is not UTF-8 from byte {error.start} on; convert it, for example with iconv"
        ) from None
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return _of_objects(text, path, system)
    return of_lines(text, str(path), system)


def of_lines(text: str, place: str, system: str | None = None) -> list[Case]:
    """A case for each line that is not empty.   Raises RequestError if there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise RequestError(f"{place} has no prompt; write one on each line")
    return [_with_system(Case(as_messages(line)), system) for line in lines]


def _of_objects(text: str, path: Path, system: str | None) -> list[Case]:
    found = []
    for number, line in enumerate(text.split("\n"), 1):  # JSON may hold other line separators
        if line.strip():
            place = f"line {number} of {path}"
            found.append(
                _with_system(_case(parse_json(line.encode(), place, RequestError), place, path.parent), system)
            )
    if not found:
        raise RequestError(f'{path} has no prompt; write an object with "prompt" or "messages" on each line')
    return found


def _case(given: Mapping[str, Any], place: str, folder: Path) -> Case:
    if others := [key for key in given if key not in _KEYS]:
        raise RequestError(f"{place} has {shown(others[0])}; an object takes {', '.join(_KEYS)}")
    if ("prompt" in given) == ("messages" in given):
        raise RequestError(f"{place} needs exactly one of prompt and messages")
    if "prompt" in given and not isinstance(given["prompt"], str):
        raise RequestError(f"prompt in {place} is {shown(given['prompt'])}; it takes a text")
    for key in ("name", "system"):
        if not isinstance(given.get(key, ""), str):
            raise RequestError(f"{key} in {place} is {shown(given[key])}; it takes a text")
    try:
        messages = as_messages(given.get("prompt", given.get("messages")))
    except RequestError as error:
        raise RequestError(f"{place}: {error}") from None
    if not messages:
        raise RequestError(f"messages in {place} is empty; give at least one message")
    images = given.get("images", [])
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise RequestError(f"images in {place} is {shown(images)}; it takes a list of paths and URLs")
    own = messages[-1]
    messages = (*messages[:-1], replace(own, images=(*own.images, *images)))
    placed = tuple(replace(m, images=tuple(_placed(image, folder) for image in m.images)) for m in messages)
    return _with_system(Case(placed, given.get("name", "")), given.get("system"))


def _placed(image: Any, folder: Path) -> Any:
    return str(folder / image) if isinstance(image, str) and not is_url(image) and "://" not in image else image


def _with_system(case: Case, system: str | None) -> Case:
    if not system or case.messages[0].role == "system":
        return case
    return replace(case, messages=(Message("system", system), *case.messages))
