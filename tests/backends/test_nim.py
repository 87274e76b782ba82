"""NVIDIA's service and its containers, against what they were seen to answer.

Sources: Alishahryar1/free-claude-code #956 (404 of a model that an account does not have), NVIDIA/NemoClaw #11902 (410
of a model that is still listed), dmMaze/BallonsTranslator #1233 (403), decolua/9router #2527 (400 DEGRADED); NVIDIA's
samples for its vision models (180,000 characters, assets); NIM LLM 2.0.1 reference (health, metadata).
"""

from __future__ import annotations

import base64
import json
import random

import pytest

import slmkit
from recorded_server import Answer, recorded, sse
from slmkit.backends import nim, nim_assets
from slmkit.errors import AccessDenied, ModelNotFound, ModelRetired, RuntimeFailure, UnsupportedFeature

CHAT = "POST /v1/chat/completions"
CHUNK = {"choices": [{"index": 0, "delta": {"content": "A dog."}, "finish_reason": "stop"}]}
MODEL = "microsoft/phi-3.5-vision-instruct"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in (*nim.KEYS, *nim.BASES):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def there():
    with recorded() as server:
        server.on("GET /v1/models", Answer(body={"data": [{"id": MODEL, "owned_by": "microsoft"}]}))
        server.on(CHAT, sse(CHUNK))
        yield server


@pytest.fixture
def hosted(there, monkeypatch):
    """NVIDIA's service, as it would be reached through this machine's name for it."""
    monkeypatch.setattr(nim, "HOSTED", f"{there.url}/v1")
    monkeypatch.setattr(nim, "is_hosted", lambda address: True)
    monkeypatch.setenv("NVIDIA_API_KEY", "nvapi-mine")
    monkeypatch.setattr(nim_assets, "ASSETS", f"{there.url}/v2/nvcf/assets")
    return there


def test_no_key_says_which_were_looked_for():
    with pytest.raises(AccessDenied, match=r"set NVIDIA_API_KEY or NVIDIA_NIM_API_KEY or NIM_API_KEY, or NIM_BASE_URL"):
        slmkit.load("nim:phi3.5-vision")
    assert nim.state().startswith("neither NIM_BASE_URL nor one of NVIDIA_API_KEY")


def test_a_short_name_becomes_nvidias(hosted):
    with slmkit.load("nim:phi3.5-vision") as model:
        assert model.chat("Hi", max_tokens=5).text == "A dog."
        assert model.name == "nim:phi3.5-vision"
        with pytest.raises(UnsupportedFeature, match="top_k"):
            model.chat("Hi", top_k=3)
    assert hosted.asked[-1].body["model"] == MODEL
    assert hosted.asked[-1].headers["Authorization"] == "Bearer nvapi-mine"
    assert "NVIDIA_API_KEY is set" in nim.state()


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (404, {"status": 404, "title": "Not Found", "detail": "Function '12345678-b123': Not found for account 'Ab1'"},
         ModelNotFound, "does not serve it to the account of this key"),
        (410, {"type": "about:blank", "title": "Gone", "status": 410, "detail": f"The model '{MODEL}' has reached its "
               "end of life on 2026-08-07T09:00:00Z and is no longer available."}, ModelRetired, "2026-08-07"),
        (403, {"status": 403, "title": "Forbidden", "detail": "Authorization failed"}, AccessDenied,
         "the key is that of NVIDIA_API_KEY"),
        (400, {"status": 400, "title": "Bad Request", "detail": "Function id '87ea': DEGRADED function cannot be "
               "invoked"}, RuntimeFailure, "does not run the model at the moment"),
        (404, b"404 page not found\n", ModelNotFound, "address ends as it should"),
    ],
)  # fmt: skip
def test_how_it_refuses(hosted, status, body, kind, words):
    hosted.on(CHAT, Answer(status, body))
    with slmkit.load(f"nim:{MODEL}") as model, pytest.raises(kind, match=words) as refused:
        model.chat("Hi")
    assert type(refused.value) is kind
    assert len(hosted.asked_at("/v1/chat/completions")) == 1


def noise(path, side):
    image = pytest.importorskip("PIL.Image")
    pixels = random.Random(side).randbytes(side * side * 3)
    image.frombytes("RGB", (side, side), pixels).save(path)
    return path


def test_small_images_stand_in_the_request(hosted, tmp_path):
    told = []
    with slmkit.load(f"nim:{MODEL}", notice=told.append) as model:
        model.chat("What?", images=[noise(tmp_path / "a.png", 50)])
    part = hosted.asked[-1].body["messages"][0]["content"][0]
    assert part["image_url"]["url"].startswith("data:image/png;base64,")
    assert told == []


