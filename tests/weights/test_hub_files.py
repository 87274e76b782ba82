"""Which files of a repository are taken."""

from __future__ import annotations

import pytest

from slmkit.errors import ModelNotFound, UnsupportedModel
from slmkit.weights.hub.files import Choice, HubFile, choose, gguf_choices, quantization, size_text, weights_by_index


def files(*names: str) -> list[HubFile]:
    return [HubFile(name, 1_000_000 + at, "0" * 40) for at, name in enumerate(names)]


def names(choice: Choice) -> list[str]:
    return [file.name for file in choice.files]


def test_a_folder_is_its_texts_and_safetensors_and_nothing_that_runs() -> None:
    there = files(
        ".gitattributes", "README.md", "modeling_phi3.py", "pytorch_model.bin", "model.onnx", "onnx/model.safetensors",
        "training_args.bin", "tokenizer.model", "LICENSE", "config.json", "chat_template.jinja", "model.safetensors",
    )  # fmt: skip
    assert names(choose(there, None, "a/b")) == [
        "config.json", "LICENSE", "chat_template.jinja", "tokenizer.model", "model.safetensors",
    ]  # fmt: skip


def test_of_sharded_weights_exactly_those_that_the_index_names_are_taken() -> None:
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    there = files("config.json", "model.safetensors.index.json", *shards, "consolidated.safetensors")
    choice = choose(there, None, "a/b")
    assert names(choice)[2:] == shards
    weight_map = {"x": shards[1], "y": shards[1]}
    assert names(weights_by_index(choice, weight_map, there, "a/b"))[2:] == shards[1:]
    for bad in ({"x": "model-3.safetensors"}, {"x": "config.json"}, {"x": 3}, {}, None, ["x"]):
        with pytest.raises(UnsupportedModel, match=r"index\.json of a/b names"):
            weights_by_index(choice, bad, there, "a/b")


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (("m-Q8_0.gguf", "m-Q4_0.gguf", "m-Q4_K_M.gguf", "m-Q2_K.gguf"), "m-Q4_K_M.gguf"),
        (("m-Q8_0.gguf", "m-Q5_K_M.gguf", "m-f16.gguf"), "m-Q5_K_M.gguf"),
        (("Phi-3-mini-4k-instruct-fp16.gguf", "Phi-3-mini-4k-instruct-q4.gguf"), "Phi-3-mini-4k-instruct-q4.gguf"),
        (("m-IQ4_XS.gguf", "m-F16.gguf"), "m-F16.gguf"),
        (("mmproj-m-F16.gguf", "m.imatrix.gguf", "m.gguf"), "m.gguf"),
        (("m-IQ2_XXS.gguf",), "m-IQ2_XXS.gguf"),
    ],
)
def test_the_gguf_file_taken_by_default(there: tuple[str, ...], taken: str) -> None:
    assert names(choose(files("README.md", *there), None, "a/b")) == [taken]


@pytest.mark.parametrize("selection", ["Q8_0", "q8_0", "m-Q8_0.gguf", "sub/m-Q8_0.gguf", "M-q8_0.GGUF"])
def test_a_gguf_file_is_named_by_quantization_or_file(selection: str) -> None:
    there = files("m-Q4_0.gguf", "sub/m-Q8_0.gguf", "config.json", "model.safetensors")
    assert names(choose(there, selection, "a/b")) == ["sub/m-Q8_0.gguf"]


def test_a_split_is_taken_whole_and_in_order_and_never_with_a_shard_missing() -> None:
    shards = [f"Q4_K_M/m-Q4_K_M-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    assert names(choose(files(*reversed(shards)), "Q4_K_M", "a/b")) == shards
    assert names(choose(files(*shards), shards[1], "a/b")) == shards
    with pytest.raises(ModelNotFound):
        choose(files(*shards[1:], "m-Q8_0.gguf"), "Q4_K_M", "a/b")


def test_a_selection_that_is_not_there_gets_the_list_and_the_nearest() -> None:
    there = files("m-Q4_K_M.gguf", "m-Q8_0.gguf")
    with pytest.raises(ModelNotFound, match=r"did you mean Q4_K_M\?\); it has Q4_K_M \(1\.0 MB\), Q8_0 \(1\.0 MB\)"):
        choose(there, "Q4_KM", "a/b")
    with pytest.raises(ModelNotFound, match="has no GGUF files"):
        choose(files("config.json", "model.safetensors"), "Q4_0", "a/b")
    with pytest.raises(ModelNotFound, match=r"several files for 'Q4_0': a-Q4_0\.gguf, b-Q4_0\.gguf"):
        choose(files("a-Q4_0.gguf", "b-Q4_0.gguf"), "Q4_0", "a/b")
    with pytest.raises(ModelNotFound, match="none is the obvious one; choose from"):
        choose(files("a.gguf", "b.gguf"), None, "a/b")


def test_pickles_and_repositories_without_a_model_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="never reads pickles"):
        choose(files("config.json", "pytorch_model.bin"), None, "a/b")
    for there in ((), ("README.md",), ("model.safetensors",), ("config.json", "x.safetensors")):
        with pytest.raises(UnsupportedModel, match="choose another repository"):
            choose(files(*there), None, "a/b")


@pytest.mark.parametrize(
    ("stem", "says"),
    [("m-Q4_K_M", "Q4_K_M"), ("m.q8_0", "Q8_0"), ("m-f16", "F16"), ("Q4_0", "Q4_0"), ("sub-Q4_0/m", ""),
     ("m-UD-Q4_K_XL", "Q4_K_XL"), ("m-IQ3_M", "IQ3_M"), ("m-v2", ""), ("Qwen", "")],
)  # fmt: skip
def test_the_quantization_is_read_from_the_end_of_a_name(stem: str, says: str) -> None:
    assert quantization(stem) == says
    assert [choice.quantization for choice in gguf_choices(files(f"{stem}.gguf"))] == [says]


def test_sizes_are_told_in_decimal_units() -> None:
    assert [size_text(n) for n in (0, 999_949, 150_000_000, 7_642_181_896)] == ["0.0 MB", "1.0 MB", "150 MB", "7.6 GB"]
