"""Ollama's API, asked by Ollama's own Python client and by hand."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from pathlib import Path

import httpx
import ollama
import pytest

import slmkit

GGUF = Path(__file__).parents[1] / "data" / "gguf"
PATH, NOWHERE = next(GGUF.glob("*.gguf")), "sha256:" + "0" * 64
GREEDY = {"temperature": 0, "num_predict": 12}


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("SLMKIT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def client(base_url):
    with ollama.Client(host=base_url) as client:
        yield client


def refused(reply: httpx.Response, *words: str, status: int = 400) -> None:
    assert reply.status_code == status, reply.text
    error = reply.json()
    assert set(error) == {"error"}
    assert all(word in error["error"] for word in words), error


def test_it_says_that_it_runs_to_clients_and_not_to_browsers(http):
    assert http.get("/").text == "Ollama is running"
    assert http.head("/").status_code == 200
    assert http.get("/", headers={"Accept": "text/html,*/*;q=0.8"}).text != "Ollama is running"
    assert set(http.get("/api/version").json()) == {"version"}


def test_generate_streams_what_it_answers_whole(client):
    whole = client.generate("tiny", "Tell me a story.", options=GREEDY)
    parts = list(client.generate("tiny", "Tell me a story.", options=GREEDY, stream=True))
    assert "".join(part.response for part in parts) == whole.response != ""
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    for last in (whole, parts[-1]):
        assert last.done
        assert last.done_reason == "length"
        assert last.eval_count == 12
        assert last.prompt_eval_count > 3
        assert last.total_duration >= last.eval_duration + last.prompt_eval_duration > 0
        assert last.load_duration >= 0


def test_an_answer_is_a_stream_of_lines_unless_asked_otherwise(http):
    reply = http.post("/api/generate", json={"model": "tiny", "prompt": "Hi", "options": GREEDY})
    assert reply.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in reply.text.splitlines()]
    assert lines[-1]["done"]
    assert {"model", "created_at", "response", "done"} == set(lines[0])


def test_a_body_is_json_whatever_curl_calls_it(http):
    body = json.dumps({"model": "tiny", "prompt": "Hi", "stream": False, "options": GREEDY})
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json"):
        assert http.post("/api/generate", content=body, headers={"Content-Type": kind}).status_code == 200


def test_chat_is_the_same_as_in_python_and_reads_what_was_said(client, base_url):

    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Tell me about a dog."},
    ]
    answer = client.chat("tiny", talk, options=GREEDY)
    assert answer.message.role == "assistant"
    with slmkit.load("tiny", ctx=1024) as model:
        assert answer.message.content == model.chat(talk, temperature=0, max_tokens=12).text
    parts = list(client.chat("tiny", talk, options=GREEDY, stream=True))
    assert "".join(part.message.content for part in parts) == answer.message.content


def test_raw_takes_the_prompt_with_its_control_tokens(client):
    written = "<|user|>\nTell me a story.<|end|>\n<|assistant|>\n"
    raw = client.generate("tiny", written, raw=True, options=GREEDY)
    asked = client.generate("tiny", "Tell me a story.", options=GREEDY)
    assert raw.response.lstrip() == asked.response  # a text that goes on keeps its first space
    asked = client.generate("tiny", "Tell me a story.", options=GREEDY)
    assert raw.prompt_eval_count == asked.prompt_eval_count
    typed = client.generate("tiny", "Hi<|end|>", options=GREEDY)
    assert typed.prompt_eval_count > client.generate("tiny", "Hi", options=GREEDY).prompt_eval_count + 1


def test_the_system_message_is_read(client):
    alone = client.generate("tiny", "Hi", options=GREEDY)
    led = client.generate("tiny", "Hi", system="You are a cat.", options=GREEDY)
    assert led.prompt_eval_count > alone.prompt_eval_count


def test_options_are_those_of_python_by_ollamas_names(client):
    options = {"temperature": 0.9, "top_k": 20, "top_p": 0.8, "min_p": 0.01, "seed": 7, "num_predict": 20,
               "repeat_penalty": 1.3, "repeat_last_n": 8, "presence_penalty": 0.5, "frequency_penalty": 0.25,
               "stop": ["."], "num_ctx": 512, "num_gpu": 0, "num_thread": 2}  # fmt: skip
    answer = client.chat("tiny", [{"role": "user", "content": "Tell me a story."}], options=options)
    with slmkit.load("tiny", ctx=1024) as model:
        same = model.chat("Tell me a story.", temperature=0.9, top_k=20, top_p=0.8, min_p=0.01, seed=7, max_tokens=20,
                          repetition_penalty=1.3, repetition_window=8, presence_penalty=0.5, frequency_penalty=0.25,
                          stop=["."])  # fmt: skip
    assert answer.message.content == same.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temprature": 1}, ["temprature"]),
        ({"temperature": "hot"}, ["temperature", "'hot'"]),
        ({"temperature": -1}, ["temperature", "-1"]),
        ({"num_ctx": 4096}, ["num_ctx is 4096", "1024", "--ctx"]),
        ({"num_ctx": 0}, ["num_ctx"]),
        ({"mirostat": 2}, ["mirostat"]),
        ({"typical_p": 0.5}, ["typical_p"]),
        ({"repeat_last_n": -2}, ["repeat_last_n"]),
        ({"repeat_penalty": True}, ["repeat_penalty"]),
        ({"penalize_newline": False}, ["penalize_newline"]),
        ({"stop": [1]}, ["stop"]),
        ({"seed": 1.5}, ["seed"]),
        ({"num_predict": 5000}, ["5000", "1024"]),
    ],
)
def test_an_option_that_cannot_be_honoured_is_refused_by_name(http, options, words):
    refused(http.post("/api/generate", json={"model": "tiny", "prompt": "Hi", "options": options}), *words)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"suffix": "x"}, ["suffix"]),
        ({"template": "{{ .Prompt }}"}, ["template"]),
        ({"context": [1, 2]}, ["context", "/api/chat"]),
        ({"think": True}, ["think"]),
        ({"shift": True}, ["shift"]),
        ({"format": "yaml"}, ["format", "yaml"]),
        ({"images": ["%%%"]}, ["image 1", "base64"]),
        ({"raw": True, "system": "x"}, ["raw", "system"]),
        ({"top_logprobs": 3}, ["top_logprobs", "logprobs"]),
        ({"logprobs": True, "top_logprobs": 21}, ["top_logprobs"]),
        ({"keep_alive": "soon"}, ["keep_alive", "soon"]),
        ({"nonsense": 1}, ["nonsense"]),
        ({"prompt": 5}, ["prompt"]),
        ({"stream": "no"}, ["stream"]),
    ],
)
def test_a_field_that_cannot_be_honoured_is_refused_by_name(http, fields, words):
    refused(http.post("/api/generate", json={"model": "tiny", "prompt": "Hi", **fields}), *words)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": [{"role": "boss", "content": "x"}]}, ["boss"]),
        ({"messages": [{"role": "user", "content": "x", "thinking": "hm"}]}, ["thinking"]),
        ({"messages": [{"role": "user"}, {"content": "x"}]}, ["messages.1.role"]),
        ({"messages": "hi"}, ["messages"]),
    ],
)
def test_a_conversation_that_is_none_is_refused(http, fields, words):
    refused(http.post("/api/chat", json={"model": "tiny", **fields}), *words)


def test_what_is_no_json_no_model_or_no_name_is_refused(http, client):
    refused(http.post("/api/generate", content=b"{"), "no JSON")
    refused(http.post("/api/generate", content=b'{"model": "tiny", "prompt": "\xff"}'))
    refused(http.post("/api/generate", json={"model": "", "prompt": "x"}), "model is missing")
    refused(http.post("/api/generate", json={"model": "nosuch", "prompt": "x"}), "nosuch", status=404)
    for path in ("/etc/passwd", "../../etc/passwd", "./x", "~/x"):
        refused(http.post("/api/chat", json={"model": path, "messages": []}), status=404)
    with pytest.raises(ollama.ResponseError, match="nosuch") as caught:
        client.generate("nosuch", "x")
    assert caught.value.status_code == 404


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(http):
    reply = http.post("/api/generate", json={"model": "tiny", "prompt": "dog " * 3000})
    refused(reply, "1024")
    assert any(number.isdecimal() and int(number) > 1024 for number in reply.json()["error"].replace(",", " ").split())


def test_an_image_to_a_model_of_text_is_a_400(http):
    image = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
    refused(http.post("/api/generate", json={"model": "tiny", "prompt": "?", "images": [image]}), "text alone")


def test_log_probabilities_add_up_to_what_python_says(client):
    answer = client.generate("tiny", "Tell me a story.", options=GREEDY, logprobs=True, top_logprobs=3)
    assert "".join(entry.token for entry in answer.logprobs).strip() == answer.response.strip()
    for entry in answer.logprobs:
        assert len(entry.top_logprobs) == 3
        assert entry.logprob == entry.top_logprobs[0].logprob <= 0  # greedy takes the likeliest
        assert math.isfinite(entry.logprob)
    parts = list(client.generate("tiny", "Tell me a story.", options=GREEDY, logprobs=True, stream=True))
    assert sum(len(part.logprobs or ()) for part in parts) == 12


def test_format_json_and_a_schema_bind_the_answer(client):
    answer = client.generate("tiny", "A dog as JSON.", format="json", options={"temperature": 0, "num_predict": 60})
    assert answer.done_reason == "length" or isinstance(json.loads(answer.response), dict)
    schema = {"type": "object", "properties": {"age": {"type": "integer", "maximum": 9}}, "required": ["age"],
              "additionalProperties": False}  # fmt: skip
    asked = [{"role": "user", "content": "How old is the dog?"}]
    answer = client.chat("tiny", asked, format=schema, options={"temperature": 0, "num_predict": 60})
    assert set(json.loads(answer.message.content)) == {"age"}


def test_tags_show_and_ps_tell_of_the_model(client):
    client.generate("tiny", "Hi", options=GREEDY)
    tag = next(model for model in client.list().models if model.model == "tiny:latest")
    assert tag.size > 6_000_000
    assert (tag.details.family, tag.details.parameter_size, tag.details.quantization_level) == ("phi3", "3.2M", "BF16")
    assert len(tag.digest) == 64
    shown = client.show("tiny")
    assert shown.modelinfo["general.architecture"] == "phi3"
    assert shown.modelinfo["phi3.context_length"] == 1024
    assert shown.modelinfo["general.parameter_count"] == 3_221_952
    assert "<|assistant|>" in shown.template
    assert "temperature" in shown.parameters
    assert shown.capabilities == ["completion", "tools"]
    assert "MIT License" in shown.license
    assert shown.modelfile.startswith("FROM tiny\n")
    running = next(model for model in client.ps().models if model.name == "tiny:latest")
    assert running.context_length == 1024
    assert running.size > 3_000_000
    assert running.expires_at > tag.modified_at


def test_keep_alive_says_when_a_model_goes(client):
    assert client.generate("tiny:latest", "").done_reason == "load"
    far = client.ps().models[0].expires_at
    client.generate("tiny", "", keep_alive="10s")
    assert client.ps().models[0].expires_at < far
    client.generate("tiny", "", keep_alive=-1)
    assert client.ps().models[0].expires_at.year == 9999
    client.chat("tiny", [], keep_alive="1h30m")
    assert client.ps().models[0].expires_at > far
    assert client.generate("tiny", "", keep_alive=0).done_reason == "unload"
    assert client.ps().models == []
    assert client.chat("tiny", [], keep_alive="5m").done_reason == "load"


def test_a_model_is_made_used_copied_and_removed(client, http):
    made = client.create(
        "my-dog",
        from_="tiny",
        system="You talk about dogs.",
        parameters={"temperature": 0, "num_predict": 7, "stop": ["xyz"]},
        messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Wuff"}],
        license="mine",
    )
    assert made.status == "success"
    answer = client.chat("my-dog", [{"role": "user", "content": "Tell me a story."}])
    assert answer.eval_count == 7
    assert answer.prompt_eval_count > client.chat("tiny", [{"role": "user", "content": "Tell me a story."}],
                                                  options=GREEDY).prompt_eval_count + 8  # fmt: skip
    shown = client.show("my-dog")
    assert shown.details.parent_model == "tiny"
    assert shown.license == "mine"
    assert "You talk about dogs." in shown.modelfile
    assert "num_predict" in shown.parameters
    client.copy("my-dog", "my-cat")
    client.delete("my-dog")
    assert {model.model for model in client.list().models} == {"tiny:latest", "my-cat:latest"}
    assert client.chat("my-cat", [{"role": "user", "content": "Tell me a story."}]).eval_count == 7
    client.create("my-cat", from_="my-cat", parameters={"num_predict": 3})
    assert client.chat("my-cat", [{"role": "user", "content": "Tell me a story."}]).eval_count == 3
    assert "You talk about dogs." in client.show("my-cat").modelfile
    client.delete("my-cat")
    refused(http.post("/api/show", json={"model": "my-cat"}), "my-cat", status=404)


def test_creating_tells_of_its_steps(client):
    statuses = [part.status for part in client.create("my-steps", from_="tiny", stream=True)]
    assert statuses[-1] == "success"
    assert len(statuses) > 1


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"model": "x", "from": "nosuch"}, 404, ["nosuch"]),
        ({"model": "x", "from": "/etc/passwd"}, 404, []),
        ({"model": "../x", "from": "tiny"}, 400, ["../x"]),
        ({"model": "a/b/c", "from": "tiny"}, 400, ["a/b/c"]),
        ({"model": "tiny", "from": "tiny"}, 400, ["tiny", "another name"]),
        ({"model": "phi3.5", "from": "tiny"}, 400, ["phi3.5"]),
        ({"model": "TINY", "from": "tiny"}, 400, ["TINY", "another name"]),
        ({"model": "Phi3.5", "from": "tiny"}, 400, ["Phi3.5", "another name"]),
        ({"model": "microsoft/phi-3.5-mini-instruct", "from": "tiny"}, 400, ["another name"]),
        ({"model": "Ollama-Store:x", "from": "tiny"}, 400, ["Ollama's own store"]),
        ({"model": "OLLAMA:x", "from": "tiny"}, 400, ["another runtime", "ollama:"]),
        ({"model": "x"}, 400, ["from", "files"]),
        ({"model": "x", "from": "tiny", "quantize": "q4_0"}, 400, ["quantize"]),
        ({"model": "x", "from": "tiny", "template": "{{ if 1 }}{{ .Foo }}"}, 400, ["TEMPLATE"]),
        ({"model": "x", "from": "tiny", "parameters": {"top_kk": 1}}, 400, ["top_kk"]),
        ({"model": "x", "files": {"m.gguf": "sha256:" + "0" * 64}}, 400, ["m.gguf", "/api/blobs/"]),
        ({"model": "x", "files": {"m.gguf": "sha256:../../x"}}, 400, ["digest"]),
        ({"model": "x", "modelfile": "FROM tiny\nPARAMETER top_k x"}, 400, ["line 2", "top_k"]),
        ({"model": "x", "modelfile": "FROM tiny\nADAPTER /etc"}, 400, ["ADAPTER", "path"]),
        ({"model": "x", "modelfile": "FROM tiny\nPARAMETER num_gpu nan"}, 400, ["line 2", "num_gpu"]),
        ({"model": "x", "modelfile": f"FROM {PATH}", "files": {"m.gguf": NOWHERE}}, 400, ["files", "modelfile"]),
        ({"model": "x", "modelfile": "FROM tiny", "system": "Be brief."}, 400, ["system", "modelfile"]),
        ({"model": "x", "from": "tiny", "messages": [{"role": "user", "images": [""]}]}, 400, ["images"]),
        ({"model": "x", "from": "tiny", "parameters": {"num_gpu": {"a": 1}}}, 400, ["num_gpu"]),
        ({"model": "x", "from": "tiny", "system": "a" * (9 << 20)}, 400, ["shorten"]),
    ],
)
def test_a_model_that_cannot_be_made_is_refused(http, body, status, words):
    refused(http.post("/api/create", json=body), *words, status=status)
    assert [model["name"] for model in http.get("/api/tags").json()["models"]] == ["tiny:latest"]


def test_a_model_that_was_made_anew_or_removed_is_no_longer_the_old_one_while_that_answers(base_url, http):
    ask = {"model": "busy", "prompt": "Tell me a story.", "options": {"temperature": 0, "num_predict": 900}}
    short = {"model": "busy", "prompt": "Tell me a story.", "stream": False}
    assert http.post("/api/create", json={"model": "busy", "from": "tiny"}).status_code == 200
    with httpx.stream("POST", f"{base_url}/api/generate", json=ask, timeout=60) as reply:
        lines = reply.iter_lines()
        next(lines)
        new = {"model": "busy", "from": "tiny", "parameters": {"num_predict": 3}}
        assert http.post("/api/create", json=new).status_code == 200
        assert http.post("/api/generate", json=short).json()["eval_count"] == 3
        assert http.request("DELETE", "/api/delete", json={"model": "busy"}).status_code == 200
        refused(http.post("/api/generate", json=short), "busy", status=404)
        assert json.loads(list(lines)[-1])["eval_count"] > 100


def test_a_model_that_cannot_be_removed_stays_loaded(http):
    assert http.post("/api/generate", json={"model": "tiny"}).status_code == 200
    refused(http.request("DELETE", "/api/delete", json={"model": "tiny"}), "comes with slmkit")
    assert [model["name"] for model in http.get("/api/ps").json()["models"]] == ["tiny:latest"]


def test_a_modelfile_of_the_first_versions_makes_a_model_too(http, client):
    text = 'FROM tiny\nPARAMETER num_predict 4\nSYSTEM """Be\nbrief."""\n'
    assert http.post("/api/create", json={"name": "old", "modelfile": text}).status_code == 200
    assert client.generate("old", "Tell me a story.").eval_count == 4


def test_files_are_sent_checked_and_made_a_model(client, http, tmp_path):
    path = next(GGUF.glob("*.gguf"))
    digest = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert http.head(f"/api/blobs/{digest}").status_code == 404
    refused(http.post(f"/api/blobs/{digest}", content=b"other"), "SHA-256")
    assert http.head(f"/api/blobs/{digest}").status_code == 404
    assert client.create_blob(path) == digest
    assert http.head(f"/api/blobs/{digest}").status_code == 200
    assert http.post(f"/api/blobs/{digest}", content=b"again").status_code == 200
    refused(http.post("/api/blobs/sha256:..%2F..%2Fx", content=b""), status=404)
    refused(http.post("/api/blobs/md5:0", content=b""), "digest")
    assert [p.name for p in (tmp_path / "data" / "blobs").iterdir()] == [digest.replace(":", "-")]


def test_a_gguf_file_that_was_sent_answers_and_goes_with_its_model(client, tmp_path):
    from slmkit.export import export_gguf
    from slmkit.ops.choose import choose
    from slmkit.sources.find import open_source

    path = tmp_path / "tiny.gguf"
    export_gguf(open_source("tiny"), path, "q8_0", ops=choose("auto", None))
    client.create("sent", files={"tiny.gguf": client.create_blob(path)})
    answer = client.generate("sent", "Tell me a story.", options=GREEDY)
    with slmkit.load(path) as model:
        asked = [{"role": "user", "content": "Tell me a story."}]
        assert answer.response == model.chat(asked, temperature=0, max_tokens=12).text
    assert client.show("sent").details.format == "gguf"
    client.delete("sent")
    assert list((tmp_path / "data" / "blobs").iterdir()) == []


def test_a_folder_that_was_sent_answers_like_it(client, tmp_path):
    from slmkit.weights.locate import locate

    files = {p.name: client.create_blob(p) for p in locate("tiny").path.iterdir()}
    client.create("folder", files=files)
    ours = client.generate("folder", "Tell me a story.", options=GREEDY).response
    assert ours == client.generate("tiny", "Tell me a story.", options=GREEDY).response
    client.delete("folder")
    assert list((tmp_path / "data" / "blobs").iterdir()) == []
    assert list((tmp_path / "data" / "folders").iterdir()) == []


def test_pull_finds_what_is_here_and_says_what_is_not(client, http):
    assert client.pull("tiny").status == "success"
    assert [part.status for part in client.pull("tiny", stream=True)] == ["pulling manifest", "success"]
    refused(http.post("/api/pull", json={"model": "nosuch"}), "nosuch", status=404)
    refused(http.post("/api/pull", json={"model": "tiny", "insecure": True}), "insecure")
    refused(http.post("/api/push", json={"model": "tiny"}), "push")
    refused(http.request("DELETE", "/api/delete", json={"model": "tiny"}), "tiny")


def test_embeddings_are_of_length_1(client, http, tiny):
    answer = client.embed("tiny", ["A dog.", "A cat."])
    found = answer.embeddings
    assert answer.prompt_eval_count == len(tiny.tokenize("A dog.")) + len(tiny.tokenize("A cat."))
    assert [round(math.sqrt(sum(x * x for x in vector)), 4) for vector in found] == [1.0, 1.0]
    assert len(client.embed("tiny", "A dog.", dimensions=8).embeddings[0]) == 8
    assert len(client.embeddings("tiny", "A dog.").embedding) == len(found[0])
    refused(http.post("/api/embed", json={"model": "tiny", "input": ["x", ""]}), "empty")


def test_a_client_that_goes_away_ends_its_answer(base_url, http):
    options = {"num_predict": 900, "temperature": 1.5, "stop": ["\x00"]}
    with httpx.stream(
        "POST", f"{base_url}/api/generate", json={"model": "tiny", "prompt": "x", "options": options}
    ) as r:
        next(r.iter_lines())
    assert http.post("/api/generate", json={"model": "tiny", "keep_alive": "5m"}).status_code == 200
