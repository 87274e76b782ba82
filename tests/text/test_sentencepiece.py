import contextlib
import dataclasses
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from text_data import DATA, phi3_spec, small_tokenizer

from slmkit.errors import TokenizerError
from slmkit.text import sentencepiece
from slmkit.text.tokenizer import Tokenizer

FILE = (DATA / "spm/tokenizer.model").read_bytes()
MODEL = sentencepiece.parse(FILE)
EXPECTED = json.loads((DATA / "spm/expected.json").read_text("utf-8"))


def test_every_stored_text_gives_the_ids_of_the_sentencepiece_library():
    for text, ids in EXPECTED["encoded"]:
        assert small_tokenizer().encode(text) == ids, text


def test_random_ids_give_the_text_of_the_sentencepiece_library_with_its_marks_for_broken_characters():
    n_broken = 0
    for ids, text in EXPECTED["decoded"]:
        # The library keeps a first space that is spelled as a byte token; the checkpoints' decoder does not.
        expected = text.removeprefix(" ") if ids[0] == 3 + 0x20 else text
        assert small_tokenizer().decode(ids) == expected
        n_broken += "\ufffd" in text
    assert n_broken > 50


def test_random_texts_agree_with_the_installed_library():
    library = pytest.importorskip("sentencepiece")
    processor = library.SentencePieceProcessor(model_proto=FILE)
    rng = random.Random(5)
    alphabet = [*" \n▁aehirst.0=ß日И😀", "  ", "    ", "the", "ing", "\u0301", "\U0010ffff", "<s>"]
    for _ in range(2000):
        text = "".join(rng.choices(alphabet, k=rng.randrange(1, 40)))
        assert small_tokenizer().encode(text) == processor.encode(text), text


def test_merges_come_in_the_order_of_the_published_tokenizer_json():
    model = phi3_spec("phi-3-mini")["model"]
    # Llama's scores: pieces 259 to 29870 in order, then the single characters, then runs of spaces, which share one.
    runs = {rule for merge in model["merges"] if set(rule := merge.replace(" ", "")) == {"▁"}}
    pieces = [
        (text, -1e9 if text in runs else -float(id_), sentencepiece.NORMAL) for text, id_ in model["vocab"].items()
    ]
    assert sentencepiece.merges(pieces[259:]) == [tuple(merge.split(" ")) for merge in model["merges"]]


def test_no_merge_makes_a_control_piece():
    pieces = [("a", -1.0, sentencepiece.NORMAL), ("b", -2.0, sentencepiece.NORMAL), ("ab", 0.0, sentencepiece.CONTROL)]
    assert sentencepiece.merges(pieces) == []


def test_a_folder_with_tokenizer_model_alone_gives_ids_with_the_configured_flags(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(FILE)
    (tmp_path / "added_tokens.json").write_text('{"<|end|>": 640, "<|user|>": 641}')
    entry = {"content": "<|end|>", "special": True, "rstrip": True, "lstrip": False, "normalized": False}
    config = {"added_tokens_decoder": {"640": entry}, "add_bos_token": False, "bos_token": "<s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.encode_prompt([("<|end|>\n<|user|>", True)]) == [640, 641]
    assert tokenizer.special_ids == {0, 1, 2, 640, 641}


@pytest.mark.parametrize(
    ("config", "ids"), [({}, [1, 640]), ({"add_bos_token": True}, [1, 640]), ({"add_bos_token": False}, [640])]
)
def test_bos_of_a_tokenizer_model_follows_the_configuration_and_is_on_by_default(tmp_path, config, ids):
    (tmp_path / "tokenizer.model").write_bytes(FILE)
    (tmp_path / "added_tokens.json").write_text('{"<|end|>": 640}')
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert Tokenizer.from_folder(tmp_path).encode_prompt([("<|end|>", True)]) == ids


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model_type": 1}, "other than BPE"),
        ({"character_map": b"\x01"}, "character map"),
        ({"removes_extra_spaces": True}, "extra spaces"),
        ({"marks_spaces": False}, "not marked"),
        ({"mark_after_word": True}, "after the word"),
        ({"pieces": [*MODEL.pieces, ("x y", 0.0, sentencepiece.USER_DEFINED)]}, "user-defined"),
        ({"pieces": [*MODEL.pieces, ("xyz", 0.0, sentencepiece.UNUSED)]}, "unused"),
        ({"pieces": [*MODEL.pieces, ("xyz", 0.0, 9)]}, "unknown kind"),
        ({"pieces": MODEL.pieces[:100]}, "byte pieces"),
        ({"pieces": [*MODEL.pieces, MODEL.pieces[-1]]}, "twice"),
    ],
)
def test_a_model_that_the_conversion_would_change_is_refused_by_name(change, match):
    with pytest.raises(TokenizerError, match=match):
        sentencepiece.convert(dataclasses.replace(MODEL, **change))


def test_a_bos_that_the_model_lacks_is_refused():
    with pytest.raises(TokenizerError, match="no"):
        sentencepiece.convert(dataclasses.replace(MODEL, bos_id=-1), add_bos=True)


def test_a_file_cut_anywhere_inside_a_field_is_refused():
    whole = len(MODEL.pieces)
    for length in [*range(0, len(FILE), 211), *range(len(FILE) - 20, len(FILE))]:
        try:
            cut = sentencepiece.parse(FILE[:length])
        except TokenizerError:
            continue
        assert 0 < len(cut.pieces) <= whole  # cut between two fields, which protobuf cannot tell from a short file


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_model_or_a_tokenizer_error(data):
    with contextlib.suppress(TokenizerError):
        assert sentencepiece.parse(data).pieces


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(FILE) - 1), st.integers(0, 255))
def test_a_damaged_byte_is_a_model_or_a_tokenizer_error(at, byte):
    damaged = FILE[:at] + bytes([byte]) + FILE[at + 1 :]
    with contextlib.suppress(TokenizerError):
        assert Tokenizer(sentencepiece.convert(sentencepiece.parse(damaged))).vocab_size
