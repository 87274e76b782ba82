"""The tokenizer, the chat template and the ends of answers that a GGUF file's metadata describe.

Both kinds of vocabulary become a tokenizer.json first, so one Tokenizer runs them all: "llama" (SentencePiece, merges
by score) and "gpt2" (byte-level, merges by rank).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import TemplateError, TokenizerError, UnsupportedModel
from slmkit.models.gguf import SOURCE, decimal
from slmkit.text import sentencepiece
from slmkit.text.bounds import LONGEST_PIECE, MOST_MERGES
from slmkit.text.decoding import byte_level_bytes
from slmkit.text.known import fallback_template
from slmkit.text.pretokenizers import PRETOKENIZERS, pre_tokenizer
from slmkit.text.sentencepiece import ABSENT, BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED
from slmkit.text.template import ChatTemplate
from slmkit.text.tokenizer import Tokenizer
from slmkit.untrusted import shown

KEY = "tokenizer.ggml."
NO_ID = (-1, 2**32 - 1)  # what some converters write for a token that there is none of
# The largest vocabulary among the models that run here, Phi-4-mini's, has 200,064 tokens.
MOST_PIECES, MOST_CHARACTERS = 2**18, 2**21
LONGEST_TEMPLATE = 2**18

# Ends of an answer, by their text: what llama.cpp ends at, and <|assistant|>, at which Phi-3's generation_config does.
ENDS = ("<|end|>", "<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>")
PHI3_TOKENS = ("<|user|>", "<|assistant|>", "<|end|>")
# Of all special tokens of Phi-3's later tokenizers these alone leave the white space after them alone.
KEEPS_BLANKS = ("<unk>", "<s>", "<|endoftext|>")
# general.sampling.* -> generation_config.json, and the option
SAMPLING = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}
# Settings of samplers that are off unless another key switches them on, and the order of samplers.
_NO_SAMPLER = ("sequence", "xtc_threshold", "penalty_last_n", "mirostat_tau", "mirostat_eta")


def tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that the metadata describe.

    Raises TokenizerError where they are broken or too large, UnsupportedModel for another kind of tokenizer.
    """
    vocabulary = Vocabulary(metadata)
    spec = _llama(vocabulary) if vocabulary.model == "llama" else _gpt2(vocabulary)
    spec["post_processor"] = _around(vocabulary)
    tokens = {name: vocabulary.text(name) for name in ("bos", "eos")}
    return Tokenizer(spec, {f"{name}_token": text for name, text in tokens.items() if text})


def template(metadata: Mapping[str, Any]) -> ChatTemplate:
    """The chat template that the metadata carry, or of the family's own for one with Phi-3's tokens.

    Raises TemplateError if there is none.
    """
    vocabulary = Vocabulary(metadata)
    names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    tokens = {theirs: text for ours, theirs in names.items() if (text := vocabulary.text(ours))}
    source = metadata.get("tokenizer.chat_template", "")
    if not isinstance(source, str) or len(source) > LONGEST_TEMPLATE:
        raise TemplateError(
            f"{SOURCE} has a tokenizer.chat_template that is no text of at most {LONGEST_TEMPLATE} characters; take "
            "another file, or use `slm complete`, which needs none"
        )
    if source.strip():
        return ChatTemplate(source, tokens)
    if vocabulary.special_of(PHI3_TOKENS).keys() != set(PHI3_TOKENS):
        raise TemplateError(
            f"{SOURCE} has no chat template, and its vocabulary is not Phi-3's; use `slm complete`, which needs none"
        )
    return ChatTemplate(fallback_template("phi3"), tokens)


def stop_ids(metadata: Mapping[str, Any], vocab_size: int) -> frozenset[int]:
    """Every id that ends an answer: those the metadata name, and tokens known by their text.

    A GGUF file has no generation_config.json. The published ones of Phi-3 also end at <|assistant|>, so a vocabulary
    with Phi-3's tokens does: a file answers as the folder that it was made from.
    """
    vocabulary = Vocabulary(metadata)
    named = {vocabulary.id(name) for name in ("eos", "eot", "eom")}
    phi3 = vocabulary.special_of(PHI3_TOKENS)
    written = [*vocabulary.special_of(ENDS).values(), *(phi3.values() if len(phi3) == len(PHI3_TOKENS) else ())]
    ids = (named | set(written)) - {None, phi3.get("<|user|>")}
    return frozenset(i for i in ids if i is not None and i < vocab_size)


