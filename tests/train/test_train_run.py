from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402

from checkpoints import Runner
from slmkit.train import checkpoint, evaluate, loop, prepare
from slmkit.train.data import Row
from slmkit.train.model import Phi3
from slmkit.train.optimizer import Optimiser, orthogonalised
from slmkit.train.recipe import Source, Stage
from slmkit.train.run import run


def _silent(_):
    pass


def _run(small, data_folder, out, **settings):
    return run(small, data_folder, out, compiled=False, say=_silent, **settings)


@pytest.fixture(scope="module")
def whole(small, data_folder, tmp_path_factory):
    """(model, folder) of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole")
    return _run(small, data_folder, out), out


class _StopsAfter(loop.Stop):
    """Asks for a stop after a number of steps, as a signal would."""

    def __init__(self, n_steps):
        self._left = n_steps

    @property
    def asked(self):
        self._left -= 1
        return self._left < 0


@pytest.mark.parametrize("n_steps", [1, 3, 4, 5])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    n_steps, whole, small, data_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "Stop", lambda: _StopsAfter(n_steps))
    _run(small, data_folder, tmp_path)
    assert not (tmp_path / "model").exists()
    monkeypatch.undo()
    resumed = _run(small, data_folder, tmp_path, resume=True)
    for (name, ours), theirs in zip(resumed.named_parameters(), whole[0].parameters(), strict=True):
        assert torch.equal(ours, theirs), name  # one thread order, one seed: bit for bit


def test_training_lowers_the_loss(small, data_folder, tmp_path):
    said = []
    longer = dataclasses.replace(small, stages=(dataclasses.replace(small.stages[0], steps=60),))
    model = run(longer, data_folder, tmp_path, compiled=False, say=said.append)
    measured = json.loads((tmp_path / "measured.json").read_text())["bits_per_byte"]["texts"]
    untrained = evaluate.bits_per_byte(Phi3(small.model), prepare.held_out(Source("texts", 1.0), small, data_folder),
                                       prepare.tokenizer_of(small, data_folder, tmp_path, _silent))  # fmt: skip
    assert measured < 0.7 * untrained
    assert model.shape == small.model


def test_the_exported_folder_holds_the_trained_weights_under_published_names(whole, small):
    from safetensors.torch import load_file

    stored = load_file(whole[1] / "model" / "model.safetensors")
    shape = small.model
    head_dim = shape.hidden_size // shape.num_attention_heads
    assert stored["model.layers.1.self_attn.qkv_proj.weight"].shape == (
        (shape.num_attention_heads + 2 * shape.num_key_value_heads) * head_dim, shape.hidden_size)  # fmt: skip
    assert "lm_head.weight" not in stored
    for name, trained in whole[0].named_parameters():
        assert torch.equal(stored[name], trained.to(torch.bfloat16)), name


def test_the_engine_gives_the_logits_of_the_trained_model(whole, small):
    rounded = Phi3(small.model)
    rounded.load_state_dict({n: p.to(torch.bfloat16).float() for n, p in whole[0].named_parameters()})
    ids = np.random.default_rng(1).integers(0, small.model.vocab_size, small.model.max_position_embeddings)
    with torch.no_grad():
        trained = rounded(torch.from_numpy(ids)[None])[0].numpy()
    ours = Runner(whole[1] / "model", "reference").all_logits(ids)
    # both float32, in other orders of sums
    assert np.linalg.norm(ours - trained) < 1e-5 * np.linalg.norm(trained)


def test_the_exported_folder_says_where_answers_end_and_how_to_sample(whole, small):
    folder = whole[1] / "model"
    stored = json.loads((folder / "generation_config.json").read_text())
    tokens = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    ids = {token["content"]: token["id"] for token in tokens}
    assert stored["eos_token_id"] == [ids["<|end|>"], ids["<|assistant|>"], ids["<|endoftext|>"]]
    assert stored["temperature"] == small.generation["temperature"]
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["Phi3ForCausalLM"]


def test_the_learning_rate_warms_up_stays_and_falls_to_nothing():
    stage = Stage("s", steps=10, mixture=(), warmup_steps=2, decay_steps=4, rate=0.5)
    rates = [loop.rate_at(step, stage) for step in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.375, 0.25, 0.125])


def test_an_orthogonalised_matrix_has_singular_values_near_one():
    values = torch.linalg.svdvals(orthogonalised(torch.randn(24, 8, generator=torch.Generator().manual_seed(1))))
    # the quintic trades exactness for speed: Keller Jordan gives 0.7 to 1.2
    assert 0.6 < values.min() <= values.max() < 1.3


def test_a_checkpoint_of_another_shape_is_refused(whole, small, tmp_path):
    other = Phi3(dataclasses.replace(small.model, num_hidden_layers=1, hidden_size=64))
    with pytest.raises(checkpoint.RunStateError, match="another model"):
        checkpoint.read(whole[1] / "tune.safetensors", other, None)


def test_a_damaged_or_missing_checkpoint_is_refused(whole, small, tmp_path):
    model = Phi3(small.model)
    with pytest.raises(checkpoint.RunStateError, match="no checkpoint"):
        checkpoint.read(tmp_path / "none.safetensors", model, None)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((whole[1] / "tune.safetensors").read_bytes()[:5000])
    with pytest.raises(checkpoint.RunStateError, match="not a checkpoint"):
        checkpoint.read(cut, model, Optimiser(model, small.model, small.optimizer))


def test_an_unknown_stage_is_refused(small, data_folder, tmp_path):
    with pytest.raises(Exception, match="no stage 'sing'; it has: read, tune"):
        _run(small, data_folder, tmp_path, stages=["sing"])


def test_bits_per_byte_of_a_guesser_without_knowledge_is_the_size_of_its_vocabulary(small, tokenizer):
    model = Phi3(small.model)
    torch.nn.init.zeros_(model.model.embed_tokens.weight)  # all logits alike: log2(vocabulary) bits a token
    row = Row((("text", "The dog ran and sat."),))
    n_tokens = len(tokenizer.encode(row.text).ids)
    first = len(tokenizer.decode(tokenizer.encode(row.text).ids[1:]).encode())
    # the first token is never guessed, and its text is not counted; the ending token is, and has no text
    expected = np.log2(small.model.vocab_size) * n_tokens / first
    assert evaluate.bits_per_byte(model, [row], tokenizer) == pytest.approx(expected, rel=1e-5)
