"""Choosing a model: what is accepted, in which order, and why the others are not."""

from __future__ import annotations

import pytest

from slmkit.bench.limits import Limits
from slmkit.catalog.family import FAMILY
from slmkit.catalog.fit import Wish, rank
from slmkit.catalog.larger import CARD, larger
from slmkit.catalog.machine import Machine, look, total_bytes
from slmkit.catalog.overview import filled, overview
from slmkit.catalog.tasks import TASKS

GB = 10**9


def machine(free_gb: float = 64, bandwidth_gb: float = 100, total_gb: float | None = None) -> Machine:
    limits = Limits(bandwidth_gb * GB, 0.0) if bandwidth_gb else None
    return Machine(int(free_gb * GB), int((total_gb or free_gb) * GB), limits, "as told")


@pytest.fixture(autouse=True)
def phi3_runs(monkeypatch):
    """And nothing else, whatever this version has."""
    monkeypatch.setattr("slmkit.catalog.family.ARCHITECTURES", {"phi3": ""})


@pytest.fixture
def everything_runs(monkeypatch):
    monkeypatch.setattr(
        "slmkit.catalog.family.ARCHITECTURES", dict.fromkeys(model.shape.architecture for model in FAMILY)
    )


def chosen(task: str, on: Machine, context: int = 4096, speed: float = 5.0, quantization: str | None = None):
    ranking = rank(Wish(TASKS[task], context, speed, quantization), on)
    assert len(ranking) == len(FAMILY)
    assert sorted(ranking, key=lambda v: not v.accepted) == ranking  # those that will not do come last
    return ranking


def verdict(ranking, name):
    return next(v for v in ranking if v.model.name == name)


@pytest.mark.usefixtures("everything_runs")
def test_the_best_published_score_wins_among_all_that_fit_and_are_fast_enough():
    first = chosen("code", machine(free_gb=200, bandwidth_gb=400))[0]
    assert first.model.name == "phi3.5-moe"
    assert first.mean == pytest.approx((70.7 + 80.8) / 2)


@pytest.mark.usefixtures("everything_runs")
@pytest.mark.parametrize(("bandwidth", "quantization"), [(200, "q8"), (34, "q4")])
def test_eight_bits_are_taken_where_they_are_fast_enough_and_else_four(bandwidth, quantization):
    v = verdict(chosen("chat", machine(bandwidth_gb=bandwidth)), "phi3")
    assert v.accepted
    assert v.estimate.quantization == quantization
    assert v.command == f"slm run phi3 --quantize {quantization} --ctx 4096"


def test_too_little_memory_for_eight_bits_leaves_four():
    v = verdict(chosen("chat", machine(free_gb=5, bandwidth_gb=200)), "phi3")
    assert (v.accepted, v.estimate.quantization) == (True, "q4")


def test_each_reason_against_a_model_is_named():
    ranking = chosen("vision", machine(free_gb=4, bandwidth_gb=20, total_gb=12), context=16384, speed=9)
    against = "; ".join(verdict(ranking, "phi3:medium").against)
    assert "it takes no images" in against
    assert "made for at most 4,096 tokens, and 16,384 are wanted" in against
    assert "9.0 GB" not in against
    assert "8.1 GB of memory are needed and 4.0 GB are free: it would fit with other programs closed" in against
    assert "tokens/s are predicted and 9 are wanted" in against
    assert "slmkit does not run the architecture phi3_v yet" in verdict(ranking, "phi3.5-vision").against
    assert "more than this machine can give" in "; ".join(verdict(ranking, "phi3.5-moe").against)


def test_a_context_of_exactly_the_models_is_accepted_and_one_more_is_not():
    assert verdict(chosen("chat", machine(), context=4096), "phi3").accepted
    assert not verdict(chosen("chat", machine(), context=4097), "phi3").accepted


def test_the_wanted_speed_is_met_at_the_prediction_and_not_above_it():
    speed = verdict(chosen("chat", machine(), quantization="q4"), "phi3").estimate.speed.decode
    assert verdict(chosen("chat", machine(), speed=speed, quantization="q4"), "phi3").accepted
    assert not verdict(chosen("chat", machine(), speed=speed * 1.001, quantization="q4"), "phi3").accepted


