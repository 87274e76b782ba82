"""Every op in plain NumPy: the definition that all kernels are tested against, and the engine where none was built.

x is float32 everywhere; rows are tokens. Weight handles come from `prepare`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import ShapeError
from slmkit.ops.matrix import DENSE, GROUP, SUPER, Matrix
from slmkit.ops.pack import pack, unpack
from slmkit.ops.segments import BLOCK, Segments
from slmkit.ops.sparse import BlockSparse

__all__ = [
    "NAME",
    "add",
    "add_bias",
    "attention",
    "draw",
    "embed",
    "encode",
    "gegelu",
    "gelu",
    "layer_norm",
    "matmul",
    "pack",
    "place_heads",
    "prepare",
    "quantize_rows",
    "quick_gelu",
    "rms_norm",
    "rotate",
    "rotate_and_cache",
    "route",
    "silu_mul",
    "write_cache",
]

NAME = "reference"
_INPUTS = dict.fromkeys(DENSE, 0) | {"q4_s": SUPER}

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Weight:
    """A Matrix made ready for this backend: unpacked to float32 once, so that NumPy's BLAS can run it."""

    n: int
    k: int
    nbytes: int
    values: F32
    inputs: int  # that share a scale where inputs are rounded to 8 bits; 0 where they are not


def prepare(matrix: Matrix) -> Weight:
    """The handle that `matmul` and `embed` take."""
    return Weight(matrix.n, matrix.k, matrix.nbytes, unpack(matrix), _INPUTS.get(matrix.format, GROUP))


def embed(weight: Weight, ids: NDArray[np.int32]) -> F32:
    """Rows of the table.   ids: (tokens,), each below weight.n.   Returns (tokens, k)."""
    return weight.values[ids]


def matmul(x: F32, weight: Weight) -> F32:
    """x W^T.   x: (tokens, k).   Returns (tokens, n).

    Packed weights multiply 8-bit inputs: each group of 32 inputs of a token (256 for q4_s) is rounded to integers of
    scale max|x| / 127 first, so the inner sum is exact in integers (see `quantize_rows`).
    """
    if x.shape[-1] != weight.k:
        raise ShapeError(f"x has {x.shape[-1]} features, the matrix takes {weight.k}")
    if weight.inputs:
        q, scale = quantize_rows(x, weight.inputs)
        x = (q * scale[..., None]).reshape(len(x), -1)[:, : weight.k]
    return x @ weight.values.T


