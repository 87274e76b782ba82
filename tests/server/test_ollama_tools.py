"""Functions through Ollama's API, asked by Ollama's own client."""

from __future__ import annotations

import httpx
import ollama
import pytest
from scripted import ScriptedBackend, ScriptedService

from live_server import running

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASK = {"role": "user", "content": "The weather in Paris?"}
PARIS = '<tool_call>{"name": "get_weather", "arguments": {"city": "Pa}ris"}}</tool_call>'
OSLO = '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>'


def add(a: int, b: int) -> int:
    """Adds two numbers.

    Args:
        a: the first
        b: the second
    """
    return a + b


def served(pieces, **more):
    backend = ScriptedBackend(pieces, **more)
    return backend, running(ScriptedService(backend))


def calls_of(message):
    return [(call.function.name, call.function.arguments) for call in message.tool_calls or ()]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_text_and_calls_come_apart_whole_and_in_a_stream(size):
    text = f"Let me see.{PARIS}\n{OSLO}"
    backend, server = served([text[n : n + size] for n in range(0, len(text), size)])
    expected = [("get_weather", {"city": "Pa}ris"}), ("get_weather", {"city": "Oslo"})]
    with server as url, ollama.Client(host=url) as client:
        whole = client.chat("scripted", [ASK], tools=[WEATHER, add])
        parts = list(client.chat("scripted", [ASK], tools=[WEATHER, add], stream=True))
    assert calls_of(whole.message) == expected
    assert whole.message.content == "Let me see."
    assert [call for part in parts for call in calls_of(part.message)] == expected
    assert "".join(part.message.content for part in parts) == "Let me see."
    assert parts[-1].done
    request = backend.asked[0]
    assert request.messages[0].role == "system"
    assert "get_weather" in request.messages[0].content
    assert "Adds two numbers" in request.messages[0].content
    assert request.constraint.kind == "lark"


def test_a_call_that_was_cut_off_stays_text():
    cut = PARIS[:-16]
    _, server = served([cut], reason="length")
    with server as url, ollama.Client(host=url) as client:
        whole = client.chat("scripted", [ASK], tools=[WEATHER])
    assert calls_of(whole.message) == []
    assert whole.message.content == cut
    assert whole.done_reason == "length"


def test_without_tools_an_answer_is_text_whatever_it_looks_like():
    backend, server = served([PARIS])
    with server as url, ollama.Client(host=url) as client:
        assert client.chat("scripted", [ASK]).message.content == PARIS
    assert backend.asked[0].constraint is None


def test_results_go_back_in_order_by_name_or_by_id():
    def call(name, **more):
        return {"function": {"name": name, "arguments": {"n": 1}}, **more}

    turns = [
        ASK,
        {"role": "assistant", "content": "", "tool_calls": [call("one"), call("two"), call("three", id="x")]},
        {"role": "tool", "content": "third", "tool_call_id": "x"},
        {"role": "tool", "content": "second", "tool_name": "two"},
        {"role": "tool", "content": "first"},
    ]
    again = [
        {"role": "assistant", "content": "", "tool_calls": [call("four", id="x"), call("five", id="x")]},
        {"role": "tool", "content": "fourth", "tool_call_id": "x"},
        {"role": "tool", "content": "fifth", "tool_call_id": "x"},
    ]
    backend, server = served(["Fine."], has_system=False)
    with server as url:
        body = {"model": "scripted", "messages": turns + again, "tools": [WEATHER], "stream": False}
        assert httpx.post(f"{url}/api/chat", json=body).status_code == 200
    first, said, results, _, others = backend.asked[0].messages
    assert first.content.startswith("You can call these functions")  # the template has no place for a system message
    assert said.content.count("<tool_call>") == 3
    assert results.content.splitlines() == [
        '<tool_response>"three": third</tool_response>',
        '<tool_response>"two": second</tool_response>',
        '<tool_response>"one": first</tool_response>',
    ]
    assert others.content.splitlines() == [  # an id that comes twice is no key
        '<tool_response>"four": fourth</tool_response>',
        '<tool_response>"five": fifth</tool_response>',
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": [ASK, {"role": "tool", "content": "x"}]}, ["messages.1", "no call"]),
        ({"messages": [ASK, {"role": "tool", "content": "x", "tool_name": "f"}]}, ["messages.1", "f"]),
        ({"messages": [ASK | {"tool_name": "f"}]}, ["messages.0.tool_name", "tool"]),
        ({"messages": [ASK | {"tool_calls": [{"function": {"name": "f"}}]}]}, ["messages.0.tool_calls", "assistant"]),
        ({"tools": [WEATHER, WEATHER]}, ["get_weather"]),
        ({"tools": [{"type": "function"}]}, ["tools.0.function"]),
        ({"tools": [{"function": {"name": "f", "nonsense": 1}}]}, ["nonsense"]),
    ],
)
def test_what_tools_cannot_be_is_400(http, fields, words):
    reply = http.post("/api/chat", json={"model": "tiny", "messages": [ASK], "stream": False, **fields})
    assert reply.status_code == 400
    assert all(word in reply.json()["error"] for word in words), reply.text


def test_the_bundled_model_never_saw_a_tool_and_answers_all_the_same(http):
    body = {"model": "tiny", "messages": [ASK], "tools": [WEATHER], "stream": False, "options": {"num_predict": 8}}
    message = http.post("/api/chat", json=body).json()["message"]
    assert message["content"]
    assert "tools" in http.post("/api/show", json={"model": "tiny"}).json()["capabilities"]
