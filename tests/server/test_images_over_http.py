"""Images through every API, to a tiny vision model of random weights: the answers are those of Python."""

from __future__ import annotations

import base64
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anthropic
import httpx
import ollama
import openai
import pytest

pytest.importorskip("PIL")

import slmkit
from live_server import running
from slmkit.options import LoadOptions
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions
from vision_models import write_vision_model

IMAGES = Path(__file__).parents[1] / "data" / "images"
TABLE, LAND = IMAGES / "exceltable.png", IMAGES / "australia.jpg"
ASK = "What is in the picture?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_vision_model(tmp_path_factory.mktemp("vision") / "seeing")


@pytest.fixture(scope="module")
def expected(folder):
    """What Python answers about each image."""
    with slmkit.load(folder, quantize="none", ctx=4096) as model:
        return {image: model.chat(ASK, images=[image], max_tokens=6, temperature=0).text for image in (TABLE, LAND)}


@pytest.fixture(scope="module")
def url(folder):
    service = Service((str(folder),), ServeOptions(), LoadOptions(quantize="none", ctx=4096))
    with running(service) as url:
        yield url


def text(image):
    return base64.b64encode(image.read_bytes()).decode()


def data_url(image):
    return f"data:image/{'png' if image.suffix == '.png' else 'jpeg'};base64,{text(image)}"


def test_the_two_pictures_have_two_answers(expected):
    assert expected[TABLE] != expected[LAND]


@pytest.mark.parametrize("image", [TABLE, LAND], ids=lambda path: path.stem)
def test_openai(url, expected, image):
    parts = [{"type": "image_url", "image_url": {"url": data_url(image)}}, {"type": "text", "text": ASK}]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        asked = {"model": "seeing", "max_tokens": 6, "temperature": 0, "messages": [{"role": "user", "content": parts}]}
        whole = client.chat.completions.create(**asked)
        pieces = [
            chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**asked, stream=True)
        ]
        content = [{"type": "input_image", "image_url": data_url(image)}, {"type": "input_text", "text": ASK}]
        response = client.responses.create(
            model="seeing", max_output_tokens=6, temperature=0, store=False,
            input=[{"role": "user", "content": content}],
        )  # fmt: skip
    assert whole.choices[0].message.content == "".join(pieces) == response.output_text == expected[image]
    assert whole.usage.prompt_tokens > 100  # an image is many tokens


@pytest.mark.parametrize("image", [TABLE, LAND], ids=lambda path: path.stem)
def test_anthropic(url, expected, image):
    kind = "image/png" if image.suffix == ".png" else "image/jpeg"
    parts = [
        {"type": "image", "source": {"type": "base64", "media_type": kind, "data": text(image)}},
        {"type": "text", "text": ASK},
    ]
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        asked = {"model": "seeing", "messages": [{"role": "user", "content": parts}]}
        message = client.messages.create(**asked, max_tokens=6, extra_body={"temperature": 0})
        count = client.messages.count_tokens(**asked)
    assert message.content[0].text == expected[image]
    assert count.input_tokens == message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)


@pytest.mark.parametrize("image", [TABLE, LAND], ids=lambda path: path.stem)
def test_ollama(url, expected, image):
    options = {"temperature": 0, "num_predict": 6}
    with ollama.Client(host=url) as client:
        generated = client.generate("seeing", ASK, images=[image.read_bytes()], options=options)
        chat = client.chat("seeing", [{"role": "user", "content": ASK, "images": [str(image)]}], options=options)
        assert "vision" in client.show("seeing").capabilities
    assert generated.response == chat.message.content == expected[image]


def test_an_image_of_the_web_is_fetched_where_that_was_allowed(folder, expected):
    files = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(IMAGES)))
    threading.Thread(target=files.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{files.server_port}/{TABLE.name}"
    body = {
        "model": "seeing",
        "max_tokens": 6,
        "temperature": 0,
        "messages": [
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": ASK}],
            }
        ],
    }
    told = LoadOptions(quantize="none", ctx=4096, private_urls=True)
    with running(Service((str(folder),), ServeOptions(image_urls=True), told)) as url:
        reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
    files.shutdown()
    files.server_close()
    assert reply["choices"][0]["message"]["content"] == expected[TABLE]


def test_what_is_no_picture_is_400_and_the_server_answers_on(url, expected):
    parts = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    body = {"model": "seeing", "max_tokens": 6, "messages": [{"role": "user", "content": parts}]}
    reply = httpx.post(f"{url}/v1/chat/completions", json=body)
    assert reply.status_code == 400
    assert "image" in reply.json()["error"]["message"]
    test_ollama(url, expected, LAND)
