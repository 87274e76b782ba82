"""Phi-3.5-MoE from files: a hub folder, a packed one, a GGUF file; and within a bound of memory."""

from __future__ import annotations

import numpy as np
import pytest

import slmkit
from checkpoints import relative_errors
from gguf_models import write_random
from phimoe_checkpoint import write_folder
from slmkit.cli.main import main
from slmkit.engine.memory import ExpertBytes, memory_bytes, plan_experts
from slmkit.errors import NotEnoughMemory, OptionError, UnsupportedModel
from slmkit.export import export_gguf
from slmkit.layers.cache_layout import CacheLayout
from slmkit.models.gguf_config import MSCALE
from slmkit.ops.pack import unpack
from slmkit.sources.find import open_source
from slmkit.weights.load import load_weights
from slmkit.weights.resident import Region, Resident, Scores
from tiny import edit_json

GREEDY = {"max_tokens": 12, "ignore_eos": True, "temperature": 0}


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "moe")


def test_a_folder_runs_and_quantized_into_another_gives_the_same_answer(folder, tmp_path, capsys):
    with slmkit.load(folder, quantize="q4") as model:
        answer = model.generate("hello", **GREEDY).text
        facts = model.describe()
    out = tmp_path / "packed"
    assert main(["quantize", str(folder), str(out), "--quiet"]) == 0
    with slmkit.load(out) as model:
        assert model.generate("hello", **GREEDY).text == answer
        assert model.describe()["token_bytes"] == facts["token_bytes"]
    assert main(["show", str(out)]) == 0
    assert "phimoe" in capsys.readouterr().out


def test_a_token_reads_the_experts_that_are_chosen_and_no_others(folder):
    with slmkit.load(folder, quantize="none") as model:
        facts = model.describe()
    one = 3 * 96 * 64 * 4  # bytes of an expert in float32
    attention = 64 * (64 + 32 + 32 + 64) * 4
    assert facts["token_bytes"] == 2 * (2 * one + attention + 8 * 64 * 4) + 128 * 64 * 4


@pytest.fixture
def sayable(tmp_path):
    """With a tokenizer that GGUF can hold."""
    pairs = 8
    return write_random(
        tmp_path / "sayable",
        {
            "model_type": "phimoe", "num_local_experts": 4, "num_experts_per_tok": 2, "attention_bias": True,
            "lm_head_bias": True, "original_max_position_embeddings": 32, "rope_scaling": {
                "type": "longrope", "short_factor": [1.0 + i / 16 for i in range(pairs)],
                "long_factor": [1.5 + i for i in range(pairs)], "short_mscale": MSCALE, "long_mscale": MSCALE,
            },
        },
    )  # fmt: skip


def test_a_gguf_file_holds_the_same_model(sayable, tmp_path):
    folder = sayable
    source = open_source(str(folder))
    out = tmp_path / "moe.gguf"
    export_gguf(source, out, "f32")
    found = open_source(str(out))
    assert found.raw_config["model_type"] == "phimoe"
    assert found.config == source.config
    theirs, ours = (load_weights(s.tensors, s.expected, "none") for s in (source, found))
    assert list(ours) == list(theirs)
    for name in theirs:
        a, b = (getattr(w[name], "data", w[name]) for w in (theirs, ours))
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), name)
    with slmkit.load(folder, quantize="none") as one, slmkit.load(out) as other:
        assert one.generate("hello", **GREEDY).text == other.generate("hello", **GREEDY).text


def test_the_blocks_of_a_quantized_stack_are_kept_for_each_expert(sayable, tmp_path):
    out = tmp_path / "moe.gguf"
    source = open_source(str(sayable))
    export_gguf(source, out, "q8_0")
    found = open_source(str(out))
    weights = load_weights(found.tensors, found.expected)
    name = "model.layers.1.block_sparse_moe.experts.3.w2.weight"
    assert weights[name].format == "q8"
    error = relative_errors(unpack(weights[name]), source.tensors.tensor(name))
    assert error.max() < 0.01  # max / 127 by groups of 32


def test_what_gguf_has_no_word_for_is_refused(sayable, tmp_path):
    edit_json(sayable / "config.json", router_jitter_noise=0.02)
    with pytest.raises(UnsupportedModel, match="router_jitter_noise"):
        export_gguf(open_source(str(sayable)), tmp_path / "moe.gguf", "f32")


def test_a_bound_of_memory_changes_no_answer(folder, tmp_path, monkeypatch):
    """Room for one layer's experts of two: each step gives experts back and reads them again."""
    out = tmp_path / "packed"
    assert main(["quantize", str(folder), str(out), "--quiet"]) == 0
    with slmkit.load(out, ctx=64) as model:
        free = model.generate("hello", **GREEDY).text
        total = model.describe()["resident_expert_bytes"]
    with slmkit.load(out, ctx=64, memory="190KB") as model:
        assert model.describe()["resident_expert_bytes"] < total
        assert model.generate("hello", **GREEDY).text == free
        resident = model.backend.loaded.model.experts[0].resident
        assert 0 < resident.n_bytes <= resident.budget
        assert resident.misses > 16  # more than reading each once
    with pytest.raises(NotEnoughMemory):
        slmkit.load(out, memory="100KB")


@pytest.mark.parametrize(
    ("text", "n_bytes"), [("16GB", 16 * 10**9), ("1.5 GiB", 3 << 29), ("800mb", 8 * 10**8), ("7", 7)]
)
def test_amounts_of_memory_are_read(text, n_bytes):
    assert memory_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "1e9", "16 TBs", "nan"])
def test_what_is_no_amount_of_memory_is_refused(text):
    with pytest.raises(OptionError, match="memory is"):
        memory_bytes(text)


def test_experts_and_a_context_that_was_asked_for_share_the_memory():
    layout = CacheLayout(32, 8, 128)  # 64 KiB a token in 8 bits and scales
    weights = ExpertBytes(total=23 * 10**9, experts=21 * 10**9, layer=656 * 10**6)
    plan, budget = plan_experts(131072, None, layout, "q8", weights, free=12 * 10**9)
    assert 6 * 10**9 < budget < 9 * 10**9
    asked, smaller = plan_experts(131072, 65536, layout, "q8", weights, free=12 * 10**9)
    assert asked.context == 65536 > plan.context
    assert weights.layer <= smaller < budget
    assert plan_experts(4096, 4096, layout, "q8", weights, free=64 * 10**9)[1] == weights.experts
    with pytest.raises(NotEnoughMemory):
        plan_experts(131072, None, layout, "q8", weights, free=25 * 10**8)


def test_what_is_used_most_of_late_stays():
    scores = Scores(rounds=1, half_life=4)
    for key in "aaaab":
        scores.note([key])
    assert scores.least("ab") == "b"
    for _ in range(12):
        scores.note("b")
    assert scores.least("ab") == "a"
    assert scores.least("abc") == "c"


def test_groups_that_are_used_at_once_stay_together():
    resident = Resident(10, {key: [Region(None, 0, 5)] for key in "abc"}, rounds=1)
    dropped = []
    resident._groups = {key: [_Told(key, dropped)] for key in "abc"}
    resident.use("ab")
    resident.use("ac")
    assert (dropped, resident.n_bytes, resident.uses, resident.misses) == (["b"], 10, 4, 3)


class _Told:
    def __init__(self, key, dropped):
        self.key, self.dropped = key, dropped

    def drop(self):
        self.dropped.append(self.key)
