"""What `slm doctor` finds, on this machine and on described ones."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import slmkit
from slmkit.catalog import check_machine, check_software
from slmkit.catalog.check_machine import check_cores, check_disk, check_kernels, check_memory, processor
from slmkit.catalog.check_software import (
    ANSWER,
    check_bundled_model,
    check_extras,
    check_network,
    check_ollama,
    check_python,
)
from slmkit.errors import CheckpointError
from slmkit.ops.choose import available

FLAGS = {
    "old": "fpu sse sse2",
    "avx2": "fpu avx2 fma f16c",
    "avx512": "fpu avx2 fma f16c avx512f avx512bw avx512dq avx512vl avx512_vnni",
}


@contextmanager
def saying(text: str):
    """A model that answers so."""
    yield SimpleNamespace(
        chat=lambda *_, **__: SimpleNamespace(text=text), describe=lambda: {"kernel_set": "avx2"}, close=lambda: None
    )


@pytest.mark.parametrize("kernels", available())
def test_the_bundled_model_says_the_known_words_on_every_kernel_set(kernels):
    check = check_bundled_model(lambda name, **options: slmkit.load(name, kernels=kernels, **options))
    assert check.state == "ok", check.found
    assert check.facts["kernels"] == kernels


def test_a_model_that_says_something_else_is_a_problem():
    check = check_bundled_model(lambda name, **options: saying("Once upon a lime"))
    assert check.state == "problem"
    assert "'Once upon a lime'" in check.found
    assert ANSWER in check.found
    assert "--kernels reference" in check.advice


def test_a_damaged_bundled_model_is_a_problem():
    def load(name, **options):
        raise CheckpointError("model.safetensors is cut short")

    check = check_bundled_model(load)
    assert check.state == "problem"
    assert "cut short" in check.found


def cpuinfo(folder: Path, flags: str) -> Path:
    path = folder / "cpuinfo"
    path.write_text(f"processor\t: 0\nmodel name\t: Test 9000\nflags\t\t: {flags}\n\n")
    return path


def test_the_processor_is_named_with_the_features_that_kernels_use(tmp_path):
    assert processor(cpuinfo(tmp_path, FLAGS["avx2"])) == ("Test 9000", ("avx2", "fma", "f16c"))
    assert processor(cpuinfo(tmp_path, FLAGS["old"])) == ("Test 9000", ())


@pytest.mark.parametrize(
    ("flags", "sets", "state", "words"),
    [
        ("avx512", ["avx512", "avx2", "scalar", "reference"], "ok", "avx512"),
        ("avx512", ["avx2", "scalar", "reference"], "note", "build it again with a newer one"),
        ("avx2", ["avx2", "scalar", "reference"], "ok", "avx512 needs avx512f"),
        ("old", ["scalar", "reference"], "note", "avx2 needs avx2, fma, f16c"),
    ],
)
def test_the_kernels_are_named_and_why_there_are_no_better_ones(tmp_path, monkeypatch, flags, sets, state, words):
    info = processor(cpuinfo(tmp_path, FLAGS[flags]))
    monkeypatch.setattr(check_machine, "processor", lambda: info)
    monkeypatch.setattr(check_machine, "available", lambda: sets)
    ops = SimpleNamespace(NAME=sets[0], description=f"{sets[0]}, 2 threads", hint="")
    monkeypatch.setattr(check_machine, "choose", lambda: ops)
    monkeypatch.setattr(check_machine.platform, "machine", lambda: "x86_64")
    check = check_kernels()
    assert check.state == state
    assert words in f"{check.found} {check.advice}"
    assert check.facts == {"chosen": sets[0], "available": sets}


def test_numpy_alone_is_a_problem_with_the_way_to_build(monkeypatch):
    monkeypatch.setattr(check_machine, "available", lambda: ["reference"])
    ops = SimpleNamespace(NAME="reference", description="", hint="install g++")
    monkeypatch.setattr(check_machine, "choose", lambda: ops)
    check = check_kernels()
    assert (check.state, check.advice) == ("problem", "install g++")
    monkeypatch.setattr(check_machine.shutil, "which", lambda name: None)
    assert check_machine.check_compiler().state == "problem"


def test_a_compiler_is_not_needed_where_the_kernels_are_built(monkeypatch):
    monkeypatch.setattr(check_machine, "available", lambda: ["avx2", "scalar", "reference"])
    monkeypatch.setattr(check_machine.shutil, "which", lambda name: None)
    assert check_machine.check_compiler().state == "ok"
    monkeypatch.setattr(check_machine.shutil, "which", lambda name: "/usr/bin/clang++" if name == "clang++" else None)
    assert check_machine.check_compiler().facts == {"path": "/usr/bin/clang++"}


def test_cores_that_this_process_may_not_use_are_noted(monkeypatch):
    monkeypatch.setattr(check_machine, "cores", lambda: 1)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8)
    check = check_cores()
    assert (check.state, check.found) == ("note", "1 to compute with, of 8 in the machine")
    monkeypatch.setattr(check_machine, "cores", lambda: 8)
    assert check_cores().state == "ok"


@pytest.mark.parametrize(("free", "state"), [(3_000_000_000, "ok"), (2_999_999_999, "note")])
def test_memory_for_the_smallest_published_model_is_enough(monkeypatch, free, state):
    monkeypatch.setattr(check_machine, "free_bytes", lambda: free)
    monkeypatch.setattr(check_machine, "total_bytes", lambda: 4_000_000_000)
    check = check_memory()
    assert check.state == state
    assert check.found.startswith("3.0 GB free of 4.0 GB")


def test_a_containers_limit_is_told(monkeypatch):
    monkeypatch.setattr(check_machine, "total_bytes", lambda: 10**9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=64 * 10**9, available=10**9))
    assert "of 1.0 GB that the container may use (64.0 GB in the machine)" in check_memory().found


@pytest.mark.parametrize(("free", "state"), [(12_000_000_000, "ok"), (11_999_999_999, "note")])
def test_room_on_the_disk_of_a_folder_that_is_yet_to_be_made(tmp_path, monkeypatch, free, state):
    monkeypatch.setattr(check_machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    check = check_disk("a cache", tmp_path / "not" / "yet", "SOME_VARIABLE")
    assert check.state == state
    assert check.facts["exists"] is False
    assert ("SOME_VARIABLE" in check.advice) == (state == "note")


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    check = check_disk("a cache", tmp_path, "SOME_VARIABLE")
    assert check.state == "problem"
    assert check.advice == "set SOME_VARIABLE to a folder that you may write to"
    (tmp_path / "file").write_text("")
    monkeypatch.undo()
    assert check_disk("a cache", tmp_path / "file" / "below", "SOME_VARIABLE").state == "problem"


REQUIRES = [
    "numpy>=1.26",
    "jinja2>=3.1.6",
    "tomli>=2; python_version < '3.11'",
    "torch>=2.6; extra == 'train'",
    'pytest>=8; extra == "test"',
]


def installed(monkeypatch, versions: dict[str, str]) -> None:
    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(check_software.metadata, "requires", lambda name: REQUIRES)
    monkeypatch.setattr(check_software.metadata, "version", version)


def test_packages_are_held_against_what_the_installation_requires(monkeypatch):
    installed(monkeypatch, {"numpy": "1.26.0", "jinja2": "3.2"})
    check = check_python()
    assert check.state == "ok"
    assert "numpy 1.26.0, jinja2 3.2" in check.found
    assert check_extras().facts == {"extras": {"train": False, "test": False}}
    assert check_extras().state == "ok"


@pytest.mark.parametrize("versions", [{"numpy": "1.25.9", "jinja2": "3.2"}, {"jinja2": "3.1.6"}])
def test_a_package_that_is_missing_or_too_old_is_a_problem_with_the_line_that_installs_it(monkeypatch, versions):
    installed(monkeypatch, versions)
    check = check_python()
    assert check.state == "problem"
    assert check.advice == "pip install 'numpy>=1.26'"


def test_running_from_a_folder_is_no_problem(monkeypatch):
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(check_software.metadata, "requires", requires)
    assert check_python().state == "note"
    assert check_extras().state == "ok"


def test_ollamas_store_is_counted_and_a_wrong_variable_is_noted(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("slmkit.weights.ollama.store.SERVICE", tmp_path / "none")
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)
    assert check_ollama().found == "none"
    manifest = tmp_path / ".ollama" / "models" / "manifests" / "registry.ollama.ai" / "library" / "phi3" / "mini"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    assert "with 1 model;" in check_ollama().found
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "nowhere"))
    check = check_ollama()
    assert check.state == "note"
    assert "OLLAMA_MODELS" in check.found


def test_a_host_that_does_not_answer_is_a_problem_and_an_address_shows_no_password(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    check = check_network("http://ada:secret@127.0.0.1:9/", timeout_s=2)  # the port of "discard", where nobody listens
    assert check.state == "problem"
    assert "127.0.0.1 cannot be reached" in check.found
    assert "secret" not in str(check.as_dict())
    assert check_network("file:///etc/passwd").state == "problem"


@pytest.mark.skipif(sys.platform != "linux", reason="the file is Linux's")
def test_this_machine_has_a_processor():
    name, _ = processor()
    assert name
    assert check_machine.check_processor().state == "ok"
