"""How large a tokenizer may be, and which of its steps may run: a tokenizer.json is a program from the internet too.

Twenty replacements of `a` by `aa` make a megabyte of each letter, `(a+)+$` takes years, and a million added tokens
take hours to search for. What is accepted is some times what any published tokenizer has; the rest is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from slmkit.errors import TokenizerError
from slmkit.text.patterns import is_tame
from slmkit.untrusted import shown

MOST_PIECES = 2**19  # Gemma has 262,144
MOST_MERGES = 2**20  # Gemma has 514,906
MOST_ADDED = 2**14  # Gemma has 6,415
_MOST_ADDED_CHARS = 2**18  # of all added tokens together
LONGEST_PIECE = 2**10  # characters; in published ones 256 at most
_MOST_STEPS = 32
_MOST_STEP_CHARS = 2**16  # of JSON, for all steps of one kind together
_MOST_GROWTH = 64  # how many times longer a normalizer may make a text
# How many times longer each makes a text at most (NFKC writes U+FDFA as 18 letters); Replace is counted by its texts.
_NORMALIZERS = {"NFC": 3, "NFD": 4, "NFKC": 18, "NFKD": 18, "Lowercase": 3, "Strip": 1, "Prepend": 1, "Replace": 1}
_PRE_TOKENIZERS = {"Split", "ByteLevel", "Metaspace", "Digits", "Punctuation", "Whitespace", "WhitespaceSplit"}


def check_tokenizer(spec: Mapping[str, Any]) -> None:
    """Raise TokenizerError for a tokenizer.json that could take more time or memory than a tokenizer needs.

    What is not as tokenizer.json has it may raise what Python raises then: AttributeError, KeyError, TypeError.
    """
    _check_vocabulary(spec["model"])
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        _require(len(json.dumps(spec.get(part))) <= _MOST_STEP_CHARS, f"a {part} of over {_MOST_STEP_CHARS} characters")
    growth = 1.0
    for step in _steps(spec.get("normalizer"), "normalizers"):
        growth *= _growth(step)
    _require(growth <= _MOST_GROWTH, f"a normalizer that makes texts more than {_MOST_GROWTH} times longer")
    for step in _steps(spec.get("pre_tokenizer"), "pretokenizers"):
        _check_split(step)


def check_added(texts: list[str]) -> None:
    """Raise TokenizerError for more added tokens than can be searched for, or longer ones."""
    _require(len(texts) <= MOST_ADDED, f"{len(texts)} added tokens (at most {MOST_ADDED} are accepted)")
    _require_short(texts, "an added token")
    _require(sum(map(len, texts)) <= _MOST_ADDED_CHARS, f"over {_MOST_ADDED_CHARS} characters of added tokens")


def _check_vocabulary(model: Mapping[str, Any]) -> None:
    vocab, merges = model["vocab"], model.get("merges") or []
    _require(len(vocab) <= MOST_PIECES, f"{len(vocab)} pieces (at most {MOST_PIECES} are accepted)")
    _require(len(merges) <= MOST_MERGES, f"{len(merges)} merges (at most {MOST_MERGES} are accepted)")
    # A mapping, or [piece, score] pairs.
    _require_short([str(piece if isinstance(vocab, Mapping) else piece[0]) for piece in vocab], "a piece")
    rest = json.dumps({key: value for key, value in model.items() if key not in ("vocab", "merges")})
    _require(len(rest) <= 4 * LONGEST_PIECE, f"{len(rest)} characters of settings beside its vocabulary")


def _require_short(texts: list[str], what: str) -> None:
    longest = max(map(len, texts), default=0)
    _require(longest <= LONGEST_PIECE, f"{what} of {longest} characters (at most {LONGEST_PIECE} are accepted)")


def _growth(step: Mapping[str, Any]) -> float:
    kind = step.get("type")
    if kind not in _NORMALIZERS:
        raise _unknown("normalizer", kind)
    if kind == "Replace":
        pattern = step["pattern"].get("String")
        _require(isinstance(pattern, str) and bool(pattern), "a normalizer that replaces by a regular expression")
        return max(1.0, len(step["content"]) / len(pattern))
    return _NORMALIZERS[kind]


def _check_split(step: Mapping[str, Any]) -> None:
    kind = step.get("type")
    if kind not in _PRE_TOKENIZERS:
        raise _unknown("pre-tokenizer", kind)
    regex = step["pattern"].get("Regex") if kind == "Split" else None
    _require(regex is None or is_tame(regex), f"the pattern {shown(regex)}, which some text may make take for ever")


def _steps(part: Mapping[str, Any] | None, key: str) -> Iterator[Mapping[str, Any]]:
    """A step alone, or those of a Sequence, in which there may be others."""
    left = [part] if part is not None else []
    for _ in range(_MOST_STEPS):
        if not left:
            return
        step = left.pop(0)
        if step.get("type") == "Sequence":
            left = [*step[key], *left]
        else:
            yield step
    _require(not left, f"more than {_MOST_STEPS} {key}")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise TokenizerError(f"the tokenizer has {otherwise}; take the tokenizer that was published with the weights")


def _unknown(what: str, kind: object) -> TokenizerError:
    known = sorted(_NORMALIZERS if what == "normalizer" else _PRE_TOKENIZERS)
    return TokenizerError(f"the tokenizer has the {what} {shown(kind)}; slmkit knows {', '.join(known)}")
