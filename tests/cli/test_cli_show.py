import json
import shutil

import pytest
from inventory import GGUF, TINY

import slmkit
from cached_models import cache_model, files_of
from ollama_store import LIBRARY_TEMPLATE, STOPS
from slmkit.engine.cache import block_bytes
from slmkit.models import registry
from tiny import edit_json, write_model

Q4_0 = (GGUF / "tiny-Q4_0.gguf").read_bytes()


@pytest.fixture
def facts(real_slm):
    """What --json says."""

    def ask(name, *argv):
        done = real_slm("show", name, "--json", *argv)
        assert (done.code, done.err) == (0, ""), done.err
        return json.loads(done.out)

    return ask


def test_the_bundled_model_is_described(facts):
    f = facts("tiny")
    assert (f["architecture"], f["layers"], f["hidden_size"], f["context"]) == ("phi3", 6, 192, 1024)
    assert f["types"] == [{"type": "BF16", "n_tensors": 38, "n_bytes": 2 * f["parameters"]}]
    assert (f["embedding_type"], f["head_type"], f["shares_embedding"]) == ("BF16", "BF16", True)
    assert f["loads_as"] == "q8"
    assert f["tokenizer"] == {"kind": "SentencePiece pieces", "tokens": 4096, "special": 8}
    assert f["template"]["name"] == "Phi-3.5-mini"
    assert f["licence"]["name"] == "MIT License"
    assert f["stop_tokens"][-1] == {"id": 4094, "text": "<|end|>"}
    assert f["published"] is None


def test_what_a_gguf_file_holds_is_counted_by_type_and_listed(facts):
    f = facts(str(GGUF / "tiny-Q4_K_M.gguf"), "--tensors")
    assert f["origin"] == "gguf"
    assert f["types"] == [
        {"type": kind, "n_tensors": len(rows), "n_bytes": sum(row["n_bytes"] for row in rows)}
        for kind in ("Q4_K", "Q6_K", "F32")
        if (rows := [row for row in f["tensors"] if row["type"] == kind])
    ]
    by_name = {row["name"]: row for row in f["tensors"]}
    assert by_name["blk.0.attn_qkv.weight"] == {"name": "blk.0.attn_qkv.weight", "type": "Q4_K", "shape": [512, 256],
                                                "n_bytes": 512 * 144}  # fmt: skip
    assert (f["embedding_type"], f["head_type"]) == (
        by_name["token_embd.weight"]["type"],
        by_name["output.weight"]["type"],
    )


def test_the_memory_is_what_the_engine_takes(facts, real_slm, monkeypatch):
    """Weights and cache as loading says them, and the decision is the engine's own."""
    path = str(GGUF / "tiny-Q4_0.gguf")
    f = facts(path)
    with slmkit.load(path) as model:
        run = model.describe()
    assert f["weight_bytes"] == run["weight_bytes"]
    (need,) = f["memory"]["contexts"]
    assert need["cache"] == run["cache_bytes_per_token"] * f["context"]
    assert need["total"] == need["weights"] + need["cache"]
    assert need["fits"]
    for free, fits in ((need["total"] * 2, True), (need["total"], False)):  # a tenth of what is free stays free
        monkeypatch.setattr("slmkit.engine.memory.free_bytes", lambda free=free: free)
        memory = facts(path)["memory"]
        assert (memory["free_bytes"], memory["contexts"][0]["fits"]) == (free, fits)
        assert (memory["largest_context"] == f["context"]) is fits
    monkeypatch.setattr("slmkit.engine.memory.free_bytes", lambda: 1000)
    assert facts(path)["memory"]["largest_context"] == 0
    assert "not even its weights fit now" in real_slm("show", path).out


def test_memory_is_shown_at_4k_16k_and_the_full_context(facts, tmp_path):
    model = write_model(tmp_path / "m", max_position_embeddings=40000)
    f = facts(str(model))
    assert [need["context"] for need in f["memory"]["contexts"]] == [4096, 16384, 40000]
    one = block_bytes(f["layers"], f["key_value_heads"], f["head_dim"], "f16")
    assert [need["cache"] for need in f["memory"]["contexts"]] == [128 * one, 512 * one, 1250 * one]


def test_a_model_of_ollamas_store_is_shown_with_what_the_store_says(facts, real_slm, places):
    places.ollama.add("phi3/latest", model=Q4_0, template=LIBRARY_TEMPLATE, system="Be brief.",
                      license="MIT License\n...", params={"stop": STOPS, "num_ctx": 64, "temperature": 0.5},
                      messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])  # fmt: skip
    f = facts("ollama-store:phi3")
    assert (f["origin"], f["system"], f["examples"], f["asked_context"]) == ("ollama", "Be brief.", 2, 64)
    assert f["defaults"] == {"temperature": 0.5, "stop": STOPS}
    assert f["template"]["text"] == LIBRARY_TEMPLATE
    assert f["licence"]["name"] == "MIT License"
    assert [need["context"] for need in f["memory"]["contexts"]] == [64, 512]
    assert {token["text"] for token in f["stop_tokens"]} >= set(STOPS)
    assert real_slm("show", "ollama-store:phi3", "--template").out == LIBRARY_TEMPLATE
    text = real_slm("show", "ollama-store:phi3").out
    assert "Be brief." in text
    assert 'temperature 0.5, stop ["<|end|>", "<|user|>", "<|assistant|>"]' in text


