"""Rows become tokens as they will be at inference, and only what the assistant says is scored."""

from __future__ import annotations

import itertools

import jinja2
import numpy as np

from slmkit.train import packing
from slmkit.train.data import Row
from slmkit.train.tokenizer import CHAT_TEMPLATE

TALK = Row((("system", "The red house."), ("user", "A dog ran?"), ("assistant", "The cat sat.\n\nThe end."),
            ("user", "And then"), ("assistant", "The bird saw.")))  # fmt: skip


def test_a_conversation_has_the_ids_of_the_rendered_template(tokenizer):
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(CHAT_TEMPLATE)
    messages = [{"role": role, "content": text} for role, text in TALK.messages]
    text = template.render(messages=messages, add_generation_prompt=False, eos_token="<|endoftext|>")
    assert packing.encode(TALK, tokenizer).ids.tolist() == tokenizer.encode(text).ids


def test_a_prompt_is_the_beginning_of_the_conversation_that_follows_it(tokenizer):
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(CHAT_TEMPLATE)
    asked = Row(TALK.messages[:3])
    messages = [{"role": role, "content": text} for role, text in TALK.messages[:2]]
    prompt = tokenizer.encode(template.render(messages=messages, add_generation_prompt=True)).ids
    document = packing.encode(asked, tokenizer)
    assert document.ids[: len(prompt)].tolist() == prompt
    assert not document.scored[: len(prompt)].any()
    assert document.scored[len(prompt) : -1].all()


def test_the_assistants_words_and_its_end_are_scored_and_nothing_else(tokenizer):
    document = packing.encode(TALK, tokenizer)
    end = tokenizer.token_to_id("<|end|>")
    scored = document.ids[document.scored].tolist()
    first = tokenizer.encode("The cat sat.\n\nThe end.").ids
    second = tokenizer.encode("The bird saw.").ids
    assert scored == [*first, end, *second, end]


def test_plain_text_is_scored_whole_and_ends_in_endoftext(tokenizer):
    document = packing.encode(Row((("text", "The dog ran."),)), tokenizer)
    assert document.scored.all()
    assert document.ids[-1] == tokenizer.token_to_id("<|endoftext|>")


def _document(start, length, may_split):
    return packing.Document(np.arange(start, start + length, dtype=np.uint16), np.ones(length, np.bool_), may_split)


def test_a_text_goes_on_in_the_next_block():
    blocks = [ids.tolist() for ids, _ in packing.blocks(iter([_document(0, 10, True), _document(10, 2, True)]), 4)]
    assert blocks == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_a_conversation_that_was_cut_starts_the_next_block_whole():
    documents = [_document(0, 3, False), _document(10, 4, False), _document(20, 9, False), _document(40, 4, False)]
    blocks = [ids.tolist() for ids, _ in packing.blocks(iter(documents), 4)]
    assert blocks == [[0, 1, 2, 10], [10, 11, 12, 13], [20, 21, 22, 23], [40, 41, 42, 43]]


def test_each_source_gives_its_share_of_the_tokens():
    sources = [[_document(0, 7, True)], [_document(100, 31, True)]]
    stream = itertools.islice(packing.interleave(sources, [0.75, 0.25], seed=1), 4000)
    given = np.bincount([int(d.ids[0] >= 100) for d in stream], minlength=2) * [7, 31]
    # the sources differ by at most one document of 31 tokens, in some 40,000
    assert abs(given[0] / given.sum() - 0.75) < 1e-3


def test_the_same_seed_gives_the_same_order():
    sources = [[_document(i, 3, True) for i in range(20)]]
    orders = [
        [int(d.ids[0]) for d in itertools.islice(packing.interleave(sources, [1.0], seed), 45)] for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0][:20]) == list(range(20))
