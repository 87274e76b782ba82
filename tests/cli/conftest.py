"""Running `slm` in this process (slm), in one of its own (slm_process), away from the user's own settings."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import fake_slm
import pytest
from inventory import places  # noqa: F401  a fixture of several files

import slmkit
from slmkit.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def own_settings(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("SLMKIT_") and name not in ("SLMKIT_CACHE_DIR", "SLMKIT_DATA_DIR"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("slmkit.cli.remote.PLACES", ())
    monkeypatch.setenv("SLMKIT_HOST", "127.0.0.1:1")  # where nobody answers, for processes of their own
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


@dataclass
class Outcome:
    code: int
    out: str
    err: str
    models: list[fake_slm.FakeModel] = field(default_factory=list)

    @property
    def model(self) -> fake_slm.FakeModel:
        return self.models[-1]

    def fails(self, code: int, *words: str) -> None:
        """Nothing on stdout, one line on stderr that has these words."""
        assert self.out == ""
        assert self.err.startswith("slm: ")
        assert self.err.count("\n") == 1, self.err
        assert all(word in self.err for word in words), self.err
        assert self.code == code


class Terminal(io.StringIO):
    """Standard input that a person types into."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def real_slm(monkeypatch, capsys) -> Callable[..., Outcome]:
    """real_slm(*argv, stdin=None): stdin is a terminal if None, else the bytes piped in."""

    def run(*argv: str, stdin: bytes | None = None) -> Outcome:
        if stdin is None:
            monkeypatch.setattr(sys, "stdin", Terminal())
            return Outcome(main(argv), *capsys.readouterr())
        read, write = os.pipe()
        assert len(stdin) < 65536  # what a pipe holds
        os.write(write, stdin)
        os.close(write)
        with os.fdopen(read, encoding="utf-8") as piped:
            monkeypatch.setattr(sys, "stdin", piped)
            return Outcome(main(argv), *capsys.readouterr())

    return run


@pytest.fixture
def slm(monkeypatch, real_slm) -> Callable[..., Outcome]:
    """real_slm with fake models."""

    def run(*argv: str, stdin: bytes | None = None) -> Outcome:
        models: list[fake_slm.FakeModel] = []

        def load(name: str, **options: object) -> fake_slm.FakeModel:
            models.append(fake_slm.load(name, **options))
            return models[-1]

        monkeypatch.setattr(slmkit, "load", load, raising=False)
        outcome = real_slm(*argv, stdin=stdin)
        outcome.models = models
        return outcome

    return run


@pytest.fixture
def slm_process() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """slm_process(*argv, **of subprocess.run): a process of its own with the fake model; bytes in and out."""

    def run(*argv: str, **settings: object) -> subprocess.CompletedProcess[bytes]:
        settings = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": 60} | settings
        if "input" in settings:
            del settings["stdin"]
        if "stdout" in settings:
            del settings["capture_output"]
            settings["stderr"] = subprocess.PIPE
        return subprocess.run([sys.executable, str(Path(fake_slm.__file__)), *argv], **settings)

    return run
