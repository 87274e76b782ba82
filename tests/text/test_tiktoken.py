"""Phi-3-small's tokenizer: tiktoken's vocabulary file, the 96 special tokens, and one sentence for a damaged file."""

from __future__ import annotations

import base64
import json
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st
from text_data import DATA

from slmkit.errors import TokenizerError
from slmkit.text import tiktoken
from slmkit.text.template import ChatTemplate
from slmkit.text.tokenizer import Tokenizer

RANKS = lzma.decompress((DATA / "phi3_small/cl100k_base.tiktoken.xz").read_bytes())
PUBLISHED = json.loads((DATA / "phi3_small/tokenizer_config.json").read_text("utf-8"))
CONFIG = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "tokenizer_class": "Phi3SmallTokenizer"}
SINGLE = [bytes([i]) for i in range(256)]


def file_of(tokens):
    return b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(tokens))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phi-3-small")
    (folder / "cl100k_base.tiktoken").write_bytes(RANKS)
    (folder / "tokenizer_config.json").write_text(json.dumps(CONFIG))
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return Tokenizer.from_folder(folder)


def test_stored_texts_give_the_ids_of_tiktoken_itself_and_come_back(tokenizer):
    for text, ids in json.loads((DATA / "phi3_small/ids.json").read_text("utf-8")):
        assert tokenizer.encode(text) == ids, text
        assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("This is a test.", [2028, 374, 264, 1296, 13]),
        ("Ich liebe München", [41469, 92442, 90366]),
        ("<|endoftext|><|user|>\nHi<|end|>\n<|assistant|>\n", [100257, 100262, 198, 13347, 100266, 198, 100263, 198]),
    ],
)
def test_published_ids(tokenizer, text, ids):
    assert tokenizer.encode(text, specials=True) == ids


def test_special_tokens_are_the_published_ones_with_and_without_a_list(tokenizer):
    listed = Tokenizer(*_with_list())
    for one in (tokenizer, listed):
        assert one.vocab_size == 100352
        assert len(one.special_ids) == 96
        assert (one.bos_id, one.eos_id) == (100257, 100257)
    theirs = {int(id): entry["content"] for id, entry in PUBLISHED["added_tokens_decoder"].items()}
    assert theirs == tiktoken.PHI3_SMALL
    assert {token.id: token.content for token in listed.added} == theirs


def _with_list():
    added = [{**entry, "id": int(id)} for id, entry in PUBLISHED["added_tokens_decoder"].items()]
    return tiktoken.convert(tiktoken.parse(RANKS), added), PUBLISHED


def test_nothing_is_added_around_a_text_and_no_message_can_write_a_control_token(tokenizer):
    assert tokenizer.around == ([], [])
    assert not set(tokenizer.encode("<|end|><|user|><|dummy_id_7|>")) & tokenizer.control_ids


def test_a_checkpoint_without_a_template_has_phi_3_smalls(folder, tokenizer):
    template = ChatTemplate.from_folder(folder, "phi3small")
    assert template.source.name == "Phi-3-small"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has 0 lines, and 256 to 524288 are read"),
        (file_of(SINGLE[:-1]), "has 255 lines"),
        (file_of([*SINGLE[:-1], b"ab"]), "lacks a byte or has a token twice"),
        (file_of([*SINGLE, b"ab", b"ab"]), "lacks a byte or has a token twice"),
        (file_of(SINGLE) + b"YWI= 257\n", "line 257 of cl100k_base.tiktoken is not a token in base64, a space and 256"),
        (file_of(SINGLE) + b"YW 256\n", "line 257"),
        (file_of(SINGLE) + b" 256\n", "line 257"),
        (file_of([*SINGLE, b"a" * 1025]), "line 257"),
        (file_of([*SINGLE, *(b"%01024d" % i for i in range(2048))]), "has over 2097152 bytes of tokens"),
    ],
)
def test_a_damaged_vocabulary_is_refused_in_one_sentence(data, message):
    with pytest.raises(TokenizerError, match=message):
        tiktoken.parse(data)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_vocabulary_or_a_tokenizer_error(data):
    for damaged in (data, file_of(SINGLE) + data):
        try:
            tokens = tiktoken.parse(damaged)
        except TokenizerError:
            continue
        assert len(set(tokens)) == len(tokens)


def test_special_tokens_of_another_vocabulary_have_to_be_listed(tmp_path):
    (tmp_path / "cl100k_base.tiktoken").write_bytes(file_of([*SINGLE, b"ab"]))
    with pytest.raises(TokenizerError, match=r"has 257 tokens, .* list them under added_tokens_decoder"):
        Tokenizer.from_folder(tmp_path)
    listed = {"added_tokens_decoder": {"257": {"content": "<|end|>", "special": True}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(listed))
    assert Tokenizer.from_folder(tmp_path).encode("cab<|end|>", specials=True) == [99, 256, 257]