def generation_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """How the model is meant to be sampled, in the words of generation_config.json; {} if the file does not say.

    Raises UnsupportedModel for a sampler that slmkit does not have and that is switched on.
    """
    found: dict[str, Any] = {}
    for key, value in metadata.items():
        name = key.removeprefix("general.sampling.")
        if name == key or name in _NO_SAMPLER:
            continue
        if name in SAMPLING and isinstance(value, (int, float)):
            found[SAMPLING[name]] = decimal(value) if isinstance(value, float) else value
        elif isinstance(value, (np.ndarray, list, str)) or value:
            raise UnsupportedModel(
                f"{SOURCE} asks for {shown(key)} = {shown(value)}, a sampler that slmkit does not have"
            )
    window = metadata.get("general.sampling.penalty_last_n", -1)
    if found.get("repetition_penalty", 1) != 1 and (not isinstance(window, int) or window >= 0):
        raise UnsupportedModel(
            f"{SOURCE} asks for a repetition penalty on its last {shown(window)} tokens; only one on all of them is "
            "taken from a GGUF file"
        )
    if "temperature" in found or any(name in found for name in ("top_k", "top_p", "min_p")):
        found["do_sample"] = found.get("temperature") != 0
        if not found["do_sample"]:
            del found["temperature"]
    return found


@dataclass(frozen=True)
class Vocabulary:
    """The arrays of `tokenizer.ggml.*`, checked against each other."""

    metadata: Mapping[str, Any]

    @cached_property
    def model(self) -> str:
        """ "llama" or "gpt2"."""
        found = self.metadata.get(f"{KEY}model")
        if not isinstance(found, str) or found not in ("llama", "gpt2"):
            raise UnsupportedModel(
                f"{SOURCE} has tokenizer.ggml.model {shown(found)}, which is not implemented; accepted are 'llama' "
                "(SentencePiece) and 'gpt2' (byte-level)"
            )
        return found

    @cached_property
    def tokens(self) -> list[str]:
        """The text of each id, with the word mark or in the byte-level alphabet."""
        found = self.metadata.get(f"{KEY}tokens")
        if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
            raise TokenizerError(f"{SOURCE} has no list of texts in tokenizer.ggml.tokens; take another file")
        if (
            len(found) > MOST_PIECES
            or sum(map(len, found)) > MOST_CHARACTERS
            or len(max(found, key=len)) > LONGEST_PIECE
        ):
            raise TokenizerError(
                f"{SOURCE} has {len(found)} tokens of {sum(map(len, found))} characters, and at most {MOST_PIECES} of "
                f"{MOST_CHARACTERS} together and {LONGEST_PIECE} each are read; is it the right file?"
            )
        return found

    @cached_property
    def kinds(self) -> list[int]:
        """What each id is; padding that the checkpoint itself has no token for is ABSENT."""
        found = self._numbers("token_type", np.integer).tolist()
        if not set(found) <= {NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE}:
            raise TokenizerError(f"{SOURCE} has a tokenizer.ggml.token_type outside 1 to 6; take another file")
        kinds = [
            ABSENT if kind == UNUSED or (kind not in (NORMAL, BYTE) and text == f"[PAD{id_}]") else kind
            for id_, (text, kind) in enumerate(zip(self.tokens, found, strict=True))
        ]
        self._check_texts(kinds)
        return kinds

    @cached_property
    def scores(self) -> list[float]:
        """What SentencePiece merges by: the highest first."""
        found = self._numbers("scores", np.floating)
        if not np.isfinite(found).all():
            raise TokenizerError(f"{SOURCE} has a tokenizer.ggml.scores that is no number; take another file")
        return [float(score) for score in found]

    @cached_property
    def merges(self) -> list[tuple[str, str]]:
        """What byte-level BPE merges, in this order."""
        found = self.metadata.get(f"{KEY}merges")
        if not isinstance(found, list) or len(found) > MOST_MERGES:
            raise TokenizerError(
                f"{SOURCE} has no tokenizer.ggml.merges, or more than {MOST_MERGES}, with a tokenizer of the kind "
                "'gpt2'; take another file"
            )
        pairs = [tuple(rule.split(" ")) if isinstance(rule, str) else () for rule in found]
        if any(len(pair) != 2 or not all(pair) for pair in pairs):
            raise TokenizerError(f"{SOURCE} has a merge rule that is not two texts and a space; take another file")
        return pairs  # type: ignore[return-value]  # just checked

    def id(self, name: str) -> int | None:
        """The id of a special token: "bos", "eos", "eot", "eom", "unknown" or "padding"; None if there is none."""
        own = {"bos": 1, "eos": 2, "unknown": 0} if self.model == "llama" else {}  # llama.cpp's, for a missing key
        value = self.metadata.get(f"{KEY}{name}_token_id", own.get(name))
        if isinstance(value, int) and not isinstance(value, bool):
            if value in NO_ID:
                return None
            if 0 <= value < len(self.tokens):
                return value
        elif value is None:
            return None
        raise TokenizerError(
            f"{SOURCE} has {KEY}{name}_token_id = {shown(value)}; an id below {len(self.tokens)} is needed"
        )

    def text(self, name: str) -> str | None:
        """The text of a special token, as `id`."""
        found = self.id(name)
        return None if found is None else self.tokens[found]

    def flag(self, name: str, default: bool) -> bool:
        """A key that is true or false."""
        value = self.metadata.get(f"{KEY}{name}", default)
        if not isinstance(value, bool):
            raise TokenizerError(f"{SOURCE} has {KEY}{name} = {shown(value)}; true or false is needed")
        return value

    @cached_property
    def special(self) -> dict[str, int]:
        """Text -> id of the tokens that only a trusted text may hold."""
        return {self.tokens[i]: i for i, kind in enumerate(self.kinds) if kind in (UNKNOWN, CONTROL, USER_DEFINED)}

    def special_of(self, texts: tuple[str, ...]) -> dict[str, int]:
        """Those of the texts that are special tokens, and their ids."""
        return {text: self.special[text] for text in texts if text in self.special}

    @cached_property
    def swallows_blanks(self) -> bool:
        """Whether special tokens take the white space after them with them, as in Phi-3's later tokenizers.

        GGUF has no flag for it. Phi-3's first tokenizers (April 2024) keep white space and have `</s>` as a control
        token; all later ones swallow it and have `</s>` as a user-defined one, which the type tells.
        """
        end = self.special.get("</s>")
        later = end is not None and self.kinds[end] == USER_DEFINED
        return self.model == "llama" and later and len(self.special_of(PHI3_TOKENS)) == len(PHI3_TOKENS)

    def added_tokens(self) -> list[dict[str, Any]]:
        """The special tokens as tokenizer.json has them."""
        return [
            {
                "id": id_,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": self.swallows_blanks and text not in KEEPS_BLANKS,
                "normalized": False,
                "special": self.kinds[id_] != USER_DEFINED,
            }
            for text, id_ in self.special.items()
        ]

    def _numbers(self, name: str, kind: type) -> NDArray[Any]:
        found = self.metadata.get(f"{KEY}{name}")
        right = isinstance(found, np.ndarray) and found.ndim == 1 and np.issubdtype(found.dtype, kind)
        if not right or len(found) != len(self.tokens):  # type: ignore[arg-type]  # an array if right
            size = len(found) if isinstance(found, (np.ndarray, list)) else "no"
            raise TokenizerError(
                f"{SOURCE} has {len(self.tokens)} tokens and {size} usable values in {KEY}{name}; take another file"
            )
        return found  # type: ignore[return-value]

    def _check_texts(self, kinds: list[int]) -> None:
        present = [text for text, kind in zip(self.tokens, kinds, strict=True) if kind != ABSENT]
        if not all(present) or len(set(present)) != len(present):
            raise TokenizerError(f"{SOURCE} has a token without a text, or one twice; take another file")
        for text, kind in zip(self.tokens, kinds, strict=True):
            if kind == USER_DEFINED and not text.strip().strip(sentencepiece.WORD_MARK):
                raise TokenizerError(
                    f"{SOURCE} has the user-defined token {shown(text)}, which plain text holds; such vocabularies "
                    "are not implemented"
                )


