"""llm, Simon Willison's command."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from jsonschema import validate

import slmkit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("llm"), reason="llm is not installed"),
]

ASK = "Tell me a story about a cat."
BRIEF = ("-o", "temperature", "0", "-o", "max_tokens", "12")
MODELS = """
- model_id: tiny
  model_name: tiny
  api_base: {base_url}/v1
  supports_schema: true
- model_id: tiny-text
  model_name: tiny
  api_base: {base_url}/v1
  completion: true
- model_id: nosuch
  model_name: nosuch
  api_base: {base_url}/v1
"""


@pytest.fixture
def llm(base_url, tmp_path):
    """Runs the command with settings of its own."""
    (tmp_path / "extra-openai-models.yaml").write_text(MODELS.format(base_url=base_url), "utf-8")
    environment = {**os.environ, "LLM_USER_PATH": str(tmp_path)}
    environment.pop("OPENAI_API_KEY", None)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "llm", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    return run


def printed(done):
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


def test_an_answer_and_the_conversation_that_goes_on(llm):
    with slmkit.load("tiny", ctx=1024) as model:
        said = [{"role": "user", "content": ASK}]
        for words in (("-m", "tiny", ASK), ("-c", "--no-stream", "And then?")):
            said[-1]["content"] = words[-1]
            answer = model.chat(said, temperature=0, max_tokens=12).text
            assert printed(llm(*words, *BRIEF)) == answer != ""
            said += [{"role": "assistant", "content": answer}, {"role": "user", "content": ""}]


def test_a_system_message_and_what_it_cost(llm):
    done = llm("-m", "tiny", "-s", "You are a pirate.", "-u", ASK, *BRIEF)
    with slmkit.load("tiny", ctx=1024) as model:
        said = [{"role": "system", "content": "You are a pirate."}, {"role": "user", "content": ASK}]
        answer = model.chat(said, temperature=0, max_tokens=12)
    assert printed(done) == answer.text
    assert f"{answer.choices[0].usage.prompt_tokens} input, 12 output" in done.stderr


def test_a_text_is_continued(llm):
    with slmkit.load("tiny", ctx=1024) as model:
        ours = model.generate("Once upon a time", temperature=0, max_tokens=12).text
    assert printed(llm("-m", "tiny-text", "Once upon a time", *BRIEF)) == ours


def test_an_answer_matches_a_schema(llm):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "maximum": 99}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    # 200 tokens: llm's own 12 would cut it off
    done = llm("-m", "tiny", "--schema", json.dumps(schema), "A girl called Ann is five.", "-o", "max_tokens", "200")
    validate(json.loads(printed(done)), schema)


def test_a_model_that_is_not_here_is_told_by_name(llm):
    done = llm("-m", "nosuch", ASK)
    assert done.returncode == 1
    assert "there is no model 'nosuch' here" in done.stderr
