"""A GGUF file's tokenizer gives the ids of the checkpoint it was made from, and no vocabulary can hurt."""

from __future__ import annotations

import contextlib
import json
import lzma
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from text_data import DATA, phi3_spec, phi3_tokenizer

from gguf_vocabularies import BYTE_LEVEL, byte_level, metadata
from slmkit.errors import SlmError, TokenizerError, UnsupportedModel
from slmkit.text.gguf.chat import read_stop_ids, read_template
from slmkit.text.gguf.export import write_tokenizer
from slmkit.text.gguf.tokenizer import read_tokenizer
from slmkit.text.known import MINI_35, MINI_APRIL, recognise
from slmkit.text.tokenizer import Tokenizer
from slmkit.weights.gguf.file import GGUFFile

STORED = json.loads((Path(__file__).parents[1] / "reference/llamacpp.json").read_text("utf-8"))
FILES = ("phi-3", "llama-spm")


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """The metadata of llama.cpp's own vocabulary files."""
    folder = tmp_path_factory.mktemp("vocabularies")
    found = {}
    for name in FILES:
        path = folder / f"{name}.gguf"
        path.write_bytes(lzma.decompress((DATA / f"llama.cpp/ggml-vocab-{name}.gguf.xz").read_bytes()))
        found[name] = dict(GGUFFile(path).metadata)
    return found


@pytest.fixture(scope="module")
def phi3(vocabularies) -> dict[str, Any]:
    return vocabularies["phi-3"]


@pytest.fixture(scope="module")
def mini(phi3) -> Tokenizer:
    return read_tokenizer(phi3)


@pytest.mark.parametrize("name", FILES)
def test_all_47_texts_of_llama_cpp_have_its_ids(name, vocabularies):
    tokenizer = read_tokenizer(vocabularies[name])
    texts = (DATA / "llama.cpp/ggml-vocab-phi-3.gguf.inp").read_text("utf-8").split("\n__ggml_vocab_test__\n")
    lines = (DATA / "llama.cpp/ggml-vocab-phi-3.gguf.out").read_text().splitlines()
    assert len(lines) == 46
    assert (len(texts), texts[-1]) == (47, "")
    assert [tokenizer.encode(text) for text in texts] == [*([int(i) for i in line.split()] for line in lines), []]


CONTROLS = st.sampled_from(
    ["<|user|>", "<|end|>", "<|assistant|>", "<|system|>", "<|endoftext|>", "<s>", "</s>", "<unk>", "\n", "  "]
)
TEXTS = st.lists(CONTROLS | st.text(max_size=8), max_size=8).map("".join)


@settings(max_examples=200)
@given(text=TEXTS, specials=st.booleans())
def test_ids_are_those_of_the_published_tokenizer_json(mini, text, specials):
    published = phi3_tokenizer("phi-3-mini")
    assert mini.encode(text, specials=specials) == published.encode(text, specials=specials)
    assert (mini.control_ids, mini.vocab_size) == (published.control_ids, published.vocab_size)


@settings(max_examples=100)
@given(text=TEXTS)
def test_the_type_of_the_end_token_tells_the_first_tokenizers_which_keep_white_space(april, text):
    assert april.encode(text, specials=True) == phi3_tokenizer("phi-3").encode(text, specials=True)


@pytest.fixture(scope="module")
def april(phi3) -> Tokenizer:
    types = phi3["tokenizer.ggml.token_type"].copy()
    types[2] = 3  # `</s>` as a control token, as in the checkpoint of April 2024
    return read_tokenizer(phi3 | {"tokenizer.ggml.token_type": types})


def test_bos_is_written_once_whether_the_template_or_the_file_writes_it(phi3, mini):
    assert mini.encode_prompt([("Hi", False)])[0] == 1  # add_bos_token is true in this file
    template = read_template(phi3)
    assert isinstance(template.source, str)
    assert recognise(template.source) is MINI_APRIL
    assert mini.encode_prompt([("<s><|user|>\n", True)]) == [1, 32010]
    without = read_tokenizer(phi3 | {"tokenizer.ggml.add_bos_token": False})
    assert without.encode_prompt([("Hi", False)]) == mini.encode("Hi")


def test_eos_goes_after_a_text_where_the_file_says_so(phi3, mini):
    both = read_tokenizer(phi3 | {"tokenizer.ggml.add_eos_token": True})
    assert both.encode_prompt([("Hi", False)]) == [1, *mini.encode("Hi"), 32000]


def test_answers_end_where_the_published_generation_config_ends_them(phi3):
    assert read_stop_ids(phi3, 32064) == {32000, 32001, 32007}
    assert read_stop_ids(phi3, 32001) == {32000}
    assert read_stop_ids(phi3 | {"tokenizer.ggml.eot_token_id": 5, "tokenizer.ggml.eom_token_id": 6}, 32064) >= {5, 6}


