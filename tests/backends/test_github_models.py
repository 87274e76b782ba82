"""GitHub Models: retired, which is said without asking, and by any server that answers as GitHub's did.

Source of the body: symfony/ai #2490 and others (code github_models_retirement_brownout, "temporarily unavailable").
"""

from __future__ import annotations

import pytest

import slmkit
from recorded_server import Answer, recorded, sse
from slmkit.backends.github import state
from slmkit.errors import ModelRetired

GONE = {"error": {
    "code": "github_models_retirement_brownout",
    "message": "GitHub Models is temporarily unavailable as part of a planned retirement brownout.",
}}  # fmt: skip


@pytest.fixture
def there(monkeypatch):
    monkeypatch.delenv("SLMKIT_API_KEY", raising=False)
    monkeypatch.setenv("GITHUB_TOKEN", "ghp-mine")
    with recorded() as server:
        yield server


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("microsoft/Phi-3-mini-4k-instruct", r"slm run phi3\)"),
        ("Phi-3.5-MoE-instruct", r"slm run phi3.5-moe\)"),
        ("openai/gpt-4o", "slm models"),
        ("https://models.github.ai/inference#microsoft/Phi-3.5-mini-instruct", r"slm run phi3.5\)"),
        ("https://models.inference.ai.azure.com#x", "azure:DEPLOYMENT or nim:MODEL"),
    ],
)
def test_it_is_said_before_anything_is_asked(name, instead):
    with pytest.raises(ModelRetired, match=rf"retired on 2026-07-30, .*{instead}"):
        slmkit.load(f"github:{name}")
    assert "2026-07-30" in state()


def test_the_misleading_body_is_understood_and_never_asked_for_again(there):
    there.on("GET /inference/models", Answer(410, GONE, {"Retry-After": "0"}))
    with pytest.raises(ModelRetired, match=r"answers nothing any more; run it here \(slm run phi3\)"):
        slmkit.load(f"github:{there.url}/inference#microsoft/Phi-3-mini-4k-instruct")
    there.on("GET /inference/models", Answer(404, b""))
    there.on("POST /inference/chat/completions", Answer(410, GONE))
    with slmkit.load(f"github:{there.url}/inference#x") as model, pytest.raises(ModelRetired) as refused:
        model.chat("Hi")
    assert "temporarily" not in str(refused.value)
    assert [each.method for each in there.asked] == ["GET", "GET", "POST"]


def test_another_server_of_the_api_answers_and_is_not_shown_githubs_token(there):
    there.on("POST /inference/chat/completions", sse(
        {"choices": [{"index": 0, "delta": {"content": "A dog."}, "finish_reason": "stop"}]}))  # fmt: skip
    with slmkit.load(f"github:{there.url}/inference#x") as model:
        assert model.chat("Hi").text == "A dog."
    assert not any("Authorization" in each.headers for each in there.asked)
