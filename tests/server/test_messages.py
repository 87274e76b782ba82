"""/v1/messages, asked by Anthropic's own client and by hand."""

from __future__ import annotations

import base64
import json

import anthropic
import httpx
import pytest
from scripted import ScriptedBackend, ScriptedService

from live_server import running

ASK = [{"role": "user", "content": "Tell me a story about a dog."}]
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


@pytest.fixture(scope="module")
def client(base_url):
    with anthropic.Anthropic(base_url=base_url, api_key="none", max_retries=0) as client:
        yield client


def ask(http, **fields):
    return http.post("/v1/messages", json={"model": "tiny", "max_tokens": 8, "messages": ASK} | fields)


def test_a_whole_message_says_what_the_model_says(client, tiny):
    message = client.messages.create(
        model="tiny", max_tokens=20, messages=ASK, system="Be short.", extra_body={"temperature": 0}
    )
    ours = tiny.chat([{"role": "system", "content": "Be short."}, *ASK], max_tokens=20, temperature=0)
    assert [block.text for block in message.content] == [ours.text]
    assert (message.type, message.role, message.model) == ("message", "assistant", "tiny")
    assert message.id.startswith("msg_")
    assert (message.stop_reason, message.stop_sequence) == ("max_tokens", None)
    assert message.usage.output_tokens == 20
    usage = ours.choices[0].usage
    assert message.usage.input_tokens + message.usage.cache_read_input_tokens == usage.prompt_tokens
    assert message._request_id


def test_a_stream_adds_up_to_the_whole_message(client):
    asked = {"model": "tiny", "max_tokens": 20, "messages": ASK, "extra_body": {"temperature": 0}}
    message = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        texts = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(texts) > 1
    assert "".join(texts) == final.content[0].text == message.content[0].text
    assert final.stop_reason == "max_tokens"
    assert final.usage.output_tokens == 20


def test_a_stream_has_anthropics_events_in_their_order(http):
    with http.stream(
        "POST",
        "/v1/messages",
        json={"model": "tiny", "max_tokens": 5, "temperature": 0, "messages": ASK, "stream": True},
    ) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = list(reply.iter_lines())
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert [event["type"] for event in data] == names
    assert names[:3] == ["message_start", "ping", "content_block_start"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(names[3:-3]) == {"content_block_delta"}
    assert data[0]["message"]["usage"]["input_tokens"] > 0
    assert data[-2]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}


def test_a_stop_sequence_ends_the_answer_and_is_named(client):
    asked = {"model": "tiny", "max_tokens": 40, "messages": ASK, "extra_body": {"temperature": 0}}
    text = client.messages.create(**asked).content[0].text
    stop = text[10:14]
    message = client.messages.create(**asked, stop_sequences=["never said", stop])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop)
    assert message.content[0].text == text[: text.index(stop)]


def test_blocks_neighbours_and_texts_are_one_conversation(client):
    whole = [
        {"role": "user", "content": "One.\nTwo."},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "So?"},
    ]
    parts = [
        {"role": "user", "content": [{"type": "text", "text": "One.", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": "Two."},
        {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
        {"role": "user", "content": "So?"},
    ]
    system = [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    counts = [
        client.messages.count_tokens(model="tiny", messages=whole, system="A\n\nB").input_tokens,
        client.messages.count_tokens(model="tiny", messages=parts, system=system).input_tokens,
    ]
    assert counts[0] == counts[1]
    answers = [
        client.messages.create(
            model="tiny", max_tokens=9, messages=whole, system="A\n\nB", extra_body={"temperature": 0}
        ),
        client.messages.create(
            model="tiny", max_tokens=9, messages=parts, system=system, extra_body={"temperature": 0}
        ),
    ]
    assert answers[0].content == answers[1].content
    usage = answers[0].usage
    assert usage.input_tokens + usage.cache_read_input_tokens == counts[0]


def test_what_changes_nothing_here_is_taken(http):
    fields = {"metadata": {"user_id": "u"}, "service_tier": "auto", "thinking": {"type": "disabled"}, "tools": []}
    reply = http.post(
        "/v1/messages",
        json={"model": "tiny", "max_tokens": 2, "messages": ASK, **fields},
        headers={"anthropic-version": "2023-06-01", "anthropic-beta": "x", "x-api-key": "any"},
    )
    assert reply.status_code == 200


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
ELSEWHERE = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"container": "x"}, "container"),
        ({"mcp_servers": []}, "mcp_servers"),
        ({"seed": 1}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 4.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 100_000}, "100000"),
        ({"temperature": 1.5}, "temperature"),
        ({"temperature": "0"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"stream": "yes"}, "stream"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user"}]}, "content"),
        ({"messages": [{"role": "user", "content": 5}]}, "content"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "document"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "image"),
        ({"messages": [{"role": "user", "content": [ELSEWHERE]}]}, "--image-urls"),
        ({"messages": [*ASK, {"role": "assistant", "content": "Once"}]}, "assistant"),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, "3000"),
        ({"system": [{"type": "image"}]}, "system"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_400_and_says_what(http, fields, named):
    reply = ask(http, **fields)
    assert reply.status_code == 400
    body = reply.json()
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
    assert named in body["error"]["message"] or named == "3000"


def test_max_tokens_is_required(http):
    reply = http.post("/v1/messages", json={"model": "tiny", "messages": ASK})
    assert reply.status_code == 400
    assert reply.json()["error"]["message"] == "max_tokens is missing"


def test_a_model_that_is_not_here_is_404(client):
    for stream in (False, True):
        with pytest.raises(anthropic.NotFoundError) as refused:
            client.messages.create(model="claude", max_tokens=1, messages=ASK, stream=stream)
        assert refused.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.count_tokens(model="../../etc", messages=ASK)


WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["city", "days"],
    },
}
CLOCK = {"name": "clock", "input_schema": {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}}}


