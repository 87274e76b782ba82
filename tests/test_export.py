"""Exported GGUF files mean to llama.cpp what they mean here; its answers are stored in reference/llamacpp.json."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import slmkit
import tiny
from gguf_models import STORED, export, write_random
from ollama_store import OllamaStore
from slmkit.errors import RequestError, StorageError, TemplateError, TokenizerError, UnsupportedModel
from slmkit.export import TYPES, export_gguf
from slmkit.models.gguf_names import gguf_name
from slmkit.ops.pack import pack, unpack
from slmkit.sources.base import Source
from slmkit.sources.find import open_source
from slmkit.text.gguf.export import write_tokenizer
from slmkit.text.gguf.tokenizer import read_tokenizer
from slmkit.text.tokenizer import Tokenizer
from slmkit.text.tokenizer_files import read_folder
from slmkit.weights.gguf.blocks import dequantize
from slmkit.weights.packed import read_packed
from slmkit.weights.quantize import quantize_folder

RESULTS = json.loads(STORED.read_text("utf-8"))["models"]
QUANTIZED = Path(__file__).parent / "data/gguf/tiny-Q4_0.gguf"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def files(folder) -> dict[str, Path]:
    return {name: export(name, folder) for name in RESULTS}


@pytest.mark.parametrize("name", RESULTS)
def test_the_bytes_are_those_that_llama_cpp_loaded(name, files):
    assert hashlib.sha256(files[name].read_bytes()).hexdigest() == RESULTS[name]["sha256"]


@pytest.mark.parametrize("name", RESULTS)
def test_greedy_answers_are_llama_cpps(name, files):
    model = slmkit.load(files[name], cache="f32", quantize="none")
    tokenizer = open_source(str(files[name])).tokenizer
    # llama.cpp never takes these where it is asked to ignore the end of a text
    ends = {tokenizer.piece_to_id(end): -1e4 for end in ("<|endoftext|>", "<|end|>")}
    texts = [case["text"] for case in RESULTS[name]["texts"]]
    for typed, case in zip(texts, RESULTS[name]["answers"], strict=False):
        if name == "longrope-long" and len(case["ids"]) <= 16:
            continue  # llama.cpp takes the long factors for a short prompt too, where its context is long
        options = {"ignore_eos": True, "temperature": 0, "logit_bias": ends, "max_tokens": len(case["greedy"])}
        choice = model.generate(typed, parse_special=True, **options).choices[0]
        assert choice.usage.prompt_tokens == len(case["ids"])
        assert [token.id for token in choice.tokens] == case["greedy"]


@pytest.mark.parametrize("name", RESULTS)
def test_texts_have_llama_cpps_ids_by_the_folder_and_by_the_file(name, files, folder):
    for where in (files[name], "tiny" if name == "tiny" else folder / name):
        tokenizer = open_source(str(where)).tokenizer
        for case in RESULTS[name]["texts"]:
            assert tokenizer.encode_prompt([(case["text"], True)]) == case["ids"]


@settings(max_examples=200)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from(" abcdehinorst.,\n"), max_size=60))
def test_merging_by_the_written_scores_is_merging_by_rank(typed):
    rank, score = tokenizers_of_tiny()
    assert score.encode(typed) == rank.encode(typed)


@cache
def tokenizers_of_tiny() -> tuple[Tokenizer, Tokenizer]:
    """The bundled tokenizer, and what is read of the metadata that it is written as."""
    source = open_source("tiny")
    spec, _ = read_folder(source.path)
    keys = write_tokenizer(spec, source.tokenizer, None, source.stop_ids, source.config.vocab_size)
    return source.tokenizer, read_tokenizer(keys)


def test_everything_about_the_bundled_model_comes_back(files):
    before, after = open_source("tiny"), open_source(str(files["tiny"]))
    assert after.config == before.config
    assert after.stop_ids == before.stop_ids
    assert after.defaults == before.defaults
    assert after.template.source == before.template.source
    assert (after.tokenizer.bos_id, after.tokenizer.eos_id) == (before.tokenizer.bos_id, before.tokenizer.eos_id)
    flags = [{token.id: (token.content, token.rstrip) for token in s.tokenizer.added} for s in (before, after)]
    assert flags[0] == flags[1]


def test_a_packed_folder_keeps_its_integers_and_scales(tmp_path):
    source = open_source(str(write_random(tmp_path / "model", {})))
    packed = tmp_path / "packed"
    quantize_folder(source.tensors, source.expected, "q8", packed)
    held = open_source(str(packed))
    tensors = read_packed(held.tensors.files[0], held.expected)  # type: ignore[arg-type]
    out = tmp_path / "packed.gguf"
    done = export_gguf(held, out)
    assert set(done.types) == {"F32", "Q8_0"}
    written = open_source(str(out)).tensors
    for name, tensor in tensors.items():
        values = tensor if isinstance(tensor, np.ndarray) else unpack(tensor)
        assert np.array_equal(written.tensor(name), values)


def test_4_bit_integers_with_4_bit_scales_are_refused_as_they_are(tmp_path):
    source = open_source(str(write_random(tmp_path / "model", {})))
    quantize_folder(source.tensors, source.expected, "q4", tmp_path / "packed")
    with pytest.raises(UnsupportedModel, match="is q4_s, which is not written as it is; ask for --type"):
        export_gguf(open_source(str(tmp_path / "packed")), tmp_path / "packed.gguf")


@pytest.mark.parametrize("type", TYPES)
def test_weights_are_rounded_to_the_type_and_no_further(type, tmp_path):
    source = open_source(str(write_random(tmp_path / "model", {})))
    out = tmp_path / "model.gguf"
    done = export_gguf(source, out, type)
    assert (done.n_bytes, done.n_weights) == (
        out.stat().st_size,
        sum(int(np.prod(s)) for s in source.expected.values()),
    )
    [file] = open_source(str(out)).files  # type: ignore[attr-defined]
    for name in source.expected:
        weights, tensor = source.tensors.tensor(name), file.tensors[gguf_name("phi3", name)]
        table = name in ("model.embed_tokens.weight", "lm_head.weight")
        wanted = "F32" if weights.ndim == 1 or type == "as-is" else "Q8_0" if table and type == "q4_0" else type.upper()
        assert tensor.type == wanted
        blocks = file.blocks(gguf_name("phi3", name))
        if wanted in ("Q4_0", "Q8_0"):
            packed = unpack(pack(weights, {"Q4_0": "q4", "Q8_0": "q8"}[wanted]))
            assert np.array_equal(dequantize(blocks, wanted), packed)
        elif wanted == "BF16":
            # half of the last of 8 bits
            assert np.allclose((blocks.astype(np.uint32) << 16).view(np.float32), weights, rtol=2**-8, atol=0)
        else:
            assert np.array_equal(blocks, weights.astype(blocks.dtype))


def test_a_gguf_file_is_written_again_with_the_same_blocks_and_metadata(tmp_path):
    shutil.copy(Path(__file__).parent / "data/gguf/tiny-F32.gguf", tmp_path / "a.gguf")
    export_gguf(open_source(str(tmp_path / "a.gguf")), tmp_path / "b.gguf")
    [first], [second] = (open_source(str(tmp_path / f"{name}.gguf")).files for name in "ab")  # type: ignore[attr-defined]
    assert all(np.array_equal(first.blocks(name), second.blocks(name)) for name in first.tensors)
    own = {key: value for key, value in first.metadata.items() if key.startswith("tokenizer.")}
    assert all(np.array_equal(second.metadata[key], value) for key, value in own.items())
    # llama.cpp would take white space after special tokens away for a name with "phi3", and this tokenizer keeps it
    assert (first.metadata["general.name"], second.metadata["general.name"]) == (
        "tiny-random-phi3",
        "tiny-random-Phi 3",
    )


def test_types_that_are_not_written_are_refused_as_they_are_and_accepted_as_others(tmp_path):
    source = open_source(str(QUANTIZED))
    with pytest.raises(UnsupportedModel, match=r"lm_head.weight is Q6_K.*--type q8_0"):
        export_gguf(source, tmp_path / "out.gguf")
    assert export_gguf(source, tmp_path / "out.gguf", "q8_0").types == {"Q8_0": 10, "F32": 5}


def test_targets_that_would_lose_something_are_refused(tmp_path):
    source, out = open_source(str(QUANTIZED)), tmp_path / "out.gguf"
    out.write_bytes(b"mine")
    (tmp_path / "folder.gguf").mkdir()
    shutil.copy(QUANTIZED, tmp_path / "own.gguf")
    own = open_source(str(tmp_path / "own.gguf"))
    for asked, path, match in (
        (source, out, "--force"),
        (source, tmp_path / "folder.gguf", "no file"),
        (source, tmp_path / "out.bin", r"does not end in \.gguf"),
        (own, tmp_path / "own.gguf", "own file"),
    ):
        with pytest.raises(RequestError, match=match):
            export_gguf(asked, path, "q8_0", force=path != out)
    assert out.read_bytes() == b"mine"
    export_gguf(source, out, "q8_0", force=True)
    assert out.read_bytes()[:4] == b"GGUF"
    with pytest.raises(RequestError, match="as-is, f32"):
        export_gguf(source, out, "q3_k", force=True)


def test_the_licence_of_a_gguf_file_is_kept(tmp_path):
    source = open_source(str(QUANTIZED))
    named = {"general.license": "mit", "general.license.link": "https://example.org/LICENSE"}
    source.files[0].metadata = dict(source.files[0].metadata) | named | {"general.author": "not a licence"}
    export_gguf(source, tmp_path / "out.gguf", "q8_0")
    written = open_source(str(tmp_path / "out.gguf"))
    assert written.licence == "mit"
    assert named.items() <= written.metadata.items()
    assert "general.author" not in written.metadata


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))  # type: ignore[attr-defined]
    with pytest.raises(StorageError, match="needs 1\\.5 MB, and its disk has 0\\.0 MB free"):
        export_gguf(open_source(str(QUANTIZED)), tmp_path / "out.gguf", "q8_0")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_in_the_middle_leaves_the_old_file(tmp_path):
    def fail(what: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    out = tmp_path / "out.gguf"
    out.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        export_gguf(open_source(str(QUANTIZED)), out, "q8_0", force=True, progress=fail)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("out.gguf", b"old")]


def test_heads_that_llama_cpp_does_not_load_are_refused(tmp_path):
    source = open_source(str(write_random(tmp_path / "model", {"head_dim": 32})))
    with pytest.raises(UnsupportedModel, match="4 heads of 32 features in a model of 64"):
        export_gguf(source, tmp_path / "out.gguf")


def test_rows_that_are_no_whole_blocks_are_refused(tmp_path):
    source = open_source(str(write_random(tmp_path / "model", {"intermediate_size": 48})))
    with pytest.raises(UnsupportedModel, match=r"rows of 48 weights.*f16"):
        export_gguf(source, tmp_path / "out.gguf", "q8_0")


def spec_of(source: Source) -> dict[str, Any]:
    return copy.deepcopy(read_folder(source.path)[0])


def refused(spec: dict[str, Any], match: str, config: dict[str, Any] | None = None) -> None:
    with pytest.raises(TokenizerError, match=match):
        write_tokenizer(spec, Tokenizer(spec, config or {}), None, frozenset(), 5000)


def test_a_tokenizer_that_llama_cpp_would_read_otherwise_is_refused_by_name():
    spec = spec_of(open_source("tiny"))
    write_tokenizer(spec, Tokenizer(spec, {}), None, frozenset(), 5000)
    rules = [tuple(rule) if isinstance(rule, list) else tuple(rule.split(" ")) for rule in spec["model"]["merges"]]
    of_two = next(rule for rule in rules if len(rule[0]) == len(rule[1]) == 1)
    fewer = [list(rule) for rule in rules if "".join(rule) != "".join(of_two) and "".join(of_two) not in rule]
    refused(spec | {"model": {**spec["model"], "merges": fewer}}, "no merge rule makes its piece")
    refused(spec | {"pre_tokenizer": {"type": "Digits", "individual_digits": True}}, "prepared in another way")
    refused(spec | {"added_tokens": [{**t, "lstrip": t["id"] == 1} for t in spec["added_tokens"]]}, "before it")
    refused(spec | {"added_tokens": [{**t, "rstrip": t["id"] == 1} for t in spec["added_tokens"]]}, "others do not")
    refused(spec | {"model": {**spec["model"], "dropout": 0.5}}, "has a dropout")
    refused(tiny.spec(), "of the 256 byte tokens|others do not")


def byte_spec(**changes: Any) -> dict[str, Any]:
    from gguf_vocabularies import byte_level

    tokens, merges = byte_level()
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}, "merges": merges}
    return {"added_tokens": [], "normalizer": None, "pre_tokenizer": level, "decoder": level, "model": model} | changes


def split(regex: str, behavior: str = "Isolated", invert: bool = False) -> dict[str, Any]:
    step = {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [step, level]}


def test_a_byte_level_tokenizer_is_written_with_the_name_of_its_splitting():
    from slmkit.text.pretokenizers import CL100K, O200K

    for change, name in (
        ({}, "gpt-2"),
        ({"pre_tokenizer": split(CL100K)}, "dbrx"),
        ({"pre_tokenizer": split(CL100K, "Removed", True)}, "dbrx"),
        ({"pre_tokenizer": split(O200K)}, "gpt-4o"),
        ({"pre_tokenizer": split(CL100K), "model": byte_spec()["model"] | {"ignore_merges": True}}, "llama-bpe"),
    ):
        spec = byte_spec(**change)
        tokenizer = Tokenizer(spec, {})
        keys = write_tokenizer(spec, tokenizer, None, frozenset(), 400)
        assert keys["tokenizer.ggml.pre"] == name
        again = read_tokenizer(keys)
        for typed in ("Hello World's 12345 don't\n\n  x", "日本語 Größe\t!", "camelCase"):
            assert again.encode(typed) == tokenizer.encode(typed)


@pytest.mark.parametrize(
    "change",
    [
        {"pre_tokenizer": split(r"\p{L}+")},
        {"pre_tokenizer": split(r"\p{L}+", "MergedWithNext")},
        {"pre_tokenizer": None},
        {"normalizer": {"type": "NFC"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True, "trim_offsets": True}},
    ],
)
def test_a_splitting_that_llama_cpp_has_no_name_for_is_refused(change):
    refused(byte_spec(**change), "no name in llama")


def test_settings_that_gguf_has_no_key_for_are_refused_by_name(tmp_path):
    """Beams change every answer; a file without them would answer otherwise and say nothing."""
    folder = write_random(tmp_path / "model", {})
    settings = {"num_beams": 3, "length_penalty": 0.5, "max_new_tokens": 7}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    with pytest.raises(UnsupportedModel, match="the option max_tokens, the option beams, the option length_penalty;"):
        export_gguf(open_source(str(folder)), tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_settings_that_gguf_has_a_key_for_come_back(tmp_path):
    folder = write_random(tmp_path / "model", {})
    settings = {"do_sample": True, "temperature": 0.7, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.1}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    before = open_source(str(folder))
    export_gguf(before, tmp_path / "out.gguf")
    assert open_source(str(tmp_path / "out.gguf")).defaults == before.defaults


def test_an_end_of_answers_that_a_reader_would_not_know_is_refused(tmp_path):
    """Without `<|user|>` the tokens are not Phi-3's, and then `<|assistant|>` ends no answer of a GGUF file."""
    folder = write_random(tmp_path / "model", {})
    told = (folder / "tokenizer_config.json").read_text()
    (folder / "tokenizer_config.json").write_text(
        told.replace("<|user|>", "<|human|>").replace('"rstrip": true', '"rstrip": false')
    )
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [640, 642]}))
    with pytest.raises(UnsupportedModel, match=r"the end of answers '<\|assistant\|>';"):
        export_gguf(open_source(str(folder)), tmp_path / "out.gguf")


