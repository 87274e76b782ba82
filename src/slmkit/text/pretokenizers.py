"""How byte-level tokenizers split a text into words, by the names that GGUF files call it (`tokenizer.ggml.pre`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# As in the tokenizer.json of the models that the names stand for.
GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = _ENGLISH + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _REST
# As tiktoken itself has it (Phi-3-small): blanks at the very end stay together, with the line breaks among them.
CL100K_TIKTOKEN = CL100K.removesuffix(_REST) + r"|\s++\z" + _REST
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENGLISH}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENGLISH}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + _REST
)
# llama.cpp's own for files that name no other: four steps, each splitting what the one before left.
DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", GPT_2, r"\p{N}+", r"[0-9][0-9][0-9]")


@dataclass(frozen=True)
class Pretokenizer:
    """steps: regular expressions, of which each splits the pieces that the one before made; what it does not match
    stays a piece.   whole_words_first: a word that is a token as a whole is not merged from its parts."""

    steps: tuple[str, ...]
    whole_words_first: bool = False


PRETOKENIZERS = {
    "gpt-2": Pretokenizer((GPT_2,)),
    "phi-2": Pretokenizer((GPT_2,)),
    "dbrx": Pretokenizer((CL100K,)),  # Phi-4
    "llama-bpe": Pretokenizer((CL100K,), whole_words_first=True),
    "llama3": Pretokenizer((CL100K,), whole_words_first=True),
    "gpt-4o": Pretokenizer((O200K,)),  # Phi-4-mini
    "default": Pretokenizer(DEFAULT),
}


def pre_tokenizer(steps: tuple[str, ...]) -> dict[str, Any]:
    """Byte-level splitting by these steps (see Pretokenizer) in the format of tokenizer.json."""
    splits: list[dict[str, Any]] = [
        {"type": "Split", "pattern": {"Regex": step}, "behavior": "Isolated", "invert": False} for step in steps
    ]
    last = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [*splits, last]}
