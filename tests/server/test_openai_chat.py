"""POST /v1/chat/completions, asked by OpenAI's own client."""

from __future__ import annotations

import base64
import io
import json
import math

import pytest
from PIL import Image
from scripted import ScriptedBackend

from slmkit.backends.native import NativeBackend
from slmkit.errors import RuntimeFailure
from slmkit.server.settings import ServeOptions

openai = pytest.importorskip("openai")
constrained = pytest.mark.skipif(not NativeBackend.capabilities.constraint, reason="the engine has no constraints yet")

ASK = [{"role": "user", "content": "Tell me a story about a cat."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Ulm", "Bonn"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["city", "days"],
        },
    },
}
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Ulm", "days": 2}}</tool_call>'


@pytest.fixture(scope="module")
def client(base_url):
    with openai.OpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(client, **options):
    return client.chat.completions.create(**{"model": "tiny", "messages": ASK, "max_tokens": 12, "seed": 1, **options})


def refused(client, **options):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **options)
    return caught.value


def test_a_whole_answer(client):
    answer = ask(client)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "tiny"
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason == "length"
    assert choice.logprobs is None
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0
    assert 0 < answer.timing["first_token_s"] <= answer.timing["total_s"]


def test_a_stream_is_the_whole_answer_in_pieces(client):
    whole = ask(client)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].delta.role for c in chunks[1:-1]] == [None] * (len(chunks) - 2)
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 2) + ["length"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 12
    assert chunks[-1].timing["total_s"] > 0
    assert len({c.id for c in chunks}) == 1


def test_a_stream_without_usage_has_none(client):
    assert all(chunk.usage is None for chunk in ask(client, stream=True))


def test_what_goes_over_the_wire(http):
    body = {"model": "tiny", "messages": ASK, "max_tokens": 2, "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        text = "".join(reply.iter_text())
    events = text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(json.loads(e.removeprefix("data: "))["object"] == "chat.completion.chunk" for e in events[:-2])


def test_several_answers_whole_and_streamed(client):
    whole = ask(client, n=3)
    texts = [choice.message.content for choice in whole.choices]
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert whole.usage.completion_tokens == 36
    streamed = ["", "", ""]
    for chunk in ask(client, n=3, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == texts


def test_the_same_seed_gives_the_same_answer_and_another_one_another(client):
    texts = [ask(client, seed=seed).choices[0].message.content for seed in (3, 3, 4, -1)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[3]


def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(client):
    free = ask(client, temperature=0).choices[0].message.content
    cut = ask(client, temperature=0, stop=[free[5:9]]).choices[0]
    assert cut.finish_reason == "stop"
    assert cut.message.content == free[: free.index(free[5:9])]


def test_log_probabilities_spell_the_answer(client):
    for stop in (None, " "):
        choice = ask(client, logprobs=True, top_logprobs=3, temperature=0, stop=stop).choices[0]
        entries = choice.logprobs.content
        assert "".join(entry.token for entry in entries) == choice.message.content
        assert b"".join(bytes(entry.bytes) for entry in entries).decode() == choice.message.content
        assert all(len(entry.top_logprobs) == 3 for entry in entries)
        assert all(math.isclose(entry.logprob, entry.top_logprobs[0].logprob) for entry in entries)


def test_log_probabilities_of_a_stream_are_those_of_the_whole(client):
    whole = ask(client, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    streamed = []
    for chunk in ask(client, logprobs=True, top_logprobs=2, stream=True):
        if chunk.choices[0].logprobs:
            streamed += chunk.choices[0].logprobs.content
    assert [e.token for e in streamed] == [e.token for e in whole]
    # the same bits; JSON keeps them
    assert [e.logprob for e in streamed] == [e.logprob for e in whole]


def test_a_biased_token_is_banned_or_forced(client):
    id = 300
    forced = ask(client, logit_bias={str(id): 100}, logprobs=True, max_tokens=3)
    assert len({entry.token for entry in forced.choices[0].logprobs.content}) == 1


def test_every_option_reaches_the_engine(scripted):
    backend = ScriptedBackend()
    ask(
        scripted(backend), model="scripted", max_tokens=None, max_completion_tokens=5, temperature=0.5,
        top_p=0.25, n=2, stop="x", seed=9, presence_penalty=0.5, frequency_penalty=-0.5, logit_bias={"3": -100},
        logprobs=True, top_logprobs=4, user="me", metadata={"a": "b"}, store=False,
        extra_body={"top_k": 7, "min_p": 0.125, "repetition_penalty": 1.5, "adapter": "poet", "keep_alive": "1h"},
    )  # fmt: skip
    assert backend.asked[0].options.set_values() == {
        "max_tokens": 5, "temperature": 0.5, "top_p": 0.25, "n": 2, "stop": ("x",), "seed": 9, "presence_penalty": 0.5,
        "frequency_penalty": -0.5, "logit_bias": {3: -100.0}, "logprobs": 4, "top_k": 7, "min_p": 0.125,
        "repetition_penalty": 1.5, "adapter": "poet",
    }  # fmt: skip


def test_what_is_left_out_is_the_checkpoints_own(scripted):
    backend = ScriptedBackend()
    ask(scripted(backend), model="scripted", max_tokens=None, seed=None)
    assert backend.asked[0].options.set_values() == {"stop": ()}


@pytest.mark.parametrize(
    ("extra", "kind", "value"),
    [
        ({"response_format": {"type": "json_object"}}, "json", None),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "null"}}}},
         "schema", {"type": "null"}),
        ({"extra_body": {"guided_regex": "a+"}}, "regex", "a+"),
        ({"extra_body": {"guided_grammar": 'start: "a"'}}, "lark", 'start: "a"'),
    ],
)  # fmt: skip
def test_what_an_answer_must_match_reaches_the_engine(scripted, extra, kind, value):
    backend = ScriptedBackend()
    ask(scripted(backend), model="scripted", **extra)
    constraint = backend.asked[0].constraint
    assert (constraint.kind, constraint.value) == (kind, value)


