"""Recorded steps: what they compute, when they are recorded again, and what a recording refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import small
from checkpoints import REFERENCE, Runner, prompts
from slmkit.engine.cache import Cache
from slmkit.engine.scheduler import Work
from slmkit.engine.step import assemble
from slmkit.errors import ShapeError
from slmkit.layers.replay import MOST_RECORDINGS, MOST_ROWS, Replay
from slmkit.layers.step import Features
from vision_models import write_vision_model

native = pytest.importorskip("slmkit.ops.native")

CASE = "longrope"


@pytest.fixture
def runner():
    return Runner(REFERENCE / CASE, native.kernel_sets()[0], "q4", "q8", 64)


def step(runner, ids, count):
    line = runner.line(ids)
    made = assemble([Work(line, count)], runner.cache)
    runner.cache.release(line.blocks)  # it ran alone
    return made


def with_strand(one, **changes):
    return replace(one, strands=(replace(one.strands[0], **changes),))


def both(model, ids, one):
    """The hidden states by replay and by plain calls, each over an empty cache."""
    found = []
    for rows in (MOST_ROWS, 0):
        model.run_layers.most_rows = rows
        one.cache[:] = 0
        found.append(model.hidden(ids, one))
    return found


def vision_step(runner, ids, count):
    """The last rows of an image, and words after them."""
    made = assemble([Work(runner.line(ids), count)], runner.cache)
    values = np.random.default_rng(count).standard_normal((1, runner.config.hidden_size)).astype(np.float32)
    return made[0], replace(made[1], features=Features(np.array([0]), values))


@pytest.mark.parametrize("rows", [1, 2, MOST_ROWS])
@pytest.mark.parametrize("architecture", ["phi3small", "phi3_v"])
def test_every_architecture_without_experts_is_recorded(architecture, rows, tmp_path):
    write = small.write_model if architecture == "phi3small" else write_vision_model
    runner = Runner(write(tmp_path / "model"), native.kernel_sets()[0], "q4", "q8", 64)
    make = step if architecture == "phi3small" else vision_step
    for first in (5, 40):
        again, plain = both(runner.model, *make(runner, list(range(first, first + MOST_ROWS)), rows))
        assert again.any()
        np.testing.assert_array_equal(again, plain)
    assert len(runner.model.run_layers._by_shape) == 1


def test_sequences_with_sparse_strands_decode_by_replay_as_by_plain_calls(tmp_path):
    """Far into a text, where blocks were given back, several at once and with recordings for other tables."""
    runner = Runner(small.write_model(tmp_path / "model", **small.LONGROPE), native.kernel_sets()[0], "q4", "q8", 512)
    texts = [list(np.random.default_rng(n).integers(4, 100, n)) for n in (90, 255, 300)]
    rows = []
    for most in (MOST_ROWS, 0):
        runner.model.run_layers.most_rows = most
        lines = [runner.line(ids) for ids in texts]
        for line in lines:
            del line.ids[60:]
        runner.run(*[(line, 60) for line in lines])
        found = []
        for i in range(60, 300):
            alive = [(line, ids) for line, ids in zip(lines, texts, strict=True) if len(ids) > i]
            for line, ids in alive:
                line.ids.append(int(ids[i]))
                runner.cache.forget(line.blocks, line.n_cached)  # of what no head sees again
            found.append(runner.run(*[(line, 1) for line, _ in alive]))
        rows.append(np.concatenate(found))
        for line in lines:
            runner.cache.release(line.blocks)
    np.testing.assert_array_equal(rows[0], rows[1])
    assert len(runner.model.run_layers._by_shape) > 2


@pytest.mark.parametrize("rows", [1, 2, MOST_ROWS, MOST_ROWS + 1])
def test_a_recording_computes_what_plain_calls_do_for_every_later_input(runner, rows):
    texts = [ids for ids, _, _ in prompts(CASE) if len(ids) > MOST_ROWS][:3]
    assert len(texts) == 3
    for text in texts:
        again, plain = both(runner.model, *step(runner, text, rows))
        np.testing.assert_array_equal(again, plain)
    assert len(runner.model.run_layers._by_shape) == (rows <= MOST_ROWS)


def test_results_are_the_callers_own(runner):
    ids, one = step(runner, [5], 1)
    first = runner.model.hidden(ids, one)
    kept = first.copy()
    runner.model.hidden(ids + 1, one)
    np.testing.assert_array_equal(first, kept)


def test_another_cache_is_recorded_anew(runner):
    ids, one = step(runner, [5], 1)
    runner.model.hidden(ids, one)
    c = runner.model.config
    other = Cache(64, c.num_hidden_layers, c.num_key_value_heads, c.head_dim, "q8")
    other.data[:] = one.cache[:] = 0
    runner.model.hidden(ids, replace(one, cache=other.data))
    assert other.data.any()
    assert not one.cache.any()


def test_what_changes_between_runs_is_checked_in_each(runner):
    ids, one = step(runner, [5], 1)
    runner.model.hidden(ids, one)
    with pytest.raises(ShapeError, match="id 100000 is outside"):
        runner.model.hidden(np.array([100000], np.int32), one)
    with pytest.raises(ShapeError, match="slot 2048 is outside"):
        runner.model.hidden(ids, with_strand(one, slots=np.array([64 * 32])))
    with pytest.raises(ShapeError, match="sequence 0 has block 64"):
        runner.model.hidden(ids, with_strand(one, segments=replace(one.segments, blocks=np.array([[64]], np.int32))))
    runner.model.hidden(ids, one)  # nothing is left behind


def test_few_recordings_are_kept_and_their_memory_is_shared(runner):
    model = runner.model
    for rows in range(1, MOST_ROWS + 1):
        for wide in (1, 2):
            ids, one = step(runner, list(range(1, rows + 1)), rows)
            blocks = np.pad(one.segments.blocks, ((0, 0), (0, wide - 1)))
            model.hidden(ids, with_strand(one, segments=replace(one.segments, blocks=blocks)))
    assert len(model.run_layers._by_shape) == MOST_RECORDINGS
    buffers = model.ops._buffers._free
    assert max(map(len, buffers.values())) <= 2 * MOST_RECORDINGS  # not one for each layer of each


def test_a_layer_that_does_sums_of_its_own_is_refused():
    ops = native.Native(native.kernel_sets()[0])
    weight = np.ones(4, np.float32)

    def layers(x, one, cos, sin):
        return ops.rms_norm(ops.rms_norm(x, weight, 1e-5) + x, weight, 1e-5)

    weight.flags.writeable = False
    _, one = assembled()
    with pytest.raises(TypeError, match="argument 0 of rms_norm is an array of which a recording knows no origin"):
        Replay(ops, layers)(*(np.ones((1, 4), np.float32), one, *[np.ones((1, 2), np.float32)] * 2))
    assert ops.rms_norm(np.ones((1, 4), np.float32), weight, 0.0).tolist() == [[1] * 4]  # ops run at once again


def assembled():
    class Line:
        ids, blocks, n_cached, images, adapter = [1], [0], 0, None, ""

    return assemble([Work(Line(), 1)], Cache(1, 1, 1, 4, "f32"))
