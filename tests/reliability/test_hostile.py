"""No file can hurt: every hostile model ends in one clear sentence, without harm, in 10 s and under 1 GB."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hostile_config
import hostile_files
import hostile_gguf
import hostile_ollama
import hostile_safetensors
import hostile_text
import limits
import pytest
from cases import CANARY, CASES, Case

import slmkit
from slmkit.errors import SlmError

SECONDS, BYTES = 10, 10**9
assert [
    hostile_config,
    hostile_files,
    hostile_gguf,
    hostile_ollama,
    hostile_safetensors,
    hostile_text,
]  # each has put its cases into CASES
if sys.platform == "win32":
    pytest.skip("FIFOs, devices and links to them", allow_module_level=True)


def listed(folder: Path) -> dict[str, Any]:
    """Everything below the folder, with sizes and times of change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        s = os.lstat(path)
        found[str(path.relative_to(folder))] = (s.st_mode, s.st_size, s.st_mtime_ns, s.st_ino)
    return found


def prepared(case: Case, tmp_path: Path) -> tuple[str, Path, dict[str, str]]:
    """The model, its folder, and the environment to meet it in."""
    folder = tmp_path / "folder"
    folder.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    model = str(case.build(folder))
    own = {key: value.format(folder=folder) for key, value in case.environment.items()}
    return model, folder, {
        "HOME": str(home), "SLMKIT_CACHE_DIR": str(home / "cache"), CANARY: str(tmp_path / "canary"), **own
    }  # fmt: skip


def assert_one_sentence(text: str) -> None:
    """One line of a length that people read, that moves no cursor and says what to do or what is wrong."""
    assert text.count("\n") == 0, text
    assert text.isprintable(), text
    assert 20 < len(text) < 1200, (len(text), text)
    assert "Traceback" not in text
    assert "please report it" not in text, text  # the command line's words for an error that nobody foresaw


@contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """Fail instead of hanging."""

    def ring(*_: object) -> None:
        raise AssertionError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def meet_in_child(case: Case, tmp_path: Path) -> limits.Ran:
    """Give the model to the command line in a process of its own, and require what is promised."""
    model, folder, environment = prepared(case, tmp_path)
    before = listed(folder)
    command = [sys.executable, "-m", "slmkit", case.verb, model, case.text, "--quiet", "--max-tokens", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    ran = limits.run([*command, "--ctx", "64"], 3 * SECONDS, 2 * BYTES, environment)
    assert ran.ended == "", ran
    if case.harmless:
        assert (ran.code, ran.stderr) == (0, ""), ran
    else:
        assert ran.code in (2, 3, 4, 5), ran
        assert_one_sentence(ran.stderr.removesuffix("\n"))
        assert ran.stdout.strip() == "", ran
    assert ran.seconds < SECONDS, ran
    assert ran.peak_bytes < BYTES, ran
    assert listed(folder) == before
    assert not (tmp_path / "canary").exists()
    return ran


def meet_here(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same through the Python API in this process, without the measuring."""
    model, folder, environment = prepared(case, tmp_path)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    before = listed(folder)
    error = None
    with alarm(3 * SECONDS):
        try:
            with slmkit.load(model, ctx=64) as loaded:
                ask = loaded.chat if case.verb == "run" else loaded.generate
                ask(case.text, max_tokens=1)
        except SlmError as caught:
            error = caught
    assert (error is None) == case.harmless, error
    if error:
        assert_one_sentence(str(error))
        assert error.exit_code in (2, 3, 4, 5)
    assert listed(folder) == before
    assert not (tmp_path / "canary").exists()


# Half of the quick ones at once, the other half with the slow tests; in children those that take long, and a tenth of
# the quick ones. All of them in children: by_hand.py, some ten minutes.
QUICK = [name for name, case in CASES.items() if not case.slow]
SLOW = [name for name, case in CASES.items() if case.slow]


@pytest.mark.parametrize("name", QUICK[::2])
def test_python_raises_one_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meet_here(CASES[name], tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK[1::2])
def test_python_raises_one_sentence_for_the_others_too(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meet_here(CASES[name], tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW + QUICK[::10])
def test_the_command_line_says_one_sentence_in_10_s_under_1_gb(name: str, tmp_path: Path) -> None:
    meet_in_child(CASES[name], tmp_path)
