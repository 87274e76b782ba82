"""Opening a model of an Ollama server by its name: where it is looked for, its context, and prompts that do not fit.

What the real one answers: ollama/ollama v0.33.2, api/types.go and server/routes.go; v0.34.0, llm/llama_server.go
(refusals of prompts, also as recorded of 0.12.6, 0.34.2 and 0.40.2); docs.ollama.com/api (show, ps, chat, version).
"""

from __future__ import annotations

import pytest

import slmkit
from live_server import running
from recorded_server import Answer, ndjson, recorded
from slmkit.backends.ollama import state
from slmkit.backends.ollama_server import server_at
from slmkit.errors import (
    Busy,
    ContextExceeded,
    ModelNotFound,
    OptionError,
    RequestError,
    RuntimeFailure,
    Unreachable,
    UnsupportedFeature,
)
from slmkit.events import Usage
from slmkit.options import LoadOptions
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions

SHOW = {
    "parameters": 'stop                           "<|end|>"', "template": "{{ .Prompt }}",
    "details": {"family": "phi3", "parameter_size": "3.8B", "quantization_level": "Q4_0"},
    "model_info": {"general.architecture": "phi3", "phi3.context_length": 131072},
    "capabilities": ["completion"],
}  # fmt: skip
LOADED = {"models": [{"name": "phi3.5:latest", "model": "phi3.5:latest", "size": 1, "context_length": 4096,
                      "expires_at": "2026-12-31T14:38:31.83753Z", "size_vram": 0}]}  # fmt: skip
END = {
    "model": "phi3.5", "created_at": "2026-11-30T00:00:00Z", "message": {"role": "assistant", "content": ""},
    "done": True, "done_reason": "stop", "total_duration": 5, "load_duration": 1, "prompt_eval_count": 26,
    "prompt_eval_duration": 130079000, "eval_count": 2, "eval_duration": 70000000,
}  # fmt: skip
PART = {"model": "phi3.5", "message": {"role": "assistant", "content": "A dog.", "thinking": "hm"}, "done": False}


@pytest.fixture
def there(monkeypatch):
    monkeypatch.delenv("SLMKIT_API_KEY", raising=False)
    with recorded() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        server.on("GET /api/version", Answer(body={"version": "0.34.2"}))
        server.on("POST /api/show", Answer(body=SHOW))
        server.on("GET /api/ps", Answer(body=LOADED))
        server.on("POST /api/chat", ndjson(PART, END))
        yield server


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"), ("1.2.3.4", "http://1.2.3.4:11434"), (":1234", "http://127.0.0.1:1234"),
        ("1.2.3.4:1234", "http://1.2.3.4:1234"), ("http://1.2.3.4", "http://1.2.3.4:80"),
        ("https://1.2.3.4", "https://1.2.3.4:443"), ("https://1.2.3.4:1234/", "https://1.2.3.4:1234"),
        ("example.com", "http://example.com:11434"), ("http://example.com/a/b/", "http://example.com:80/a/b"),
        ("[::1]", "http://[::1]:11434"), ("::1", "http://[::1]:11434"), ("[::1]:1337", "http://[::1]:1337"),
        (' "0.0.0.0:5" ', "http://127.0.0.1:5"), ("ollama.com", "https://ollama.com:443"),
    ],
)  # fmt: skip
def test_an_address_is_read_as_ollama_reads_it(text, url):
    """Source: ollama/ollama, envconfig/config_test.go, TestHost; what listens everywhere is reached on this machine."""
    assert str(server_at(text)) == url


@pytest.mark.parametrize("text", ["x:66000", "x:-1", "x:abc", "ftp://x", "me:secret@x:1"])
def test_an_address_that_is_none_is_no_other(text):
    with pytest.raises(RequestError) as refused:
        server_at(text)
    assert "secret" not in str(refused.value)


def test_the_context_is_that_of_the_loaded_model_and_is_asked_for_again(there):
    with slmkit.load("ollama:phi3.5") as model:
        assert (model.name, model.context) == ("ollama:phi3.5", 4096)
        choice = model.chat("Hi", max_tokens=9).choices[0]
    assert (choice.text, choice.reason, choice.usage) == ("A dog.", "stop", Usage(26, 2))
    sent = there.asked[-1].body
    assert sent["options"] == {"num_predict": 9, "num_ctx": 4096}
    assert (sent["truncate"], sent["shift"], sent["model"]) == (False, False, "phi3.5")


def test_a_model_that_is_not_loaded_is_loaded_to_know_its_context(there):
    there.on("GET /api/ps", Answer(body={"models": []}), Answer(body=LOADED))
    there.on("POST /api/generate", ndjson({"model": "phi3.5", "response": "", "done": True, "done_reason": "load"}))
    with slmkit.load(f"ollama:{there.url}#phi3.5") as model:
        assert model.context == 4096
    assert there.asked_at("/api/generate")[0].body == {"model": "phi3.5"}


