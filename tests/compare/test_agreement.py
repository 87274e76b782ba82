from __future__ import annotations

import pytest

from slmkit.compare.agreement import chrf, pairs


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        ("the same", "the same", 1.0),
        ("white space", "whitespace\n", 1.0),
        ("", "", 1.0),
        ("", "something", 0.0),
        ("abc", "xyz", 0.0),
        # runs of 1: 2 of 3 and 2 of 2; of 2: 1 of 2 and 1 of 1. P = (2/3 + 1/2) / 2 = 7/12, R = 1
        ("abc", "ab", 2 * 7 / 12 / (1 + 7 / 12)),
        # a run counts as often as both have it: of 1, 1 of 3 and 1 of 1
        ("aaa", "a", 2 * (1 / 3) / (1 + 1 / 3)),
        # 北京 in both; of 1: 2 of 3 and 2 of 4; of 2: 1 of 2 and 1 of 3; of 3: none
        ("北京市", "在北京的", 2 * (7 / 18) * (5 / 18) / (7 / 18 + 5 / 18)),
    ],
)
def test_chrf_is_the_formula_and_symmetric(a, b, value):
    assert chrf(a, b) == pytest.approx(value)
    assert chrf(b, a) == pytest.approx(value)


def test_pairs_look_at_the_prompts_that_both_have_answered():
    first, second, third = {0: "yes", 1: "no"}, {0: "yes ", 1: "yes"}, {1: "no"}
    found = {(pair.a, pair.b): pair for pair in pairs([first, second, third, {}])}
    assert set(found) == {(0, 1), (0, 2), (1, 2)}
    assert (found[0, 1].prompts, found[0, 1].same, found[0, 1].chrf) == (2, 0.5, 0.5)
    assert (found[0, 2].prompts, found[0, 2].same) == (1, 1.0)