def quantize_rows(x: F32, group: int = GROUP) -> tuple[F32, F32]:
    """Inputs as integers and scales by groups.   Returns q (tokens, groups, group), scale (tokens, groups).

    scale = max|x| / 127; q = x * (1 / scale) rounded to the nearest, ties to even. A group whose scale would be below
    the smallest normal float is all zero; one that holds a NaN or an infinity has scale NaN and q = 0.
    """
    tokens, k = x.shape
    padded = np.zeros((tokens, -(-k // group) * group), np.float32)
    padded[:, :k] = x
    return _quantize(padded.reshape(tokens, -1, group))


def rms_norm(x: F32, weight: F32, eps: float) -> F32:
    """x * weight / sqrt(mean(x^2) + eps), over the last axis.   x: (tokens, dim).   weight: (dim,).

    Source: arXiv 1910.07467; eps inside the root, as in the checkpoint's own code.
    """
    mean = np.mean(x * x, axis=-1, keepdims=True)
    out: F32 = x * (1 / np.sqrt(mean + np.float32(eps))) * weight
    return out


def layer_norm(x: F32, weight: F32, bias: F32, eps: float) -> F32:
    """(x - mean(x)) / sqrt(variance(x) + eps) * weight + bias, over the last axis.   x: (tokens, dim).

    weight, bias: (dim,).   The variance is the mean of (x - mean(x))^2.   Source: arXiv 1607.06450.
    """
    centred = x - np.mean(x, axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    out: F32 = centred * (1 / np.sqrt(variance + np.float32(eps))) * weight + bias
    return out


def rotate(x: F32, cos: F32, sin: F32) -> F32:
    """Turn each pair of features by its position's angle (RoPE).

    x: (tokens, heads, head_dim), may be a view of a wider row.   cos, sin: (tokens, pairs), pairs <= head_dim / 2.
    Features i and i + pairs form a pair; features from 2 * pairs on pass unchanged (partial rotary).
    Source: RoFormer, arXiv 2104.09864, section 3.4.2; pairs are split in halves, as in the checkpoint.
    """
    pairs = cos.shape[1]
    if 2 * pairs > x.shape[-1]:
        raise ShapeError(f"{pairs} pairs of features do not fit a head of {x.shape[-1]}")
    c, s = cos[:, None], sin[:, None]
    a, b, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    return np.concatenate((a * c - b * s, b * c + a * s, rest), axis=-1)


def route(scores: F32, eps: float) -> tuple[NDArray[np.int32], F32]:
    """Sparsemixer at inference: two experts for each token, and their weights, which do not add up to 1.

    scores: (tokens, experts), at least two of them.   Returns chosen (tokens, 2) int32 and weights (tokens, 2).
    In each round the largest score is chosen; its weight is the softmax over the scores that are within 2 * eps of it,
    relative to max(|score|, largest). The first choice has no part in the second round.
    Source: arXiv 2409.12136; the thresholds as in the published model's own code.
    """
    tokens = np.arange(len(scores))
    chosen, weights = np.empty((len(scores), 2), np.int32), np.empty((len(scores), 2), np.float32)
    left = scores.copy()
    for turn in range(2):
        best = chosen[:, turn] = left.argmax(-1)
        top = left[tokens, best][:, None]
        with np.errstate(invalid="ignore", divide="ignore"):  # all scores 0: NaN, which drops nothing
            dropped = (top - scores) / np.maximum(np.abs(scores), top) > np.float32(2 * eps)
            weights[:, turn] = 1 / np.where(dropped, np.float32(0), np.exp(left - top)).sum(-1)
        left[tokens, best] = -np.inf
    return chosen, weights


def draw(logits: F32, temperature: float, top_k: int, top_p: float, min_p: float, u: float) -> int:
    """The id that u of [0, 1) draws: with it the probabilities of the ids that are kept, in their order, exceed u.

    logits: (vocab,), -inf is never drawn.   temperature: above 0.   top_k: 0 keeps all, as top_p 1 and min_p 0.
    Each keeps a set of likeliest ids, the lower one among equals: top_p the fewest with so much of the probability,
    min_p those that have so much of the likeliest one's.   Returns -1 if every logit is -inf.
    """
    order = np.argsort(-logits, kind="stable")[: top_k or len(logits)]
    order = order[logits[order] > -np.inf]
    if not len(order):
        return -1
    with np.errstate(over="ignore"):  # at tiny temperatures all but the likeliest go to -inf, and that is their limit
        p = np.exp((logits[order].astype(np.float64) - float(logits[order[0]])) / temperature)
    if top_p < 1:
        p = p[: 1 + int(np.searchsorted(p.cumsum(), top_p * p.sum()))]
    p = p[(p >= min_p) & (p > 0)]  # the likeliest one has 1
    by_id = np.argsort(order[: len(p)])
    sums = p[by_id].cumsum()
    return int(order[by_id[np.searchsorted(sums, u * sums[-1], side="right")]])


def silu_mul(gate_up: F32) -> F32:
    """silu(gate) * up, silu(z) = z / (1 + exp(-z)).   gate_up: (tokens, 2 * dim), gate first.   Gives (tokens, dim)."""
    gate, up = np.split(gate_up, 2, axis=-1)
    with np.errstate(over="ignore"):  # exp(-z) = inf gives the right limit, 0
        out: F32 = gate / (1 + np.exp(-gate)) * up
    return out


def gelu(x: F32) -> F32:
    """x Phi(x), Phi the normal distribution: the exact GELU, not its approximation by tanh.   x: (tokens, dim)."""
    phi = np.array([0.5 * math.erfc(-v * math.sqrt(0.5)) for v in x.ravel().tolist()])
    out: F32 = (x * phi.reshape(x.shape)).astype(np.float32)
    return out


def quick_gelu(x: F32) -> F32:
    """x / (1 + exp(-1.702 x)), as CLIP has it.   x: (tokens, dim)."""
    with np.errstate(over="ignore"):
        out: F32 = x / (1 + np.exp(np.float32(-1.702) * x))
    return out


def encode(q: F32, k: F32, v: F32, length: int, scale: float) -> F32:
    """softmax(scale * q k^T) v within each run of `length` rows, of which each sees all: an encoder's attention.

    q, k, v: (runs * length, heads, head_dim).   Returns (runs * length, heads * head_dim).
    """
    if length < 1 or len(q) % length or not q.shape == k.shape == v.shape:
        raise ShapeError(f"{q.shape}, {k.shape} and {v.shape} are not the same whole runs of {length} rows")
    q, k, v = (x.reshape(-1, length, *x.shape[1:]).swapaxes(1, 2) for x in (q, k, v))  # (runs, heads, length, head_dim)
    scores = (q @ k.swapaxes(2, 3)) * np.float32(scale)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    out = ((p @ v) / p.sum(-1, keepdims=True)).swapaxes(1, 2)
    return np.ascontiguousarray(out).reshape(-1, out.shape[2] * out.shape[3])


def add(x: F32, y: F32) -> F32:
    """x + y, into x.   Both (tokens, dim)."""
    x += y
    return x


def add_bias(x: F32, bias: F32) -> F32:
    """x + bias, into x.   x: (tokens, dim).   bias: (dim,)."""
    x += bias
    return x


def place_heads(parts: Sequence[F32], places: NDArray[np.int32]) -> F32:
    """Heads of several arrays in one, each at its place.

    parts: each (tokens, some heads, head_dim), may be views of wider rows.   places: (heads,), of the parts' heads in
    order; every place once.   Returns (tokens, heads, head_dim).
    """
    heads = np.concatenate(parts, axis=1)
    out = np.empty_like(heads)
    out[:, places] = heads
    return out


def gegelu(x: F32, limit: float) -> F32:
    """g * sigmoid(1.702 g) * (l + 1), g and l the even and odd features.   x: (tokens, 2 * dim).   Gives (tokens, dim).

    g counts at most as limit, l from -limit to limit; where one of them is not finite the result is NaN, so that it
    shows. Source: the published code of Phi-3-small.
    """
    gate, linear = x[:, ::2], x[:, 1::2]
    top = np.float32(limit)
    with np.errstate(over="ignore", invalid="ignore"):  # exp(-z) = inf gives the right limit, 0; inf - inf is meant
        g = np.minimum(gate, top) + (gate - gate)
        l = np.clip(linear, -top, top) + (linear - linear)  # noqa: E741
        out: F32 = g / (1 + np.exp(np.float32(-1.702) * g)) * (l + 1)
    return out


def rotate_and_cache(
    q: F32, k: F32, v: F32, cos: F32, sin: F32, cache: NDArray[Any], layer: int, slots: NDArray[np.int64]
) -> F32:
    """Keys turned by their position's angles, and values, into the cache; the turned queries as a result.

    q: (tokens, heads, head_dim).   k, v: (tokens, kv_heads, head_dim).   All may be views of one wider row.
    cos, sin: as in `rotate`.   cache, slots: as in `write_cache`.   Returns (tokens, heads, head_dim).
    """
    write_cache(cache, layer, rotate(k, cos, sin), v, slots)
    return rotate(q, cos, sin)


def write_cache(cache: NDArray[Any], layer: int, k: F32, v: F32, slots: NDArray[np.int64]) -> None:
    """Put keys and values where `attention` finds them.

    cache: (blocks, layers, 2, kv_heads, 32 * head_dim), float16 or float32; [.., 0, ..] holds keys as [head_dim][32]
    (a token is a column, so that 32 scores are summed side by side), [.., 1, ..] values as [32][head_dim].
    int8: the last axis is 32 * head_dim + 128; its last 128 bytes are 32 float32 scales, one for each token's key (or
    value) in this head: integers and scale as in `quantize_rows`, with all of head_dim as one group.
    k, v: (tokens, kv_heads, head_dim).   slots: (tokens,) = block * 32 + offset.
    """
    block, offset = slots // BLOCK, slots % BLOCK
    if cache.dtype == np.int8:
        key_scale, value_scale = _scales(cache, layer)
        k, key_scale[block, :, offset] = _quantize(k)
        v, value_scale[block, :, offset] = _quantize(v)
    keys, values = _views(cache, layer, k.shape[-1])
    keys[block, :, :, offset] = k
    values[block, :, offset, :] = v


def attention(
    q: F32,
    cache: NDArray[Any],
    layer: int,
    segments: Segments,
    scale: float,
    window: int = 0,
    sparse: BlockSparse | None = None,
) -> F32:
    """softmax(scale * q k^T) v over the cached tokens of each query's own sequence, causal.

    q: (tokens, heads, head_dim).   cache: as in `write_cache`, the queries' own keys already in it.
    Each of the kv_heads serves heads / kv_heads consecutive heads.
    window: a query at i sees j <= i with i - j < window; 0 means all.   sparse: what each head sees; None means all.
    Blocks that nobody sees are not looked at.
    Returns (tokens, heads * head_dim).
    """
    tokens, heads, head_dim = q.shape
    keys, values = _views(cache, layer, head_dim)
    shared = heads // keys.shape[1]
    out = np.empty_like(q)
    for s in range(len(segments.positions)):
        rows = slice(segments.starts[s], segments.starts[s + 1])
        i = segments.positions[s] + np.arange(rows.stop - rows.start)
        n_blocks = -(-(i[-1] + 1) // BLOCK) if len(i) else 0
        table = segments.blocks[s, :n_blocks]
        j = np.arange(n_blocks * BLOCK)
        visible = j[None] <= i[:, None]
        if window:
            visible &= i[:, None] - j[None] < window
        seen = visible[None] if sparse is None else sparse.visible(i, j)
        k, v = keys[table].astype(np.float32), values[table].astype(np.float32)
        if cache.dtype == np.int8:
            key_scale, value_scale = _scales(cache, layer)
            with np.errstate(over="ignore", invalid="ignore"):  # in slots never written
                k, v = k * key_scale[table][:, :, None], v * value_scale[table][..., None]
        k = k.transpose(1, 2, 0, 3).reshape(keys.shape[1], head_dim, -1)
        v = v.transpose(1, 0, 2, 3).reshape(keys.shape[1], -1, head_dim)
        # Slots never written may hold anything, and 0 * nan is nan.
        blind = ~np.broadcast_to(seen.any(1), (heads, len(j))).reshape(-1, shared, len(j)).any(1)
        k.transpose(0, 2, 1)[blind] = 0
        v[blind] = 0
        seen = np.broadcast_to(seen, (heads, *visible.shape))
        for h in range(heads):
            scores = np.where(seen[h], (q[rows, h] @ k[h // shared]) * np.float32(scale), -np.inf)
            p = np.exp(scores - scores.max(-1, keepdims=True))
            out[rows, h] = (p @ v[h // shared]) / p.sum(-1, keepdims=True)
    return out.reshape(tokens, heads * head_dim)


def _views(cache: NDArray[Any], layer: int, head_dim: int) -> tuple[NDArray[Any], NDArray[Any]]:
    blocks, _, _, kv_heads, _ = cache.shape
    cells = cache[:, layer, :, :, : BLOCK * head_dim]
    keys = cells[:, 0].reshape(blocks, kv_heads, head_dim, BLOCK)
    values = cells[:, 1].reshape(blocks, kv_heads, BLOCK, head_dim)
    return keys, values


def _scales(cache: NDArray[Any], layer: int) -> tuple[F32, F32]:
    """Of keys and of values: (blocks, kv_heads, 32)."""
    scales = cache[:, layer, :, :, -4 * BLOCK :].view(np.float32)
    return scales[:, 0], scales[:, 1]


def _quantize(x: F32) -> tuple[F32, F32]:
    """Integers like x, and one scale for each row of its last axis; what `quantize_rows` says of a group."""
    finite = np.asarray(np.isfinite(x).all(-1))
    x = np.where(finite[..., None], x, np.float32(0))
    scale = np.abs(x).max(-1) / np.float32(127)
    scale[scale < np.finfo(np.float32).tiny] = 0
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > 0)
    return np.rint(x * inverse[..., None]), np.where(finite, scale, np.float32(np.nan))
