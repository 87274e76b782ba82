"""Azure's addresses, keys and forms, against what its services were seen to answer.

Sources: learn.microsoft.com, "Azure OpenAI in Microsoft Foundry Models v1 API" (address, api-key, a wrong key);
microsoft/PhiCookBook, md/02.Application/01.TextAndChat/Phi3/E2E_Phi-3-FineTuning_PromptFlow_Integration.md (scoring of
a text, its answer); Azure/azureml-assets, the cards of Phi-3-vision-128k-instruct and Phi-3.5-vision-instruct (scoring
of an image) and phi-3.5-moe-128k-instruct/MLmodel (task chat-completion, the same form).
"""

from __future__ import annotations

import pytest

import slmkit
from recorded_server import Answer, recorded, sse
from slmkit import Message
from slmkit.backends.address import Address, address_of
from slmkit.backends.azure import base_of, headers_of, state
from slmkit.errors import (
    AccessDenied,
    ModelNotFound,
    RequestError,
    RuntimeFailure,
    UnsupportedFeature,
)

VARIABLES = (
    "AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY", "AZURE_INFERENCE_ENDPOINT", "AZURE_INFERENCE_CREDENTIAL",
    "AZURE_AI_API_BASE", "AZURE_AI_API_KEY",
)  # fmt: skip
CHUNK = {"choices": [{"index": 0, "delta": {"content": "A dog."}, "finish_reason": "stop"}]}


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def there():
    with recorded() as server:
        yield server


@pytest.mark.parametrize(
    ("given", "base", "header"),
    [
        ("https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1", "api-key"),
        ("https://r.openai.azure.com/openai/v1/", "https://r.openai.azure.com/openai/v1", "api-key"),
        ("https://r.services.ai.azure.com/models?api-version=2024-05-01-preview",
         "https://r.services.ai.azure.com/openai/v1", "api-key"),
        ("https://n.eastus2.models.ai.azure.com", "https://n.eastus2.models.ai.azure.com/v1", "Authorization"),
        ("https://n.eastus2.inference.ai.azure.com/v1", "https://n.eastus2.inference.ai.azure.com/v1", "Authorization"),
        ("https://e.westus.inference.ml.azure.com/score", "https://e.westus.inference.ml.azure.com/score",
         "Authorization"),
        ("https://gateway.example/azure/v1", "https://gateway.example/azure/v1", "Authorization"),
    ],
)  # fmt: skip
def test_each_kind_of_host_has_its_address_and_its_header(given, base, header):
    address = base_of(address_of(given, "it"))
    assert (address.url, address.query) == (base, {})
    assert set(headers_of(Address(address.url, {}, "k"))) == {header}


def test_a_token_of_entra_id_is_a_bearer_token_everywhere():
    token = "eyJ0.eyJ1.sig"
    assert headers_of(Address("https://r.openai.azure.com/openai/v1", {}, token)) == {
        "Authorization": f"Bearer {token}"
    }


def test_variables_are_looked_for_in_order_and_named(there, monkeypatch):
    with pytest.raises(RequestError, match="AZURE_OPENAI_ENDPOINT and AZURE_OPENAI_API_KEY, or AZURE_INFERENCE_ENDP"):
        slmkit.load("azure:phi")
    assert "none of AZURE_OPENAI_ENDPOINT" in state()
    for n, (endpoint, key) in reversed([*enumerate(zip(VARIABLES[::2], VARIABLES[1::2], strict=True))]):
        monkeypatch.setenv(endpoint, f"{there.url}/{n}/v1")
        with pytest.raises(AccessDenied, match=f"wants a key, and {key} is not set"):
            slmkit.load("azure:phi")
        monkeypatch.setenv(key, f"key-{n}")
        there.on(f"POST /{n}/v1/chat/completions", Answer(401, {"error": {"code": "401", "message": "Access denied"}}))
        with slmkit.load("azure:phi") as model:
            with pytest.raises(
                AccessDenied, match=f"address is that of {endpoint}, the key is that of {key}"
            ) as refused:
                model.chat("Hi")
            assert f"key-{n}" not in str(refused.value) + repr(model.backend.server)
        assert there.asked[-1].headers["Authorization"] == f"Bearer key-{n}"
        assert state() == f"{endpoint} is set, and {key} is"


