from __future__ import annotations

import math

import pytest

from slmkit.compare.findings import finding
from slmkit.compare.questions import Seen
from slmkit.compare.verdict import Tolerances, judge, meets
from slmkit.events import Logprob, TokenInfo

UNTOLD = TokenInfo(-1, "")


def token(id, *rivals, logprob=-0.1):
    """A token, and the ids of its rivals, each one nat behind the last."""
    top = (id, *rivals)
    return TokenInfo(id, f"t{id}", logprob, tuple(Logprob(r, f"t{r}", logprob - n) for n, r in enumerate(top)))


def seen(*tokens, ended=False, **facts):
    return Seen(ids=(1, 2), prompt_tokens=2, answer=[*tokens], ended=ended, **facts)


def judged(a, b):
    found = finding("it", a, b)
    return found, judge([], [found], Tolerances())[0]


def test_equal_answers_are_identical():
    found, verdict = judged(seen(token(5, 6), token(7, 8)), seen(token(5, 6), token(7, 8)))
    assert (len(found.distances), found.first, verdict) == (2, None, "identical")


def test_places_are_compared_up_to_and_with_the_token_that_differs():
    found, _ = judged(seen(token(5, 6), token(7, 8), token(1, 2)), seen(token(5, 6), token(8, 7), token(3, 4)))
    assert len(found.distances) == 2
    assert (found.first.position, found.first.a_id, found.first.b_id) == (1, 7, 8)
    assert found.first.a_gap.nats == found.first.b_gap.nats == pytest.approx(1.0)


@pytest.mark.parametrize("ended", [True, False])
def test_an_answer_that_had_to_stop_does_not_differ_and_one_that_ended_does(ended):
    found, _ = judged(seen(token(5), token(6), token(7)), seen(token(5), ended=ended))
    assert (found.first is not None) == ended


def test_a_token_that_ends_an_answer_need_not_be_told():
    found, _ = judged(seen(token(5), token(2), ended=True), seen(token(5), ended=True))
    assert found.first is None


def test_a_token_that_is_not_told_is_passed_over():
    found, verdict = judged(seen(token(5, 6), token(7, 8)), seen(UNTOLD, token(7, 8)))
    assert (len(found.distances), found.first, verdict) == (1, None, "identical")
    found, _ = judged(seen(token(5, 6), token(7, 8)), seen(UNTOLD, token(8, 7)))
    assert found.first.position == 1


@pytest.mark.parametrize(("nats", "verdict"), [(0.2, "cannot tell"), (2.0, "different")])
def test_where_one_alone_tells_log_probabilities_its_gap_decides(nats, verdict):
    rivals = (Logprob(5, "t5", -0.1), Logprob(6, "t6", -0.1 - nats))
    sure = TokenInfo(5, "t5", -0.1, rivals)
    found, said = judged(seen(sure), seen(TokenInfo(6, "t6")))
    assert found.first.a_gap.nats == pytest.approx(nats)
    assert (found.kl, found.first.b_gap, said) == (None, None, verdict)


def test_prompts_of_other_lengths_cannot_be_told_where_tokens_are_not_shown():
    other = seen(token(5, 6))
    other.prompt_tokens = 3
    assert judged(seen(token(5, 6)), other)[1] == "cannot tell"


def test_scores_of_the_other_ones_tokens_go_over_prompt_and_answer():
    prompt = (TokenInfo(1, "t1"), token(2, 9))
    a = seen(token(5, 6), token(7, 8), prompt=prompt)
    b = seen(token(6, 5), forced=(*prompt, token(5, 6), token(7, 8, logprob=-0.3)))
    found, verdict = judged(a, b)
    assert len(found.distances) == 3
    assert found.first.position == 0
    assert found.most_delta == pytest.approx(0.2)
    assert found.kl < 0.1
    assert verdict == "faithful"


def test_a_question_far_off_is_not_made_up_for_by_others():
    near = finding("near", seen(*[token(5, 6)] * 50), seen(*[token(5, 6)] * 50))
    far = finding("far", seen(token(5, 6)), seen(token(6, 5)))
    verdict, reasons = judge([], [near, far], Tolerances())
    assert verdict == "different"
    assert "far: the mean KL is" in reasons[0].why
    assert math.isfinite(far.kl)


def test_verdicts_are_in_order():
    assert meets("identical", "faithful")
    assert meets("faithful", "faithful")
    assert not meets("cannot tell", "faithful")
    assert not meets("faithful", "identical")
    assert judge([], [], Tolerances())[0] == "cannot tell"
