"""Recorded steps: what they compute, when they are recorded again, and what a recording refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from checkpoints import REFERENCE, Runner, prompts
from slmkit.engine.cache import Cache
from slmkit.engine.scheduler import Work
from slmkit.engine.step import assemble
from slmkit.errors import ShapeError
from slmkit.layers.replay import MOST_RECORDINGS, MOST_ROWS, Replay

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

    def layers(ids, one, cos, sin):
        return ops.rms_norm(ops.rms_norm(cos, weight, 1e-5) + cos, weight, 1e-5)

    weight.flags.writeable = False
    ids, one = assembled()
    with pytest.raises(TypeError, match="argument 0 of rms_norm is an array of which a recording knows no origin"):
        Replay(ops, layers)(ids, one, np.ones((1, 4), np.float32), np.ones((1, 4), np.float32))
    assert ops.rms_norm(np.ones((1, 4), np.float32), weight, 0.0).tolist() == [[1] * 4]  # ops run at once again


def assembled():
    class Line:
        ids, blocks, n_cached, images, adapter = [1], [0], 0, None, ""

    return assemble([Work(Line(), 1)], Cache(1, 1, 1, 4, "f32"))