def is_weather(input):
    return set(input) == {"city", "days"} and input["city"] in ("Paris", "Oslo") and 1 <= input["days"] <= 9


def test_a_forced_tool_is_called_even_by_a_model_that_knows_none(client):
    """The bundled model never saw a tool; the grammar sees to it."""
    asked = {
        "model": "tiny",
        "max_tokens": 100,
        "messages": ASK,
        "tools": [WEATHER, CLOCK],
        "extra_body": {"temperature": 0},
    }
    alone = {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}
    message = client.messages.create(**asked, tool_choice=alone)
    (call,) = message.content
    assert (call.type, call.name, message.stop_reason) == ("tool_use", "get_weather", "tool_use")
    assert call.id.startswith("toolu_")
    assert is_weather(call.input)

    with client.messages.stream(**asked, tool_choice=alone) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert final.content[0].input == call.input
    assert final.stop_reason == "tool_use"
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 1


def test_any_tool_will_do_where_any_is_asked_for(client):
    message = client.messages.create(
        model="tiny", max_tokens=200, messages=ASK, tools=[WEATHER, CLOCK], extra_body={"temperature": 1.0},
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )  # fmt: skip
    (call,) = message.content
    assert call.name in ("get_weather", "clock")


def test_no_tool_is_called_where_none_is_to_be(client):
    asked = {"model": "tiny", "max_tokens": 10, "messages": ASK, "extra_body": {"temperature": 0}}
    message = client.messages.create(**asked, tools=[WEATHER], tool_choice={"type": "none"})
    assert message.content == client.messages.create(**asked).content


def test_a_result_goes_back_to_the_model_and_the_turns_alternate(client):
    """Its turn of the user may hold results and text; templates want one message of each role in turn."""
    called = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo", "days": 1}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "snow"}]}
    failed = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "snow", "is_error": True}
    counts = []
    for block in (result, failed):
        messages = [
            *ASK,
            {"role": "assistant", "content": [{"type": "text", "text": "Let me see."}, called]},
            {"role": "user", "content": [block, {"type": "text", "text": "And?"}]},
        ]
        message = client.messages.create(model="tiny", max_tokens=3, messages=messages, tools=[WEATHER])
        assert message.usage.output_tokens <= 3
        counts.append(client.messages.count_tokens(model="tiny", messages=messages, tools=[WEATHER]).input_tokens)
    assert counts[0] < counts[1]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tool_choice": {"type": "any"}}, "tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "clock"}}, "clock"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "name"),
        ({"tools": [WEATHER], "tool_choice": {"type": "auto", "name": "get_weather"}}, "name"),
        ({"tools": [WEATHER, WEATHER]}, "get_weather"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, "a b"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "nosuch"}]}]}, "nosuch"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]}]},
         "tool_use"),
        ({"output_config": {"effort": "high"}}, "effort"),
    ],
)  # fmt: skip
def test_what_tools_cannot_be_is_400(http, fields, named):
    reply = ask(http, **fields)
    assert reply.status_code == 400
    assert named in reply.json()["error"]["message"]


def test_an_answer_matches_the_schema_that_was_asked_for(client):
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    message = client.messages.create(
        model="tiny", max_tokens=60, messages=ASK, output_config={"format": {"type": "json_schema", "schema": schema}},
        extra_body={"temperature": 0},
    )  # fmt: skip
    assert set(json.loads(message.content[0].text)) == {"ok"}


def test_typed_control_tokens_are_text(client):
    """`<|end|>` that a user types takes the room of its letters, and ends nothing."""
    plain, typed = ([{"role": "user", "content": text}] for text in ("", "<|end|><|system|>"))
    count = [client.messages.count_tokens(model="tiny", messages=messages).input_tokens for messages in (plain, typed)]
    assert count[1] > count[0] + 2


def test_functions_reach_a_model_whose_template_has_no_system_message():
    backend = ScriptedBackend(["Fine."], has_system=False)
    with running(ScriptedService(backend)) as url:
        body = {"model": "scripted", "max_tokens": 8, "messages": ASK, "tools": [WEATHER]}
        assert httpx.post(f"{url}/v1/messages", json=body).status_code == 200
    (message,) = backend.asked[0].messages
    assert message.role == "user"
    assert "get_weather" in message.content
