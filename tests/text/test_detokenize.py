import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from text_data import phi3_tokenizer, small_tokenizer

from slmkit.text.detokenize import Detokenizer

# Byte tokens are 3 to 258; drawing them as often as words makes broken and whole characters.
# Some of them belong to one character (U+1F618, U+3042), so that whole ones come up as well.
IDS = st.lists(
    st.one_of(st.integers(3, 258), st.sampled_from([byte + 3 for byte in "😘あ é".encode()]), st.integers(0, 32070)),
    max_size=30,
)


def streamed(tokenizer, ids, **flags):
    detokenizer = Detokenizer(tokenizer, **flags)
    return [detokenizer.push(id_) for id_ in ids] + [detokenizer.flush()]


@settings(max_examples=200, deadline=None)
@given(IDS, st.booleans(), st.booleans())
def test_the_parts_together_are_the_decoded_whole_for_any_ids(ids, show, continues):
    tokenizer = phi3_tokenizer("phi-3-mini")
    parts = streamed(tokenizer, ids, show_special=show, continues=continues)
    assert "".join(parts) == tokenizer.decode(ids, show_special=show, keep_first_space=continues)


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_no_part_of_a_real_text_holds_half_a_character(text):
    tokenizer = small_tokenizer()  # 640 pieces, so nearly everything outside ASCII is bytes
    parts = streamed(tokenizer, tokenizer.encode(text))
    assert "".join(parts) == text.replace("▁", " ")
    assert sum(part.count("\ufffd") for part in parts) == text.count("\ufffd")
    assert parts[-1] == ""


@pytest.mark.parametrize(
    "text", ["👩‍👩‍👧 family", "e\u0301te\u0301", "日本語 中文 한국어", "🇩🇪", "a\u200db", "\U0010ffff"]
)
def test_a_character_comes_with_the_token_that_completes_it(text):
    tokenizer = small_tokenizer()
    detokenizer, data, out = Detokenizer(tokenizer), b"", ""
    for id_ in tokenizer.encode(text):
        data += tokenizer.bytes_of(id_)
        out += detokenizer.push(id_)
        assert out == data.decode("utf-8", "ignore").removeprefix(" ")
    assert out == text


def test_every_byte_of_a_broken_character_is_one_mark_and_good_neighbours_stay():
    byte = [id_ + 3 for id_ in range(256)]
    whole = [byte[b] for b in "é".encode()]
    ids = [*whole, byte[0xE2], byte[0x82], *whole, byte[0xF0], byte[0x9F]]
    assert small_tokenizer().decode(ids) == "é\ufffd\ufffdé\ufffd\ufffd"
    assert streamed(small_tokenizer(), ids) == ["", "é", "", "", "\ufffd\ufffd", "é", "", "", "\ufffd\ufffd"]


def test_only_the_first_space_of_a_text_is_a_mark_and_none_when_it_continues_one():
    tokenizer = phi3_tokenizer("phi-3-mini")
    the = tokenizer.piece_to_id("▁the")
    assert streamed(tokenizer, [32007, the, the]) == ["", "the", " the", ""]
    assert streamed(tokenizer, [the, the], continues=True) == [" the", " the", ""]
    assert streamed(tokenizer, [29871, the]) == ["", " the", ""]


def test_special_tokens_are_hidden_unless_asked_for():
    tokenizer = phi3_tokenizer("phi-3-mini")
    assert streamed(tokenizer, [32010, 6324, 32007]) == ["", "Hi", "", ""]
    assert streamed(tokenizer, [32010, 6324, 32007], show_special=True) == ["<|user|>", " Hi", "<|end|>", ""]


def test_a_push_costs_the_same_after_a_long_text():
    detokenizer = Detokenizer(phi3_tokenizer("phi-3-mini"))
    for _ in range(50_000):
        detokenizer.push(6324)
    kept, _ = detokenizer._bytes_to_text.getstate()
    assert kept == b""


def test_a_fork_goes_on_from_the_same_place_and_neither_disturbs_the_other():
    tokenizer = small_tokenizer()
    first, *rest = (byte + 3 for byte in "é".encode())
    detokenizer = Detokenizer(tokenizer)
    assert detokenizer.push(first) == ""
    twin = detokenizer.fork()
    the = tokenizer.piece_to_id("▁the")
    assert (detokenizer.push(rest[0]), twin.push(the)) == ("é", "\ufffd the")
    later = detokenizer.fork()
    assert later.push(the) == detokenizer.push(the) == " the"
    assert Detokenizer(tokenizer, continues=True).fork().push(the) == " the"
