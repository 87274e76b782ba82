"""Phi-3.5-MoE against logits that `transformers` 4.46.3 computed in float32, and its batch invariance."""

from __future__ import annotations

import json
import math
from itertools import product

import numpy as np
import pytest

from checkpoints import KERNELS, NATIVE, Runner, relative_errors
from engine.driving import Recorder, run, task
from phimoe_checkpoint import REFERENCE, prompts, runner, stored
from slmkit.engine.step import Engine
from slmkit.errors import CheckpointError, UnsupportedModel
from slmkit.models.phimoe import Config, expected_tensors

# Both sides are float32 and sum in other orders; the largest error was 2e-6.
TOLERANCE = 1e-5
RAW = json.loads((REFERENCE / "config.json").read_text())
PUBLISHED = {
    **RAW, "vocab_size": 32064, "hidden_size": 4096, "intermediate_size": 6400, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 16, "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096, "sliding_window": 131072,
    "rope_scaling": {"type": "longrope", "long_factor": [2.0] * 64, "short_factor": [1.0] * 64,
                     "long_mscale": 1.243163121016122, "short_mscale": 1.243163121016122,
                     "original_max_position_embeddings": 4096},
}  # fmt: skip


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_prompt_gives_the_stored_logits_on_both_sides_of_the_rope_switch(kernels):
    for ids, positions, logits in prompts():
        assert relative_errors(runner(kernels).all_logits(ids, positions), logits).max() < TOLERANCE, len(ids)


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_prompt_read_in_pieces_gives_the_stored_logits(kernels):
    for piece, (ids, _, logits) in product((1, 7, 32), prompts()):
        assert relative_errors(runner(kernels).last_logits(ids, piece), logits[-1]) < TOLERANCE, (len(ids), piece)


@pytest.mark.skipif(not NATIVE, reason="NumPy's products choose their order of sums by shape")
@pytest.mark.parametrize(("kernels", "quantize"), [*product(NATIVE, ("q4", "q8", "none"))])
def test_batches_and_chunks_give_the_same_bits(kernels, quantize):
    run_ = runner(kernels, quantize)
    alone = [run_.last_logits(ids) for ids, _, _ in prompts()]
    for (ids, _, _), row in zip(prompts(), alone, strict=True):
        for piece in (1, 7, 33):
            np.testing.assert_array_equal(run_.last_logits(ids, piece), row)
    lines = [run_.line(ids) for ids, _, _ in prompts()]
    together = run_.run(*[(line, len(line.ids)) for line in lines])
    for line in lines:
        run_.cache.release(line.blocks)
    np.testing.assert_array_equal(together, np.stack(alone))


@pytest.mark.skipif(len(NATIVE) < 2, reason="there is one kernel set only")
@pytest.mark.parametrize("quantize", ["q4", "q8", "none"])
def test_every_kernel_set_gives_the_same_bits(quantize):
    ids = prompts()[-1][0]
    first, *others = [runner(kernels, quantize).all_logits(ids) for kernels in NATIVE]
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.skipif(not NATIVE, reason="the native kernels were not built")
@pytest.mark.parametrize("quantize", ["q4", "none"])
def test_preemption_and_neighbours_change_no_bit_of_an_answer(quantize):
    """Answers that cross the switch of tables, alone and six to seven blocks."""
    ids, starts = stored()["steps_ids"].tolist(), [5, 17, 28, 31, 33, 40]

    def recorded(blocks: int, step_tokens: int, together: bool) -> list[dict[int, np.ndarray]]:
        run_ = Runner(REFERENCE, NATIVE[0], quantize, "f16", blocks)
        engine = Engine(run_.model, run_.cache, step_tokens)
        recorders = [Recorder() for _ in starts]
        tasks = [
            task(ids[:n], limit=20, processors=(r,), temperature=1.0, seed=n)
            for n, r in zip(starts, recorders, strict=True)
        ]
        for group in [tasks] if together else [[t] for t in tasks]:
            run(engine, *group)
        assert run_.cache.n_free == blocks
        return [r.rows for r in recorders]

    alone, crowded = recorded(64, 256, False), recorded(7, 40, True)
    for one, other in zip(alone, crowded, strict=True):
        assert one.keys() == other.keys()
        for length in one:
            np.testing.assert_array_equal(one[length], other[length])


def test_the_published_model_has_41_873_153_344_parameters():
    shapes = expected_tensors(Config.from_dict(PUBLISHED))
    assert sum(math.prod(shape) for shape in shapes.values()) == 41_873_153_344


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"num_experts_per_tok": 4}, UnsupportedModel, "num_experts_per_tok"),
        ({"attention_bias": False}, UnsupportedModel, "attention_bias"),
        ({"lm_head_bias": False}, UnsupportedModel, "lm_head_bias"),
        ({"sliding_window": 64}, UnsupportedModel, "sliding_window is 64"),
        ({"num_local_experts": 1}, UnsupportedModel, "one expert"),
        ({"num_local_experts": 10**9}, CheckpointError, "num_local_experts"),
        ({"shared_expert_intermediate_size": 64}, UnsupportedModel, "shared_expert_intermediate_size"),
        ({"rope_scaling": {**RAW["rope_scaling"], "mscale": 2.0}}, UnsupportedModel, "mscale"),
        ({"rope_scaling": {"type": "yarn"}}, UnsupportedModel, "yarn"),
    ],
)
def test_settings_that_are_not_implemented_are_refused_by_name(change, error, told):
    with pytest.raises(error, match=told):
        Config.from_dict({**RAW, **change})
