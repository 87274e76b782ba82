"""Images that are too large for a request to NVIDIA's service: sent ahead to its store of assets, and named.

Source: NVIDIA's samples for its vision models (base64 of 180,000 characters at most, "to upload larger images, use the
assets API"; then `<img src="data:image/png;asset_id,ID" />` in a content that is a text); docs.nvidia.com, NVCF, assets
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slmkit.backends.answering import Cancel, Cancelled
from slmkit.errors import SlmError

if TYPE_CHECKING:
    from slmkit.backends.http import Server
    from slmkit.weights.telling import Notice

MOST_BASE64 = 180_000  # characters of an image in a request
ASSETS = "https://api.nvcf.nvidia.com/v2/nvcf/assets"
_DESCRIPTION = "an image for a question"
Json = dict[str, Any]


def needs_assets(body: Mapping[str, Any]) -> bool:
    """Whether an image of a request is too large to stand in it."""
    return any(len(_data(part)) >= MOST_BASE64 for part in _images(body))


@contextmanager
def as_assets(
    server: Server, body: Json, cancel: Cancel, notice: Notice | None
) -> Iterator[tuple[Json, dict[str, str]]]:
    """The request with its large images sent ahead, and the headers that name them. They are deleted at the end."""
    ids: list[str] = []
    store = replace(server, url=ASSETS, query={})
    try:
        messages = [_turn(message, store, ids, cancel) for message in body["messages"]]
        if notice:
            notice(f"{len(ids)} of the images are over 180 KB and were sent ahead, as they are, to NVIDIA's store")
        named = ",".join(ids)
        yield {**body, "messages": messages}, {"NVCF-INPUT-ASSET-REFERENCES": named, "NVCF-FUNCTION-ASSET-IDS": named}
    finally:
        for id in ids:
            with suppress(SlmError, Cancelled):  # it is deleted by itself some time
                store.send(f"/{id}", "DELETE")


def _turn(message: Json, store: Server, ids: list[str], cancel: Cancel) -> Json:
    """A message with large images as a text with tags: those are not looked for in parts of a message."""
    parts = message["content"]
    if isinstance(parts, str) or not any(len(_data(part)) >= MOST_BASE64 for part in parts):
        return message
    texts = []
    for part in parts:
        if part["type"] == "text":
            texts.append(part["text"])
        elif len(_data(part)) < MOST_BASE64:
            texts.append(f'<img src="{part["image_url"]["url"]}" />')
        else:
            kind = part["image_url"]["url"].partition(";")[0].removeprefix("data:")
            _send(store, base64.b64decode(_data(part)), kind, ids, cancel)
            texts.append(f'<img src="data:{kind};asset_id,{ids[-1]}" />')
    return {**message, "content": " ".join(texts)}


def _send(store: Server, data: bytes, kind: str, ids: list[str], cancel: Cancel) -> None:
    """Ask for a place, whose id is added to `ids`, and put the file there, without the key."""
    place = store.ask("", {"contentType": kind, "description": _DESCRIPTION}, cancel=cancel)
    if not isinstance(place.get("assetId"), str) or not isinstance(place.get("uploadUrl"), str):
        raise store.broke_off("it names no place for an image")
    ids.append(place["assetId"])
    headers = {"Content-Type": kind, "x-amz-meta-nvcf-asset-description": _DESCRIPTION}
    bare = replace(store, url=place["uploadUrl"], headers={}, query={})
    bare.send("", "PUT", data, headers, cancel)


def _images(body: Mapping[str, Any]) -> Iterator[Json]:
    for message in body.get("messages") or ():
        if not isinstance(message["content"], str):
            yield from (part for part in message["content"] if part["type"] == "image_url")


def _data(part: Json) -> str:
    return part["image_url"]["url"].partition(",")[2] if part["type"] == "image_url" else ""