def test_a_key_is_not_shown_to_another_address(there, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://r.openai.azure.com")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "mine")
    with pytest.raises(AccessDenied, match="AZURE_INFERENCE_CREDENTIAL and AZURE_AI_API_KEY are not set"):
        slmkit.load(f"azure:{there.url}/v1#phi")
    monkeypatch.setenv("AZURE_AI_API_KEY", "of any")
    with pytest.raises(RequestError, match="AZURE_AI_API_KEY has a space"):
        slmkit.load(f"azure:{there.url}/v1#phi")


def test_a_deployment_answers_and_what_is_retired_is_said_before(there, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", f"{there.url}/openai/v1")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "k")
    there.on("POST /openai/v1/chat/completions", sse(CHUNK))
    told = []
    with slmkit.load("azure:Phi-3.5-mini-instruct", notice=told.append) as model:
        assert model.chat("Hi", max_tokens=5).text == "A dog."
    assert told == [
        "Azure's catalogue retired Phi-3.5-mini-instruct as a service on 2025-08-30; a deployment of your own may go on"
    ]
    assert there.asked[-1].body["model"] == "Phi-3.5-mini-instruct"
    with pytest.raises(UnsupportedFeature, match="top_k"), slmkit.load("azure:mine") as model:
        model.chat("Hi", top_k=3)


def test_a_deployment_that_is_not_there(there, monkeypatch):
    # learn.microsoft.com, Azure OpenAI, troubleshooting: DeploymentNotFound
    said = {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}}
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "k")
    there.on("POST /v1/chat/completions", Answer(404, said))
    with slmkit.load(f"azure:{there.url}/v1#nosuch") as model, pytest.raises(ModelNotFound, match="does not exist"):
        model.chat("Hi")
    with pytest.raises(ModelNotFound, match="names no deployment"):
        slmkit.load(f"azure:{there.url}/v1")


@pytest.fixture
def scoring(there, monkeypatch):
    monkeypatch.setenv("AZURE_AI_API_KEY", "k")
    there.on("POST /score", Answer(body={"output": "A dog."}))
    with slmkit.load(f"azure:{there.url}/score") as model:
        yield model


def test_scoring_of_a_text_as_of_a_mixture_of_experts(there, scoring):
    talk = [Message("system", "Be brief."), Message("user", "Hi")]
    answer = scoring.chat(talk, temperature=0.7, max_tokens=128)
    assert (answer.text, answer.choices[0].reason) == ("A dog.", "stop")
    assert there.asked[-1].body == {"input_data": {
        "input_string": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "parameters": {"temperature": 0.7, "max_new_tokens": 128, "do_sample": True},
    }}  # fmt: skip
    assert there.asked[-1].headers["Authorization"] == "Bearer k"
    scoring.chat("Hi", temperature=0.0)
    assert there.asked[-1].body["input_data"]["parameters"] == {"temperature": 0.0, "do_sample": False}


def test_scoring_of_an_image(there, scoring, tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    scoring.chat("What is in this picture?", images=[tmp_path / "a.png"])
    parts = there.asked[-1].body["input_data"]["input_string"][0]["content"]
    assert [part["type"] for part in parts] == ["image_url", "text"]
    assert parts[0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_scoring_by_a_deployment_of_the_endpoint(there, monkeypatch):
    monkeypatch.setenv("AZURE_AI_API_KEY", "k")
    there.on("POST /score", Answer(body={"output": "B"}))
    with slmkit.load(f"azure:{there.url}/score#blue") as model:
        assert model.chat("Hi").text == "B"
    assert there.asked[-1].headers["azureml-model-deployment"] == "blue"


@pytest.mark.parametrize(
    ("options", "named"),
    [({"seed": 1}, "seed"), ({"stop": "x"}, "stop"), ({"top_k": 0}, "top_k"), ({"logprobs": 1}, "logprobs"),
     ({"n": 2}, "many"), ({"presence_penalty": 0.0}, "presence_penalty")],
)  # fmt: skip
def test_what_scoring_has_no_parameter_for_is_refused_by_name(scoring, options, named):
    with pytest.raises(UnsupportedFeature, match=named):
        scoring.chat("Hi", **options)


def test_scoring_that_fails(there, scoring):
    with pytest.raises(UnsupportedFeature, match="completion"):
        scoring.generate("Hi")
    there.on("POST /score", Answer(body={"0": "x"}))
    with pytest.raises(RuntimeFailure, match="another form"):
        scoring.chat("Hi")
    # Azure ML's proxy, where the script of a deployment fails: status 424
    there.on(
        "POST /score", Answer(424, b"An unexpected error occurred in scoring script. Check the logs for more info.")
    )
    with pytest.raises(RequestError, match="unexpected error occurred in scoring script"):
        scoring.chat("Hi")
    scoring.close()
    with pytest.raises(RuntimeFailure, match="closed"):
        scoring.chat("Hi")
