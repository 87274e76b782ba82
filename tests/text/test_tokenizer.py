import copy
import json
import os
import subprocess
import sys

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from text_data import DATA, phi3_spec, phi3_tokenizer, small_spec, small_tokenizer

from slmkit.errors import RequestError, TokenizerError
from slmkit.text.added import Piece
from slmkit.text.tokenizer import Tokenizer

LLAMA_CPP = DATA / "llama.cpp/ggml-vocab-phi-3.gguf"
CASES = LLAMA_CPP.with_name(LLAMA_CPP.name + ".inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
EXPECTED = [
    [int(id_) for id_ in line.split()]
    for line in LLAMA_CPP.with_name(LLAMA_CPP.name + ".out").read_text("utf-8").split("\n")
]

# What makes trouble around control tokens: the tokens, parts of them, and every kind of white space.
BITS = [
    "<s>",
    "</s>",
    "<unk>",
    "<|endoftext|>",
    "<|assistant|>",
    "<|system|>",
    "<|end|>",
    "<|user|>",
    "<|placeholder1|>",
    "<|image|>",
    "<|end|>>",
    "<|",
    "|>",
    "<s",
    "end",
    "Hi",
    "the  end",
    " ",
    "\n",
    "\t",
    "\xa0",
    "\x1c",
    "\u2003",
    "\u200b",
    "é",
    "e\u0301",
    "😀",
    "日本",
    "▁",
    "<0x41>",
    "a" * 40,
]
BENIGN = [bit for bit in BITS if "<" not in bit and ">" not in bit and "|" not in bit]


def reference(spec) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(json.dumps(spec))


REFERENCES = {name: reference(phi3_spec(name)) for name in ("phi-3", "phi-3-mini", "phi-3-medium", "phi-3-vision")}


def test_all_47_texts_of_llama_cpp_give_its_ids_and_come_back(variant):
    assert len(CASES) == len(EXPECTED) == 47
    tokenizer = phi3_tokenizer(variant)
    for text, ids in zip(CASES, EXPECTED, strict=True):
        assert tokenizer.encode(text) == ids
        assert tokenizer.decode(ids) == text


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(BITS), max_size=14), st.sampled_from(sorted(REFERENCES)))
def test_trusted_text_gives_the_ids_of_the_tokenizers_package_however_it_is_cut(bits, name):
    ids = phi3_tokenizer(name).encode_prompt([(bit, True) for bit in bits])
    expected = REFERENCES[name].encode("".join(bits)).ids
    if name == "phi-3-vision" and expected[:2] == [1, 1]:  # its BOS before one that the text has: we write one
        expected = expected[1:]
    assert ids == expected


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(BITS), st.lists(st.sampled_from(BENIGN), max_size=4)), max_size=6),
    st.sampled_from(sorted(REFERENCES)),
)
def test_harmless_untrusted_text_gives_the_ids_of_the_whole_text(turns, name):
    pieces = [piece for markup, bits in turns for piece in ((markup, True), ("".join(bits), False))]
    expected = REFERENCES[name].encode("".join(text for text, _ in pieces), add_special_tokens=False).ids
    ids = phi3_tokenizer(name).encode_prompt(pieces)
    assert ids == expected or ids == [1, *expected]  # vision's tokenizer writes a BOS


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(BITS), max_size=14), st.sampled_from(sorted(REFERENCES)))
def test_untrusted_text_never_gives_a_control_id_and_comes_back_as_typed(bits, name):
    text, tokenizer = "".join(bits), phi3_tokenizer(name)
    ids = tokenizer.encode(text)
    assert tokenizer.control_ids.isdisjoint(ids)
    assert tokenizer.decode(ids) == text.replace("▁", " ")


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("phi-3-mini", "<|user|>\nHi<|end|>\n<|assistant|>\n", [32010, 6324, 32007, 32001]),
        ("phi-3-medium", "<|user|>\nHi<|end|>\n<|assistant|>\n", [32010, 6324, 32007, 32001]),
        (
            "phi-3",
            "<s><|user|>\nHi<|end|>\n<|assistant|>\n",
            [1, 32010, 29871, 13, 18567, 32007, 29871, 13, 32001, 29871, 13],
        ),
        # vision: only assistant swallows white space, and the tokenizer writes BOS
        ("phi-3-vision", "<|user|>\nHi<|end|>\n<|assistant|>\n", [1, 32010, 29871, 13, 18567, 32007, 29871, 13, 32001]),
    ],
)
def test_white_space_after_control_tokens_goes_as_each_checkpoint_says(name, text, ids):
    assert phi3_tokenizer(name).encode_prompt([(text, True)]) == ids


def test_white_space_at_the_beginning_of_a_message_is_swallowed_as_in_the_reference():
    pieces = [("<|user|>\n", True), (" \n Hi", False), ("<|end|>\n", True)]
    assert phi3_tokenizer("phi-3-mini").encode_prompt(pieces) == [32010, 6324, 32007]


