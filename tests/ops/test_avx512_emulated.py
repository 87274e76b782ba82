"""The AVX-512 kernels on any machine: compiled on SIMDe's emulation, then all tests of the ops run with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIMDE = Path("/usr/include/simde/x86/avx512.h")


def python(*args: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], env=os.environ | {"PYTHONPATH": str(path)}, cwd=ROOT, text=True, capture_output=True
    )


@pytest.mark.slow
def test_the_avx512_kernels_pass_every_test_of_the_ops(tmp_path):
    pytest.importorskip("nanobind")
    if not SIMDE.exists() or not shutil.which("cmake") or not shutil.which("ninja"):
        pytest.skip("needs libsimde-dev, cmake, ninja and nanobind")
    build, package = tmp_path / "build", tmp_path / "package"
    subprocess.run(
        ["cmake", "-S", ROOT, "-B", build, "-G", "Ninja", "-DSLMKIT_EMULATE_AVX512=ON",
         "-Dhas_avx512=OFF", f"-DPython_EXECUTABLE={sys.executable}"], check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(["cmake", "--build", build], check=True, capture_output=True)
    shutil.copytree(ROOT / "src" / "slmkit", package / "slmkit", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for module in build.glob("_native*"):
        shutil.copy(module, package / "slmkit" / "ops")

    names = python("-c", "from slmkit.ops import native; print(*native.kernel_sets())", path=package)
    assert "avx512-emulated" in names.stdout.split(), names.stdout + names.stderr
    tests = python("-m", "pytest", "-p", "no:cacheprovider", "-q", "tests/ops", path=package)
    assert tests.returncode == 0, tests.stdout[-5000:]
