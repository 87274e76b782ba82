from __future__ import annotations

import pytest

from slmkit.compare.questions import Seen, prose
from slmkit.compare.texts import PROBES, Difference, Reading, prompt_difference, reading_differences

NONE = Reading()


@pytest.mark.parametrize(
    ("a", "b", "place"),
    [
        (["a", "b"], ["a", "b"], None),
        (["a", "b"], ["a", "c"], 1),
        (["a", "b"], ["a", "b", None, ""], None),  # padded to another size
        (["a", "", None], ["a", "<|end|>", "x"], None),  # a control token, which one of them spells
        (["\ufffd", "b"], ["<0xC3>", "c"], 1),  # half of a character
        (None, ["a"], None),
    ],
)
def test_the_first_entry_that_both_spell_otherwise_is_named(a, b, place):
    found = reading_differences(Reading(vocabulary=a), Reading(vocabulary=b))
    assert [difference.position for difference in found] == ([] if place is None else [place])


def test_the_first_text_with_other_tokens_is_named_with_both():
    a = Reading(["x", "y", "z"], ["p", "q"], [(0,), (0, 1, 2)])
    b = Reading(["x", "y", "z"], ["p", "q"], [(0,), (0, 2)])
    assert reading_differences(a, b) == [Difference("tokenizer", "q", 1, 1, 2, "y", "z")]
    assert reading_differences(a, NONE) == []


def test_a_prompt_that_differs_is_the_templates_fault_if_its_text_does():
    readings = Reading(["a", "b", "c"]), Reading(["a", "b", "c"])
    one, other = Seen(text="<u>Hi", ids=(0, 1)), Seen(text="<u>Ho", ids=(0, 2))
    found = prompt_difference("p", one, other, readings)
    assert (found.what, found.position, found.a_id, found.b_id) == ("template", 4, 1, 2)
    assert (found.a_text, found.b_text) == ("<u>Hi", "<u>Ho")
    same = Seen(text="<u>Hi", ids=(0, 1, 2))
    assert prompt_difference("p", one, same, readings) == Difference("tokenizer", "p", 2, None, 2, "", "c")
    # of no account: another text that becomes the same tokens, and one that is not told
    assert prompt_difference("p", one, Seen(text="<u> Hi", ids=(0, 1)), readings) is None
    assert prompt_difference("p", one, Seen(), readings) is None


def test_probes_and_long_texts_have_no_repetition():
    assert len(set(PROBES)) == len(PROBES)
    sentences = prose(5000).split(". ")
    assert len(set(sentences)) == len(sentences)
    assert len(prose(5000).split()) > 4000
