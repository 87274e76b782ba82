import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slmkit.errors import RequestError
from slmkit.text.stops import StopMatcher


def by_definition(text, stops):
    """The text before the stop string that is complete first, and that stop string."""
    found = [(text.find(stop) + len(stop), -len(stop), stop) for stop in stops if stop in text]
    if not found:
        return text, None
    end, _, stop = min(found)
    return text[: end - len(stop)], stop


def pushed(pieces, stops):
    matcher = StopMatcher(stops)
    return "".join([matcher.push(piece) for piece in pieces] + [matcher.flush()]), matcher.matched


SHORT = st.text("ab", max_size=5)


@settings(max_examples=300, deadline=None)
@given(st.lists(SHORT, max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=4))
@example(["abab", "abac"], ["ababac"])
@example(["a", "a", "b"], ["aab", "ab"])
def test_the_result_is_the_definition_however_the_text_is_cut(pieces, stops):
    assert pushed(pieces, stops) == by_definition("".join(pieces), stops)


@settings(max_examples=150, deadline=None)
@given(st.lists(SHORT, max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=4))
def test_no_more_is_held_back_than_may_begin_a_stop_string(pieces, stops):
    matcher, text, out = StopMatcher(stops), "", ""
    for piece in pieces:
        text, out = text + piece, out + matcher.push(piece)
        if matcher.matched:
            break
        held = text[len(out) :]
        assert text.startswith(out)
        assert held == "" or any(stop.startswith(held) and stop != held for stop in stops)


def test_a_stop_string_across_pushes_is_cut_and_nothing_follows():
    matcher = StopMatcher(["</answer>"])
    assert [matcher.push(piece) for piece in ("42</", "ans", "wer", "> more", "text")] == ["42", "", "", "", ""]
    assert matcher.matched == "</answer>"
    assert matcher.flush() == ""


def test_what_only_looked_like_a_stop_string_comes_out():
    matcher = StopMatcher(["END"])
    assert [matcher.push("EN"), matcher.push("x"), matcher.push("E"), matcher.flush()] == ["", "ENx", "", "E"]
    assert matcher.matched is None


@pytest.mark.parametrize("stops", [[""], ["a", ""], "ab", [1], [b"a"]])
def test_stop_strings_that_are_no_texts_are_refused(stops):
    with pytest.raises(RequestError, match="at least one character"):
        StopMatcher(stops)


def test_a_fork_goes_on_from_the_same_place_and_neither_disturbs_the_other():
    matcher = StopMatcher(["END"])
    assert matcher.push("aEN") == "a"
    twin = matcher.fork()
    assert (twin.push("x"), twin.matched) == ("ENx", None)
    assert (matcher.push("D"), matcher.matched) == ("", "END")
    assert twin.fork().push("y") == "y"
