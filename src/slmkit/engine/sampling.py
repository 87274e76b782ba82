"""From logits to one token: pure functions on a row of logits, applied in one order.

    1. logit_bias            add
    2. processors            the caller's own functions, in their order
    3. repetition_penalty    over prompt and answer, or the last repetition_window tokens of them
    4. presence_penalty, frequency_penalty    over the answer
       A constraint leaves what may follow (constrain.py).
    5. temperature 0: the likeliest token, the lowest id among equals. Otherwise:
    6. temperature           divide
    7. top_k, top_p, min_p   each keeps a set of likeliest tokens; top_p and min_p read the probabilities left by those
                             before them
    8. draw                  6 to 8 are one op (ops/reference.py: draw)

Every row is (vocab,) float32. Reported log probabilities are the model's own, from before step 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slmkit.options import Options
    from slmkit.request import LogitsProcessor

F32 = NDArray[np.float32]
Draw = Callable[[F32, float, int, float, float, float], int]


def shape_logits(
    logits: F32, ids: Sequence[int], n_prompt: int, options: Options, processors: Sequence[LogitsProcessor] = ()
) -> F32:
    """Steps 1 to 4.   ids: prompt and answer so far.   Returns a new row unless nothing applies.

    Raises RequestError if a processor returns something else than logits, or if no token is left to choose.
    """
    own = logits
    if options.logit_bias:
        logits = biased(logits, options.logit_bias)
    for process in processors:
        logits = processed(logits, ids, process)
    if options.repetition_penalty is not None and options.repetition_penalty != 1.0:
        logits = repetition_penalized(logits, ids[-(options.repetition_window or 0) :], options.repetition_penalty)
    if options.presence_penalty or options.frequency_penalty:
        logits = count_penalized(
            logits, ids[n_prompt:], options.presence_penalty or 0.0, options.frequency_penalty or 0.0
        )
    if logits is not own and not logits.max() > -np.inf:
        raise RequestError("logit_bias and processors leave no token to choose; allow at least one")
    return logits


def choose(logits: F32, options: Options, rng: np.random.Generator, draw: Draw) -> int:
    """Steps 5 to 8.   draw: that of the ops."""
    if not options.temperature:
        return int(logits.argmax())
    top_p = 1.0 if options.top_p is None else options.top_p
    top_k = min(options.top_k or 0, len(logits))  # a number of any length may have been given
    return draw(logits, options.temperature, top_k, top_p, options.min_p or 0.0, rng.random())


def random_numbers(seed: int, index: int) -> np.random.Generator:
    """Those of choice `index` of a request: whatever else runs.   seed: below 2**64."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))


def largest(logits: F32, k: int) -> F32:
    """The k largest, in any order."""
    return np.partition(logits, len(logits) - k)[len(logits) - k :] if k < len(logits) else logits


def likeliest(logits: F32, k: int) -> NDArray[np.intp]:
    """Ids of the k largest logits, largest first; the lower id among equals. -inf is never kept."""
    among = np.flatnonzero(logits >= largest(logits, k).min())
    among = among[logits[among] > -np.inf]
    return among[np.argsort(-logits[among], kind="stable")][:k]


def log_softmax(logits: F32) -> F32:
    """log(softmax(logits)) of one row."""
    shifted = logits - logits.max()
    row: F32 = shifted - np.log(np.exp(shifted).sum(dtype=np.float64)).astype(np.float32)
    return row


def biased(logits: F32, bias: Mapping[int, float]) -> F32:
    """Add bias[id] to the logit of each id; the ids are within the vocabulary."""
    ids = np.fromiter(bias, dtype=np.int64)
    out = logits.copy()
    out[ids] += np.fromiter(bias.values(), dtype=np.float32)
    return out


def processed(logits: F32, ids: Sequence[int], process: LogitsProcessor) -> F32:
    """The caller's function on a copy, its result checked.   Raises RequestError."""
    result = process(tuple(ids), logits.copy())
    name = getattr(process, "__name__", type(process).__name__)
    try:
        out = np.asarray(result, dtype=np.float32)
    except (TypeError, ValueError):
        raise RequestError(f"the logits processor {name} returned no array of numbers; return the logits") from None
    if out.shape != logits.shape:
        raise RequestError(f"the logits processor {name} returned the shape {out.shape}; return {logits.shape}")
    if not out.max() < np.inf:  # NaN is not below it either
        raise RequestError(f"the logits processor {name} returned NaN or +inf; return numbers, -inf to ban a token")
    return out


def repetition_penalized(logits: F32, ids: Sequence[int], penalty: float) -> F32:
    """Logits of tokens seen so far move towards unlikely: positive ones / penalty, negative ones * penalty.

    Source: CTRL, arXiv 1909.05858, section 4.1, with the usual treatment of negative logits.
    """
    out = logits.copy()
    seen = np.unique(np.asarray(ids, dtype=np.int64))
    seen = seen[(seen >= 0) & (seen < len(out))]  # an image's ids are below 0
    out[seen] = np.where(out[seen] > 0, out[seen] / np.float32(penalty), out[seen] * np.float32(penalty))
    return out


def count_penalized(logits: F32, answer: Sequence[int], presence: float, frequency: float) -> F32:
    """Subtract presence once and frequency times its count from each token of the answer so far."""
    out = logits.copy()
    ids, counts = np.unique(np.asarray(answer, dtype=np.int64), return_counts=True)
    out[ids] -= np.float32(presence) + counts.astype(np.float32) * np.float32(frequency)
    return out
