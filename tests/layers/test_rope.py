"""Rotary tables: which one, how exact, and the same whatever stands beside them."""

from __future__ import annotations

import numpy as np
import pytest

from slmkit.layers.rope import LongRope, Rope

SCALING = LongRope(tuple(np.linspace(1, 3, 48)), tuple(np.geomspace(1, 64, 48)), 4096, 1.25)


@pytest.mark.parametrize(("length", "table"), [(1, 0), (4095, 0), (4096, 0), (4097, 1), (131072, 1)])
def test_the_long_table_begins_one_token_after_the_original_context(length, table):
    assert Rope(96, 10000.0, SCALING).table(length) == table
    assert Rope(96, 10000.0).table(length) == 0


def test_a_token_is_turned_by_its_sequences_table_whatever_its_position():
    rope = Rope(96, 10000.0, SCALING)
    cos, sin = rope(np.array([5, 5], np.int32), np.array([4096, 4097], np.int32))
    for row, table in enumerate((SCALING.short, SCALING.long)):
        angle = 5 / (np.array(table) * 10000.0 ** (np.arange(48) / 48))
        # float32 frequencies, three roundings of 6e-8 each, times 5 radians and the factor
        np.testing.assert_allclose(cos[row], 1.25 * np.cos(angle), atol=1.5e-6)
        np.testing.assert_allclose(sin[row], 1.25 * np.sin(angle), atol=1.5e-6)


def test_without_scaling_there_is_no_factor():
    cos, sin = Rope(64, 500.0)(np.array([0, 3], np.int32), np.array([4, 4], np.int32))
    np.testing.assert_array_equal(cos[0], 1)
    np.testing.assert_array_equal(sin[0], 0)
    np.testing.assert_allclose(cos[1] ** 2 + sin[1] ** 2, 1, atol=2e-7)


def test_a_position_has_the_same_bits_alone_and_among_others():
    """Up to 131,072: NumPy's float32 cosine takes another way for large angles, in vectors of eight."""
    rope = Rope(96, 10000.0, SCALING)
    positions = np.array([0, 1, 4095, 71476, 71477, 117435, 117436, 131071, *range(60000, 60029)], np.int32)
    lengths = np.full_like(positions, 131072)
    cos, sin = rope(positions, lengths)
    for i in range(len(positions)):
        for piece in (slice(i, i + 1), slice(i, i + 3), slice(i, None)):
            np.testing.assert_array_equal(rope(positions[piece], lengths[piece])[0], cos[piece])
            np.testing.assert_array_equal(rope(positions[piece], lengths[piece])[1], sin[piece])


def test_cosines_are_the_nearest_float32_of_the_float32_angle():
    rope = Rope(96, 10000.0)
    positions = np.arange(0, 131072, 97, dtype=np.int32)
    angles = (positions[:, None].astype(np.float32) * rope.inv_freq).astype(np.longdouble)
    cos, sin = rope(positions, positions + 1)
    np.testing.assert_array_equal(cos, np.cos(angles).astype(np.float32))
    np.testing.assert_array_equal(sin, np.sin(angles).astype(np.float32))
