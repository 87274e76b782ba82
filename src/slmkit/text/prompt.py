"""From a conversation or a text to the ids a model reads; what `slm render` and `slm tokenize` print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slmkit.text.added import Piece
from slmkit.text.image_tags import split_at_tags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slmkit.request import Message
    from slmkit.text.template import ChatTemplate
    from slmkit.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """A prompt as text, as its parts, and as ids.

    text is what was encoded; ids may begin with a BOS that the tokenizer adds and text does not show.
    images: (start, length, which) of the ids that stand for an image; there they are -1 - which.
    """

    ids: tuple[int, ...]
    text: str
    pieces: tuple[Piece, ...]
    images: tuple[tuple[int, int, int], ...] = ()


def chat_prompt(
    messages: Sequence[Message],
    template: ChatTemplate,
    tokenizer: Tokenizer,
    *,
    add_generation_prompt: bool = True,
    parse_special: bool = False,
    image_tokens: Sequence[int] = (),
) -> Prompt:
    """The prompt of a conversation.

    image_tokens: how many ids each image takes; the messages have its tags (image_tags.py).

    Message text such as `<|end|>` stays text; with parse_special it becomes the control token, as in every reference.
    Raises RequestError where the template would drop a message or refuses the conversation.
    """
    pieces = template.render(
        messages, tokenizer.controls_in if not parse_special else _none, add_generation_prompt=add_generation_prompt
    )
    return (
        _image_prompt(pieces, tokenizer, parse_special, image_tokens)
        if image_tokens
        else _prompt(pieces, tokenizer, parse_special)
    )


def text_prompt(text: str, tokenizer: Tokenizer, *, parse_special: bool = False) -> Prompt:
    """The prompt of a plain text to continue: no template, BOS as tokenizer.json has it."""
    return _prompt([Piece(text, False)], tokenizer, parse_special)


def _prompt(pieces: Sequence[Piece], tokenizer: Tokenizer, parse_special: bool) -> Prompt:
    kept = tuple(Piece(piece.text, piece.trusted or parse_special) for piece in pieces)
    return Prompt(tuple(tokenizer.encode_prompt(kept)), "".join(piece.text for piece in kept), kept)


def _image_prompt(
    pieces: Sequence[Piece], tokenizer: Tokenizer, parse_special: bool, image_tokens: Sequence[int]
) -> Prompt:
    """Each text between tags is encoded by itself, BOS and first space included: so was the model trained."""
    chunks, which = split_at_tags(pieces)
    ids: list[int] = []
    images = []
    for number, chunk in enumerate(chunks):
        if number:
            image = which[number - 1]
            images.append((len(ids), image_tokens[image], image))
            ids += [-1 - image] * image_tokens[image]
        ids += _prompt(chunk, tokenizer, parse_special).ids
    whole = _prompt(pieces, tokenizer, parse_special)
    return Prompt(tuple(ids), whole.text, whole.pieces, tuple(images))


def _none(text: str) -> list[str]:
    return []
