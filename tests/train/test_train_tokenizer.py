"""The tokenizer keeps Llama 2's manner and Phi-3's special tokens."""

from __future__ import annotations

import pytest

from slmkit.train.tokenizer import BASE, BYTES, SPECIAL


@pytest.mark.parametrize("text", ["The dog ran.", "  two  blanks ", "new\n\nlines\t", "Äpfel “日本” 🙂", "1234.5%", ""])
def test_text_survives_the_way_there_and_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_ids_are_where_llama_and_phi_have_them(tokenizer, small):
    assert [tokenizer.id_to_token(i) for i in range(259)] == BASE + BYTES
    assert tokenizer.get_vocab_size() == small.model.vocab_size
    last = [tokenizer.id_to_token(small.model.vocab_size - len(SPECIAL) + i) for i in range(len(SPECIAL))]
    assert last == SPECIAL


def test_blanks_after_a_role_are_swallowed(tokenizer):
    ids = tokenizer.encode("<|user|>\nThe dog<|end|>\n<|assistant|>\n").ids
    user, end, assistant = (tokenizer.token_to_id(t) for t in ("<|user|>", "<|end|>", "<|assistant|>"))
    assert ids == [user, *tokenizer.encode("The dog").ids, end, assistant]


def test_no_piece_crosses_a_word_and_digits_stand_alone(tokenizer):
    for piece in tokenizer.get_vocab():
        if piece not in SPECIAL + BASE + BYTES:
            assert "▁" not in piece[1:] or set(piece) == {"▁"}
            assert not (any(c.isdigit() for c in piece) and len(piece.removeprefix("▁")) > 1)