def test_a_packed_folder_is_shown_by_its_formats(facts, real_slm, tmp_path):
    assert real_slm("quantize", "tiny", str(tmp_path / "packed"), "-q").code == 0
    f = facts(str(tmp_path / "packed"), "--tensors")
    assert [kind["type"] for kind in f["types"]] == ["q4_s", "q8", "F32"]
    assert f["loads_as"] == "q4"
    assert (f["embedding_type"], f["head_type"], f["shares_embedding"]) == ("q8", "q8", True)
    assert sum(kind["n_tensors"] for kind in f["types"]) == 38
    assert {row["name"] for row in f["tensors"]} == {row["name"] for row in facts("tiny", "--tensors")["tensors"]}


def test_scores_are_printed_for_the_published_model_alone(facts, real_slm, places):
    cache_model(places.hub, "microsoft/Phi-3.5-mini-instruct", files_of(TINY))
    f = facts("phi3.5")
    assert f["published"]["ids"] == ["microsoft/Phi-3.5-mini-instruct"]
    assert {s["benchmark"]: s["score"] for s in f["published"]["scores"]}["mmlu"] == 69.0
    text = real_slm("show", "phi3.5").out
    assert "published scores of microsoft/Phi-3.5-mini-instruct" in text
    assert "published" not in real_slm("show", "tiny").out


def test_scores_are_not_printed_for_a_model_that_was_tuned_from_it(facts, real_slm, tmp_path):
    shutil.copytree(TINY, tmp_path / "tuned")
    edit_json(tmp_path / "tuned" / "config.json", _name_or_path="microsoft/Phi-3.5-mini-instruct")
    f = facts(str(tmp_path / "tuned"))
    assert (f["published"]["told_by"], f["published"]["scores"]) == ("config", [])
    assert "need not be this model's" in " ".join(real_slm("show", str(tmp_path / "tuned")).out.split())


def test_the_template_alone_is_printed_as_it_is(real_slm, tmp_path):
    source = "{% for m in messages %}{{ m['content'] }}{% endfor %}\n"
    folder = write_model(tmp_path / "m")
    edit_json(folder / "tokenizer_config.json", chat_template=source)
    assert real_slm("show", str(folder), "--template").out == source
    assert f"its own, Jinja: {source.strip()}" in real_slm("show", str(folder)).out


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_a_part_that_is_broken_does_not_hide_the_rest(facts, real_slm, tmp_path, file):
    folder = tmp_path / "broken"
    shutil.copytree(TINY, folder)
    (folder / file).write_text("{")
    text = json.dumps(facts(str(folder)))
    assert f"{file} is not valid JSON" in text
    done = real_slm("show", str(folder))
    assert done.code == 0
    assert "NOT USABLE:" in done.out


def test_weights_or_a_configuration_at_fault_are_one_sentence(real_slm, tmp_path, places):
    folder = tmp_path / "broken"
    shutil.copytree(TINY, folder)
    (folder / "model.safetensors").write_bytes(b"")
    real_slm("show", str(folder)).fails(4, "model.safetensors")
    edit_json(folder / "config.json", model_type="bert")
    shutil.copy(TINY / "model.safetensors", folder)
    real_slm("show", str(folder)).fails(4, "model_type 'bert'")
    real_slm("show", "owner/name").fails(3, "slm pull owner/name")
    real_slm("show", "ollama-store:none").fails(3, "no model 'none'")


@pytest.mark.parametrize("name", ["tiny", str(GGUF / "tiny-Q4_K_M.gguf")])
def test_for_people_it_is_at_most_100_columns_and_plain_in_a_pipe(real_slm, name):
    lines = real_slm("show", name).out.splitlines()
    assert max(map(len, lines[3:])) <= 100
    assert not any("█" in line for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_a_file_cannot_move_the_cursor(slm_terminal_text):
    assert "\x1b" not in slm_terminal_text
    assert "␛[2J" in slm_terminal_text


@pytest.fixture
def slm_terminal_text(real_slm, tmp_path, monkeypatch):
    """What a terminal gets for a model whose licence and template hold an escape sequence."""
    folder = tmp_path / "evil"
    shutil.copytree(TINY, folder)
    (folder / "LICENSE").write_text("\x1b[2J free\n")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    return real_slm("show", str(folder)).out


def test_a_published_model_that_is_not_here_is_described_by_the_catalog(real_slm, facts, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    done = real_slm("show", "phi3.5")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("phi3.5 (microsoft/Phi-3.5-mini-instruct)\n")
    assert "no; `slm pull phi3.5` fetches it" in done.out
    assert "3.82 billion" in done.out
    assert "published scores of microsoft/Phi-3.5-mini-instruct" in done.out
    monkeypatch.delitem(registry.ARCHITECTURES, "phi3_v")
    assert "slmkit cannot run it yet" in real_slm("show", "phi3.5-vision").out
    f = facts("microsoft/Phi-3.5-mini-instruct")
    assert (f["here"], f["parameters"], f["layers"]) == (False, 3_821_079_552, 32)
    need = f["memory"]["contexts"][0]
    assert (need["quantization"], need["context"], need["weights"]) == ("q4", 4096, 2_163_609_600)
    assert need["total"] == need["weights"] + 4096 * 200 * 1024
    for name, *flags in (("phi3.5", "--tensors"), ("phi3.5", "--template"), ("phi3.5@v2",), ("owner/name",)):
        real_slm("show", name, *flags).fails(3, "is not in the cache")


def test_a_folder_whose_name_has_spaces_is_no_prompt(facts, monkeypatch, tmp_path):
    shutil.copytree(TINY, tmp_path / "my model")
    monkeypatch.chdir(tmp_path)
    assert facts("my model")["path"] == "my model"
