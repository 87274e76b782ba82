"""The backend for servers of OpenAI's API: our own, and what others were seen to answer.

Shapes: platform.openai.com/docs/api-reference (chat, completions and their streams, models); vLLM 0.11, its server of
OpenAI's API (max_model_len, owned_by); llama.cpp, tools/server/README.md (models: meta)
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import slmkit
from live_server import running
from recorded_server import Answer, recorded, sse
from slmkit import Constraint, Message
from slmkit.backends.openai_request import OPENAI, PLAIN, body_of
from slmkit.errors import (
    AccessDenied,
    Busy,
    ContextExceeded,
    ModelNotFound,
    OptionError,
    RequestError,
    RuntimeFailure,
    UnsupportedFeature,
)
from slmkit.events import Chunk, Finished, Logprob, Started, TokenInfo, Usage
from slmkit.options import LoadOptions, Options
from slmkit.request import Request
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions
from vision_models import write_vision_model

STORY = "Tell me a story."
PLACE = LoadOptions(ctx=1024, quantize="none")
TABLE = Path(__file__).parents[1] / "data" / "images" / "exceltable.png"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "SLMKIT_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("PIL")
    return write_vision_model(tmp_path_factory.mktemp("vision") / "seeing")


@pytest.fixture(scope="module")
def url(folder):
    with running(Service(("tiny", str(folder)), ServeOptions(), PLACE)) as url:
        yield f"{url}/v1"


@pytest.fixture(scope="module")
def model(url):
    with slmkit.load(f"openai:{url}#tiny") as model:
        model.chat(STORY, max_tokens=1)  # loads it
    with slmkit.load(f"openai:{url}#tiny") as model:
        yield model


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
        {"max_tokens": 40, "temperature": 0.0, "presence_penalty": 1.9, "frequency_penalty": -0.5},
        {"max_tokens": 12, "temperature": 0.0, "logit_bias": {366: 7.0, 9: -100.0}},
        {"temperature": 0.0, "stop": ("dog", " the ")},
        {"max_tokens": 9, "temperature": 1.0, "n": 3, "seed": 4},
        {"max_tokens": 9, "temperature": 0.0, "adapter": "none", "beams": 1, "speculate": 0, "ignore_eos": False},
    ],
)
def test_answers_are_those_of_the_model_in_this_process(model, here, options):
    talk = [Message("system", "You tell of dogs."), Message("user", "Hi"), Message("assistant", "Hi. <|end|>")]
    talk.append(Message("user", STORY))
    there, expected = model.chat(talk, **options).choices, here.chat(talk, **options).choices
    assert [(one.text, one.reason) for one in there] == [(one.text, one.reason) for one in expected]
    assert sum(one.usage.completion_tokens for one in there) == sum(one.usage.completion_tokens for one in expected)
    assert {one.usage.prompt_tokens for one in there} == {expected[0].usage.prompt_tokens}
    assert all(one.timing.total_s >= one.timing.first_token_s > 0 for one in there)


def test_texts_and_ids_are_continued(model, here):
    asked = {"max_tokens": 12, "temperature": 0}
    text = "Once upon a time"
    assert model.generate(text, **asked).text == here.generate(text, **asked).text != ""
    ids = here.tokenize(text)
    events = list(model.events(Request(ids=ids, options=Options(**asked))))
    expected = list(here.events(Request(ids=ids, options=Options(**asked))))
    assert "".join(e.text for e in events if isinstance(e, Chunk)) == "".join(
        e.text for e in expected if isinstance(e, Chunk)
    )


@pytest.mark.parametrize("call", ["chat", "generate"])
def test_log_probabilities(model, here, call):
    asked = {"max_tokens": 5, "temperature": 0, "logprobs": 3}
    there = getattr(model, call)(STORY, **asked).choices[0].tokens
    expected = getattr(here, call)(STORY, **asked).choices[0].tokens
    assert [token.logprob for token in there] == [token.logprob for token in expected]
    assert [[top.logprob for top in token.top] for token in there] == [
        [top.logprob for top in token.top] for token in expected
    ]


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("json"),
        Constraint("schema", {"type": "object", "properties": {"b": {"type": "boolean"}}, "required": ["b"]}),
        Constraint("regex", "(a dog|a cat){1,3}"),
        Constraint("lark", 'start: "one" | "two"'),
    ],
)
def test_constraints(model, here, constraint):
    asked = {"max_tokens": 60, "temperature": 0, "constraint": constraint}
    assert model.chat("Give me an object.", **asked).text == here.chat("Give me an object.", **asked).text != ""


def test_images_by_their_files_and_from_memory(url, folder):
    from PIL import Image

    with Image.open(TABLE) as opened:
        table = opened.convert("RGB")
    talk = [Message("user", "<|image_2|>\nor <|image_1|>\n?", (TABLE, table.crop((0, 0, 200, 90))))]
    with slmkit.load(folder, **vars(PLACE)) as model:
        expected = model.chat(talk, max_tokens=6, temperature=0)
    with slmkit.load(f"openai:{url}#{folder.name}") as there:
        answer = there.chat(talk, max_tokens=6, temperature=0)
        assert answer.text == expected.text != ""
        assert answer.choices[0].usage.prompt_tokens == expected.choices[0].usage.prompt_tokens > 600
        with pytest.raises(RequestError, match=r"no file none\.png"):
            there.chat("?", images=["none.png"])


def test_our_own_server_tells_the_context_and_whose_it_is(model, url):
    facts = model.describe()
    assert (facts["model"], facts["server"], facts["context"], facts["owner"]) == ("tiny", url, 1024, "slmkit")
    assert model.context == 1024
    with pytest.raises(ContextExceeded, match="context of 1024"):
        model.chat(STORY, max_tokens=2000)
    with pytest.raises(ModelNotFound, match="nosuch"), slmkit.load(f"openai:{url}#nosuch") as other:
        other.chat(STORY)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"beams": 2}, "beams"), ({"stop_ids": 3}, "stop_ids"), ({"ignore_eos": True}, "ignore_eos"),
        ({"num_crops": 1}, "num_crops"), ({"repetition_window": 9}, "repetition_window"),
        ({"logprobs": 21}, "20 logprobs"), ({"processors": [print]}, "processors"), ({"scorer": print}, "scorer"),
        ({"deadline_s": 9}, "deadline"), ({"prompt_logprobs": 0}, "prompt_logprobs"),
        ({"parse_special": True}, "parse_special"), ({"logit_bias": {1: float("-inf")}}, "-100"),
    ],
)  # fmt: skip
def test_what_the_api_cannot_say_is_refused_by_name(model, options, named):
    with pytest.raises(UnsupportedFeature, match=named):
        model.chat(STORY, **options)


def test_options_of_loading_are_refused():
    with pytest.raises(OptionError, match="openai: does not have the option ctx"):
        slmkit.load("openai:http://127.0.0.1:9#x", ctx=9)


@pytest.fixture
def there():
    with recorded() as server:
        server.on("GET /v1/models", Answer(body=models({"id": "m", "object": "model", "owned_by": "someone"})))
        yield server


def models(*entries):
    return {"object": "list", "data": list(entries)}


def piece(text=None, reason=None, index=0, **more):
    delta = {} if text is None else {"content": text}
    return {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": index, "delta": delta, "finish_reason": reason, **more}],
    }  # fmt: skip


USAGE = {
    "object": "chat.completion.chunk", "choices": [],
    "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10,
              "prompt_tokens_details": {"cached_tokens": 5}},
}  # fmt: skip
CHAT = "POST /v1/chat/completions"


def load(there, name="m"):
    return slmkit.load(f"openai:{there.url}/v1#{name}" if name else f"openai:{there.url}/v1")


def test_a_stream_of_openais_own(there):
    role = piece("")
    role["choices"][0]["delta"]["role"] = "assistant"
    headers = {"Content-Type": "text/event-stream; charset=utf-8", "x-ratelimit-remaining-requests": "59"}
    answer = sse(role, {**piece("A d\u2028og"), "error": None}, piece("."), piece(reason="stop"), USAGE)
    there.on(CHAT, Answer(body=answer.body, headers=headers))
    with load(there) as model:
        events = list(model.events(Request((Message("user", STORY),), options=Options(max_tokens=7, seed=3))))
        assert model.describe()["rate_limits"] == {"x-ratelimit-remaining-requests": "59"}
    assert events[:-1] == [Started(0), Chunk("A d\u2028og"), Chunk(".")]
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, events[-1].usage) == ("stop", Usage(8, 2, 5))
    assert there.asked[-1].body == {
        "model": "m", "stream": True, "stream_options": {"include_usage": True}, "seed": 3, "max_tokens": 7,
        "messages": [{"role": "user", "content": STORY}],
    }  # fmt: skip
    assert "Authorization" not in there.asked[-1].headers


def test_log_probabilities_of_a_chat_and_the_older_form(there):
    entry = {"token": "A", "logprob": -0.5, "bytes": [65]}
    other = {"token": "B", "logprob": -9999.0, "bytes": None}
    there.on(CHAT, sse(piece("A", "length", logprobs={"content": [{**entry, "top_logprobs": [other, entry]}]}), USAGE))
    with load(there) as model:
        token = model.chat(STORY, logprobs=2).choices[0].tokens[0]
        assert token == TokenInfo(
            -1, "A", -0.5, (Logprob(-1, "A", -0.5, b"A"), Logprob(-1, "B", float("-inf"), b"B")), b"A"
        )
        older = {
            "tokens": ["A"],
            "token_logprobs": [-0.5],
            "text_offset": [0],
            "top_logprobs": [{"C": -0.1, "A": -0.5}],
        }
        there.on(
            "POST /v1/completions",
            sse({"object": "text_completion", "choices": [
                {"index": 0, "text": "A", "logprobs": older, "finish_reason": "length"}]}, USAGE),
        )  # fmt: skip
        token = model.generate("x", logprobs=1).choices[0].tokens[0]
        assert (token.logprob, [top.text for top in token.top]) == (-0.5, ["C"])
        there.on(CHAT, sse(piece("A", "stop"), USAGE))
        with pytest.raises(UnsupportedFeature, match="tells no logprobs"):
            model.chat(STORY, logprobs=0)


def test_several_choices_their_tokens_together(there):
    there.on(CHAT, sse(piece("A", index=1), piece("B"), piece(reason="stop", index=1), piece(reason="length"), USAGE))
    with load(there) as model:
        one, other = model.chat(STORY, n=2).choices
    assert [(each.text, each.reason) for each in (one, other)] == [("B", "length"), ("A", "stop")]
    assert (one.usage, other.usage) == (Usage(8, 2, 5), Usage(8, 0))


def test_a_server_that_does_not_stream_and_one_without_usage_or_done(there):
    whole = {"object": "chat.completion", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "A dog."}, "finish_reason": "stop"}]}  # fmt: skip
    there.on(CHAT, Answer(body=whole), sse(piece("A dog.", "eos_token"), done=False))
    with load(there) as model:
        answers = [model.chat(STORY) for _ in range(2)]
    assert [(a.text, a.choices[0].reason, a.choices[0].usage) for a in answers] == [("A dog.", "stop", Usage(0, 0))] * 2


def test_what_a_filter_took_is_not_told_as_an_end(there):
    there.on(CHAT, sse(piece("A"), piece(reason="content_filter")))
    with load(there) as model:
        assert model.chat(STORY).choices[0].reason == "content_filter"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (sse(piece("A"), drops=True), RuntimeFailure, "broke off"),
        (sse(piece("A")), RuntimeFailure, "has no end"),
        (
            sse(piece("A"), {"error": {"message": "out of memory", "type": "server_error"}}),
            RuntimeFailure,
            "out of mem",
        ),
        (sse({"error": {"message": "full", "code": "context_length_exceeded"}}), ContextExceeded, "full"),
        (sse({"error": {"message": "slow", "type": "rate_limit_error"}}), Busy, "slow"),
        (sse({"object": "error", "message": "no", "code": 400}), RuntimeFailure, "no"),
        (sse({"choices": [{"delta": {"content": 5}}]}), RuntimeFailure, "not OpenAI's"),
        (sse({"choices": [5]}), RuntimeFailure, "not OpenAI's"),
        (sse([1]), RuntimeFailure, "no JSON object"),
        (Answer(body=b"<html>"), RuntimeFailure, "has no end"),
    ],
)
def test_what_goes_wrong_after_an_answer_began(there, answer, kind, words):
    there.on(CHAT, answer)
    with load(there) as model, pytest.raises(kind, match=words):
        model.chat(STORY)
    assert len(there.asked_at("/v1/chat/completions")) == 1


def test_vllm_takes_more_and_is_known_by_its_list(there):
    entry = {"id": "m", "object": "model", "created": 1, "owned_by": "vllm", "root": "m", "max_model_len": 4096}
    there.on("GET /v1/models", Answer(body=models(entry)))
    there.on(CHAT, sse(piece("A", "stop", stop_reason="x"), USAGE))
    with load(there, "") as model:
        assert (model.describe()["model"], model.context) == ("m", 4096)
        choice = model.chat(STORY, top_k=5, min_p=0.1, repetition_penalty=1.2, stop_ids=[7], ignore_eos=True).choices[0]
        assert choice.stop == "x"
        with pytest.raises(UnsupportedFeature, match="regex"):
            model.chat(STORY, constraint=Constraint("regex", "a"))
    sent = there.asked[-1].body
    assert (sent["top_k"], sent["min_p"], sent["repetition_penalty"]) == (5, 0.1, 1.2)
    assert (sent["stop_token_ids"], sent["ignore_eos"]) == ([7], True)


@pytest.mark.parametrize("options", [{"top_k": 5}, {"top_k": 0}, {"min_p": 0.1}, {"repetition_penalty": 1.1}])
def test_other_servers_are_held_to_the_apis_own_terms(there, options):
    with load(there) as model, pytest.raises(UnsupportedFeature, match=next(iter(options))):
        model.chat(STORY, **options)
    assert not there.asked_at("/v1/chat/completions")


def test_llama_cpp_tells_its_context(there):
    meta = {"vocab_type": 1, "n_vocab": 32064, "n_ctx_train": 131072, "n_ctx": 4096}
    there.on("GET /v1/models", Answer(body=models({"id": "x.gguf", "owned_by": "llamacpp", "meta": meta})))
    with load(there, "") as model:
        assert (model.describe()["model"], model.context) == ("x.gguf", 4096)


def test_an_address_alone_names_the_only_model(there):
    there.on("GET /v1/models", Answer(body=models({"id": "a"}, {"id": "b"})))
    with pytest.raises(ModelNotFound, match="it has a, b; write URL#MODEL"):
        load(there, "")
    there.on("GET /v1/models", Answer(404, b""))
    with pytest.raises(ModelNotFound, match="it lists none"):
        load(there, "")
    with load(there, "m") as model:  # a server without a list
        assert model.describe()["context"] is None


def test_images_are_sent_as_their_own_files_or_as_png(there, tmp_path):
    image = pytest.importorskip("PIL.Image")
    there.on(CHAT, sse(piece("A", "stop")))
    pixels = image.new("RGB", (30, 20), (200, 10, 10))
    for kind in ("PNG", "JPEG", "WEBP", "BMP"):
        pixels.save(tmp_path / f"a.{kind.lower()}", kind)
    with load(there) as model:
        model.chat("<|image_2|>\nleft of <|image_1|> or?", images=[tmp_path / "a.png", tmp_path / "a.jpeg"])
        parts = there.asked[-1].body["messages"][0]["content"]
        assert [part["type"] for part in parts] == ["image_url", "text", "image_url", "text"]
        assert [part["text"] for part in parts[1::2]] == ["left of ", " or?"]
        starts = [part["image_url"]["url"].partition(",")[0] for part in parts[::2]]
        assert starts == ["data:image/jpeg;base64", "data:image/png;base64"]
        model.chat("?", images=[tmp_path / "a.webp", tmp_path / "a.bmp"])
        starts = [part["image_url"]["url"][:15] for part in there.asked[-1].body["messages"][0]["content"][:2]]
        assert starts == ["data:image/webp", "data:image/png;"]


def test_a_key_goes_to_its_own_server_and_nowhere_else(there, monkeypatch):
    there.on(CHAT, sse(piece("A", "stop")))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    with load(there) as model:
        model.chat(STORY)
    assert not any("Authorization" in each.headers for each in there.asked)
    monkeypatch.setenv("SLMKIT_API_KEY", "other")
    load(there).close()
    assert there.asked[-1].headers["Authorization"] == "Bearer other"
    monkeypatch.setenv("OPENAI_BASE_URL", f"{there.url}/v1/")
    for name in ("openai:m", f"openai:{there.url}/v1#m"):
        slmkit.load(name).close()
        assert there.asked[-1].headers["Authorization"] == "Bearer sk-mine"


def test_no_key_and_a_wrong_one_say_where_it_was_looked_for(there, monkeypatch):
    with pytest.raises(AccessDenied, match="set OPENAI_API_KEY"):
        slmkit.load("openai:gpt")
    there.on("GET /v1/models", Answer(401, {"error": {"message": "Incorrect API key provided: sk-mine", "code": "x"}}))
    with pytest.raises(AccessDenied, match="no key was sent, since SLMKIT_API_KEY is not set; OPENAI_API_KEY goes to"):
        load(there)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{there.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    with pytest.raises(AccessDenied, match="the key is that of OPENAI_API_KEY") as refused:
        slmkit.load("openai:m")
    assert "sk-mine" not in str(refused.value)
    monkeypatch.setenv("OPENAI_API_KEY", "sk mine")
    with pytest.raises(RequestError, match="OPENAI_API_KEY has a space") as refused:
        slmkit.load("openai:m")
    assert "mine" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["ftp://x/v1", "http://", "http://me:secret@x/v1", "http://me:secret@x:99999", "http://x:99999"]
)
def test_addresses_that_are_none(url):
    with pytest.raises(RequestError, match=r"http|password") as refused:
        slmkit.load(f"openai:{url}#m")
    assert "secret" not in str(refused.value)


def test_openais_own_service_has_another_name_for_max_tokens():
    request = Request((Message("user", "a"),), options=Options(max_tokens=5))
    assert body_of(request, "m", "m", OPENAI)[1]["max_completion_tokens"] == 5
    assert body_of(request, "m", "m", PLAIN)[1]["max_tokens"] == 5
    text = Request(prompt="a", options=Options(max_tokens=5))
    assert body_of(text, "m", "m", OPENAI) == (
        "/completions",
        {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 5, "prompt": "a"},
    )


def test_a_closed_model_refuses(there):
    model = load(there)
    model.close()
    with pytest.raises(RuntimeFailure, match="closed"):
        model.chat(STORY)
    assert json.dumps(model.describe())
