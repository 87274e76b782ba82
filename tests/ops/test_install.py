"""What an install puts on the machine, with a C++ compiler and without."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def wheel(folder: Path, compiler: str | None) -> Path:
    for package in ("scikit_build_core", "nanobind", "cmake", "ninja"):  # the build's own needs; no network here
        pytest.importorskip(package)
    env = {k: v for k, v in os.environ.items() if k not in ("CXX", "CMAKE_ARGS")}
    if compiler:
        env["CXX"] = compiler
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    built = subprocess.run(command, env=env, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_an_install_with_a_compiler_has_the_kernels(tmp_path):
    path = wheel(tmp_path, None)
    modules = [name for name in zipfile.ZipFile(path).namelist() if "_native." in name and not name.endswith(".pyi")]
    assert len(modules) == 1, modules
    assert "none-any" not in path.name


@pytest.mark.slow
def test_an_install_without_a_compiler_succeeds_with_python_alone(tmp_path):
    path = wheel(tmp_path, str(tmp_path / "no-such-compiler"))
    names = zipfile.ZipFile(path).namelist()
    assert path.name.endswith("py3-none-any.whl")
    assert "slmkit/ops/reference.py" in names
    assert not [name for name in names if name.endswith((".so", ".pyd"))]
