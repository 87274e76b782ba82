"""Held-out bits per byte: how well the model guesses text that no stage has seen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from slmkit.train.packing import encode

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from slmkit.train.data import Row
    from slmkit.train.model import Phi3


@torch.no_grad()
def bits_per_byte(model: Phi3, rows: list[Row], tokenizer: Tokenizer, limit_bytes: int = 200_000) -> float:
    """Bits that the model needs for one UTF-8 byte of the rows' scored text.

    Of a conversation only the assistant's words count. Rows longer than the context are read up to it, and only so
    much of their text is counted; the cost of the ending token counts too. At most `limit_bytes` are read.
    """
    nats, n_bytes = 0.0, 0
    for row in rows:
        document = encode(row, tokenizer)
        length = min(len(document.ids), model.shape.max_position_embeddings)
        ids = torch.from_numpy(document.ids[:length].astype("int64"))
        scored = torch.from_numpy(document.scored[1:length])
        losses = functional.cross_entropy(model(ids[None])[0, :-1], ids[1:], reduction="none")
        nats += float(losses[scored].sum())
        text = tokenizer.decode(ids[1:][scored].tolist())
        n_bytes += len(text.encode())
        if n_bytes > limit_bytes:
            break
    return nats / math.log(2) / max(1, n_bytes)
