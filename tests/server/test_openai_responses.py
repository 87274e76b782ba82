"""POST /v1/responses, asked by OpenAI's own client."""

from __future__ import annotations

import json

import pytest
from scripted import ScriptedBackend

from slmkit.backends.native import NativeBackend
from slmkit.errors import RuntimeFailure

openai = pytest.importorskip("openai")
constrained = pytest.mark.skipif(not NativeBackend.capabilities.constraint, reason="the engine has no constraints yet")

WEATHER = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"enum": ["Ulm", "Bonn"]}}, "required": ["city"]},
    "strict": True,
}
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Ulm"}}</tool_call>'


@pytest.fixture(scope="module")
def client(base_url):
    with openai.OpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(client, given="Tell me a story.", **options):
    return client.responses.create(
        **{"model": "tiny", "input": given, "max_output_tokens": 12, "extra_body": {"seed": 1}, **options}
    )


def test_a_whole_response(client):
    response = ask(client, instructions="Be brief.")
    assert response.object == "response"
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output_text
    assert response.output[0].role == "assistant"
    assert response.usage.output_tokens == 12
    assert response.usage.total_tokens == response.usage.input_tokens + 12
    assert response.instructions == "Be brief."
    assert response.store is False


def test_a_response_is_what_a_chat_answers(client):
    chat = client.chat.completions.create(
        model="tiny",
        max_tokens=12,
        seed=1,
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tell me a story."}],
    )
    assert ask(client, instructions="Be brief.").output_text == chat.choices[0].message.content


def test_a_stream_tells_how_the_response_comes_about(client):
    whole = ask(client)
    events = list(ask(client, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete",
    ]  # fmt: skip
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events[4:-4]) == whole.output_text == events[-4].text
    assert events[-1].response.output_text == whole.output_text
    assert events[-1].response.usage == whole.usage
    assert events[0].response.status == "in_progress"
    assert events[0].response.output == []


def test_the_clients_own_stream_helper_agrees(scripted):
    client = scripted(ScriptedBackend(["Hel", "lo"]))
    with client.responses.stream(model="scripted", input="Hi") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == text == "Hello"


def test_log_probabilities_spell_the_text(client):
    response = ask(client, include=["message.output_text.logprobs"], top_logprobs=2)
    said = response.output[0].content[0]
    assert "".join(entry.token for entry in said.logprobs) == said.text
    assert all(len(entry.top_logprobs) == 2 for entry in said.logprobs)
    assert ask(client).output[0].content[0].logprobs == []


def test_a_response_goes_back_as_input(scripted):
    backend = ScriptedBackend(["Let me see.", CALL, "\n" + CALL])
    client = scripted(backend)
    response = ask(client, model="scripted", tools=[WEATHER])
    assert [item.type for item in response.output] == ["message", "function_call", "function_call"]
    assert response.status == "completed"
    assert json.loads(response.output[1].arguments) == {"city": "Ulm"}
    results = [{"type": "function_call_output", "call_id": c.call_id, "output": "rain"} for c in response.output[1:]]
    ask(
        client,
        [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}, *response.output, *results],
        model="scripted",
        tools=[WEATHER],
    )
    messages = backend.asked[1].messages
    assert [m.role for m in messages] == ["system", "user", "assistant", "user"]
    assert messages[2].content == f"Let me see.\n{CALL}\n{CALL}"
    assert messages[3].content.count("rain") == 2


def test_calls_are_streamed(scripted):
    client = scripted(ScriptedBackend(["So: ", CALL[:50], CALL[50:]]))
    events = list(ask(client, model="scripted", tools=[WEATHER], stream=True))
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert json.loads("".join(deltas)) == {"city": "Ulm"}
    done = next(event for event in events if event.type == "response.function_call_arguments.done")
    assert json.loads(done.arguments) == {"city": "Ulm"}
    added = [event.item.type for event in events if event.type == "response.output_item.added"]
    assert added == ["message", "function_call"]
    assert [event.output_index for event in events if event.type == "response.output_item.done"] == [0, 1]
    assert events[-1].type == "response.completed"


def test_what_the_text_must_match_reaches_the_engine(scripted):
    backend = ScriptedBackend(["{}"])
    client = scripted(backend)
    form = {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True}
    response = ask(client, model="scripted", text={"format": form})
    assert backend.asked[0].constraint.kind == "schema"
    assert response.text.format.type == "json_schema"
    ask(client, model="scripted", text={"format": {"type": "json_object"}})
    assert backend.asked[1].constraint.kind == "json"


def test_an_error_on_the_way_ends_the_stream_as_an_event(scripted):
    client = scripted(ScriptedBackend(["Hel", RuntimeFailure("the sky fell")]))
    last = list(ask(client, model="scripted", stream=True))[-1]
    assert last.type == "error"
    assert "the sky fell" in last.message


def test_an_empty_answer_is_an_empty_message(scripted):
    response = ask(scripted(ScriptedBackend([])), model="scripted")
    assert response.output_text == ""
    assert response.output[0].type == "message"


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"), ({"conversation": "c"}, "conversation"),
        ({"background": True}, "background"), ({"store": True}, "store"), ({"truncation": "auto"}, "truncation"),
        ({"reasoning": {"effort": "low"}}, "reasoning"), ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"), ({"given": []}, "input"),
        ({"given": [{"type": "reasoning", "summary": []}]}, "input.0.type"),
        ({"given": [{"role": "user"}]}, "input.0.content"),
        ({"given": [{"type": "function_call", "call_id": "1", "name": "f"}]}, "input.0.arguments"),
        ({"given": [{"role": "user", "content": "x", "output": "y"}]}, "input.0.output"),
        ({"include": ["file_search_call.results"]}, "include.0"), ({"prompt": {"id": "p"}}, "prompt"),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_refused_by_name(client, extra, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **extra)
    assert caught.value.param == param


@constrained
def test_a_forced_call_is_valid_whatever_the_model_knows(client):
    response = ask(client, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, max_output_tokens=100)
    assert json.loads(response.output[0].arguments)["city"] in ("Ulm", "Bonn")
