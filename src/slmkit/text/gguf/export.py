"""A tokenizer as the metadata of a GGUF file, in the form that llama.cpp reads; only where it means the same there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from slmkit.errors import TokenizerError
from slmkit.text.gguf.chat import ENDS
from slmkit.text.gguf.vocabulary import KEEPS_BLANKS, KEY, PHI3_TOKENS
from slmkit.text.pretokenizers import GPT_2, PRETOKENIZERS
from slmkit.text.sentencepiece import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, WORD_MARK
from slmkit.text.template import ChatTemplate
from slmkit.text.tokenizer import Tokenizer
from slmkit.untrusted import shown

PADDING_SCORE, CONTROL_SCORE = -10000.0, -1000.0  # as llama.cpp's converters write them
_MARK_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": WORD_MARK}
_MARK_FIRST = {"type": "Prepend", "prepend": WORD_MARK}


def write_tokenizer(
    spec: Mapping[str, Any], tokenizer: Tokenizer, template: ChatTemplate | None, stops: frozenset[int], n_rows: int
) -> dict[str, Any]:
    """The `tokenizer.*` metadata.

    spec: the tokenizer.json that `tokenizer` was made from.   stops: the ids that end an answer.
    n_rows: of the embedding; ids without a text are padding.
    Raises TokenizerError, by name, for what GGUF cannot say or llama.cpp would read otherwise.
    """
    swallows = swallows_blanks(tokenizer)
    if spec["model"].get("type") != "BPE":
        raise _refused(f"its model is {shown(spec['model'].get('type'))}, and only BPE can be written")
    if spec["model"].get("dropout"):
        raise _refused("it has a dropout, which GGUF has no word for; set dropout to null in tokenizer.json")
    byte_level = (spec.get("decoder") or {}).get("type") == "ByteLevel"
    kinds = _kinds(spec, tokenizer, swallows, n_rows)
    keys = _gpt2(spec) if byte_level else _llama(spec, tokenizer, kinds)
    texts = [tokenizer.id_to_piece(id_) for id_ in range(n_rows)]
    keys["tokens"] = [f"[PAD{id_}]" if text is None else text for id_, text in enumerate(texts)]
    keys["token_type"] = np.array(kinds, np.int32)
    keys |= _special_ids(spec, tokenizer, stops) | _around(tokenizer)
    found = {f"{KEY}{name}": value for name, value in keys.items()}
    if template is not None:
        found["tokenizer.chat_template"] = template.text
    return found


def swallows_blanks(tokenizer: Tokenizer) -> bool:
    """Whether the special tokens take the white space after them with them, all but three, as in Phi-3's.

    GGUF has no flag for it; llama.cpp does it for models that are called "phi-3" or "phi3".
    Raises TokenizerError for any other choice of tokens that do.
    """
    swallowing = {token.content for token in tokenizer.added if token.rstrip}
    if any(token.lstrip for token in tokenizer.added):
        raise _refused("a token takes the white space before it with it")
    if not swallowing:
        return False
    every = {token.content for token in tokenizer.added}
    if swallowing != every - set(KEEPS_BLANKS) or not {"</s>", *KEEPS_BLANKS, *PHI3_TOKENS} <= every:
        raise _refused(
            "some tokens take the white space after them with them and others do not, in another way than Phi-3's"
        )
    return True


def _kinds(spec: Mapping[str, Any], tokenizer: Tokenizer, swallows: bool, n_rows: int) -> list[int]:
    """What each id is. The type of `</s>` tells Phi-3's tokenizers apart (text/gguf/vocabulary.py: swallows_blanks)."""
    unknown = spec["model"].get("unk_token")
    added = {token.id: USER_DEFINED if not token.special else CONTROL for token in tokenizer.added}
    end = tokenizer.piece_to_id("</s>")
    if end in added and all(tokenizer.piece_to_id(text) in added for text in PHI3_TOKENS):
        added[end] = USER_DEFINED if swallows else CONTROL
    kinds = []
    for id_ in range(n_rows):
        text = tokenizer.id_to_piece(id_)
        if text is None:
            kinds.append(UNUSED)
        elif text == unknown:
            kinds.append(UNKNOWN)
        else:
            kinds.append(added.get(id_, BYTE if spec["model"].get("byte_fallback") and _is_byte(text) else NORMAL))
    return kinds


def _llama(spec: Mapping[str, Any], tokenizer: Tokenizer, kinds: Sequence[int]) -> dict[str, Any]:
    """A vocabulary that spells in bytes what it lacks, as SentencePiece's."""
    steps = _steps(spec.get("normalizer"), "normalizers")
    if steps not in ([_MARK_SPACES], [_MARK_FIRST, _MARK_SPACES]) or spec.get("pre_tokenizer"):
        raise _refused("its texts are prepared in another way than Llama's")
    if kinds.count(BYTE) != 256:
        raise _refused(f"it has {kinds.count(BYTE)} of the 256 byte tokens")
    return {
        "model": "llama",
        "pre": "default",
        "scores": np.array(_scores(spec, tokenizer, kinds), np.float32),
        "add_space_prefix": _MARK_FIRST in steps,
    }