@pytest.mark.parametrize("text", ["", "{{ pad_token }}{{ messages[0]['content'] }}"])
def test_a_template_that_would_not_come_back_is_refused(tmp_path, text):
    """GGUF has no template that is empty: Phi-3.5's would take its place."""
    folder = write_random(tmp_path / "model", {})
    (folder / "chat_template.jinja").write_text(text)
    told = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(told | {"pad_token": "<|end|>"}))
    with pytest.raises(UnsupportedModel, match="its chat template, or the text of a token in it;"):
        export_gguf(open_source(str(folder)), tmp_path / "out.gguf")


def test_a_folder_whose_template_cannot_be_used_does_not_get_another_one(tmp_path):
    folder = write_random(tmp_path / "model", {})
    told = json.loads((folder / "tokenizer_config.json").read_text())
    named = [{"name": "tool_use", "template": "x"}]
    (folder / "tokenizer_config.json").write_text(json.dumps(told | {"chat_template": named}))
    with pytest.raises(TemplateError, match="none named 'default'"):
        export_gguf(open_source(str(folder)), tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ({}, None),
        ({"params": {"temperature": 0, "top_k": 40, "min_p": 0.1}}, None),  # filters of what is not sampled are idle
        ({"system": "Be brief."}, "a system message of its own;"),
        ({"messages": [{"role": "user", "content": "a"}]}, "messages that go before every conversation;"),
        ({"params": {"stop": ["b"], "seed": 3}}, "the option seed, the option stop;"),
    ],
)
def test_what_ollamas_store_says_beside_the_file_is_not_lost_without_a_word(tmp_path, monkeypatch, layers, said):
    OllamaStore(tmp_path / "store").add("m/latest", (QUANTIZED.parent / "tiny-F32.gguf").read_bytes(), **layers)
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "store"))
    source, out = open_source("ollama-store:m"), tmp_path / "out.gguf"
    if said is None:
        export_gguf(source, out)
        assert out.exists()
    else:
        with pytest.raises(UnsupportedModel, match=said):
            export_gguf(source, out)


def test_other_programs_half_written_files_beside_the_target_stay(tmp_path):
    other = tmp_path / ".download.partial"
    other.write_bytes(b"not ours")
    export_gguf(open_source(str(QUANTIZED)), tmp_path / "out.gguf", "q8_0")
    assert other.read_bytes() == b"not ours"
