"""lm-eval, which scores the choices of a task through /v1/completions."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from importlib.resources import files

import pytest

import slmkit

NEEDED = ("lm_eval", "aiohttp", "tenacity", "transformers")  # lm-eval[api], and transformers to count tokens with
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, NEEDED)), reason="lm-eval[api] and transformers are not installed"
    ),
]

QUESTIONS = [  # the model gets some of them wrong
    ("Once upon a", [" time", " dog", " seven"], 0),
    ('The cat said: "I am', [" ing", " very hungry", " Bella"], 1),
    ("Tom was happy. Tom", [" blue", " the", " smiled"], 2),
    ("They played in the", [" under", " garden all day", " was", " sad"], 1),
    ("The little bird could not", [" and", " fly", " green"], 1),
    ("Two and two make", [" a", " four"], 1),
]
TASK = """
task: toy
dataset_path: json
dataset_kwargs: {{data_files: {{test: {questions}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
target_delimiter: ""
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture(scope="module")
def ours():
    """The log probability of each choice of each question, and whether a greedy answer would be it."""
    with slmkit.load("tiny", ctx=1024) as model:

        def scored(text, choice):
            read = model.generate(text + choice, prompt_logprobs=1, max_tokens=1).prompt
            tokens = read[len(model.tokenize(text)) :]
            return sum(token.logprob for token in tokens), all(token.id == token.top[0].id for token in tokens)

        return [[scored(text, choice) for choice in choices] for text, choices, _ in QUESTIONS]


@pytest.mark.parametrize(("as_ids", "batch_size"), [(True, 4), (False, 1)])
def test_choices_are_scored_as_python_scores_them(base_url, tmp_path, ours, as_ids, batch_size):
    lines = [json.dumps({"text": text, "choices": choices, "label": label}) for text, choices, label in QUESTIONS]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines), "utf-8")
    (tmp_path / "toy.yaml").write_text(TASK.format(questions=tmp_path / "questions.jsonl"), "utf-8")
    told = {
        "model": "tiny",
        "base_url": f"{base_url}/v1/completions",
        "tokenizer": files("slmkit") / "data" / "tiny",
        "tokenizer_backend": "huggingface",
        "tokenized_requests": as_ids,
    }
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "local-completions", "--tasks", "toy"]
    command += ["--model_args", ",".join(f"{name}={value}" for name, value in told.items())]
    command += ["--include_path", tmp_path, "--output_path", tmp_path / "out", "--log_samples"]
    command += ["--batch_size", str(batch_size)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr

    (path,) = (tmp_path / "out").rglob("samples_toy_*.jsonl")
    samples = sorted(map(json.loads, path.read_text("utf-8").splitlines()), key=lambda sample: sample["doc_id"])
    theirs = [[(float(score), greedy == "True") for score, greedy in each["filtered_resps"]] for each in samples]
    assert theirs == ours

    best = [max(range(len(scores)), key=lambda n: scores[n][0]) for scores in ours]
    right = [float(choice == label) for choice, (_, _, label) in zip(best, QUESTIONS, strict=True)]
    assert [sample["acc"] for sample in samples] == right
    assert {0.0, 1.0} == set(right)
    (path,) = (tmp_path / "out").rglob("results_*.json")
    assert json.loads(path.read_text("utf-8"))["results"]["toy"]["acc,none"] == pytest.approx(sum(right) / len(right))
