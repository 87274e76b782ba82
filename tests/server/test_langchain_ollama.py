"""LangChain's package for Ollama's API."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest
from jsonschema import validate
from pydantic import BaseModel, Field

pytestmark = pytest.mark.slow

ASK = "Tell me a story about a cat."


class Person(BaseModel):
    """Who it is about."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=99)


@pytest.fixture(scope="module")
def langchain():
    return pytest.importorskip("langchain_ollama", reason="langchain-ollama is not installed")


@pytest.fixture(scope="module")
def at_server(base_url):
    # LangChain never closes the client that it makes, but takes a transport that we can close.
    with httpx.HTTPTransport() as transport:
        yield {"base_url": base_url, "model": "tiny", "sync_client_kwargs": {"transport": transport}}


@pytest.fixture
def chat(langchain, at_server):
    return langchain.ChatOllama(**at_server, temperature=0, num_predict=12, validate_model_on_init=True)


def test_an_answer_is_the_one_of_python(chat, tiny):
    ours = tiny.chat(ASK, temperature=0, max_tokens=12)
    theirs = chat.invoke(ASK)
    assert theirs.content == ours.text != ""
    assert theirs.response_metadata["done_reason"] == "length"
    assert theirs.usage_metadata["output_tokens"] == 12


def test_a_stream_adds_up_to_the_answer_and_tells_its_tokens(chat):
    whole = chat.invoke(ASK)
    chunks = list(chat.stream(ASK))
    assert "".join(chunk.content for chunk in chunks) == whole.content
    assert sum(bool(chunk.content) for chunk in chunks) > 5
    counts = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert [count["output_tokens"] for count in counts] == [12]


def test_a_conversation_is_read_whole(chat, tiny):
    said = [("system", "You are a pirate."), ("human", "Hi"), ("ai", "Ahoy!"), ("human", "Who are you?")]
    roles = {"system": "system", "human": "user", "ai": "assistant"}
    ours = tiny.chat([{"role": roles[role], "content": text} for role, text in said], temperature=0, max_tokens=12)
    assert chat.invoke(said).content == ours.text


def test_an_answer_matches_a_schema(langchain, at_server):
    schema = {**Person.model_json_schema(), "additionalProperties": False}
    chat = langchain.ChatOllama(**at_server, temperature=0, num_predict=100, format=schema)
    validate(json.loads(chat.invoke("A girl called Ann is five.").content), schema)


def test_a_class_is_filled_in(langchain, at_server):
    chat = langchain.ChatOllama(**at_server, temperature=0, num_predict=100)
    found = chat.with_structured_output(Person).invoke("A girl called Ann is five.")
    assert isinstance(found, Person)  # pydantic has checked its bounds


def test_a_prompt_is_answered_whole_and_streamed(langchain, at_server, tiny):
    llm = langchain.OllamaLLM(**at_server, temperature=0, num_predict=12)
    assert llm.invoke(ASK) == "".join(llm.stream(ASK)) == tiny.chat(ASK, temperature=0, max_tokens=12).text


def test_texts_become_the_vectors_of_python(langchain, at_server, tiny):
    embeddings = langchain.OllamaEmbeddings(**at_server)
    theirs = np.array(embeddings.embed_documents(["a cat", "a small dog"]))
    ours = tiny.embed(["a cat", "a small dog"])
    # /api/embed makes them of length 1, in float32: one rounding of each number, and one of the length
    np.testing.assert_allclose(theirs, ours / np.linalg.norm(ours, axis=1, keepdims=True), rtol=1e-6)
    assert embeddings.embed_query("a cat") == list(theirs[0])


def test_a_model_that_is_not_here_is_told_by_name(langchain, at_server):
    ollama = pytest.importorskip("ollama")
    with pytest.raises(ollama.ResponseError, match="nosuch") as caught:
        langchain.ChatOllama(**{**at_server, "model": "nosuch"}).invoke(ASK)
    assert caught.value.status_code == 404
