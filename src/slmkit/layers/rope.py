"""Rotary positions: plain RoPE, and LongRoPE with its two tables of factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class LongRope:
    """The two factor tables of LongRoPE (arXiv 2402.13753), as a Phi-3 checkpoint states them.

    short, long: one divisor of the frequency for each pair of features.
    original_context: sequences up to this many tokens use the short table, longer ones the long table.
    attention_factor: multiplies cos and sin; with short_attention_factor that of the long table alone.
    """

    short: tuple[float, ...]
    long: tuple[float, ...]
    original_context: int
    attention_factor: float
    short_attention_factor: float | None = None


class Rope:
    """Angles for positions.

    inv_freq_i = 1 / (factor_i * theta^(2 i / rotary_dim)), radians per position, rounded to float32 after each of the
    exponent, the power, the product and the quotient, as in the reference: at position 4,096 the last bit of a
    frequency is 2e-4 radians, and frequencies without these roundings move logits by 4.5e-5 of their norm.
    The power is taken in float64 and then rounded, which is right to the last bit on every machine. The frequencies
    that `transformers` stored for the tests are equal to the bit; of a head of 96 its float32 power misses one in 48,
    the 21st, by the last bit, which is 8e-6 radians at position 4,096. Cosine and sine of the float32 angle are taken
    the same way, so they depend on no vector length and no instruction set.
    Source: RoFormer, arXiv 2104.09864; factors: LongRoPE, arXiv 2402.13753.
    """

    def __init__(self, rotary_dim: int, theta: float, scaling: LongRope | None = None) -> None:
        exponents = np.arange(0, rotary_dim, 2, dtype=np.float32) / np.float32(rotary_dim)
        base = np.power(float(np.float32(theta)), exponents.astype(np.float64)).astype(np.float32)
        tables = [np.asarray(t, np.float32) for t in (scaling.short, scaling.long)] if scaling else [np.float32(1)]
        self.inv_freq = np.stack([np.float32(1) / (t * base) for t in tables])  # (tables, pairs)
        short = scaling and scaling.short_attention_factor
        long = scaling.attention_factor if scaling else 1.0
        self.factors = np.array([long if short is None else short, long], np.float32)[: len(tables)]
        self.scaling = scaling

    def table(self, length: int) -> int:
        """Which table a sequence of so many tokens uses. A cache built with one is wrong under the other."""
        return int(self._is_long(length))

    def _is_long(self, length: Any) -> Any:
        """The switch of LongRoPE, for one length or an array of them."""
        return length > (self.scaling.original_context if self.scaling else np.inf)

    def __call__(self, positions: NDArray[np.int32], lengths: NDArray[np.int32]) -> tuple[F32, F32]:
        """cos and sin, each (tokens, pairs); `lengths` as in Step."""
        table = np.asarray(self._is_long(lengths)).astype(np.intp)
        inv_freq, factor = self.inv_freq[table], self.factors[table][:, None]
        angles = (positions[:, None].astype(np.float32) * inv_freq).astype(np.float64)
        return np.cos(angles).astype(np.float32) * factor, np.sin(angles).astype(np.float32) * factor
