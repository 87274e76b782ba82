import json
import os

import pytest
from inventory import GGUF, TINY

from cached_models import cache_model, files_of
from ollama_store import LIBRARY_TEMPLATE, PHI3_CONFIG, OllamaStore
from slmkit.cli.list import ago

Q4_0 = (GGUF / "tiny-Q4_0.gguf").read_bytes()
Q4_K = (GGUF / "tiny-Q4_K_M.gguf").read_bytes()


@pytest.fixture
def listed(real_slm):
    """The models by name, from --json."""
    return lambda: {m["name"]: m for m in json.loads(real_slm("list", "--json").out)["models"]}


def test_the_bundled_model_is_always_there(real_slm, places):
    done = real_slm("list")
    assert done.err == ""
    assert [line.split() for line in done.out.splitlines()] == [
        ["NAME", "SIZE", "TYPES", "CHANGED"],
        ["tiny", "6.4", "MB", "safetensors,", "BF16", "comes", "with", "slmkit"],
    ]


def test_models_of_the_hub_and_of_ollama_have_the_names_that_run_takes(listed, places):
    cache_model(places.hub, "microsoft/Phi-3.5-mini-instruct", files_of(TINY))
    cache_model(places.hub, "ada/Tiny", files_of(TINY), revision="v1")
    cache_model(
        places.hub,
        "ada/Tiny-GGUF",
        {"tiny.Q4_0.gguf": Q4_0, "tiny.Q4_K_M.gguf": (GGUF / "tiny-Q4_K_M.gguf").read_bytes()},
    )
    places.ollama.add("phi3/latest", model=Q4_0, template=LIBRARY_TEMPLATE)
    places.ollama.add("hf.co/ada/Tiny-GGUF/Q4_0", model=Q4_0)
    models = listed()
    assert list(models) == ["tiny", "ada/Tiny-GGUF:Q4_0", "ada/Tiny-GGUF:Q4_K_M", "ada/Tiny@v1", "phi3.5",
                            "ollama-store:hf.co/ada/Tiny-GGUF:Q4_0", "ollama-store:phi3"]  # fmt: skip
    assert all(model["runs"] and model["problem"] == "" for model in models.values()), models
    assert [m["origin"] for m in models.values()] == ["bundled", *["hub"] * 4, *["ollama"] * 2]
    assert models["ada/Tiny-GGUF:Q4_K_M"]["quantization"] == "Q4_K, Q6_K"
    assert models["ollama-store:phi3"]["quantization"] == "Q4_0"
    assert models["ollama-store:phi3"]["n_bytes"] == len(Q4_0) + len(LIBRARY_TEMPLATE)
    assert models["ada/Tiny-GGUF:Q4_0"]["n_bytes"] == len(Q4_0)
    assert models["phi3.5"]["n_bytes"] == sum(len(data) for data in files_of(TINY).values())


def test_every_listed_name_opens(real_slm, listed, places):
    cache_model(places.hub, "ada/Tiny", {**files_of(TINY)})
    cache_model(places.hub, "ada/Tiny-GGUF", {"tiny.Q4_0.gguf": Q4_0})
    places.ollama.add("phi3/mini", model=Q4_0)
    for name in listed():
        assert real_slm("render", name, "hi").code == 0, name


def test_what_cannot_be_run_is_there_with_its_reason_and_hides_nothing(real_slm, listed, places):
    cache_model(places.hub, "ada/Other", files_of(TINY) | {"config.json": b'{"model_type": "bert"}'})
    cache_model(places.hub, "ada/Cut", files_of(TINY) | {"model.safetensors": b"\x00" * 20})
    cache_model(places.hub, "ada/Cut-GGUF", {"cut.gguf": Q4_0[:5000]})
    places.ollama.add("cloud/latest", config={"remote_host": "https://ollama.com"})
    places.ollama.add("llama3/latest", config=PHI3_CONFIG | {"model_family": "llama"})
    places.ollama.add("odd/latest", model=Q4_0, template="{{ .Suffix }}")
    places.ollama.add("penalty/latest", model=Q4_0, params={"presence_penalty": 1.1})
    places.ollama.write("broken/latest", "{")
    place = places.ollama.add("pipe/latest")
    place.unlink()
    os.mkfifo(place)
    places.ollama.add("good/latest", model=Q4_0)
    models = listed()
    assert {name for name, model in models.items() if model["runs"]} == {"tiny", "ollama-store:good"}
    reasons = {
        "ada/Other": "model_type 'bert'", "ada/Cut": "model.safetensors", "ada/Cut-GGUF:cut.gguf": "cut",
        "ollama-store:cloud": "not on this machine", "ollama-store:llama3": "architecture llama",
        "ollama-store:odd": "chat template", "ollama-store:penalty": "presence_penalty",
        "ollama-store:broken": "not valid JSON", "ollama-store:pipe": "not a regular file",
    }  # fmt: skip
    for name, words in reasons.items():
        assert words in models[name]["problem"], models[name]
    shown = real_slm("list")
    assert (shown.code, shown.err) == (0, "")
    table, _, problems = shown.out.partition("\ncannot be run:\n")
    assert "ollama-store:good" in table
    assert "ollama-store:cloud" not in table
    assert "ollama-store:cloud: Ollama's model cloud runs on" in problems
    assert max(len(line) for line in shown.out.splitlines() if "/" not in line) <= 100  # a path is never broken


def test_a_place_that_cannot_be_read_is_said_and_the_others_are_listed(real_slm, places, monkeypatch, tmp_path):
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "nowhere"))
    done = real_slm("list")
    assert done.code == 0
    assert done.err.startswith("slm: ")
    assert "nowhere ($OLLAMA_MODELS) is no store" in done.err
    assert "tiny" in done.out


def test_of_two_stores_the_one_that_runs_is_listed(listed, places, monkeypatch, tmp_path):
    monkeypatch.delenv("OLLAMA_MODELS")
    monkeypatch.setattr("slmkit.weights.ollama.store.SERVICE", places.ollama.root)
    own = OllamaStore(tmp_path / "home" / ".ollama" / "models")
    own.add("phi3/latest", model=Q4_K)
    places.ollama.add("PHI3/latest", model=Q4_0)
    places.ollama.add("other/latest", model=Q4_0)
    assert list(listed()) == ["tiny", "ollama-store:phi3", "ollama-store:other"]
    assert listed()["ollama-store:phi3"]["path"].startswith(str(own.root))


def test_packed_copies_are_counted(real_slm, places):
    assert "packed" not in real_slm("list").out
    assert real_slm("run", "tiny", "hi", "--max-tokens", "1", "-q").code == 0
    (copy,) = (places.cache / "packed").glob("*.safetensors")
    assert "1 packed copy in slmkit's cache, 3.4 MB; `slm rm --packed` makes room" in real_slm("list").out
    packed = json.loads(real_slm("list", "--json").out)["packed"]
    assert packed == {"path": str(places.cache / "packed"), "files": 1, "n_bytes": copy.stat().st_size}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "just now"), (0, "just now"), (59, "just now"), (60, "1 minute ago"), (119, "1 minute ago"),
     (120, "2 minutes ago"), (3600, "1 hour ago"), (86399, "23 hours ago"), (86400, "1 day ago"),
     (1e7, "115 days ago")],
)  # fmt: skip
def test_how_long_ago_is_in_whole_units(seconds, text):
    assert ago(seconds) == text
