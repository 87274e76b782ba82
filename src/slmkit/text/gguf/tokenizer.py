"""The tokenizer that a GGUF file's metadata describe.

Both kinds of vocabulary become a tokenizer.json first, so one Tokenizer runs them all: "llama" (SentencePiece, merges
by score) and "gpt2" (byte-level, merges by rank).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from slmkit.errors import TokenizerError, UnsupportedModel
from slmkit.models.gguf_config import SOURCE
from slmkit.text.decoding import byte_level_bytes
from slmkit.text.gguf.vocabulary import KEY, Vocabulary
from slmkit.text.pretokenizers import PRETOKENIZERS, pre_tokenizer
from slmkit.text.sentencepiece import ABSENT, BPE, BYTE, CONTROL, NORMAL, UNKNOWN, SentencePieceModel, convert
from slmkit.text.tokenizer import Tokenizer
from slmkit.text.tokenizer_json import around_texts, bpe_model
from slmkit.untrusted import shown


def read_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that the metadata describe.

    Raises TokenizerError where they are broken or too large, UnsupportedModel for another kind of tokenizer and for
    settings that are not implemented.
    """
    vocabulary = Vocabulary(metadata)
    spec = _sentencepiece(vocabulary) if vocabulary.model == "llama" else _byte_level(vocabulary)
    spec["post_processor"] = _around(vocabulary)
    tokens = {name: vocabulary.text(name) for name in ("bos", "eos")}
    return Tokenizer(spec, {f"{name}_token": text for name, text in tokens.items() if text})


def _sentencepiece(vocabulary: Vocabulary) -> dict[str, Any]:
    """tokenizer.json of a SentencePiece vocabulary."""
    for name in ("remove_extra_whitespaces", "treat_whitespace_as_suffix"):
        if vocabulary.flag(name, False):
            raise UnsupportedModel(f"{SOURCE} has {KEY}{name}, which is not implemented")
    if np.size(vocabulary.metadata.get(f"{KEY}precompiled_charsmap", [])):
        raise UnsupportedModel(f"{SOURCE} has a {KEY}precompiled_charsmap, which is not implemented")
    unknown = vocabulary.id("unknown")
    kinds = [
        UNKNOWN if i == unknown and kind != ABSENT else CONTROL if kind == UNKNOWN else kind
        for i, kind in enumerate(vocabulary.kinds)
    ]
    _check_unused(vocabulary)
    _check_scores(vocabulary)
    if kinds.count(BYTE) not in (0, 256):
        raise TokenizerError(f"{SOURCE} has {kinds.count(BYTE)} of the 256 byte tokens; take another file")
    model = SentencePieceModel(
        pieces=list(zip(vocabulary.tokens, vocabulary.scores, kinds, strict=True)),
        model_type=BPE,
        adds_first_space=vocabulary.flag("add_space_prefix", True),
        removes_extra_spaces=False,
    )
    return convert(model, vocabulary.added_tokens())


def _byte_level(vocabulary: Vocabulary) -> dict[str, Any]:
    """tokenizer.json of a byte-level vocabulary."""
    name = vocabulary.metadata.get(f"{KEY}pre")
    if not isinstance(name, str) or name not in PRETOKENIZERS:
        raise UnsupportedModel(
            f"{SOURCE} has tokenizer.ggml.pre {shown(name)}, and how such a text is split into words is not "
            f"implemented; accepted are {', '.join(PRETOKENIZERS)}"
        )
    if vocabulary.flag("add_space_prefix", False):
        raise UnsupportedModel(f"{SOURCE} has {KEY}add_space_prefix with a byte-level tokenizer; it is not implemented")
    own = zip(vocabulary.tokens, vocabulary.kinds, strict=True)
    vocab = {text: id_ for id_, (text, kind) in enumerate(own) if kind == NORMAL}
    lacking = sum(letter not in vocab for letter in byte_level_bytes())
    if lacking:
        raise TokenizerError(f"{SOURCE} lacks {lacking} of the 256 tokens of a single byte; take another file")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": vocabulary.added_tokens(),
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer(PRETOKENIZERS[name].steps),
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "model": bpe_model(vocab, vocabulary.merges, ignore_merges=PRETOKENIZERS[name].whole_words_first),
    }


def _check_unused(vocabulary: Vocabulary) -> None:
    """Refuse an unused piece that merges could pass through: it would be a step on the way to others."""
    normal = {text for text, kind in zip(vocabulary.tokens, vocabulary.kinds, strict=True) if kind == NORMAL}
    for id_, kind in enumerate(vocabulary.kinds):
        text = vocabulary.tokens[id_]
        if kind == ABSENT and any(text[:cut] in normal and text[cut:] in normal for cut in range(1, len(text))):
            raise UnsupportedModel(
                f"{SOURCE} has an unused token {shown(text)} that others are made of; not implemented"
            )


def _check_scores(vocabulary: Vocabulary) -> None:
    """Refuse scores that leave open what is merged first.

    Runs of blanks share a score in Llama's vocabulary: whichever way they are merged, the longest come out. Files made
    without the SentencePiece model have one score for everything, and cannot be encoded right.
    """
    texts: dict[float, str] = {}
    for text, score, kind in zip(vocabulary.tokens, vocabulary.scores, vocabulary.kinds, strict=True):
        if kind != NORMAL or len(text) == 1 or len(set(text)) == 1:
            continue
        if texts.setdefault(score, text) != text:
            raise TokenizerError(
                f"{SOURCE} gives the tokens {shown(texts[score])} and {shown(text)} the same score, so it does not say "
                "which is merged first; take a file that was converted with the model's tokenizer.model"
            )


def _around(vocabulary: Vocabulary) -> dict[str, Any] | None:
    """What goes before and after every text, as tokenizer.json's post-processor."""
    if vocabulary.flag("add_sep_token", False):
        raise UnsupportedModel(f"{SOURCE} has {KEY}add_sep_token, which is not implemented")
    adds_bos = vocabulary.model == "llama" or vocabulary.metadata.get(f"{KEY}pre") in ("llama-bpe", "llama3")
    before = _token(vocabulary, "bos") if vocabulary.flag("add_bos_token", adds_bos) else {}
    after = _token(vocabulary, "eos") if vocabulary.flag("add_eos_token", False) else {}
    return around_texts(before, after)


def _token(vocabulary: Vocabulary, name: str) -> dict[str, int]:
    """Text and id of a special token, which must be there."""
    id_ = vocabulary.id(name)
    if id_ is None:
        raise TokenizerError(
            f"{SOURCE} asks for a token around every text that its vocabulary lacks; take another file"
        )
    return {vocabulary.tokens[id_]: id_}
