"""Where guesses come from, how far they are trusted, and how many of them pay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmkit.engine.drafts import MOST_ROWS, Costs, lengths_that_pay
from slmkit.engine.speculate import LONGEST_DRAFT, LONGEST_MATCH, Guesser, Trust, look_back


def array(ids):
    return np.array(ids, np.int32)


def by_trying_everything(ids):
    """The definition: the longest end that occurred before, the latest of equals."""
    for length in range(min(LONGEST_MATCH, len(ids) - 1), 0, -1):
        for start in range(len(ids) - length - 1, -1, -1):
            if ids[start : start + length] == ids[-length:]:
                return length, start + length
    return 0, 0


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_the_longest_end_that_was_there_before_is_found_and_the_latest_of_equals(ids):
    assert look_back(array(ids)) == by_trying_everything(ids)


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ([5], (0, 0)),
        ([5, 6], (0, 0)),
        ([5, 5], (1, 1)),
        ([1, 2, 3, 1, 2], (2, 2)),
        ([1, 2, 7, 1, 2, 8, 1, 2], (2, 5)),
        ([*range(LONGEST_MATCH + 1), 99, *range(LONGEST_MATCH + 1)], (LONGEST_MATCH, LONGEST_MATCH + 1)),
    ],
)
def test_matches_at_the_edges(ids, found):
    assert look_back(array(ids)) == found


def looking(ids):
    guesser = Guesser()
    guesser.look(ids)
    return guesser


def test_a_guess_is_what_followed_and_goes_on_in_circles_at_the_end():
    assert looking([1, 2, 3]).guess == []
    assert looking([1, 2, 3, 1]).guess == [2, 3, 1] * 5 + [2]
    assert looking([*range(40), 3]).guess == list(range(4, 4 + LONGEST_DRAFT))


def test_of_a_word_that_stands_everywhere_the_latest_places_are_looked_at():
    ids = [1, 2, 3, *[7, 8] * 400, 1, 2, 7]
    assert look_back(array(ids)) == (1, len(ids) - 4)
    assert look_back(array([5] * 1000)) == (LONGEST_MATCH, 999)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.lists(st.integers(0, 20), min_size=1, max_size=6))
def test_a_guess_that_comes_true_is_followed_with_a_match_as_long_as_a_new_search_finds(ids, steps):
    guesser = looking(ids)
    for wrong_at in steps:
        for i, id in enumerate(list(guesser.guess)[: wrong_at % 7 + 1]):
            ids = [*ids, id if i != wrong_at else id + 1]
            guesser.note(ids[-1])
            if i == wrong_at:
                break
        guesser.look(ids)
        fresh = looking(ids)
        assert guesser._match == fresh._match
        assert bool(guesser.guess) == bool(fresh.guess)


def test_a_guesser_looks_at_texts_that_grow_beyond_its_first_array():
    ids, guesser = [7], Guesser()
    for i in range(3000):
        guesser.look(ids)
        ids.append(i % 1500 + 10)
    guesser.look(ids)
    assert guesser.guess[0] == 10


def test_trust_follows_what_came_for_each_length_of_match_alone():
    trust = Trust()
    first = [trust.of(n) for n in range(1, LONGEST_MATCH + 1)]
    assert first == sorted(first)
    for _ in range(30):
        trust.note(3, False)
        trust.note(5, True)
    assert trust.of(3) < 0.1
    assert trust.of(5) > 0.9
    assert [trust.of(n) for n in (1, 2, 4, 6)] == [first[n - 1] for n in (1, 2, 4, 6)]
    assert trust.of(1000) == trust.of(LONGEST_MATCH)


def test_a_guesser_learns_from_every_token_up_to_the_first_that_came_otherwise():
    ids = [1, 2, 3, 4, 5, 6, 1, 2]  # a match of two; 3, 4, 5 is guessed
    told, quiet = looking(ids), looking(ids)
    before = quiet.chances(4)
    for id in (3, 4, 9, 6):
        told.note(id)
    told.look(ids)
    after = told.chances(4)
    assert after[0] > before[0]
    assert after[1] / after[0] > before[1] / before[0]
    assert after[2] / after[1] < before[2] / before[1]
    assert after[3] / after[2] == before[3] / before[2]  # after the 9 nothing is known


def test_chances_multiply_and_go_no_further_than_asked():
    guesser = looking([1, 2, 3, 1])
    chances = guesser.chances(5)
    assert len(chances) == 5
    assert chances == sorted(chances, reverse=True)
    assert looking([1, 2, 3]).chances(5) == []


class Known(Costs):
    """Costs that are given, of steps that take a second for each unit."""

    def __init__(self, of, speed=1.0):
        self.of, self._speed = of, speed

    def note(self, rows, seconds):
        pass


def flat(rows):
    return 1.0


def linear(rows):
    return float(rows)


SURE = [0.95**i for i in range(1, 17)]


def test_drafts_are_as_long_as_they_pay():
    # where further rows are free everything is drafted, where they cost as much as steps nothing
    assert lengths_that_pay([SURE], Known(flat), 1) == [16]
    assert lengths_that_pay([SURE], Known(linear), 1) == [0]
    # one more token for half a step: worth it at 0.95, not at 0.3
    halves = Known(lambda rows: 1 + (rows - 1) / 2)
    assert lengths_that_pay([[0.95]], halves, 1) == [1]
    assert lengths_that_pay([[0.3]], halves, 1) == [0]


def test_a_hump_in_the_costs_is_crossed_where_it_pays():
    assert lengths_that_pay([[1.0] * 8], Known(lambda rows: 1 if rows == 1 else 3), 1) == [8]


def test_the_likeliest_sequences_come_first_and_many_together_do_not_speculate():
    cheap_to_four = Known(lambda rows: 1 if rows <= 4 else 100)
    assert lengths_that_pay([[0.5, 0.2], [0.9, 0.8]], cheap_to_four, 2) == [0, 2]
    assert lengths_that_pay([SURE] * 8, Known(lambda rows: max(rows / 8, 1.0)), 8) == [0] * 8


@pytest.mark.parametrize("rows", [MOST_ROWS - 1, MOST_ROWS, MOST_ROWS + 1, 300])
def test_a_step_has_at_most_so_many_rows_with_drafts(rows):
    lengths = lengths_that_pay([[1.0] * 16] * 2, Known(flat), rows)
    assert sum(lengths) <= max(MOST_ROWS - rows, 0)


def fed(costs, of, steps, rows_of):
    for i in range(steps):
        rows = rows_of(i)
        costs.note(rows, of(rows))
    return costs


def test_costs_come_to_the_times_that_were_measured():
    def seconds(rows):
        return 0.08 * (1 if rows <= 2 else 1.6 if rows <= 4 else rows / 2.5)

    costs = fed(Costs(), seconds, 600, lambda i: 1 + i % 9)
    for rows in range(2, 10):
        # neighbours pull at each other, and what is learnt is forgotten slowly
        assert costs.of(rows) / costs.of(1) == pytest.approx(seconds(rows) / seconds(1), rel=0.15)


def test_costs_keep_their_ratios_when_the_whole_machine_slows_down():
    costs = fed(Costs(), lambda rows: 0.1 * Costs.FIRST[rows - 1], 100, lambda i: (1, 4)[i % 2])
    before = costs.of(4) / costs.of(1)
    fed(costs, lambda rows: 0.3 * Costs.FIRST[rows - 1], 50, lambda i: (1, 4)[i % 2])
    assert costs.of(4) / costs.of(1) == pytest.approx(before, rel=0.1)


def test_one_bad_moment_does_not_rule_a_length_out_for_good():
    costs = fed(Costs(), lambda rows: 0.1 * Costs.FIRST[rows - 1], 20, lambda i: 1)
    for _ in range(3):
        costs.note(8, 10.0)
    fed(costs, lambda rows: 0.1 * Costs.FIRST[rows - 1], 20, lambda i: 1)
    bad = costs.of(8) / costs.of(1)
    fed(costs, lambda rows: 0.1 * Costs.FIRST[rows - 1], 500, lambda i: 1)
    good = Costs.FIRST[7]
    assert bad > 1.2 * good
    assert costs.of(8) / costs.of(1) < good + (bad - good) / 3


def test_steps_without_a_time_or_with_too_many_rows_teach_nothing():
    costs = Costs()
    costs.note(MOST_ROWS + 1, 1.0)
    costs.note(1, 0.0)
    assert [costs.of(r) for r in range(1, MOST_ROWS + 1)] == Costs.FIRST.tolist()
