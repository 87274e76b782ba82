"""Where images stand in a conversation: tags such as `<|image_1|>`, numbered through the whole conversation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from slmkit.errors import RequestError
from slmkit.request import Message
from slmkit.text.added import Piece
from slmkit.untrusted import shown

TAG = re.compile(r"<\|image_([0-9]+)\|>")
_MOST_NUMERALS = 6  # of a tag's number


def tagged(messages: Sequence[Message]) -> tuple[list[Message], list[Any]]:
    """The messages with a tag for each of their images, and all images, image i + 1 under `<|image_{i + 1}|>`.

    A message that has images and no tag gets theirs at its beginning, each on a line of its own, as the model was
    trained. Raises RequestError unless the tags are those of the images, each at least once.
    """
    images: list[Any] = []
    found: list[Message] = []
    for message in messages:
        first = len(images) + 1
        images += message.images
        if message.images and not TAG.search(message.content):
            tags = "".join(f"<|image_{number}|>\n" for number in range(first, len(images) + 1))
            message = replace(message, content=tags + message.content)
        found.append(message)
    _check(found, len(images))
    return found, images


def split_at_tags(pieces: Sequence[Piece]) -> tuple[list[list[Piece]], list[int]]:
    """The pieces of text before, between and after the tags, and which image each tag names, from 0."""
    chunks: list[list[Piece]] = [[]]
    images: list[int] = []
    for piece in pieces:
        parts = TAG.split(piece.text)  # text, number, text, number, ..., text
        chunks[-1].append(Piece(parts[0], piece.trusted))
        for number, text in zip(parts[1::2], parts[2::2], strict=True):
            images.append(int(number) - 1)
            chunks.append([Piece(text, piece.trusted)])
    return chunks, images


def _check(messages: Sequence[Message], n_images: int) -> None:
    numerals = [numeral for message in messages for numeral in TAG.findall(message.content)]
    for numeral in numerals:
        if len(numeral) > _MOST_NUMERALS or not 1 <= int(numeral) <= n_images:
            there = (
                f"there {'is 1 image' if n_images == 1 else f'are {n_images} images'}" if n_images else "none is given"
            )
            raise RequestError(
                f"the conversation has the tag {shown(f'<|image_{numeral}|>')}, and {there}; tags go from 1 to the "
                "number of images, through all messages"
            )
    missing = sorted(set(range(1, n_images + 1)) - {int(numeral) for numeral in numerals})
    if missing:
        raise RequestError(
            f"the conversation has {n_images} image{'s' * (n_images > 1)} and no tag <|image_{missing[0]}|>; write one "
            "for each image, or none in a message, which then begins with those of its images"
        )
