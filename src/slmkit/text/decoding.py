"""What each token says, in bytes: the tokenizer's decoder taken apart so that it can run one token at a time."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any

from slmkit.errors import TokenizerError
from slmkit.untrusted import shown

if TYPE_CHECKING:
    from collections.abc import Mapping


def _one_mark_per_byte(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("slmkit.one_mark_per_byte", _one_mark_per_byte)


class Decoding:
    """How pieces become bytes, and bytes text.

    errors: the codec error handler for bytes that are no UTF-8. Byte-fallback vocabularies (SentencePiece) write one
    U+FFFD per byte, as the sentencepiece library does; the `tokenizers` package also replaces good characters that
    stand in one run of byte tokens with a bad byte, which no stream could do. Byte-level vocabularies (GPT-2) write
    one U+FFFD per broken character, as `tokenizers` does.
    strips_first_space: the first space of a whole text is not text but the mark of a word's beginning.
    """

    def __init__(self, decoder: Mapping[str, Any] | None) -> None:
        steps = _steps(decoder)
        kinds = [step.get("type") for step in steps]
        self._byte_level = kinds == ["ByteLevel"]
        self._word_mark = ""
        self._byte_fallback = "ByteFallback" in kinds
        self.strips_first_space = False
        self.errors = "replace" if self._byte_level else "slmkit.one_mark_per_byte"
        if self._byte_level:
            self._bytes_of = byte_level_bytes()
            return
        for step in steps:
            if step == {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}:
                self._word_mark = "▁"
            elif step.get("type") == "Metaspace":
                self._word_mark = step.get("replacement", "▁")
                self.strips_first_space |= step.get("prepend_scheme", "always") != "never"
            elif step == {"type": "Strip", "content": " ", "start": 1, "stop": 0}:
                self.strips_first_space = True
            elif step.get("type") not in ("ByteFallback", "Fuse"):
                raise TokenizerError(
                    f"the tokenizer's decoder has a step {shown(step)}; supported are ByteLevel, and "
                    f"Replace, ByteFallback, Fuse, Metaspace and Strip of one leading space"
                )

    def bytes_of(self, piece: str) -> bytes:
        """What one piece of the vocabulary stands for."""
        if self._byte_level:
            parts = [self._bytes_of.get(char) for char in piece]
            return piece.encode() if None in parts else bytes(part for part in parts if part is not None)
        if self._byte_fallback and len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            try:
                return bytes([int(piece[3:5], 16)])
            except ValueError:
                pass
        return piece.replace(self._word_mark, " ").encode() if self._word_mark else piece.encode()


def _steps(decoder: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if decoder is None:
        raise TokenizerError("the tokenizer has no decoder, so ids cannot become text; download the checkpoint again")
    if decoder.get("type") == "Sequence":
        return list(decoder.get("decoders", []))
    return [dict(decoder)]


def byte_level_bytes() -> dict[str, int]:
    """Character -> byte of GPT-2's byte-level alphabet: printable Latin-1 is itself, the rest follow from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
