"""LangChain's package for OpenAI's API."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
from pydantic import BaseModel, Field

pytestmark = pytest.mark.slow

ASK = "Tell me a story about a cat."


class Person(BaseModel):
    """Who it is about."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=99)


class Weather(BaseModel):
    """The weather of a city."""

    city: str = Field(max_length=10)


@pytest.fixture(scope="module")
def langchain():
    return pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")


@pytest.fixture(scope="module")
def at_server(base_url):
    with httpx.Client(timeout=60) as http:
        yield {"base_url": f"{base_url}/v1", "api_key": "none", "model": "tiny", "http_client": http, "max_retries": 0}


@pytest.fixture
def chat(langchain, at_server):
    return langchain.ChatOpenAI(**at_server, temperature=0, max_tokens=100)


def test_an_answer_is_the_one_of_python(chat, tiny):
    ours = tiny.chat(ASK, temperature=0, max_tokens=12)
    theirs = chat.invoke(ASK, max_tokens=12)
    assert theirs.content == ours.text != ""
    assert theirs.response_metadata["finish_reason"] == "length"
    assert theirs.usage_metadata["output_tokens"] == 12


def test_a_stream_adds_up_to_the_answer_and_tells_its_tokens(chat):
    whole = chat.invoke(ASK)
    chunks = list(chat.stream(ASK, stream_usage=True))
    assert "".join(chunk.content for chunk in chunks) == whole.content
    assert sum(bool(chunk.content) for chunk in chunks) > 10
    counts = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert [count["output_tokens"] for count in counts] == [whole.usage_metadata["output_tokens"]]


def test_a_conversation_is_read_whole(chat, tiny):
    said = [("system", "You are a pirate."), ("human", "Hi"), ("ai", "Ahoy!"), ("human", "Who are you?")]
    roles = {"system": "system", "human": "user", "ai": "assistant"}
    ours = tiny.chat([{"role": roles[role], "content": text} for role, text in said], temperature=0, max_tokens=12)
    assert chat.invoke(said, max_tokens=12).content == ours.text


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_a_class_is_filled_in(chat, method):
    found = chat.with_structured_output(Person, method=method, strict=True).invoke("A girl called Ann is five.")
    assert isinstance(found, Person)  # pydantic has checked its bounds


@pytest.mark.parametrize("choice", ["Weather", "any"])
def test_a_forced_tool_is_called(chat, choice):
    answer = chat.bind_tools([Weather], tool_choice=choice).invoke("How is the weather in Ulm?")
    assert answer.invalid_tool_calls == []
    assert {call["name"] for call in answer.tool_calls} == {"Weather"}
    assert all(Weather(**call["args"]) for call in answer.tool_calls)


def test_a_streamed_call_is_the_whole_one(chat):
    bound = chat.bind_tools([Weather], tool_choice="Weather")
    first, *rest = bound.stream("How is the weather in Ulm?")
    for chunk in rest:
        first += chunk
    whole = bound.invoke("How is the weather in Ulm?")
    assert [(call["name"], call["args"]) for call in first.tool_calls] == [
        (call["name"], call["args"]) for call in whole.tool_calls
    ]


def test_a_tool_s_result_is_read(chat):
    asked = chat.bind_tools([Weather], tool_choice="Weather").invoke("How is the weather in Ulm?")

    def n_read(result):
        results = [{"role": "tool", "tool_call_id": call["id"], "content": result} for call in asked.tool_calls[:1]]
        answer = chat.invoke([("human", "How is the weather in Ulm?"), asked, *results], max_tokens=1)
        return answer.usage_metadata["input_tokens"]

    assert n_read("rain " * 20) - n_read("rain") >= 19


def test_responses(langchain, at_server, chat):
    answer = langchain.ChatOpenAI(**at_server, temperature=0, max_tokens=12, use_responses_api=True).invoke(ASK)
    assert answer.text == chat.invoke(ASK, max_tokens=12).content


def test_texts_become_the_vectors_of_python(langchain, at_server, tiny):
    embeddings = langchain.OpenAIEmbeddings(**at_server, check_embedding_ctx_length=False)
    theirs = embeddings.embed_documents(["a cat", "a small dog"])
    # Vectors come as numbers or as base64 of float32; both keep every bit.
    np.testing.assert_array_equal(np.array(theirs, np.float32), tiny.embed(["a cat", "a small dog"]))
    assert embeddings.embed_query("a cat") == theirs[0]


@pytest.mark.parametrize("first", [0, 50_000])
def test_ids_of_another_tokenizer_are_refused_with_what_to_do(langchain, at_server, monkeypatch, first):
    """LangChain sends ids of cl100k_base unless told otherwise; its table is fetched, so this one stands for it."""
    tiktoken = pytest.importorskip("tiktoken")
    openai = pytest.importorskip("openai")
    ranks = {bytes([byte]): first + byte for byte in range(256)}
    foreign = tiktoken.Encoding("foreign", pat_str=r"[\s\S]", mergeable_ranks=ranks, special_tokens={})
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: foreign)
    with pytest.raises(openai.BadRequestError, match="send the text itself") as caught:
        langchain.OpenAIEmbeddings(**at_server).embed_documents(["a cat"])
    assert caught.value.param == "input"