def test_a_context_that_is_asked_for(there):
    with slmkit.load("ollama:phi3.5", ctx=16384) as model:
        assert model.context == 16384
        model.chat("Hi")
    assert there.asked[-1].body["options"] == {"num_ctx": 16384}
    with pytest.raises(ContextExceeded, match=r"ctx is 200000, and phi3\.5 has a context of 131072"):
        slmkit.load("ollama:phi3.5", ctx=200_000)
    with pytest.raises(OptionError, match="threads; it takes ctx"):
        slmkit.load("ollama:phi3.5", threads=2)


def test_a_server_that_tells_no_context(there):
    there.on("GET /api/ps", Answer(body={"models": [{"name": "phi3.5:latest"}]}))
    there.on("POST /api/generate", ndjson({"done": True}))
    with slmkit.load("ollama:phi3.5") as model:
        model.chat("Hi")
    assert "num_ctx" not in there.asked[-1].body["options"]


LLAMA_CPP = (
    '{"error":{"code":400,"message":"request (2622 tokens) exceeds the available context size (512 tokens), try '
    'increasing it","type":"exceed_context_size_error","n_prompt_tokens":2622,"n_ctx":512}}'
)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("the input length exceeds the context length", "input length"),
        ("the prompt is longer than the context length currently available to the model; shorten the prompt, adjust "
         "the context length in settings, or use a model with a longer context length", "shorten the prompt"),
        (LLAMA_CPP, r"^request \(2622 tokens\) exceeds the available context size \(512 tokens\)"),
    ],
)  # fmt: skip
def test_a_prompt_that_does_not_fit_is_refused_in_the_words_of_every_version(there, said, words):
    there.on("POST /api/chat", Answer(400, {"error": said}))
    with slmkit.load("ollama:phi3.5") as model, pytest.raises(ContextExceeded, match=words):
        model.chat("Hi")


@pytest.mark.parametrize("version", ["0.12.5", "0.1.48", "0.9.0-rc1"])
def test_a_version_that_cuts_prompts_without_a_word_is_refused(there, version):
    there.on("GET /api/version", Answer(body={"version": version}))
    with pytest.raises(RuntimeFailure, match=rf"version {version}, which cuts .* update it to 0\.12\.6 or later"):
        slmkit.load("ollama:phi3.5")


@pytest.mark.parametrize("version", ["0.12.6", "0.13.0-rc0", "1.0.0"])
def test_later_versions_are_not(there, version):
    there.on("GET /api/version", Answer(body={"version": version}))
    slmkit.load("ollama:phi3.5").close()


def test_a_server_that_passes_over_logprobs_is_found_out(there):
    with slmkit.load("ollama:phi3.5") as model, pytest.raises(UnsupportedFeature, match="tells no logprobs"):
        model.chat("Hi", logprobs=2)


def test_a_busy_server_is_asked_again(there):
    busy = Answer(503, {"error": "server busy, please try again. maximum pending requests exceeded"})
    there.on("POST /api/chat", Answer(busy.status, busy.body, {"Retry-After": "0"}), ndjson(PART, END))
    with slmkit.load("ollama:phi3.5") as model:
        assert model.chat("Hi").text == "A dog."
        there.on("POST /api/chat", Answer(busy.status, busy.body, {"Retry-After": "99"}))
        with pytest.raises(Busy, match="server busy"):
            model.chat("Hi")


def test_models_that_are_not_there(there, monkeypatch):
    there.on("GET /api/ps", Answer(body={"models": []}))
    there.on("POST /api/generate", Answer(404, {"error": "model 'nosuch' not found"}))
    with pytest.raises(ModelNotFound, match="model 'nosuch' not found"):
        slmkit.load("ollama:nosuch")
    there.on("GET /api/tags", Answer(body={"models": [{"name": "a:latest"}, {"name": "b:latest"}]}))
    with pytest.raises(ModelNotFound, match="it has a:latest, b:latest; write ADDRESS#MODEL"):
        slmkit.load(f"ollama:{there.url}")
    assert state() == f"a server with 2 models answers at {there.url}"
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    with pytest.raises(Unreachable, match=r"no server answers at http://127\.0\.0\.1:9"):
        slmkit.load("ollama:phi3.5")
    assert "no server answers" in state()


def test_our_own_server_is_one_too(monkeypatch):
    with running(Service(("tiny",), ServeOptions(), LoadOptions(ctx=512))) as url:
        monkeypatch.setenv("OLLAMA_HOST", url.removeprefix("http://"))
        with slmkit.load("ollama:tiny") as model:
            assert model.context == 512
            assert model.chat("Hi", max_tokens=3).text
            with pytest.raises(ContextExceeded):
                model.chat("dog " * 3000)
        with slmkit.load("ollama:tiny", ctx=900) as model, pytest.raises(RequestError, match="--ctx 900"):
            model.chat("Hi")
