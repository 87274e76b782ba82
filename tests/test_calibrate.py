"""`slm quantize --calibrate` and `--report`: what they write, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import slmkit
from slmkit.calibrate import LEAST_TOKENS, PIECE, Calibrated, calibration_ids
from slmkit.cli.main import main
from slmkit.errors import RequestError
from slmkit.ops.choose import choose
from slmkit.ops.pack import as_f32
from slmkit.sources.find import open_source

STORY = "The old lighthouse keeper counted the boats each evening, and wrote their names into a book. " * 40


@pytest.fixture(scope="module")
def tiny():
    return open_source("tiny")


@pytest.fixture(scope="module")
def folder():
    return str(Path(slmkit.__file__).parent / "data" / "tiny")


def test_the_text_is_cut_into_pieces_that_lose_no_token(tiny, tmp_path):
    (tmp_path / "story.txt").write_text(STORY, encoding="utf-8")
    pieces = calibration_ids(tiny, str(tmp_path / "story.txt"))
    assert all(len(p) == PIECE for p in pieces[:-1])
    whole = [i for piece in pieces for i in piece]
    assert tiny.tokenizer.decode(whole).strip() == STORY.strip()
    assert sum(map(len, calibration_ids(tiny, "auto"))) > 10 * LEAST_TOKENS


@pytest.mark.parametrize(("content", "problem"), [(b"Too short.", "calibrating takes 256"), (b"\xff" * 9999, "UTF-8")])
def test_a_text_that_is_none_is_refused(tiny, tmp_path, content, problem):
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(RequestError, match=problem):
        calibration_ids(tiny, str(tmp_path / "bad.txt"))


def test_what_the_matrices_see_is_what_the_models_own_forward_pass_shows_them(tiny):
    """The first layer's: the embedded text, normalized."""
    ops = choose("auto", None)
    pieces = calibration_ids(tiny, "auto")[:2]
    seen = Calibrated(tiny, pieces, ops).gram("model.layers.0.self_attn.qkv_proj.weight")
    table = as_f32(tiny.tensors.tensor("model.embed_tokens.weight"))
    norm = as_f32(tiny.tensors.tensor("model.layers.0.input_layernorm.weight"))
    x = table[np.concatenate(pieces)]
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + tiny.config.rms_norm_eps) * norm
    np.testing.assert_allclose(seen, x.T @ x, rtol=1e-3, atol=1e-3 * np.abs(seen).max())  # sums over 1,000 tokens


def test_calibrating_halves_what_the_outputs_lose_at_the_same_bits(folder, tmp_path, capsys):
    def report(*more):
        out = tmp_path / f"out{len(more)}"
        assert main(["quantize", folder, str(out), "--to", "q4", "--report", "--json", "-q", *more]) == 0
        return out, json.loads(capsys.readouterr().out)

    (_, plain), (out, calibrated) = report(), report("--calibrate", "auto")
    assert plain["layer_bits_per_weight"] == calibrated["layer_bits_per_weight"] == pytest.approx(4.33, abs=0.01)
    rows = [r for r in calibrated["matrices"] if r["format"] == "q4_s"]
    assert len(rows) == 24
    assert all(r["output_error"] < 0.7 * r["error"] for r in rows)
    assert all(r["output_error"] is None for r in plain["matrices"])
    with slmkit.load(str(out), ctx=128) as model:
        assert model.generate("Once upon a time", max_tokens=8).text


def test_the_report_is_a_table_for_people(folder, tmp_path, capsys):
    assert main(["quantize", folder, str(tmp_path / "out"), "--to", "q8", "--report", "-q"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "model.layers.0.mlp.down_proj.weight" in "\n".join(lines)
    assert lines[-2].startswith("matrices of the layers: 8.5")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--to", "q8", "--calibrate", "auto"], "--calibrate is for 4 bits"),
        (["--calibrate", "nosuch.txt"], "nosuch.txt"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_and_nothing_is_written(folder, tmp_path, capsys, arguments, problem):
    assert main(["quantize", folder, str(tmp_path / "out"), "-q", *arguments]) != 0
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_packed_model_cannot_be_calibrated_again(folder, tmp_path, capsys):
    assert main(["quantize", folder, str(tmp_path / "out"), "--to", "q4", "-q"]) == 0
    assert main(["quantize", str(tmp_path / "out"), str(tmp_path / "again"), "--calibrate", "auto", "-q"]) != 0
    assert "is packed already" in capsys.readouterr().err