def test_without_a_template_phi_3s_vocabulary_has_the_familys(phi3, vocabularies):
    bare = {key: value for key, value in phi3.items() if key != "tokenizer.chat_template"}
    assert read_template(bare).source is MINI_35
    with pytest.raises(SlmError, match="no chat template"):
        read_template(vocabularies["llama-spm"])
    with pytest.raises(SlmError, match="no text"):
        read_template(phi3 | {"tokenizer.chat_template": 7})


def test_padding_has_no_text(mini):
    assert (mini.id_to_piece(32011), mini.decode([32011, 32063]), mini.vocab_size) == (None, "", 32011)


@cache
def byte_tokenizer(name: str) -> Tokenizer:
    return read_tokenizer(metadata(name))


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_byte_level_ids_are_llama_cpps_for_every_way_of_splitting_words(name):
    if name not in STORED["vocabularies"]:
        pytest.fail(f"{name} is not stored; run tests/reference/make_llamacpp.py")
    for case in STORED["vocabularies"][name]:
        assert byte_tokenizer(name).encode_prompt([(case["text"], True)]) == case["ids"]


@settings(max_examples=200)
@given(st.text())
def test_gpt_2s_splitting_is_that_of_the_tokenizers_package(text):
    assert byte_tokenizer("gpt-2").encode(text) == gpt2().encode(text, add_special_tokens=False).ids
    assert byte_tokenizer("gpt-2").decode(byte_tokenizer("gpt-2").encode(text)) == text


@cache
def gpt2() -> tokenizers.Tokenizer:
    """The same vocabulary with the package's own ByteLevel step."""
    tokens, merges = byte_level()
    model = tokenizers.models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(rule.split(" ")) for rule in merges])
    found = tokenizers.Tokenizer(model)
    found.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return found


