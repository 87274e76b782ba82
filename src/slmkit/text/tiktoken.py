"""A tiktoken vocabulary (`cl100k_base.tiktoken`) as a tokenizer.json.

The file has a line for each token: its bytes in base64, and its rank, which is its id. tiktoken joins the two
neighbours whose bytes together have the lowest rank, as long as there are any; so a token is merged from every two
tokens that it can be cut into, by rank. Of a trained vocabulary only one cut of each ever comes up.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from slmkit.errors import TokenizerError
from slmkit.text.bounds import LONGEST_PIECE, MOST_PIECES
from slmkit.text.decoding import byte_level_bytes
from slmkit.text.pretokenizers import CL100K_TIKTOKEN, pre_tokenizer
from slmkit.text.tokenizer_json import bpe_model

FILE = "cl100k_base.tiktoken"  # as Phi-3-small has it
_MOST_BYTES = 2**21  # the published file has 650,000; each is a place where a token may be cut
# Phi-3-small's special tokens. Its tokenizer_config.json need not list them: the program beside it knew them.
_NAMED = {
    100257: "<|endoftext|>", 100258: "<|fim_prefix|>", 100259: "<|fim_middle|>", 100260: "<|fim_suffix|>",
    100261: "<|system|>", 100262: "<|user|>", 100263: "<|assistant|>", 100266: "<|end|>", 100276: "<|endofprompt|>",
}  # fmt: skip
_DUMMIES = (100264, 100265, 100256, *range(100267, 100276), *range(100277, 100352))  # <|dummy_id_0|>, ... in this order
PHI3_SMALL = _NAMED | {id: f"<|dummy_id_{n}|>" for n, id in enumerate(_DUMMIES)}


def parse(data: bytes) -> list[bytes]:
    """The tokens by rank.   Raises TokenizerError."""
    lines = data.splitlines()
    if not 256 <= len(lines) <= MOST_PIECES:
        raise TokenizerError(f"{FILE} has {len(lines)} lines, and 256 to {MOST_PIECES} are read; download it again")
    tokens: list[bytes] = []
    for line in lines:
        text, _, rank = line.partition(b" ")
        try:
            token = base64.b64decode(text, validate=True)
        except binascii.Error:
            token = b""
        if not 0 < len(token) <= LONGEST_PIECE or rank != b"%d" % len(tokens):
            raise TokenizerError(
                f"line {len(tokens) + 1} of {FILE} is not a token in base64, a space and {len(tokens)}; download the "
                "file again"
            )
        tokens.append(token)
    if sum(map(len, tokens)) > _MOST_BYTES:
        raise TokenizerError(f"{FILE} has over {_MOST_BYTES} bytes of tokens; is it the right file?")
    if len(set(tokens)) < len(tokens) or sum(len(token) == 1 for token in tokens) < 256:
        raise TokenizerError(f"{FILE} lacks a byte or has a token twice; download it again")
    return tokens


def convert(tokens: Sequence[bytes], added: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """tokenizer.json of these tokens.   added: its added_tokens; none are Phi-3-small's own, if the ids fit."""
    table = {byte: letter for letter, byte in byte_level_bytes().items()}
    pieces = [token.decode("latin-1").translate(table) for token in tokens]
    vocab = {piece: rank for rank, piece in enumerate(pieces)}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added) or _phi3_small(len(tokens)),
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer((CL100K_TIKTOKEN,)),
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "model": bpe_model(vocab, merges),
    }


def _phi3_small(n_tokens: int) -> list[dict[str, Any]]:
    if n_tokens != min(PHI3_SMALL):
        raise TokenizerError(
            f"{FILE} has {n_tokens} tokens, and only those special tokens are known that follow {min(PHI3_SMALL)}; "
            "list them under added_tokens_decoder in tokenizer_config.json"
        )
    return [{"id": id, "content": text, "special": True} for id, text in sorted(PHI3_SMALL.items())]
