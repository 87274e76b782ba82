"""Experts within a bound of memory, with adapters: what is given back and read again shows in no logit."""

from __future__ import annotations

import numpy as np
import pytest
from driving import Recorder, run, task

import adapters
from checkpoints import NATIVE
from phimoe_checkpoint import write_folder
from slmkit.backends.native import load
from slmkit.cli.main import main
from slmkit.engine.step import Engine
from slmkit.options import LoadOptions


@pytest.mark.skipif(not NATIVE, reason="the native kernels were not built")
def test_a_bound_of_memory_changes_no_bit_with_adapters_alone_or_in_a_mixed_batch(tmp_path):
    """Adapters of experts and routers too, so that each request chooses experts of its own."""
    folder, out = write_folder(tmp_path / "moe"), tmp_path / "packed"
    assert main(["quantize", str(folder), str(out), "--quiet"]) == 0
    given = {name: str(adapters.write_for(tmp_path / name, folder, seed)) for seed, name in enumerate("ab")}
    chosen = ["a", "", "b", "a", "b"]
    ids = np.random.default_rng(7).integers(4, 100, 40).tolist()

    def rows(engine: Engine, groups: list[list[int]]) -> list[dict[int, np.ndarray]]:
        recorders = [Recorder() for _ in chosen]
        tasks = [
            task(ids[: 5 + 7 * i], limit=8, processors=(r,), adapter=adapter)
            for i, (r, adapter) in enumerate(zip(recorders, chosen, strict=True))
        ]
        for group in groups:
            run(engine, *[tasks[i] for i in group])
        return [r.rows for r in recorders]

    alone, together = [[i] for i in range(len(chosen))], [list(range(len(chosen)))]
    free = load(str(out), LoadOptions(ctx=64, adapters=given))
    memory = 190_000 + sum(one["bytes"] for one in free.facts["adapters"].values())
    bound = load(str(out), LoadOptions(ctx=64, adapters=given, memory=str(memory)))
    assert bound.facts["resident_expert_bytes"] < free.facts["resident_expert_bytes"]
    expected = rows(Engine(free.model, free.cache), alone)
    assert len({row[max(row)].tobytes() for row in expected}) == len(chosen)
    for groups in (alone, together):
        for one, other in zip(rows(Engine(bound.model, bound.cache, 16), groups), expected, strict=True):
            assert one.keys() == other.keys()
            for length in one:
                np.testing.assert_array_equal(one[length], other[length])
    resident = bound.model.experts[0].resident
    assert resident.n_bytes <= resident.budget
    assert resident.misses > 16  # more than reading each once