def _scores(spec: Mapping[str, Any], tokenizer: Tokenizer, kinds: Sequence[int]) -> list[float]:
    """Scores with which merging by score comes to the same as merging by rank.

    By rank, two pieces are merged if there is a rule for them; by score, if they make a piece together. Where two
    pieces l and r stand side by side, everything inside them was merged as it would be in the text l + r alone. So a
    piece p has one rule that is ever used: the last one when p itself is encoded. If there is one, p is worth minus its
    rank, and all other ways to cut p never come up. If p alone stays in three parts or more, no two parts that make p
    are ever neighbours. Only where it stays in exactly two would one way merge them and the other not.
    """
    ranks = {(left, right): rank for rank, (left, right) in enumerate(_pairs(spec))}
    scores = []
    for id_, kind in enumerate(kinds):
        if kind in (UNUSED, BYTE):
            scores.append(PADDING_SCORE if kind == UNUSED else 0.0)
            continue
        text = tokenizer.id_to_piece(id_) or ""
        parts, rank = _merged(text, ranks)
        if parts == 2:
            raise _refused(f"no merge rule makes its piece {shown(text)}, and llama.cpp would make it")
        if kind != NORMAL:
            scores.append(CONTROL_SCORE)
            continue
        scores.append(float(-rank if parts == 1 and len(text) > 1 else -len(ranks) - id_))
    return scores


def _merged(text: str, ranks: Mapping[tuple[str, str], int]) -> tuple[int, int]:
    """In how many parts the text alone is left by the rules, and the rank of the last rule used (-1 for none)."""
    parts, last = list(text), -1
    while len(parts) > 1:
        rank, at = min((ranks.get(pair, len(ranks)), i) for i, pair in enumerate(pairwise(parts)))
        if rank == len(ranks):
            break
        parts[at : at + 2], last = [parts[at] + parts[at + 1]], rank
    return len(parts), last


def _gpt2(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A byte-level vocabulary whose way of splitting words has a name in llama.cpp."""
    whole_words = bool(spec["model"].get("ignore_merges"))
    step, *others = _steps(spec.get("pre_tokenizer"), "pretokenizers") or [{}]
    own = _bytes_alone([step], use_regex=True) or (
        step.get("type") == "Split" and not spec.get("normalizer") and _bytes_alone(others, use_regex=False)
    )
    whole = (step.get("behavior"), bool(step.get("invert"))) in (("Isolated", False), ("Removed", True))
    regex = GPT_2 if step.get("type") == "ByteLevel" else step["pattern"].get("Regex") if own and whole else None
    names = [
        name
        for name, known in PRETOKENIZERS.items()
        if known.steps == (regex,) and known.whole_words_first == whole_words
    ]
    if not own or not names or spec.get("normalizer"):
        raise _refused("it splits texts into words in a way that has no name in llama.cpp")
    return {"model": "gpt2", "pre": names[0], "merges": [f"{left} {right}" for left, right in _pairs(spec)]}


def _bytes_alone(steps: Sequence[Mapping[str, Any]], *, use_regex: bool) -> bool:
    """Whether the steps are one that turns a text into bytes; with GPT-2's way of splitting it or without."""
    return [(step.get("type"), step.get("add_prefix_space"), step.get("use_regex", True)) for step in steps] == [
        ("ByteLevel", False, use_regex)
    ]


def _special_ids(spec: Mapping[str, Any], tokenizer: Tokenizer, stops: frozenset[int]) -> dict[str, int]:
    """The ids that have a key of their own; `stops` that a reader does not know by their text are named as well."""
    unknown = tokenizer.piece_to_id(spec["model"].get("unk_token") or "")
    by_text = {tokenizer.piece_to_id(text) for text in (*ENDS, "<|assistant|>")}
    ends = sorted(stops - by_text - {tokenizer.eos_id})
    eos = tokenizer.eos_id if tokenizer.eos_id is not None else next(iter(sorted(stops)), None)
    if len(ends) > 2:
        raise _refused(f"{len(ends)} tokens end an answer that have no key in GGUF, which has two")
    found = {"bos": tokenizer.bos_id, "eos": eos, "unknown": unknown, **dict(zip(("eot", "eom"), ends, strict=False))}
    return {f"{name}_token_id": id_ for name, id_ in found.items() if id_ is not None}


def _around(tokenizer: Tokenizer) -> dict[str, bool]:
    before, after = tokenizer.around
    if before not in ([], [tokenizer.bos_id]) or after not in ([], [tokenizer.eos_id]):
        raise _refused("it writes other tokens around a text than its BOS and EOS")
    return {"add_bos_token": bool(before), "add_eos_token": bool(after)}


def _pairs(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The merge rules, which are written as pairs or with a space between."""
    found = [rule.split(" ") if isinstance(rule, str) else rule for rule in spec["model"].get("merges") or []]
    return [(left, right) for left, right in found]


def _steps(part: Mapping[str, Any] | None, key: str) -> list[Any]:
    """The steps of a sequence; of a step alone, itself."""
    if not part:
        return []
    return list(part[key]) if part.get("type") == "Sequence" else [part]


def _is_byte(text: str) -> bool:
    return len(text) == 6 and text.startswith("<0x") and text.endswith(">")


def _refused(why: str) -> TokenizerError:
    return TokenizerError(f"the tokenizer cannot be written into a GGUF file so that it means the same there: {why}")
