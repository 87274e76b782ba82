import importlib
import os
import subprocess
import sys
import time
from statistics import median

import pytest

import slmkit
from slmkit.cli.main import VERBS


def python(*argv, **settings):
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True, timeout=60, **settings)


@pytest.mark.parametrize("argv", [(), ("--help",), ("-h",), ("help",)])
def test_help_names_every_verb_on_stdout(slm, argv):
    shown = slm(*argv)
    assert (shown.code, shown.err) == (0, "")
    assert all(f"\n  {verb} " in shown.out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_file_and_explains_itself(slm, verb):
    assert importlib.import_module(f"slmkit.cli.{verb}").__doc__
    shown = slm("help", verb)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith(f"usage: slm {verb}")


def test_help_tells_the_defaults_of_the_server(slm):
    shown = " ".join(slm("serve", "--help").out.split())
    for words in ("(default 127.0.0.1)", "(0 to 65535, default 8000)", "(default 5m)", "(0 or more, default 25)"):
        assert words in shown


def test_help_is_quick_and_imports_nothing_heavy():
    def seconds() -> float:
        start = time.perf_counter()
        assert python("-m", "slmkit", "--help").returncode == 0
        return time.perf_counter() - start

    # 0.03 s on an idle machine; the rest is room for a busy one.
    assert median(seconds() for _ in range(5)) < 0.5
    heavy = {"numpy", "rich", "jinja2", "tokenizers", "prompt_toolkit", "torch"}
    code = f"""import sys
from slmkit.cli.main import main
for argv in ["--help"], ["run", "--help"], ["config"]:
    assert main(argv) == 0
assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"""
    assert python("-c", code).stderr == ""


def test_version_is_the_packages(slm):
    assert slm("--version").out == f"slm {slmkit.__version__}\n"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["rnu"], ["'rnu' is not a verb", "did you mean run?", "--help"]),
        (["--temperature", "1"], ["--temperature is not an option of slm itself"]),
        (["run", "tiny", "hi", "--temprature", "1"], ["--temprature", "did you mean --temperature?"]),
        (["run", "tiny", "hi", "--max-tok", "1"], ["--max-tok ", "did you mean --max-tokens?"]),
        (["run", "tiny", "-x"], ["-x is not an option", "goes after --"]),
        (["run", "tiny", "tell", "me"], ["'me'", "quotes"]),
        (["run", "tiny", "hi", "--stop"], ["--stop needs a value", "--stop=VALUE"]),
        (["run", "tiny", "hi", "-n"], ["--n needs a value"]),
        (["complete"], ["MODEL is missing"]),
        (["completion", "tcsh"], ["'tcsh'", "bash"]),
    ],
)
def test_wrong_usage_is_one_sentence_with_a_way_out(slm, argv, words):
    slm(*argv).fails(2, *words)


def test_flags_and_arguments_come_in_any_order(slm):
    asked = slm("run", "--seed", "3", "tiny", "--max-tokens=7", "hello", "--stats").model.requests[0]
    assert asked.messages[0].content == "hello"
    assert (asked.options.seed, asked.options.max_tokens) == (3, 7)


@pytest.mark.parametrize("argv", [["-5"], ["- a, b"], ["--", "-x"], ["--seed", "3", "--", "--seed"]])
def test_a_text_may_begin_with_a_dash(slm, argv):
    assert slm("run", "tiny", *argv).model.requests[0].messages[0].content == argv[-1]


def test_an_error_of_the_model_is_its_sentence_and_its_exit_code(slm):
    slm("run", "./broken", "hi").fails(4, "model.safetensors is cut short")
    slm("run", "nobody", "hi").fails(3, "nobody")


def test_a_bug_is_one_line_that_says_how_to_see_more(slm, monkeypatch):
    slm("run", "./bug", "hi").fails(1, "unexpected ZeroDivisionError: by nought", "SLMKIT_DEBUG=1")
    monkeypatch.setenv("SLMKIT_DEBUG", "1")
    assert "Traceback" in slm("run", "./bug", "hi").err


def test_memory_that_the_system_refuses_is_one_sentence(slm, monkeypatch):
    def greedy(*_, **__):
        raise MemoryError("Unable to allocate 20.0 GiB for an array")

    monkeypatch.setattr("slmkit.cli.run.open_model", greedy)
    slm("run", "tiny", "hi").fails(5, "no more memory", "--ctx")


def test_python_m_slmkit_is_slm():
    shown = python("-m", "slmkit", "nope")
    assert shown.returncode == 2
    assert shown.stderr.startswith("slm: 'nope' is not a verb")


def test_a_reader_that_leaves_ends_it_quietly(slm_process):
    read, write = os.pipe()
    os.close(read)
    done = slm_process("run", "tiny", "hi", stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize(
    "argv", [["run", "tiny", "hi"], ["models", "--bandwidth", "34"], ["--help"], ["run", "--help"]]
)
def test_a_full_disk_is_one_line(slm_process, argv):
    with open("/dev/full", "wb") as full:
        done = slm_process(*argv, stdout=full)
    assert done.returncode == 5
    assert done.stderr.decode().startswith("slm: the output could not be written (No space left on device)")
    assert done.stderr.count(b"\n") == 1


def test_a_closed_stderr_keeps_stdout_for_the_answer(slm_process):
    done = slm_process("run", "tiny", "hi", "--top-p", "2", preexec_fn=lambda: os.close(2))
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize(("flags", "code"), [(["--stats"], 0), (["--top-p=2"], 2)])
def test_a_full_stderr_changes_neither_answer_nor_exit_code(slm_process, flags, code):
    with open("/dev/full", "wb") as full:
        done = slm_process("run", "tiny", "hi", *flags, capture_output=False, stdout=subprocess.PIPE, stderr=full)
    assert done.returncode == code
    assert bool(done.stdout) == (code == 0)


def test_ctrl_c_ends_one_answer_with_130(slm_process):
    import signal
    from pathlib import Path

    import fake_slm

    running = subprocess.Popen(
        [sys.executable, str(Path(fake_slm.__file__)), "run", "tiny", "endless"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert running.stdout.read(7) == b"It was "
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (130, b"\n", b"")