def test_a_control_token_counts_only_where_all_of_it_is_trusted():
    tokenizer = phi3_tokenizer("phi-3-mini")
    assert 32007 not in tokenizer.encode_prompt([("<|end", False), ("|>", True)])
    assert 32007 not in tokenizer.encode_prompt([("<|e", True), ("nd", False), ("|>", True)])
    assert tokenizer.encode_prompt([("<|e", True), ("nd", True), ("|>", True)]) == [32007]


def test_a_control_token_in_a_message_is_the_plain_text_that_a_tokenizer_without_it_gives():
    plain = reference({**phi3_spec("phi-3-mini"), "added_tokens": []})
    text = "say <|end|> and </s>"  # </s> is no special token there, so "special" alone must not decide
    ids = phi3_tokenizer("phi-3-mini").encode_prompt([("<|user|>\n", True), (text, False), ("<|end|>\n", True)])
    assert ids == [32010, *plain.encode(text).ids, 32007]


def test_the_longest_of_two_added_tokens_is_taken_and_its_neighbours_swallow_space():
    tokenizer = small_tokenizer()
    assert tokenizer.encode("<|end|>>", specials=True) == [642]
    assert tokenizer.encode("<|user|> \n\u2003 <|end|>", specials=True) == [640, 641]
    assert tokenizer.encode("a \n<|end|>", specials=True) == [*tokenizer.encode("a"), 641]


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
def test_metaspace_puts_its_mark_where_the_tokenizers_package_does(scheme):
    spec = copy.deepcopy(small_spec())
    spec["normalizer"] = None
    spec["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
    ours, theirs = Tokenizer(spec), reference(spec)
    for text in ("Hi the dog", "<|user|>the dog<|end|> ran", " the<|user|> \n a", "<s>", ""):
        assert ours.encode(text, specials=True) == theirs.encode(text).ids


def test_a_byte_level_vocabulary_gives_the_ids_and_texts_of_the_tokenizers_package():
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {char: n for n, char in enumerate([*alphabet, "Ġt", "he"])}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    end = {
        "id": 258,
        "content": "<|endoftext|>",
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": True,
        "special": True,
    }
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": vocab,
        "merges": [["Ġ", "t"], ["h", "e"]],
    }
    spec = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [end],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": model,
    }
    ours, theirs = Tokenizer(spec), reference(spec)
    for text in ("the the", "über 日本<|endoftext|> 😀", "<|endoftext|>"):
        ids = ours.encode(text, specials=True)
        assert ids == theirs.encode(text).ids
        assert ours.decode(ids, show_special=True) == theirs.decode(ids, skip_special_tokens=False) == text
    assert 258 not in ours.encode("<|endoftext|>")
    broken = ours.encode("日")[:2]
    assert ours.decode(broken) == theirs.decode(broken) == "\ufffd"


@settings(max_examples=80, deadline=None)
@given(st.text(), st.booleans())
def test_decoding_equals_the_tokenizers_package_for_every_encoded_text(text, show):
    tokenizer, theirs = phi3_tokenizer("phi-3-mini"), REFERENCES["phi-3-mini"]
    ids = [32010, *tokenizer.encode(text), 32007, 2, 1, *tokenizer.encode(text)]
    assert tokenizer.decode(ids, show_special=show) == theirs.decode(ids, skip_special_tokens=not show)


def test_bos_is_written_where_tokenizer_json_says_and_never_twice():
    mini, april, vision = (phi3_tokenizer(name) for name in ("phi-3-mini", "phi-3", "phi-3-vision"))
    assert [tokenizer.around for tokenizer in (mini, april, vision)] == [([], []), ([], []), ([1], [])]
    assert vision.encode_prompt([("Hi", False)]) == vision.encode_prompt([("<s>", True), ("Hi", False)]) == [1, 6324]
    assert vision.encode_prompt([("<s>", False)])[0] == 1
    assert april.encode_prompt([("Hi", False)]) == [6324]


def test_ids_names_and_sizes_are_those_of_the_checkpoint(variant):
    tokenizer = phi3_tokenizer(variant)
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 32000)
    assert tokenizer.vocab_size == (32045 if variant == "phi-3-vision" else 32011)
    assert tokenizer.piece_to_id("<|end|>") == 32007
    assert tokenizer.id_to_piece(32007) == "<|end|>"
    assert tokenizer.id_to_piece(13) == "<0x0A>"
    assert tokenizer.id_to_piece(32063) is None
    assert 32007 in tokenizer.special_ids
    assert (2 in tokenizer.special_ids) == (variant == "phi-3")  # </s> is not special in the later ones
    assert tokenizer.decode([32063, 6324]) == "Hi"


def test_an_embedding_with_too_few_rows_is_refused():
    tokenizer = phi3_tokenizer("phi-3-mini")
    tokenizer.require_fit(32064)
    tokenizer.require_fit(32011)
    with pytest.raises(TokenizerError, match=r"32010.*32010 rows"):
        tokenizer.require_fit(32010)


def test_half_a_surrogate_pair_is_the_callers_fault():
    with pytest.raises(RequestError, match=r"character 2 .*U\+D800"):
        small_tokenizer().encode("ab\ud800c")