def _llama(vocabulary: Vocabulary) -> dict[str, Any]:
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
    model = sentencepiece.SentencePieceModel(
        pieces=list(zip(vocabulary.tokens, vocabulary.scores, kinds, strict=True)),
        model_type=sentencepiece.BPE,
        adds_first_space=vocabulary.flag("add_space_prefix", True),
        removes_extra_spaces=False,
    )
    return sentencepiece.convert(model, vocabulary.added_tokens())


def _gpt2(vocabulary: Vocabulary) -> dict[str, Any]:
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
        "pre_tokenizer": pre_tokenizer(name),
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": PRETOKENIZERS[name].whole_words_first,
            "vocab": vocab,
            "merges": vocabulary.merges,
        },
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
    whole_words = vocabulary.model == "gpt2" and vocabulary.metadata.get(f"{KEY}pre") in ("llama-bpe", "llama3")
    wanted = {
        "bos": vocabulary.flag("add_bos_token", vocabulary.model == "llama" or whole_words),
        "eos": vocabulary.flag("add_eos_token", False),
    }
    ids = {name: vocabulary.id(name) for name, is_wanted in wanted.items() if is_wanted}
    if None in ids.values():
        raise TokenizerError(
            f"{SOURCE} asks for a token around every text that its vocabulary lacks; take another file"
        )
    if not ids:
        return None
    special = {name: {"SpecialToken": {"id": vocabulary.text(name), "type_id": 0}} for name in ids}
    before, after = ([special[name]] if name in special else [] for name in ("bos", "eos"))
    texts = {vocabulary.text(name): id_ for name, id_ in ids.items()}
    return {
        "type": "TemplateProcessing",
        "single": [*before, {"Sequence": {"id": "A", "type_id": 0}}, *after],
        "pair": [*before, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}, *after],
        "special_tokens": {text: {"id": text, "ids": [id_], "tokens": [text]} for text, id_ in texts.items()},
    }
