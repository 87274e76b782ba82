"""Published figures with their sources, and telling which published model a checkpoint is."""

from __future__ import annotations

import pytest

from slmkit.catalog.family import FAMILY, published
from slmkit.catalog.scores import caveats, recognise, score, scores
from slmkit.catalog.tasks import TASKS, task_mean

MINI_35 = "microsoft/Phi-3.5-mini-instruct"
CONFIG = {"model_type": "phi3", "hidden_size": 3072, "num_hidden_layers": 32, "num_attention_heads": 32,
          "num_key_value_heads": 32, "vocab_size": 32064, "max_position_embeddings": 131072}  # fmt: skip


def test_every_model_of_the_family_has_figures_and_each_has_a_source():
    for model in FAMILY:
        found = scores(model.id)
        assert len(found) >= 9
        assert all(s.source and s.benchmark for s in found)
        assert all(0 <= s.score <= 100 for s in found if s.scale == "percent")
    assert sum(len(scores(model.id)) for model in FAMILY) == 389


@pytest.mark.parametrize(
    ("id", "benchmark", "value", "shots"),
    [
        (MINI_35, "mmlu", 69.0, 5),
        ("microsoft/Phi-3.5-MoE-instruct", "humaneval", 70.7, 0),
        ("microsoft/Phi-3-medium-4k-instruct", "gsm8k_cot", 91.0, 8),
        ("microsoft/Phi-3.5-vision-instruct", "mmmu_val", 43.0, 0),
    ],
)
def test_a_figure_is_what_the_card_prints(id, benchmark, value, shots):
    found = score(id, benchmark)
    assert (found.score, found.shots) == (value, shots)


def test_a_figure_that_was_printed_twice_says_so():
    assert score(MINI_35, "squality").also == (
        (25.3, "Azure/azureml-assets@4b41f8cc:assets/models/system/phi-3.5-mini-128k-instruct/evaluation.md"),
    )
    perplexity = score(MINI_35, "ppl/wikitext2_fp16")
    assert (perplexity.lower_is_better, perplexity.scale) == (True, "perplexity")
    assert score("microsoft/Phi-3-mini-4k-instruct", "mt_bench").scale == "1-10"


def test_an_unknown_model_or_benchmark_has_no_figures():
    assert scores("someone/else") == ()
    assert score(MINI_35, "no such thing") is None
    assert len(caveats()) >= 5


def test_a_model_is_sure_by_its_name_alone():
    for name in ("phi3.5", MINI_35, f"{MINI_35}@main"):
        found = recognise(name)
        assert found.models == (published("phi3.5"),)
        assert found.is_sure


def test_a_folder_of_the_hubs_cache_has_its_name():
    path = "/home/ada/.cache/huggingface/hub/models--microsoft--Phi-3.5-mini-instruct/snapshots/0123abc"
    assert recognise(path, path).models == (published("phi3.5"),)
    assert recognise("./x", "/hub/models--someone--Phi-3.5-mini-instruct/snapshots/1") is None


def test_a_configuration_that_names_its_origin_is_believed_but_not_sure():
    found = recognise("./tuned", "/home/ada/tuned", {**CONFIG, "_name_or_path": MINI_35})
    assert found.models == (published("phi3.5"),)
    assert (found.how, found.is_sure) == ("config", False)


def test_a_shape_fits_several_models_and_is_sure_of_none():
    found = recognise("./mini", "/home/ada/mini", {**CONFIG, "_name_or_path": "../somewhere"})
    assert {model.name for model in found.models} == {"phi3:mini-128k", "phi3.5"}
    assert (found.how, found.is_sure) == ("shape", False)
    vision = recognise("./v", "", {**CONFIG, "model_type": "phi3_v"})
    assert {model.name for model in vision.models} == {"phi3-vision", "phi3.5-vision"}


@pytest.mark.parametrize("config", [None, {}, {"_name_or_path": 7}, {**CONFIG, "hidden_size": 64}])
def test_what_looks_like_none_of_them_is_none_of_them(config):
    assert recognise("./mini", "/home/ada/mini", config) is None


def test_a_tasks_benchmarks_were_run_with_the_same_shots_wherever_they_were_published():
    for task in TASKS.values():
        for benchmark in task.benchmarks:
            found = [s for model in FAMILY if (s := score(model.id, benchmark))]
            assert len(found) >= 2
            assert len({(s.shots, s.scale, s.lower_is_better) for s in found}) == 1, benchmark


def test_a_mean_is_of_all_a_tasks_benchmarks_or_there_is_none():
    assert task_mean(TASKS["code"], published("phi3.5")) == pytest.approx((62.8 + 69.6) / 2)
    assert task_mean(TASKS["vision"], published("phi3.5")) is None
    assert task_mean(TASKS["multilingual"], published("phi3:medium")) is None