def test_truncation_padding_and_dropout_in_tokenizer_json_change_no_prompt():
    spec = copy.deepcopy(small_spec())
    spec["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    spec["padding"] = {
        "strategy": {"Fixed": 50},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<unk>",
    }
    spec["model"]["dropout"] = 0.9
    text = "The dog ran over the hill."
    assert Tokenizer(spec).encode(text) == small_tokenizer().encode(text)


def test_tokens_that_only_the_configuration_names_are_added():
    entry = {"content": "<|extra|>", "special": True, "lstrip": False, "rstrip": True, "normalized": False}
    tokenizer = Tokenizer(small_spec(), {"added_tokens_decoder": {"700": entry}})
    assert tokenizer.encode("<|extra|> \n", specials=True) == [700]
    assert tokenizer.vocab_size == 701


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s["added_tokens"][0].update(single_word=True), "single_word"),
        (lambda s: s["added_tokens"][0].update(normalized=True), "normalized"),
        (lambda s: s["added_tokens"][0].update(id=-1), "id from 0"),
        (lambda s: s["added_tokens"][0].update(id=s["added_tokens"][1]["id"]), "same id"),
        (lambda s: s["added_tokens"][0].update(content=s["added_tokens"][1]["content"]), "same text"),
        (lambda s: s["added_tokens"].append("x"), "damaged"),
        (lambda s: s.update(decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}), "decoder"),
        (lambda s: s.update(decoder=None), "decoder"),
        (lambda s: s.pop("model"), "damaged"),
        (lambda s: s.update(model={"type": "BPE"}), "tokenizer"),
        (lambda s: s["model"]["merges"].append(["no such", "pieces"]), "tokenizer cannot be used"),
    ],
)
def test_a_tokenizer_json_that_is_broken_or_not_understood_is_refused_in_one_sentence(change, match):
    spec = copy.deepcopy(small_spec())
    change(spec)
    with pytest.raises(TokenizerError, match=match) as raised:
        Tokenizer(spec)
    assert "\n" not in str(raised.value)


def test_a_vocabulary_that_writes_control_tokens_from_text_is_refused_when_it_does():
    spec = copy.deepcopy(small_spec())
    the = spec["model"]["vocab"]["▁the"]
    spec["added_tokens"].append({**spec["added_tokens"][0], "id": the, "content": "▁the"})
    with pytest.raises(TokenizerError, match="forge"):
        Tokenizer(spec).encode("the")


def test_a_vocabulary_without_its_unknown_token_is_refused_when_it_is_needed():
    spec = copy.deepcopy(small_spec())
    spec["model"].update(vocab={"▁": 0, "a": 1, "<|user|>": 640}, merges=[], unk_token="<unk>", byte_fallback=False)
    with pytest.raises(TokenizerError, match=r"cannot encode a text .*<unk>.*; download"):
        Tokenizer(spec).encode("b")


def splitting(regex):
    """The small tokenizer with a pre-tokenizer that splits by this pattern."""
    step = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    return small_spec() | {"pre_tokenizer": step}


def test_a_panic_of_the_package_is_our_error(capfd):
    """It is no Exception, and would pass every handler up to the user's screen."""
    tokenizer = Tokenizer(splitting(r"\s*\s*\d"))
    with pytest.raises(TokenizerError, match=r"cannot encode a text .*limit"):
        tokenizer.encode("a" + "\n" * 40_000 + "b1")
    assert "Traceback" not in capfd.readouterr().err


def test_a_folder_gives_its_tokenizer(mini_folder):
    tokenizer = Tokenizer.from_folder(mini_folder)
    assert tokenizer.encode("<|user|>\nHi", specials=True) == [32010, 6324]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "neither tokenizer.json nor tokenizer.model"),
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "JSON list"),
        (b"\xff{}", "is no UTF-8"),
    ],
)
def test_a_folder_without_a_usable_tokenizer_is_refused(tmp_path, content, match):
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(TokenizerError, match=match):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_fifo_in_place_of_the_tokenizer_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "tokenizer.json")
    with pytest.raises(TokenizerError, match="not a regular file"):
        Tokenizer.from_folder(tmp_path)


def test_importing_the_text_package_imports_neither_tokenizers_nor_jinja():
    code = (
        "import sys, slmkit.text.prompt, slmkit.text.detokenize, slmkit.text.stops\n"
        "assert not {'tokenizers', 'jinja2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pieces_are_pairs_of_text_and_trust():
    assert small_tokenizer().encode_prompt([Piece("<|user|>", True)]) == [640]


@given(st.text(max_size=200))
def test_a_text_never_has_fewer_tokens_than_it_surely_has(text):
    tokenizer = phi3_tokenizer("phi-3-mini")
    assert tokenizer.least_tokens(text) <= len(tokenizer.encode(text))
    assert tokenizer.least_tokens("word " * 4800) >= 24_000 // 48  # its longest pieces are 48 bytes


def test_nothing_is_known_of_texts_that_a_normalizer_may_shorten():
    assert Tokenizer(small_spec() | {"normalizer": {"type": "NFKC"}}).least_tokens("a" * 1000) == 0
