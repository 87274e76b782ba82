"""How much context fits, and what is said when it does not."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest

from slmkit.engine import memory
from slmkit.engine.cache import block_bytes
from slmkit.engine.memory import MOST_CONTEXTS, RESERVE, free_bytes, plan_cache
from slmkit.errors import NotEnoughMemory, OptionError
from slmkit.layers.cache_layout import CacheLayout

MINI = CacheLayout(32, 32, 96)  # Phi-3-mini: 384 KiB a token in 16 bits
BLOCK_BYTES = block_bytes(32, 32, 96, "f16")


def room(blocks: float) -> int:
    """Free bytes of which so many blocks may be used."""
    return int(blocks * BLOCK_BYTES / (1 - RESERVE)) + 1000


def test_a_token_of_phi3_mini_takes_384_kib():
    assert plan_cache(4096, None, MINI, "f16", 0, free=10**12).bytes_per_token == 384 * 1024


def test_the_context_is_the_models_where_it_fits():
    plan = plan_cache(4096, None, MINI, "f16", 0, free=10**12)
    assert (plan.context, plan.n_blocks) == (4096, 128 * MOST_CONTEXTS)
    assert plan.note == "context 4096 tokens"


@pytest.mark.parametrize(("blocks", "context"), [(1, 32), (10.9, 320), (128, 4096)])
def test_the_context_is_what_fits_and_says_so(blocks, context):
    plan = plan_cache(131072, None, MINI, "f16", 5000, free=room(blocks) + 5000)
    assert (plan.context, plan.n_blocks) == (context, context // 32)
    assert f"context {context} tokens of the model's 131072: what fits in" in plan.note


def test_a_context_that_was_asked_for_is_given_to_the_token():
    plan = plan_cache(4096, 100, MINI, "f16", 0, free=10**12)
    assert (plan.context, plan.n_blocks) == (100, 4 * MOST_CONTEXTS)
    assert "as asked" in plan.note


@pytest.mark.parametrize("asked", [321, 4096])
def test_more_than_fits_is_refused_with_what_is_needed_what_is_free_and_what_would_fit(asked):
    with pytest.raises(NotEnoughMemory, match=rf"context of {asked} tokens needs .* GB .* free; use --ctx 320 or less"):
        plan_cache(4096, asked, MINI, "f16", 0, free=room(10))


@pytest.mark.parametrize("free", [0, 1000, room(0.9)])
def test_less_than_one_block_is_refused(free):
    with pytest.raises(NotEnoughMemory, match="close other programs"):
        plan_cache(4096, None, MINI, "f16", 0, free=free)
    with pytest.raises(NotEnoughMemory, match=r"beside .* of weights"):
        plan_cache(4096, None, MINI, "f16", 10**12, free=10**11)


def test_more_than_the_model_was_made_for_is_refused():
    with pytest.raises(OptionError, match="ctx is 4097; this model was made for at most 4096 tokens"):
        plan_cache(4096, 4097, MINI, "f16", 0, free=10**12)


def test_this_machine_has_memory():
    assert free_bytes() > 10**7


@pytest.mark.parametrize(
    ("limit", "used", "inactive", "expected"),
    [("1000", "600", "250", 650), ("1000", "1200", "0", 0), ("max", "600", "0", None), ("10" * 12, "0", "0", None)],
)
def test_a_containers_limit_counts_less_the_memory_that_it_cannot_give_back(
    tmp_path, monkeypatch, limit, used, inactive, expected
):
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text(used)
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**9))
    assert free_bytes() == (10**9 if expected is None else expected)