def test_without_kernels_no_speed_is_claimed_and_none_is_held_against_a_model():
    v = verdict(chosen("chat", machine(bandwidth_gb=0), speed=1000), "phi3")
    assert v.accepted
    assert "speed: not known, as this machine's limits are not" in v.reasons


def test_a_model_without_published_figures_for_the_task_comes_after_those_with_them():
    ranking = [v for v in chosen("long-documents", machine(free_gb=100), context=32768, speed=1) if v.accepted]
    assert [v.model.name for v in ranking][-1] == "phi3:medium-128k"
    assert ranking[-1].mean is None
    assert any("quality: not known" in reason for reason in ranking[-1].reasons)


def test_a_card_that_names_english_alone_is_mentioned_where_other_languages_are_wanted():
    ranking = chosen("multilingual", machine())
    assert ranking[0].model.name == "phi3.5"
    assert any("its card names English alone" in r for r in verdict(ranking, "phi3:mini-128k").reasons)


def test_large_models_by_arithmetic():
    rows = {(cost.name, cost.bits): cost for cost in larger(machine(), 4096)}
    llama = rows["70 B dense (Llama 2)", 16]
    assert llama.memory.weights == pytest.approx(2 * llama.parameters, rel=1e-3)
    assert llama.memory.cache == 4096 * 80 * 2 * 8 * 128 * 2
    assert llama.cards == 2 == -(-llama.memory.total // CARD)
    gpt3 = rows["175 B dense (GPT-3)", 4]
    assert gpt3.context == 2048  # its own
    assert gpt3.memory.weights == pytest.approx(4.3125 / 8 * gpt3.parameters, rel=0.01)
    assert gpt3.decode < rows["70 B dense (Llama 2)", 4].decode < 2.4


def test_speeds_are_predicted_for_half_of_the_context():
    assert [filled(n) for n in (1, 2, 4096)] == [1, 1, 2048]
    (row,) = [row for row in overview(machine()) if row.model.name == "phi3:small"]
    assert row.estimates["q4"].context == 4096
    assert not row.pulled


def test_another_machine_can_be_described():
    told = look(bandwidth=50e9, free=8 * GB)
    assert (told.free, told.total, told.limits) == (8 * GB, 8 * GB, Limits(50e9, 0.0))
    assert told.source == "50 GB/s, as given"


def test_a_busy_machine_says_so(monkeypatch):
    monkeypatch.setattr("slmkit.bench.limits.measure_limits", lambda: Limits(30e9, 200e9))
    monkeypatch.setattr("psutil.cpu_count", lambda: 4)
    monkeypatch.setattr("psutil.getloadavg", lambda: (4.0, 0.0, 0.0))
    assert "while other programs were busy: load 4.0" in look().source
    monkeypatch.setattr("psutil.getloadavg", lambda: (3.9, 9.0, 9.0))
    assert "busy" not in look().source


def test_where_all_are_too_slow_the_fastest_is_the_nearest():
    ranking = chosen("chat", machine(bandwidth_gb=10))
    assert not ranking[0].accepted
    assert ranking[0].model.name == "phi3"  # and not medium, which has the better score


def test_this_machine_is_measured_and_says_with_what(monkeypatch):
    monkeypatch.setattr("slmkit.bench.limits.measure_limits", lambda: Limits(30e9, 200e9))
    told = look()
    assert told.limits == Limits(30e9, 200e9)
    assert told.source.startswith("30.0 GB/s, measured now (")
    assert 0 < told.free <= told.total
    monkeypatch.setattr("slmkit.bench.limits.measure_limits", lambda: None)
    assert look().limits is None
    assert "no speed is predicted" in look().source


def test_a_containers_limit_is_all_the_memory_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr("slmkit.engine.memory.CGROUP", tmp_path)
    everything = total_bytes()
    (tmp_path / "memory.max").write_text("1000000\n")
    assert total_bytes() == 1_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert total_bytes() == everything > 1_000_000
