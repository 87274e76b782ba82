"""A request's logits are the same to the bit alone, in any batch, in any pieces, on any threads, after preemption.

Only the kernels of native/ promise this; NumPy's products choose their order of sums by shape.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from driving import Recorder, run, task

from checkpoints import NATIVE, REFERENCE, Runner, prompts, stored
from slmkit.engine.step import Engine
from slmkit.ops.choose import choose

pytestmark = pytest.mark.skipif(not NATIVE, reason="the native kernels were not built")

CASE = "longrope"  # both rope tables and blocks on both sides of the switch
FORMATS = [*product(NATIVE, ("q4", "q8", "none"), ("q8", "f16", "f32"))]
every_format = pytest.mark.parametrize(("kernels", "quantize", "cache"), FORMATS)


def runner(kernels: str, quantize: str, cache: str, blocks: int = 64) -> Runner:
    return Runner(REFERENCE / CASE, kernels, quantize, cache, blocks)


@every_format
def test_every_chunking_gives_the_same_bits(kernels, quantize, cache):
    run_ = runner(kernels, quantize, cache)
    for ids, _, _ in prompts(CASE):
        alone = run_.last_logits(ids)
        for piece in (1, 2, 7, 16, 31, 32, 33):
            np.testing.assert_array_equal(run_.last_logits(ids, piece), alone, f"{len(ids)} in {piece}")


@every_format
@pytest.mark.parametrize("size", [2, 3, 5, 17])
def test_every_batch_gives_the_same_bits(kernels, quantize, cache, size):
    run_ = runner(kernels, quantize, cache, blocks=128)
    all_ids = [ids for ids, _, _ in prompts(CASE)]
    batch = [all_ids[i % len(all_ids)] for i in range(size)]
    lines = [run_.line(ids) for ids in batch]
    together = run_.run(*[(line, len(line.ids)) for line in lines])
    for ids, row in zip(batch, together, strict=True):
        np.testing.assert_array_equal(row, run_.last_logits(ids))


@every_format
def test_every_number_of_threads_gives_the_same_bits(kernels, quantize, cache):
    run_ = runner(kernels, quantize, cache)
    ids = prompts(CASE)[-1][0]
    rows = []
    for threads in (1, 2, 3):
        choose(kernels, threads)
        rows.append(run_.all_logits(ids))
    choose(kernels, 2)
    np.testing.assert_array_equal(rows[1], rows[0])
    np.testing.assert_array_equal(rows[2], rows[0])


@every_format
def test_preemption_and_neighbours_change_no_bit_of_an_answer(kernels, quantize, cache):
    """Six requests share seven blocks, of which each needs two or three, and one more comes in late."""
    ids = stored(CASE)["steps_ids"].tolist()
    starts = [5, 17, 28, 31, 33, 40]

    def recorded(blocks: int, step_tokens: int, together: bool) -> list[dict[int, np.ndarray]]:
        run_ = runner(kernels, quantize, cache, blocks)
        engine = Engine(run_.model, run_.cache, step_tokens)
        recorders = [Recorder() for _ in starts]
        tasks = [
            task(ids[:n], limit=30, processors=(r,), temperature=1.0, seed=n)
            for n, r in zip(starts, recorders, strict=True)
        ]
        for group in [tasks] if together else [[t] for t in tasks]:
            run(engine, *group)
        assert run_.cache.n_free == blocks
        return [r.rows for r in recorders]

    alone = recorded(blocks=64, step_tokens=256, together=False)
    crowded = recorded(blocks=7, step_tokens=40, together=True)
    for one, other in zip(alone, crowded, strict=True):
        assert one.keys() == other.keys()
        for length in one:
            np.testing.assert_array_equal(one[length], other[length])


@pytest.mark.skipif(len(NATIVE) < 2, reason="there is one kernel set only")
@pytest.mark.parametrize(("quantize", "cache"), [*product(("q4", "q8", "none"), ("q8", "f16", "f32"))])
def test_every_kernel_set_gives_the_same_bits(quantize, cache):
    ids = prompts(CASE)[-1][0]
    first, *others = [runner(kernels, quantize, cache).all_logits(ids) for kernels in NATIVE]
    for other in others:
        np.testing.assert_array_equal(other, first)
