"""The command line with the real engine, on a small random checkpoint."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

WEIGHTS = Path(__file__).parents[1] / "reference" / "phi3" / "gqa"
CONTROLS = {"<|endoftext|>": 120, "<|user|>": 121, "<|assistant|>": 122, "<|system|>": 123, "<|end|>": 124}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint with a token for each printable ASCII character and the newline; context 4096."""
    folder = tmp_path_factory.mktemp("checkpoint") / "random"
    shutil.copytree(WEIGHTS, folder)
    # GPT-2's alphabet: the space and the newline are moved up by 256.
    vocab = {chr(code) if code > 32 else chr(code + 256): i for i, code in enumerate([10, *range(32, 127)])}
    added = [{"id": i, "content": text, "special": True, "normalized": False} for text, i in CONTROLS.items()]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    spec = {"added_tokens": added, "normalizer": None, "pre_tokenizer": level, "post_processor": None,
            "decoder": level, "model": {"type": "BPE", "vocab": vocab, "merges": []}}  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    return folder


@pytest.fixture
def run(real_slm, folder):
    """run(verb, *argv) with the checkpoint as the model."""
    return lambda verb, *argv, **settings: real_slm(verb, str(folder), *argv, **settings)


def test_an_answer_is_on_stdout_and_the_same_each_time(run):
    first = run("run", "hi", "--max-tokens", "8", "--ignore-eos", "--quiet")
    assert (first.code, first.err) == (0, "")
    assert len(first.out) > 1
    assert first.out.endswith("\n")
    assert run("run", "--max-tokens=8", "--ignore-eos", stdin=b"hi\n").out == first.out


def test_json_counts_and_ranks(run):
    shown = json.loads(
        run("run", "hi", "--json", "--max-tokens=8", "--ignore-eos", "--beams=3", "-n2", "--logprobs=2").out
    )
    assert shown["usage"]["completion_tokens"] == 16
    better, worse = shown["choices"]
    assert better["score"] >= worse["score"]
    assert [len(choice["tokens"]) for choice in shown["choices"]] == [8, 8]
    assert all(len(token["top"]) == 2 for token in better["tokens"])


def test_complete_continues_after_the_text(run):
    plain = run("complete", "Once ", "--max-tokens", "4", "--ignore-eos").out
    assert run("complete", "Once ", "--max-tokens", "4", "--ignore-eos", "--echo").out == "Once " + plain


def test_the_prompt_and_its_ids_can_be_seen_without_the_weights(run, folder, tmp_path, real_slm):
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(folder / name, tmp_path)
    text = "<|system|>\nBe brief.<|end|>\n<|user|>\nhi<|end|>\n<|assistant|>\n"
    argv = ["render", str(tmp_path), "hi", "--system", "Be brief."]
    assert real_slm(*argv).out == text
    shown = json.loads(real_slm(*argv, "--json").out)
    assert shown["text"] == text
    assert [i for i in shown["ids"] if i >= 120] == [123, 124, 121, 124, 122]
    asked = json.loads(run("run", "hi", "--system", "Be brief.", "--json", "--max-tokens", "1").out)
    assert asked["usage"]["prompt_tokens"] == len(shown["ids"])


def test_control_tokens_in_the_users_text_stay_text_unless_asked(run):
    ids = json.loads(run("render", "a<|end|>", "--json").out)["ids"]
    special = json.loads(run("render", "a<|end|>", "--json", "--parse-special").out)["ids"]
    assert (ids.count(124), special.count(124)) == (1, 2)
    assert run("tokenize", "<|end|>\n", "--specials").out == "    124  <|end|>\n      0  Ċ\n"
    assert json.loads(run("tokenize", "hi<", "--json").out) == {"ids": [73, 74, 29], "pieces": ["h", "i", "<"]}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--max-tokens", "4097"], ["max_tokens is 4097", "4096"]),
        (["--ctx", "8"], ["8 tokens", "context of 8;"]),
        (["--ctx", "4097"], ["4097", "4096"]),
        (["--logit-bias", "128=1"], ["logit_bias names token 128"]),
        (["--beams", "2", "-n", "3"], ["3", "2 beams"]),
        (["--kernels", "avx9000"], ["kernels"]),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run, argv, words):
    run("run", "hi", "--quiet", *argv).fails(2, *words)


def test_a_prompt_over_the_context_has_both_numbers(run):
    run("run", "--quiet", stdin=b"a" * 5000).fails(2, "5006 tokens", "4096")


def test_an_answer_that_fills_the_context_is_shown_and_is_an_error_with_both_numbers(run):
    argv = ["run", "hi", "--ctx", "12", "--ignore-eos", "--quiet"]
    done = run(*argv)
    assert done.code == 2
    assert done.out != ""
    assert done.err.count("\n") == 1
    assert "cut off after 4 tokens: with the prompt's 8 they fill the context of 12;" in done.err
    assert json.loads(run(*argv, "--json").out)["reason"] == "length"
    assert run(*argv, "--max-tokens", "3").code == 0


@pytest.mark.parametrize(
    ("name", "exit_code", "words"),
    [
        ("../nobody", 3, "nobody"),
        ("a/../nobody", 2, "'..'"),
        ("/dev/null", 4, "/dev/null"),
        ("nobody/nothing", 3, "nobody/nothing"),
    ],
)
def test_a_name_that_is_no_model_is_one_sentence(real_slm, name, exit_code, words):
    for verb in ("run", "complete", "render", "tokenize"):
        real_slm(verb, name, "hi").fails(exit_code, words)


@pytest.mark.parametrize("broken", ["tokenizer.json", "model.safetensors", "config.json"])
def test_a_damaged_checkpoint_is_one_sentence(real_slm, folder, tmp_path, broken):
    shutil.copytree(folder, tmp_path / "model")
    file = tmp_path / "model" / broken
    file.write_bytes(file.read_bytes()[:-100])
    real_slm("run", str(tmp_path / "model"), "hi").fails(4, broken)
    file.unlink()
    real_slm("run", str(tmp_path / "model"), "hi").fails(4, broken)


def test_ctrl_c_ends_a_long_answer_at_once(folder):
    running = subprocess.Popen(
        [sys.executable, "-m", "slmkit", "run", str(folder), "hi", "--ignore-eos", "--kernels", "reference", "--quiet"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ,
    )  # fmt: skip
    assert running.stdout.read(1)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (130, b"")
