"""Log probabilities in the form of Ollama's API."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from slmkit.events import Logprob, TokenInfo

LEAST = -9999.0  # JSON has no infinities
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def logprobs(tokens: Sequence[TokenInfo]) -> list[dict[str, Any]]:
    """Each token with its log probability and its alternatives, the likeliest first."""
    return [_entry(token) | {"top_logprobs": [_entry(other) for other in token.top]} for token in tokens]


def _entry(token: TokenInfo | Logprob) -> dict[str, Any]:
    raw = _bytes(token.text)
    logprob = LEAST if token.logprob is None else max(LEAST, token.logprob)
    return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(raw)}


def _bytes(piece: str) -> bytes:
    """What a vocabulary's piece writes: ▁ is a space, <0x0A> a byte."""
    byte = _BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace("▁", " ").encode()
