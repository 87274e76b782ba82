"""A Matrix holds what its format says, so that no kernel reads bytes as something else."""

from __future__ import annotations

import numpy as np
import pytest

from slmkit.errors import ShapeError
from slmkit.ops.matrix import Matrix

SCALE = np.ones((1, 2, 16), np.float16)


@pytest.mark.parametrize(
    ("format", "data", "scale", "message"),
    [
        ("q5", np.zeros((1, 2, 256), np.uint8), SCALE, "'q5' is no matrix format; there are f32, bf16, f16, q8, q4"),
        ("f16", np.zeros((16, 64), np.uint16), None, r"f16 .* data float16 \(16, 64\), not uint16"),
        ("f32", np.zeros((16, 63), np.float32), None, r"data float32 \(16, 64\), not float32 \(16, 63\)"),
        ("q4", np.zeros((1, 2, 256), np.int8), SCALE, r"data uint8 .*, not int8"),
        ("q8", np.zeros((1, 2, 256), np.int8), SCALE, r"data int8 \(1, 2, 512\), not int8 \(1, 2, 256\)"),
        ("q8", np.zeros((1, 2, 512), np.int8), None, r"scale float16 \(1, 2, 16\), not none"),
        ("q8", np.zeros((1, 2, 512), np.int8), SCALE.astype(np.float32), "not float32"),
    ],
)
def test_bytes_that_are_not_of_the_format_are_refused(format, data, scale, message):
    with pytest.raises(ShapeError, match=message):
        Matrix(format, 16, 64, data, scale)


def test_the_bytes_of_a_pass_are_those_of_data_and_scale():
    assert Matrix("q8", 16, 64, np.zeros((1, 2, 512), np.int8), SCALE).nbytes == 1024 + 64
    assert Matrix("bf16", 16, 64, np.zeros((16, 64), np.uint16)).nbytes == 2048
