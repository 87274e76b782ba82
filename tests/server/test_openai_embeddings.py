"""POST /v1/embeddings, asked by OpenAI's own client."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from scripted import ScriptedBackend

from slmkit.backends.native import NativeBackend

openai = pytest.importorskip("openai")
embeds = pytest.mark.skipif(not hasattr(NativeBackend, "embed"), reason="the engine has no embeddings yet")


@pytest.fixture
def client(scripted):
    return scripted(ScriptedBackend())


def ask(client, given, **options):
    return client.embeddings.create(**{"model": "scripted", "input": given, **options})


@pytest.mark.parametrize("encoding", ["float", "base64", openai.NOT_GIVEN])
def test_texts_become_vectors_in_their_order(client, encoding):
    answer = ask(client, ["abc", "a"], encoding_format=encoding)
    found = [item.embedding for item in answer.data]
    if encoding == "base64":
        found = [np.frombuffer(base64.b64decode(text), "<f4").tolist() for text in found]
    assert found == [[3, 0.5], [1, 0.5]]
    assert [item.index for item in answer.data] == [0, 1]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 4


def test_one_text_or_ids(client):
    for given in ("abc", [97, 98, 99], [[97, 98, 99]]):
        assert ask(client, given).data[0].embedding == [3, 0.5]
    assert len(ask(client, [[97], [98]]).data) == 2


@pytest.mark.parametrize("given", ["", [], [""], ["a", ""], [[]], ["a"] * 2049])
def test_nothing_to_embed_is_refused(client, given):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, given)
    assert caught.value.param == "input"


def test_dimensions_are_refused_by_name(client):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "a", dimensions=8)
    assert caught.value.param == "dimensions"


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError):
        ask(client, "a", model="nosuch")


@embeds
def test_the_bundled_model_embeds(base_url):
    with openai.OpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0) as client:
        found = ask(client, ["a cat", "a cat", "two"], model="tiny").data
    near, same, far = (np.array(item.embedding) for item in found)
    assert near.shape == (192,)
    assert (near == same).all()
    assert (near != far).any()


@embeds
@pytest.mark.parametrize("ids", [[99999], [-1], [97, 97]])
def test_ids_of_another_tokenizer_are_refused_with_what_to_do(base_url, ids):
    with openai.OpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError, match=r"input\.1 .*; send the text itself") as caught:
            ask(client, [[371], ids], model="tiny")  # 371 is "a"
        assert caught.value.param == "input"
