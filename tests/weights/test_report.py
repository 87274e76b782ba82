"""What `Measured` says of rounding, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from folders import EXPECTED, write_model

from slmkit.ops.pack import as_f32, unpack
from slmkit.weights.checkpoint import Checkpoint
from slmkit.weights.quantize import quantize_folder
from slmkit.weights.report import Measured


def test_every_matrix_is_measured_over_all_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("slmkit.weights.packing._AT_ONCE", 1)  # many pieces of a matrix
    source = Checkpoint.open(write_model(tmp_path / "m"))
    measured = Measured(source)
    quantize_folder(source, EXPECTED, "q4", tmp_path / "out", rounding=measured)
    matrices = [name for name, shape in EXPECTED.items() if len(shape) == 2]
    assert sorted(measured.rounded) == sorted(matrices)
    for name, found in measured.rounded.items():
        w = as_f32(source.tensor(name))
        matrix = source.pack_rows(name, slice(0, len(w)), found.format, None)
        assert found.n_weights == w.size
        assert found.bits == pytest.approx(8 * matrix.nbytes / w.size)
        assert found.error == pytest.approx(np.linalg.norm(unpack(matrix) - w) / np.linalg.norm(w), rel=1e-5)
        assert found.output_error is None


def test_the_output_error_is_that_of_the_products_with_the_inputs_seen(tmp_path):
    source = Checkpoint.open(write_model(tmp_path / "m"))
    name = next(name for name, shape in EXPECTED.items() if len(shape) == 2)
    w = as_f32(source.tensor(name))
    x = np.random.default_rng(0).standard_normal((50, w.shape[1]), np.float32)

    class Seen:
        def __getattr__(self, attribute):
            return getattr(source, attribute)

        def gram(self, _):
            return x.T @ x

    measured = Measured(Seen())
    matrix = measured.pack_rows(name, slice(0, len(w)), "q4_s", None)
    expected = np.linalg.norm(x @ (unpack(matrix) - w).T) / np.linalg.norm(x @ w.T)
    assert measured.rounded[name].output_error == pytest.approx(expected, rel=1e-3)  # squares in float32
