import json

import pytest

from slmkit.errors import CheckpointError, UnsupportedModel
from slmkit.weights.ollama.options import ABSENT, NEUTRAL, translate


def translated(**params):
    return translate(params, "Ollama's model m")


def test_each_parameter_has_its_own_name_here():
    options, ctx = translated(
        num_ctx=8192, num_predict=100, temperature=0.7, top_k=40, top_p=0.9, min_p=0.05, seed=7, stop=["<|end|>", "\n"]
    )
    assert ctx == 8192
    assert options == {"max_tokens": 100, "temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.05, "seed": 7,
                       "stop": ("<|end|>", "\n")}  # fmt: skip


def test_nothing_asked_is_nothing_set():
    assert translate({}, "m") == ({}, None)
    assert translated(temperature=None, mirostat=None, num_ctx=None, of_tomorrow=None) == ({}, None)


@pytest.mark.parametrize("value", [-2, -1, 0])
def test_no_limit_is_none_here_either(value):
    assert translated(num_predict=value) == ({}, None)


def test_values_at_the_edges_mean_what_they_mean_to_ollama():
    assert translated(seed=-1) == ({}, None)  # another one each time
    assert translated(seed=0)[0] == {"seed": 0}
    assert translated(top_k=-1)[0] == {"top_k": 0}
    assert translated(top_p=1.5, min_p=-1)[0] == {"top_p": 1.0, "min_p": 0.0}
    assert translated(stop="<|end|>")[0] == {"stop": ("<|end|>",)}
    assert translated(num_ctx=4096.0, num_predict=64.0) == ({"max_tokens": 64}, 4096)


@pytest.mark.parametrize(
    "params",
    [{"repeat_penalty": 1.0}, {"repeat_penalty": 1}, {"repeat_penalty": 1.3, "repeat_last_n": 0},
     {"repeat_last_n": 64}],
)  # fmt: skip
def test_a_penalty_that_is_off_is_none(params):
    assert translate(params, "m") == ({}, None)


def test_a_penalty_over_the_whole_context_is_ours():
    assert translated(repeat_penalty=1.2, repeat_last_n=-1)[0] == {"repetition_penalty": 1.2}
    with pytest.raises(UnsupportedModel, match="penalize_newline"):
        translated(repeat_penalty=1.2, repeat_last_n=-1, penalize_newline=False)


@pytest.mark.parametrize(("back", "window"), [({}, 64), ({"repeat_last_n": 64}, 64), ({"repeat_last_n": 1}, 1)])
def test_a_penalty_looks_back_as_far_as_ollama_does_which_is_64_tokens_unless_told(back, window):
    expected = {"repetition_penalty": 1.1, "repetition_window": window}
    assert translated(repeat_penalty=1.1, **back)[0] == expected


def test_a_window_of_less_than_all_and_none_is_refused():
    with pytest.raises(CheckpointError, match="repetition_window is -2"):
        translated(repeat_penalty=1.1, repeat_last_n=-2)


@pytest.mark.parametrize("key", sorted(NEUTRAL))
def test_what_changes_no_answer_is_passed_over(key):
    assert translated(**{key: 3}) == ({}, None)


@pytest.mark.parametrize("key", sorted(ABSENT))
def test_what_is_switched_on_and_not_here_is_refused_by_name_and_passes_when_off(key):
    for off in ABSENT[key]:
        assert translated(**{key: off}) == ({}, None)
    for on in (0.5, 2, True, "x"):
        with pytest.raises(UnsupportedModel, match=rf"Ollama's model m has the parameter {key} = .*PARAMETER {key} "):
            translated(**{key: on})


def test_an_unknown_parameter_is_refused_by_name():
    with pytest.raises(UnsupportedModel, match=r"'dry_multiplier' = 0\.8"):
        translated(dry_multiplier=0.8)


@pytest.mark.parametrize(
    ("key", "value"),
    [("temperature", "hot"), ("temperature", -1), ("temperature", True), ("top_k", 1.5), ("top_p", "0.9"),
     ("top_p", True), ("seed", -7), ("seed", 2**64), ("stop", 5), ("stop", [1]), ("stop", [""]), ("num_ctx", 0),
     ("num_ctx", -1), ("num_ctx", "4096"), ("num_ctx", True), ("num_predict", [1]), ("repeat_penalty", "1.1"),
     ("min_p", {}), ("temperature", 10**400)],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_refused_by_name(key, value):
    with pytest.raises(CheckpointError, match="Ollama's model m") as refused:
        translate({key: value}, "Ollama's model m")
    assert key in str(refused.value)


def test_the_stops_of_ollamas_own_phi3_are_taken():
    assert translate(json.loads('{"stop": ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]}'), "m")[0] == {
        "stop": ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
    }
