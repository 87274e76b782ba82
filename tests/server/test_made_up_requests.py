"""schemathesis, over our own OpenAPI document: whatever it makes up, nothing is answered with a 500."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from live_server import running
from slmkit.options import LoadOptions
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions

PULLS = "/api/pull"  # asks other machines
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict")


@pytest.mark.slow
def test_no_request_that_schemathesis_makes_up_is_a_500(tmp_path):
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        pytest.skip("schemathesis is not installed: pip install schemathesis")
    with running(Service(("tiny",), ServeOptions(), LoadOptions(ctx=256))) as url:
        document = tmp_path / "openapi.json"
        document.write_text(json.dumps(answerable(httpx.get(f"{url}/openapi.json").json())))
        done = subprocess.run(
            [
                program, "run", document, "--url", url, "--checks", "not_a_server_error,response_schema_conformance",
                "--phases", "fuzzing", "--max-examples", "40", "--max-time", "45", "--seed", "1",
                "--request-timeout", "30", "--exclude-path", PULLS, "--no-color",
            ],
            capture_output=True, text=True, timeout=300, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.parametrize("keep_alive", [1e300, "9" * 30 + "h", 2**63])
def test_a_time_beyond_all_calendars_is_for_ever(keep_alive):
    """schemathesis found that /api/ps could not say when that is."""
    with running(Service(("tiny",), ServeOptions(), LoadOptions(ctx=64))) as url:
        assert httpx.post(f"{url}/api/generate", json={"model": "tiny", "keep_alive": keep_alive}).status_code == 200
        (running_now,) = httpx.get(f"{url}/api/ps").json()["models"]
    assert running_now["expires_at"].startswith("9999")


def answerable(document):
    """Our document, with a model that is there and short answers: else hardly a request would reach the engine."""
    for schema in document["components"]["schemas"].values():
        properties = schema.get("properties", {})
        if "model" in properties:
            properties["model"] = {"enum": ["tiny"]}
        for name in LIMITS:
            if name in properties:
                properties[name] = {"type": "integer", "minimum": 1, "maximum": 8}
    return document
