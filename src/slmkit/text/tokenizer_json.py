"""What is the same in every tokenizer.json that is made here, of a SentencePiece model or of a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def bpe_model(
    vocab: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    *,
    unk_token: str | None = None,
    fuse_unk: bool = False,
    byte_fallback: bool = False,
    ignore_merges: bool = False,
) -> dict[str, Any]:
    """The `model`.   vocab: piece -> id.   merges: the first is merged first.   The flags are tokenizer.json's own."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unk_token,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": fuse_unk,
        "byte_fallback": byte_fallback,
        "ignore_merges": ignore_merges,
        "vocab": vocab,
        "merges": merges,
    }


def around_texts(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, Any] | None:
    """The `post_processor` that writes these tokens (text -> id) before and after every text; None for none."""
    if not before and not after:
        return None
    first, last = ([{"SpecialToken": {"id": text, "type_id": 0}} for text in tokens] for tokens in (before, after))
    one, other = ({"Sequence": {"id": name, "type_id": n}} for n, name in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [*first, one, *last],
        "pair": [*first, one, other, *last],
        "special_tokens": {
            text: {"id": text, "ids": [id_], "tokens": [text]} for text, id_ in {**before, **after}.items()
        },
    }