def test_images_over_180_kb_are_sent_ahead_as_they_are_and_that_is_said(hosted, tmp_path):
    large, small = noise(tmp_path / "large.png", 260), noise(tmp_path / "small.png", 20)
    place = {"assetId": "7f4c", "uploadUrl": f"{hosted.url}/upload?X-Amz-Signature=s", "contentType": "image/png"}
    hosted.on("POST /v2/nvcf/assets", Answer(body=place))
    hosted.on("PUT /upload", Answer())
    hosted.on("DELETE /v2/nvcf/assets/7f4c", Answer(204))
    told = []
    with slmkit.load(f"nim:{MODEL}", notice=told.append) as model:
        assert model.chat("<|image_2|>\nor <|image_1|>\n?", images=[large, small]).text == "A dog."
    made, sent, asked, gone = hosted.asked[-4:]
    assert made.body == {"contentType": "image/png", "description": "an image for a question"}
    assert (sent.path, sent.body) == ("/upload?X-Amz-Signature=s", large.read_bytes())
    assert "Authorization" not in sent.headers
    assert sent.headers["x-amz-meta-nvcf-asset-description"] == "an image for a question"
    inline = base64.b64encode(small.read_bytes()).decode()
    assert asked.body["messages"][0]["content"] == (
        f'<img src="data:image/png;base64,{inline}" /> or  <img src="data:image/png;asset_id,7f4c" /> ?'
    )
    assert asked.headers["NVCF-INPUT-ASSET-REFERENCES"] == "7f4c"
    assert (gone.method, gone.path) == ("DELETE", "/v2/nvcf/assets/7f4c")
    assert told == ["1 of the images are over 180 KB and were sent ahead, as they are, to NVIDIA's store"]


def test_an_upload_that_fails_leaves_nothing_behind(hosted, tmp_path):
    place = {"assetId": "7f4c", "uploadUrl": f"{hosted.url}/upload?X-Amz-Signature=s"}
    hosted.on("POST /v2/nvcf/assets", Answer(body=place))
    hosted.on("POST /v2/nvcf/assets", Answer(body={}))
    with slmkit.load(f"nim:{MODEL}") as model, pytest.raises(RuntimeFailure, match="no place for an image"):
        model.chat("?", images=[noise(tmp_path / "large.png", 260)])
    hosted.on("POST /v2/nvcf/assets", Answer(body=place))
    hosted.on("PUT /upload", Answer(403, b"<Error>SignatureDoesNotMatch</Error>"))
    hosted.on("DELETE /v2/nvcf/assets/7f4c", Answer(204))
    with slmkit.load(f"nim:{MODEL}") as model, pytest.raises(AccessDenied) as refused:
        model.chat("?", images=[noise(tmp_path / "large.png", 260)])
    assert "Signature=s" not in str(refused.value)
    assert hosted.asked[-1].method == "DELETE"
    assert not hosted.asked_at("/v1/chat/completions")


def test_a_container_of_ones_own_has_health_and_metadata_and_no_key_of_nvidias(there, monkeypatch, tmp_path):
    monkeypatch.setenv("NIM_BASE_URL", f"{there.url}/v1")
    monkeypatch.setenv("NVIDIA_API_KEY", "nvapi-mine")
    ready = {"object": "health.response", "message": "Service is ready."}
    there.on("GET /v1/health/ready", Answer(body=ready))
    there.on("GET /v1/health/live", Answer(body={"object": "health.response", "message": "Service is live."}))
    metadata = {
        "version": "2.0.1", "assetInfo": [], "licenseInfo": {"name": "x", "path": "LICENSE", "sha": "0"},
        "modelInfo": [{"shortName": MODEL, "modelUrl": "ngc://x"}], "selectedModelProfileId": "vllm-bf16-tp1",
        "repository_override": "",
    }  # fmt: skip
    there.on("GET /v1/metadata", Answer(body=metadata))
    with slmkit.load(f"nim:{MODEL}") as model:
        assert model.chat("Hi", images=[noise(tmp_path / "large.png", 260)]).text == "A dog."
        facts = model.describe()
    assert not any("Authorization" in each.headers for each in there.asked)
    assert facts["health"] == {"ready": "Service is ready.", "live": "Service is live."}
    assert facts["metadata"]["selectedModelProfileId"] == "vllm-bf16-tp1"
    assert "assetInfo" not in facts["metadata"]
    assert json.dumps(facts)
    assert nim.state() == f"NIM_BASE_URL is {there.url}/v1: Service is ready."
    there.on("GET /v1/health/ready", Answer(503, {"object": "health.response", "message": "Service is not ready."}))
    began = len(there.asked)
    assert "not ready" in nim.state()
    assert len(there.asked) - began <= 2


def test_an_address_in_the_name(there):
    with slmkit.load(f"nim:{there.url}/v1") as model:
        assert model.describe()["model"] == MODEL