def test_roles_and_parts(scripted):
    backend = ScriptedBackend()
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    ask(
        scripted(backend),
        model="scripted",
        messages=[{"role": "developer", "content": "s"}, {"role": "user", "content": parts}],
    )
    assert [(m.role, m.content) for m in backend.asked[0].messages] == [("system", "s"), ("user", "ab")]


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"temperature": 2.1}, "temperature"), ({"temperature": -1}, "temperature"), ({"top_p": 1.5}, "top_p"),
        ({"n": 0}, "n"), ({"max_tokens": 0}, "max_tokens"), ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"), ({"presence_penalty": 3}, "presence_penalty"),
        ({"logit_bias": {"3": 101}}, "logit_bias.3"), ({"stop": [""]}, "stop.0"), ({"store": True}, "store"),
        ({"max_completion_tokens": 3}, "max_tokens"), ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"modalities": ["audio"]}, "modalities.0"), ({"service_tier": "flex"}, "service_tier"),
        ({"reasoning_effort": "low"}, "reasoning_effort"), ({"functions": [{"name": "f"}]}, "functions"),
        ({"web_search_options": {}}, "web_search_options"), ({"extra_body": {"cache_prompt": True}}, "cache_prompt"),
        ({"extra_body": {"temprature": 1}}, "temprature"), ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x", "name": "Ann"}]}, "messages.0.name"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages.0.content.0.type"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools.0.type"),
        ({"extra_body": {"guided_regex": "a", "guided_grammar": "b"}}, "guided_grammar"),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_refused_by_name(client, extra, param):
    error = refused(client, **extra)
    assert error.param == param
    assert error.type == "invalid_request_error"
    assert param.split(".")[0] in error.message


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        ask(client, model="gpt-9")
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


def test_an_image_needs_a_model_that_sees(client):
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "PNG")
    url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    error = refused(client, messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])
    assert "reads text alone" in error.message


def test_images_reach_the_engine_and_nothing_is_fetched_unless_that_is_allowed(scripted):
    backend = ScriptedBackend()
    client = scripted(backend)

    def ask_about(url):
        parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
        return ask(client, model="scripted", messages=[{"role": "user", "content": parts}])

    ask_about("data:image/png;base64,AAAA")
    assert backend.asked[0].messages[0].images == ("data:image/png;base64,AAAA",)
    for url, words in (("http://127.0.0.1/a.png", "--image-urls"), ("/etc/passwd", "data URL"), ("file:///x", "URL")):
        with pytest.raises(openai.BadRequestError, match=words):
            ask_about(url)


def test_an_image_of_this_network_is_not_fetched_either(scripted):
    client = scripted(ScriptedBackend(), ServeOptions(image_urls=True))
    parts = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/a.png"}}]
    with pytest.raises(openai.BadRequestError, match=r"private|network|address"):
        ask(client, model="scripted", messages=[{"role": "user", "content": parts}])


