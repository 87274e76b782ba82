"""The backend for servers of Ollama's API: our own, and others that break off or answer strangely."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

import slmkit
from live_server import running
from slmkit import Constraint, Message, Model
from slmkit.backends.ollama import OllamaBackend
from slmkit.backends.ollama_server import OllamaServer
from slmkit.errors import (
    AccessDenied,
    Busy,
    ContextExceeded,
    ModelNotFound,
    RequestError,
    RuntimeFailure,
    UnsupportedFeature,
)
from slmkit.events import Chunk, Finished, Started
from slmkit.options import LoadOptions, Options
from slmkit.request import Request
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions
from vision_models import write_vision_model

TABLE = Path(__file__).parents[1] / "data" / "images" / "exceltable.png"
STORY = "Tell me a story."
PLACE = LoadOptions(ctx=1024, quantize="none")


def server_at(url: str, key: str = "") -> OllamaServer:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return OllamaServer(host, int(port), key)


def model_at(url: str, name: str = "tiny", context: int = 1024) -> Model:
    return Model(OllamaBackend(server_at(url), name, context))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("PIL")
    return write_vision_model(tmp_path_factory.mktemp("vision") / "seeing")


@pytest.fixture(scope="module")
def service(folder):
    return Service(("tiny", str(folder)), ServeOptions(), PLACE)


@pytest.fixture(scope="module")
def url(service):
    with running(service) as url:
        yield url


@pytest.fixture(scope="module")
def here():
    with slmkit.load("tiny", **vars(PLACE)) as model:
        yield model


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 9, "seed": 5},
        {"max_tokens": 40, "temperature": 1.0, "top_k": 0, "top_p": 0.9, "min_p": 0.01, "seed": 2**64 - 1},
        {"max_tokens": 40, "temperature": 0.0, "repetition_penalty": 1.7},
        {"max_tokens": 40, "temperature": 0.0, "repetition_penalty": 1.7, "repetition_window": 5},
        {"max_tokens": 40, "temperature": 0.0, "presence_penalty": 3.0, "frequency_penalty": -0.5},
        {"temperature": 0.0, "stop": ("dog", " the ")},
        {"max_tokens": 9, "temperature": 0.0, "stop": (), "seed": 0},
    ],
)
def test_answers_are_those_of_the_model_in_this_process(url, here, options):
    talk = [Message("system", "You tell of dogs."), Message("user", "Hi"), Message("assistant", "Hi. <|end|>")]
    talk.append(Message("user", STORY))
    there = model_at(url).chat(talk, **options).choices[0]
    expected = here.chat(talk, **options).choices[0]
    assert (there.text, there.reason) == (expected.text, expected.reason) != ("", "stop")
    assert there.usage.completion_tokens == expected.usage.completion_tokens
    assert there.usage.prompt_tokens == expected.usage.prompt_tokens
    assert there.timing.total_s >= there.timing.first_token_s > 0


def test_a_penalty_alone_looks_back_as_far_as_the_models_own(url, tmp_path, monkeypatch):
    monkeypatch.setenv("SLMKIT_DATA_DIR", str(tmp_path))
    parameters = {"repeat_penalty": 1.0, "repeat_last_n": 3, "temperature": 0, "num_predict": 60}
    body = {"model": "short-sighted", "from": "tiny", "parameters": parameters, "stream": False}
    httpx.post(f"{url}/api/create", json=body, timeout=60).raise_for_status()
    with slmkit.load("short-sighted", **vars(PLACE)) as model:
        expected = model.chat(STORY, repetition_penalty=1.9).text
        assert expected != model.chat(STORY, repetition_penalty=1.9, repetition_window=0).text
    there = model_at(url, "short-sighted")
    assert there.chat(STORY, repetition_penalty=1.9).text == expected
    gone = httpx.request("DELETE", f"{url}/api/delete", json={"model": "short-sighted"})  # other tests list all models
    gone.raise_for_status()


def test_a_text_is_continued(url, here):
    asked = {"max_tokens": 12, "temperature": 0, "parse_special": True}
    text = "<|user|>\nTell me a story.<|end|>\n<|assistant|>\n"
    assert model_at(url).generate(text, **asked).text == here.generate(text, **asked).text != ""


def test_log_probabilities_come_without_ids(url, here):
    there = model_at(url).chat(STORY, max_tokens=5, temperature=0, logprobs=3).choices[0]
    expected = here.chat(STORY, max_tokens=5, temperature=0, logprobs=3).choices[0]
    assert [token.logprob for token in there.tokens] == [token.logprob for token in expected.tokens]
    assert [[top.logprob for top in token.top] for token in there.tokens] == [
        [top.logprob for top in token.top] for token in expected.tokens
    ]
    assert b"".join(token.data for token in there.tokens).decode().strip() == there.text.strip()
    assert {token.id for token in there.tokens} == {-1}


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("json"),
        Constraint("schema", {"type": "object", "properties": {"b": {"type": "boolean"}}, "required": ["b"]}),
    ],
)
def test_constraints(url, here, constraint):
    asked = {"max_tokens": 60, "temperature": 0, "constraint": constraint}
    there = model_at(url).chat("Give me an object.", **asked).text
    assert there == here.chat("Give me an object.", **asked).text
    assert there.startswith("{")


def test_images_by_their_files_and_from_memory(url, folder):
    from PIL import Image

    there = model_at(url, "seeing")
    with Image.open(TABLE) as opened:
        table = opened.convert("RGB")
    talk = [Message("user", "<|image_2|> or <|image_1|>?", (TABLE, table.crop((0, 0, 200, 90))))]
    with slmkit.load(folder, **vars(PLACE)) as model:
        expected = model.chat(talk, max_tokens=6, temperature=0)
    answer = there.chat(talk, max_tokens=6, temperature=0)
    assert answer.text == expected.text != ""
    assert answer.choices[0].usage.prompt_tokens == expected.choices[0].usage.prompt_tokens > 600
    with pytest.raises(UnsupportedFeature, match="reads text alone"):
        model_at(url).chat(talk)
    with pytest.raises(RequestError, match=r"no file none\.png"):
        there.chat("?", images=["none.png"])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"beams": 2}, "beams"), ({"beams": 1}, "beams"), ({"n": 2}, "many"), ({"n": 1}, " n;"),
        ({"ignore_eos": False}, "ignore_eos"), ({"logit_bias": {1: 1.0}}, "logit_bias"), ({"stop_ids": 3}, "stop_ids"),
        ({"adapter": "x"}, "adapter"), ({"adapter": "none"}, "adapter"), ({"num_crops": 1}, "num_crops"),
        ({"speculate": 0}, "speculate"), ({"length_penalty": 1.0}, "length_penalty"), ({"logprobs": 21}, "20 logprobs"),
        ({"processors": [print]}, "processors"), ({"scorer": print}, "scorer"), ({"deadline_s": 9}, "deadline"),
        ({"prompt_logprobs": 0}, "prompt_logprobs"), ({"parse_special": True}, "parse_special"),
        ({"constraint": Constraint("regex", "a+")}, "regex"), ({"constraint": Constraint("lark", "")}, "lark"),
    ],
)  # fmt: skip
def test_what_the_api_cannot_say_is_refused_by_name(url, options, named):
    with pytest.raises(UnsupportedFeature, match=named):
        model_at(url).chat(STORY, **options)


def test_what_the_api_cannot_say_of_prompts_is_refused(url):
    there = model_at(url)
    for prompt, options, named in (("", {"parse_special": True}, "empty"), ("a", {}, "control token")):
        with pytest.raises(UnsupportedFeature, match=named):
            there.generate(prompt, **options)
    with pytest.raises(UnsupportedFeature, match="token_ids"):
        there.events(Request(ids=(1, 2)))
    with pytest.raises(UnsupportedFeature, match="a tool's message"):
        there.chat([Message("user", "a"), Message("tool", "b")])
    for call in (lambda: there.render(STORY), lambda: there.tokenize("a"), lambda: there.embed("a"), there.stats):
        with pytest.raises(UnsupportedFeature):
            call()


@pytest.mark.parametrize(("text", "options"), [("word " * 2000, {}), (STORY, {"max_tokens": 2000}), ("a" * 99999, {})])
def test_a_full_context_is_said_as_in_this_process(url, here, text, options):
    with pytest.raises(ContextExceeded) as expected:
        here.chat(text, **options)
    with pytest.raises(ContextExceeded) as there:
        model_at(url).chat(text, **options)
    assert str(there.value) == str(expected.value)


def test_it_says_what_it_is(url):
    facts = model_at(url, context=77).describe()
    assert (facts["name"], facts["server"], facts["context"]) == ("tiny", url, 77)
    assert (facts["architecture"], facts["parameters"]) == ("phi3", 3_221_952)
    with pytest.raises(ModelNotFound, match="nosuch"):
        model_at(url, "nosuch")


def test_a_closed_model_refuses(url):
    model = model_at(url)
    model.close()
    with pytest.raises(RuntimeFailure, match="closed"):
        model.chat(STORY)


def test_closing_cancels_within_a_step(service, url):
    stats = service.fleet.berths[0].model.stats
    before = stats().generated_tokens
    options = Options(temperature=1.0, seed=1, stop=("\x00",), max_tokens=900)
    events = model_at(url).events(Request((Message("user", STORY),), options=options))
    assert isinstance(next(events), Started)
    assert isinstance(next(events), Chunk)
    events.close()
    assert list(events) == []
    until = time.monotonic() + 20
    while stats().running and time.monotonic() < until:
        time.sleep(0.005)
    assert stats().running == 0
    assert stats().generated_tokens - before < 200


def test_a_queue_that_is_full_is_busy():
    service = Service(("tiny",), ServeOptions(), LoadOptions(ctx=1024, queue=1))
    with running(service) as url:
        model = model_at(url)
        long = Request((Message("user", STORY),), options=Options(temperature=1.0, seed=1, max_tokens=900))
        events = model.events(long)
        next(events)
        with pytest.raises(Busy):
            model.chat(STORY)
        events.close()


def test_a_key_is_sent_and_never_shown(monkeypatch):
    monkeypatch.setenv("SLMKIT_API_KEY", "secret-key")
    with running(Service(("tiny",), ServeOptions(), LoadOptions(ctx=512))) as url:
        with pytest.raises(AccessDenied) as refused:
            OllamaBackend(server_at(url, "wrong-key"), "tiny", 512)
        backend = OllamaBackend(server_at(url, "secret-key"), "tiny", 512)
        assert Model(backend).chat(STORY, max_tokens=2).text
    shown = [str(refused.value), repr(backend), repr(backend.server), str(backend.server), repr(backend.describe())]
    with pytest.raises(RuntimeFailure) as gone:
        Model(backend).chat(STORY)
    for key in ("secret\nkey", "secret key", "sécret"):
        with pytest.raises(RequestError) as wrong:
            OllamaServer("127.0.0.1", 1, key)
        shown.append(str(wrong.value))
    assert not any("secret" in text or "wrong" in text for text in [*shown, str(gone.value)])


PART = json.dumps({"message": {"role": "assistant", "content": "A dog"}, "done": False}).encode() + b"\n"
OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def plain(status: str, body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status.encode(), b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


class Scripted(BaseHTTPRequestHandler):
    """Says that it has a model, and answers with what it is given; without that it waits until the client goes."""

    answer: bytes
    n_come = n_gone = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.close_connection = True
        if self.path == "/api/show":
            self.wfile.write(plain("200 OK", b"{}"))
        elif self.answer:
            self.wfile.write(self.answer)
        else:
            type(self).n_come += 1
            assert self.rfile.read(1) == b""
            type(self).n_gone += 1

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def scripted(reply: bytes):
    handler = type("Handler", (Scripted,), {"answer": reply})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield model_at(f"http://127.0.0.1:{server.server_address[1]}"), handler
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (OK + chunk(PART), RuntimeFailure, "no end"),
        (OK + chunk(PART)[:20], RuntimeFailure, "broke off"),
        (OK + chunk(PART) + b"0\r\n\r\n", RuntimeFailure, "no end"),
        (OK + chunk(PART) + chunk(b'{"error": "the disk is full"}\n'), RuntimeFailure, "^the disk is full$"),
        (b"no HTTP at all", RuntimeFailure, "broke off"),
        (plain("200 OK", b"<html>"), RuntimeFailure, "broke off"),
        (plain("200 OK", b"[1]"), RuntimeFailure, "no JSON object"),
        (plain("200 OK", b'{"response": 5}'), RuntimeFailure, "not Ollama's"),
        (plain("200 OK", b'{"message": []}'), RuntimeFailure, "not Ollama's"),
        (plain("200 OK", b""), RuntimeFailure, "no end"),
        (plain("500 Oh", b'{"error": "oh"}'), RuntimeFailure, "^oh$"),
        (plain("502 Oh", b"{}"), RuntimeFailure, "status 502"),
        (plain("400 No", b'{"error": "top_k is -5"}'), RequestError, "^top_k is -5$"),
        (plain("400 No", b'{"error": {"message": "the request exceeds the available context size"}}'),
         ContextExceeded, "^the request exceeds"),
        (plain("404 No", b'{"error": "model \'x\' not found"}'), ModelNotFound, "^model 'x' not found$"),
        (plain("401 No", b'{"error": "unauthorized"}'), AccessDenied, "^unauthorized$"),
    ],
)  # fmt: skip
def test_other_servers_fail_in_one_sentence(reply, kind, words):
    with scripted(reply) as (model, _), pytest.raises(kind, match=words) as failed:
        model.chat(STORY)
    assert type(failed.value) is kind


@pytest.mark.parametrize(("status", "seconds"), [("503 Busy", 1.0), ("429 Slow", 1.0), ("429 Slow", 7.0)])
def test_a_busy_server_says_when_to_ask_again(status, seconds):
    headers = (b"Retry-After: 7",) if seconds == 7 else ()
    with scripted(plain(status, b'{"error": "busy"}', *headers)) as (model, _), pytest.raises(Busy) as busy:
        model.chat(STORY)
    assert busy.value.retry_after_s == seconds


def test_what_came_before_the_server_went_away_is_kept():
    with scripted(OK + chunk(PART)) as (model, _):
        events = model.events(Request((Message("user", STORY),)))
        assert [next(events), next(events)] == [Started(0), Chunk("A dog")]
        with pytest.raises(RuntimeFailure):
            next(events)


def test_a_reader_that_waits_for_the_first_token_is_woken_by_closing():
    with scripted(b"") as (model, handler):
        events = model.events(Request((Message("user", STORY),)))
        got: list[list[object]] = []
        reader = threading.Thread(target=lambda: got.append(list(events)))
        reader.start()
        time.sleep(0.05)  # it waits most likely; else it finds the answer closed, which has to do as well
        events.close()
        reader.join(20)
        assert got == [[]]
        dropped = model.events(Request((Message("user", STORY),)))
        until = time.monotonic() + 20
        while handler.n_come < 2 and time.monotonic() < until:
            time.sleep(0.005)
        del dropped
        while handler.n_gone < 2 and time.monotonic() < until:
            time.sleep(0.005)
        assert handler.n_gone == 2


def test_an_answer_is_started_read_and_finished_once(url):
    events = [*model_at(url).events(Request((Message("user", STORY),), options=Options(max_tokens=3)))]
    kinds = [type(event) for event in events]
    assert (kinds[0], kinds[-1]) == (Started, Finished)
    assert set(kinds[1:-1]) == {Chunk}
