"""The vocabulary that a GGUF file's metadata hold, checked before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import TokenizerError, UnsupportedModel
from slmkit.models.gguf_config import SOURCE
from slmkit.text.bounds import LONGEST_PIECE, MOST_MERGES
from slmkit.text.sentencepiece import ABSENT, BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, WORD_MARK
from slmkit.untrusted import shown

KEY = "tokenizer.ggml."
NO_ID = (-1, 2**32 - 1)  # what some converters write for a token that there is none of
# The largest vocabulary among the models that run here, Phi-4-mini's, has 200,064 tokens.
MOST_PIECES, MOST_CHARACTERS = 2**18, 2**21

PHI3_TOKENS = ("<|user|>", "<|assistant|>", "<|end|>")
# Of all special tokens of Phi-3's later tokenizers these alone leave the white space after them alone.
KEEPS_BLANKS = ("<unk>", "<s>", "<|endoftext|>")


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

    @property
    def has_phi3_tokens(self) -> bool:
        """Whether it is the vocabulary of a model of the Phi-3 family that answers in turns."""
        return self.special.keys() >= set(PHI3_TOKENS)

    @cached_property
    def swallows_blanks(self) -> bool:
        """Whether special tokens take the white space after them with them, as in Phi-3's later tokenizers.

        GGUF has no flag for it. Phi-3's first tokenizers (April 2024) keep white space and have `</s>` as a control
        token; all later ones swallow it and have `</s>` as a user-defined one, which the type tells.
        """
        end = self.special.get("</s>")
        later = end is not None and self.kinds[end] == USER_DEFINED
        return self.model == "llama" and later and self.has_phi3_tokens

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
            if kind == USER_DEFINED and not text.strip().strip(WORD_MARK):
                raise TokenizerError(
                    f"{SOURCE} has the user-defined token {shown(text)}, which plain text holds; such vocabularies "
                    "are not implemented"
                )