def test_an_error_on_the_way_ends_the_stream_with_its_words(scripted):
    client = scripted(ScriptedBackend(["Hel", RuntimeFailure("the sky fell")]))
    said = []

    def read() -> None:
        for chunk in ask(client, model="scripted", stream=True):
            said.append(chunk.choices[0].delta.content or "")

    with pytest.raises(openai.APIError, match="the sky fell"):
        read()
    assert "".join(said) == "Hel"


def test_an_error_of_a_whole_answer_has_its_status(scripted):
    client = scripted(ScriptedBackend(["Hel", RuntimeFailure("the sky fell")]))
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, model="scripted")
    assert caught.value.type == "server_error"


def test_calls_of_functions(scripted):
    backend = ScriptedBackend(["Let me see.", CALL[:12], CALL[12:40], CALL[40:], "\n" + CALL])
    client = scripted(backend)
    choice = ask(client, model="scripted", tools=[WEATHER]).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me see."
    assert [call.function.name for call in choice.message.tool_calls] == ["weather", "weather"]
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "Ulm", "days": 2}
    assert backend.asked[0].constraint.kind == "lark"

    names, arguments, reasons = {}, {}, []
    for chunk in ask(client, model="scripted", tools=[WEATHER], stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            names[call.index] = call.function.name or names[call.index]
            arguments[call.index] = arguments.get(call.index, "") + call.function.arguments
        reasons.append(chunk.choices[0].finish_reason)
    assert names == {0: "weather", 1: "weather"}
    assert [json.loads(text) for text in arguments.values()] == [{"city": "Ulm", "days": 2}] * 2
    assert reasons[-1] == "tool_calls"


def test_functions_are_told_to_models_without_system_messages_too(scripted):
    backend = ScriptedBackend([CALL], has_system=False)
    ask(scripted(backend), model="scripted", tools=[WEATHER])
    assert [m.role for m in backend.asked[0].messages] == ["user"]
    assert backend.asked[0].messages[0].content.startswith("You can call")
    assert backend.asked[0].messages[0].content.endswith(ASK[0]["content"])


def test_a_call_and_its_result_go_back(scripted):
    backend = ScriptedBackend([CALL])
    client = scripted(backend)
    message = ask(client, model="scripted", tools=[WEATHER]).choices[0].message
    assert message.content is None
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "rain"}
    ask(client, model="scripted", tools=[WEATHER], messages=[*ASK, message, result])
    assert [m.role for m in backend.asked[1].messages] == ["system", "user", "assistant", "user"]
    assert backend.asked[1].messages[2].content == CALL
    assert "rain" in backend.asked[1].messages[3].content
    with pytest.raises(openai.BadRequestError, match="nosuch"):
        ask(client, model="scripted", messages=[*ASK, message, {**result, "tool_call_id": "nosuch"}])


def test_tools_that_may_not_be_called_leave_text_alone(scripted):
    backend = ScriptedBackend([CALL])
    choice = ask(scripted(backend), model="scripted", tools=[WEATHER], tool_choice="none").choices[0]
    assert choice.message.content == CALL
    assert backend.asked[0].constraint is None


@constrained
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_forced_call_is_valid_whatever_the_model_knows(client, choice):
    for seed in range(5):
        made = ask(
            client, tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False, temperature=2, max_tokens=200,
            seed=seed,
        ).choices[0]  # fmt: skip
        assert made.finish_reason == "tool_calls"
        assert len(made.message.tool_calls) == 1
        arguments = json.loads(made.message.tool_calls[0].function.arguments)
        assert arguments["city"] in ("Ulm", "Bonn")
        assert 1 <= arguments["days"] <= 9


@constrained
def test_an_answer_matches_its_schema_or_pattern(client):
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
              "additionalProperties": False}  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    text = ask(client, response_format=form, temperature=2, max_tokens=100).choices[0].message.content
    assert isinstance(json.loads(text)["ok"], bool)
    text = ask(client, extra_body={"guided_regex": "[ab]{3}"}, max_tokens=20).choices[0].message.content
    assert len(text) == 3
    assert set(text) <= {"a", "b"}


@constrained
def test_an_answer_beside_tools_is_text_or_a_call(client):
    choice = ask(client, tools=[WEATHER], max_tokens=40).choices[0]
    assert choice.message.content or choice.message.tool_calls