def llama(n: int = 300, **changes: Any) -> dict[str, Any]:
    """A small SentencePiece vocabulary: three controls, the bytes, and letters."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁"]
    tokens += [chr(ord("a") + i) if i < 26 else f"ab{chr(0x400 + i)}" for i in range(n - len(tokens))]
    keys = {
        "model": "llama",
        "tokens": tokens,
        "scores": -np.arange(n, dtype=np.float32),
        "token_type": np.array([2, 3, 3] + [6] * 256 + [1] * (n - 259), np.int32),
    }
    return {f"tokenizer.ggml.{key}": value for key, value in (keys | changes).items() if value is not None}


def replaced(key: str, at: int, value: Any) -> dict[str, Any]:
    changed = list(llama()[f"tokenizer.ggml.{key}"])
    changed[at] = value
    return {key: changed if key == "tokens" else np.array(changed)}


def test_the_small_vocabulary_of_these_tests_is_accepted():
    assert read_tokenizer(llama()).encode("a é") == [259, 260, 259, 3 + 0xC3, 3 + 0xA9]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model": "bert"}, "'bert', which is not implemented"),
        ({"model": "t5"}, "'t5'"),
        ({"model": "rwkv"}, "'rwkv'"),
        ({"model": None}, "None, which"),
        ({"model": np.arange(2)}, "tokenizer.ggml.model"),
        ({"tokens": None}, "no list of texts"),
        ({"tokens": []}, "no list of texts"),
        ({"tokens": [1] * 300}, "no list of texts"),
        ({"tokens": np.arange(300)}, "no list of texts"),
        ({"scores": None}, "300 tokens and no usable values in tokenizer.ggml.scores"),
        ({"scores": np.zeros(299, np.float32)}, "299 usable values"),
        ({"scores": np.arange(300)}, "usable values in tokenizer.ggml.scores"),
        ({"scores": np.zeros(300, np.float32)}, "the same score"),
        (replaced("scores", 5, np.nan), "is no number"),
        (replaced("scores", 5, np.inf), "is no number"),
        ({"token_type": None}, "token_type"),
        ({"token_type": np.ones(301, np.int32)}, "301 usable values"),
        ({"token_type": np.ones(300, np.float32)}, "token_type"),
        (replaced("token_type", 299, 7), "outside 1 to 6"),
        (replaced("token_type", 299, 0), "outside 1 to 6"),
        (replaced("token_type", 3, 1), "255 of the 256 byte"),
        (replaced("tokens", 299, "a"), "one twice"),
        (replaced("tokens", 299, ""), "without a text"),
        (replaced("tokens", 299, "x" * 1025), "1024 each"),
        (replaced("token_type", 259, 4), "plain text holds"),  # the word mark, user-defined
        (replaced("tokens", 299, "ab") | replaced("token_type", 299, 5), "others are made of"),
        ({"bos_token_id": 300, "add_bos_token": True}, "bos_token_id = 300"),
        ({"eos_token_id": "2"}, "eos_token_id = '2'"),
        ({"eos_token_id": np.arange(3)}, "eos_token_id"),
        ({"bos_token_id": 2**32 - 1}, "that its vocabulary lacks"),
        ({"add_bos_token": 1}, "add_bos_token = 1; true or false"),
        ({"add_sep_token": True}, "add_sep_token"),
        ({"remove_extra_whitespaces": True}, "remove_extra_whitespaces"),
        ({"precompiled_charsmap": np.ones(4, np.uint8)}, "precompiled_charsmap"),
    ],
)
def test_a_vocabulary_that_cannot_be_read_right_is_refused_by_name(changes, match):
    with pytest.raises((TokenizerError, UnsupportedModel), match=match) as raised:
        read_tokenizer(llama(**changes))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"pre": None}, "tokenizer.ggml.pre None"),
        ({"pre": "chameleon"}, "'chameleon'.*accepted are gpt-2"),
        ({"merges": None}, "no tokenizer.ggml.merges"),
        ({"merges": ["a  b"]}, "not two texts and a space"),
        ({"merges": ["ab"]}, "not two texts and a space"),
        ({"merges": ["q z"]}, "cannot be used"),  # what it makes is no token
        ({"add_space_prefix": True}, "add_space_prefix"),
    ],
)
def test_a_byte_level_vocabulary_that_cannot_be_read_right_is_refused_by_name(changes, match):
    keys = metadata("gpt-2") | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    with pytest.raises((TokenizerError, UnsupportedModel), match=match):
        read_tokenizer({key: value for key, value in keys.items() if value is not None})


def test_a_byte_that_no_token_has_is_refused():
    keys = metadata("gpt-2")
    with pytest.raises(TokenizerError, match="1 of the 256"):
        read_tokenizer(keys | {"tokenizer.ggml.token_type": np.array([3, *keys["tokenizer.ggml.token_type"][1:]])})


BOMBS = {
    "a million tokens": [str(i) for i in range(2**20)],
    "megabytes of tokens": [f"{i:05d}" + "x" * 1000 for i in range(3000)],
    "one of ten million characters": ["<unk>", "x" * 10**7],
    "all prefixes of one text": ["a" * (i + 1) for i in range(1024)] + ["ab" * i for i in range(1, 500)],
}


@pytest.mark.parametrize("tokens", BOMBS.values(), ids=BOMBS)
def test_a_vocabulary_that_would_explode_is_refused_in_time(tokens):
    n = len(tokens)
    keys = {"model": "llama", "tokens": tokens, "scores": -np.arange(n, dtype=np.float32),
            "token_type": np.ones(n, np.int32)}  # fmt: skip
    start = time.process_time()
    with pytest.raises(TokenizerError, match="right file"):
        read_tokenizer({f"tokenizer.ggml.{key}": value for key, value in keys.items()})
    assert time.process_time() - start < 10


KEYS = sorted({*llama(), *metadata("gpt-2"), "tokenizer.ggml.add_space_prefix", "tokenizer.chat_template"})
VALUES = (
    st.none() | st.booleans() | st.integers(-2, 2**64) | st.floats() | st.text(max_size=5)
    | st.lists(st.text(max_size=3), max_size=4) | st.just(np.arange(300)) | st.just(np.zeros(0, np.float32))
    | st.lists(st.integers(0, 7), min_size=300, max_size=300).map(lambda x: np.array(x, np.int32))
)  # fmt: skip


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3), st.booleans())
def test_any_metadata_are_a_tokenizer_or_one_of_our_errors(changes, is_bytes):
    keys = (metadata("gpt-2") if is_bytes else llama()) | changes
    for read in (read_tokenizer, read_template, lambda keys: read_stop_ids(keys, 300)):
        with contextlib.suppress(SlmError):
            read(keys)


@pytest.mark.parametrize("name", ["phi-3", "phi-3-mini", "phi-3-medium"])
def test_a_published_tokenizer_is_written_as_llama_cpp_has_it_and_comes_back(name, phi3):
    published = phi3_tokenizer(name)
    keys = write_tokenizer(phi3_spec(name), published, None, frozenset({32000, 32001, 32007}), 32064)
    assert keys["tokenizer.ggml.tokens"] == phi3["tokenizer.ggml.tokens"]
    again = read_tokenizer(keys)
    assert {token.id: (token.content, token.rstrip) for token in again.added} == {
        token.id: (token.content, token.rstrip) for token in published.added
    }
    for text in (*("".join(phi3["tokenizer.ggml.tokens"][i : i + 40]) for i in range(3, 32000, 997)), "<|end|>\n x"):
        assert again.encode(text.replace("▁", " "), specials=True) == published.encode(
            text.replace("▁", " "), specials=True
        )
