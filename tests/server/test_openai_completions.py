"""POST /v1/completions, asked by OpenAI's own client."""

from __future__ import annotations

import pytest
from scripted import ScriptedBackend

from slmkit.backends.native import NativeBackend
from slmkit.errors import RuntimeFailure

openai = pytest.importorskip("openai")
scores = pytest.mark.skipif(
    not NativeBackend.capabilities.prompt_logprobs, reason="the engine cannot score prompts yet"
)

PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def client(base_url):
    with openai.OpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(client, prompt=PROMPT, **options):
    return client.completions.create(**{"model": "tiny", "prompt": prompt, "max_tokens": 8, "seed": 1, **options})


def test_a_text_is_continued(client):
    answer = ask(client)
    assert answer.object == "text_completion"
    assert answer.choices[0].text
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].logprobs is None
    assert answer.usage.completion_tokens == 8
    assert answer.timing["total_s"] > 0


def test_sixteen_tokens_unless_said_otherwise(client):
    assert ask(client, max_tokens=None).usage.completion_tokens == 16


def test_a_stream_is_the_whole_answer_in_pieces(client):
    whole = ask(client, n=2)
    texts = ["", ""]
    for chunk in ask(client, n=2, stream=True, stream_options={"include_usage": True}):
        if chunk.choices:
            texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in whole.choices]
    assert chunk.usage.completion_tokens == 16


def test_ids_are_continued_as_they_are(client, base_url):
    from slmkit import load

    with load("tiny", ctx=1024) as model:
        ids = list(model.tokenize(PROMPT))
        assert model.detokenize(ids) == PROMPT
    assert ask(client, ids).choices[0].text == ask(client).choices[0].text
    assert ask(client, [ids]).choices[0].text == ask(client).choices[0].text


def test_several_prompts_are_answered_in_order(client):
    prompts = [PROMPT, "The dog", "A red ball"]
    alone = [ask(client, prompt, temperature=0).choices[0].text for prompt in prompts]
    answer = ask(client, prompts, temperature=0)
    assert [choice.text for choice in answer.choices] == alone
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    twice = ask(client, prompts, n=2)
    assert [choice.index for choice in twice.choices] == list(range(6))
    streamed = [""] * 3
    for chunk in ask(client, prompts, temperature=0, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == alone


def test_an_echo_begins_with_the_prompt(client):
    plain = ask(client).choices[0].text
    assert ask(client, echo=True).choices[0].text == PROMPT + plain
    assert "".join(chunk.choices[0].text for chunk in ask(client, echo=True, stream=True)) == PROMPT + plain


def test_log_probabilities_and_where_their_text_stands(client):
    choice = ask(client, logprobs=2, temperature=0).choices[0]
    told = choice.logprobs
    assert "".join(told.tokens) == choice.text
    assert len(told.token_logprobs) == len(told.top_logprobs) == len(told.text_offset) == 8
    assert told.text_offset[0] == len(PROMPT)
    assert all(max(top, key=top.get) == token for top, token in zip(told.top_logprobs, told.tokens, strict=True))
    whole = PROMPT + choice.text
    assert all(whole[at:].startswith(token) for at, token in zip(told.text_offset, told.tokens, strict=True))


def test_a_stream_tells_the_same_offsets(client):
    whole = ask(client, logprobs=1).choices[0].logprobs
    offsets = []
    for chunk in ask(client, logprobs=1, stream=True):
        offsets += chunk.choices[0].logprobs.text_offset
    assert offsets == whole.text_offset


def test_a_scripted_prompt_is_scored(scripted):
    backend = ScriptedBackend([" X"], reason="length")
    answer = ask(scripted(backend), "abc", model="scripted", echo=True, logprobs=1, max_tokens=0)
    choice = answer.choices[0]
    assert choice.text == "abc"
    assert choice.logprobs.tokens == ["a", "b", "c"]
    assert choice.logprobs.token_logprobs == [None, -1.0, -2.0]
    assert choice.logprobs.text_offset == [0, 1, 2]
    assert choice.finish_reason == "length"
    assert answer.usage.completion_tokens == 0
    assert backend.asked[0].prompt_logprobs == 1
    answer = ask(scripted(backend), [97, 98], model="scripted", echo=True, logprobs=1, max_tokens=1)
    assert answer.choices[0].text == "ab X"
    assert answer.choices[0].logprobs.tokens == ["a", "b", " X"]


@scores
def test_a_prompt_is_scored_as_if_it_were_generated(client):
    made = ask(client, logprobs=3, temperature=0).choices[0]
    scored = ask(client, PROMPT + made.text, echo=True, logprobs=3, max_tokens=0).choices[0]
    assert scored.text == PROMPT + made.text
    assert scored.logprobs.token_logprobs[0] is None
    assert scored.logprobs.tokens[-8:] == made.logprobs.tokens
    assert scored.logprobs.token_logprobs[-8:] == made.logprobs.token_logprobs  # batch invariance: to the bit


def test_the_best_of_several(client):
    many = ask(client, n=4, logprobs=0)
    means = [sum(c.logprobs.token_logprobs) / len(c.logprobs.token_logprobs) for c in many.choices]
    best = ask(client, best_of=4, n=2)
    order = sorted(range(4), key=lambda i: -means[i])[:2]
    assert [choice.text for choice in best.choices] == [many.choices[i].text for i in order]
    assert best.usage.completion_tokens == 32


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"suffix": "x"}, "suffix"), ({"prompt": []}, "prompt"), ({"prompt": [1.5]}, "prompt.0"),
        ({"prompt": ["a"] * 2049}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"), ({"logprobs": 21}, "logprobs"),
        ({"best_of": 1, "n": 2}, "best_of"), ({"best_of": 2, "stream": True}, "best_of"), ({"n": 129}, "n"),
        ({"extra_body": {"min_tokens": 3}}, "min_tokens"),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_refused_by_name(client, extra, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **extra)
    assert caught.value.param == param


@pytest.mark.parametrize("ids", [[4096], [-1]])
def test_ids_that_the_model_lacks_are_refused(client, ids):
    for options in ({}, {"echo": True}):
        with pytest.raises(openai.BadRequestError, match="0 to 4095"):
            ask(client, ids, **options)


def test_one_of_several_prompts_that_fails_fails_them_all(scripted):
    backend = ScriptedBackend(["Hel", RuntimeFailure("the sky fell")])
    with pytest.raises(openai.InternalServerError, match="the sky fell"):
        ask(scripted(backend), ["a", "b", "c"], model="scripted")


def test_more_prompts_than_are_answered_at_once(client):
    answer = ask(client, [f"The number {n}" for n in range(40)], max_tokens=2, temperature=0)
    assert len(answer.choices) == 40
    assert answer.choices[33].text == ask(client, "The number 33", max_tokens=2, temperature=0).choices[0].text
