"""The NEON kernels on any machine: cross-compiled, and compared with the scalar set under qemu-user."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDS = ("aarch64-linux-gnu-g++", "qemu-aarch64", "cmake", "ninja")
# qemu's name of a processor -> the sets that it runs, best first: with i8mm, with dot products alone, with neither
PROCESSORS = {
    "max": ["neon-i8mm", "neon", "scalar"],
    "cortex-a76": ["neon", "scalar"],
    "cortex-a57": ["scalar"],
}


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    missing = [name for name in NEEDS if not shutil.which(name)]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing (apt-get install g++-aarch64-linux-gnu qemu-user)")
    build = tmp_path_factory.mktemp("neon")
    for command in (
        ["cmake", "-S", ROOT, "-B", build, "-G", "Ninja", "-DSLMKIT_COMPARE_SETS=ON", "-DCMAKE_SYSTEM_NAME=Linux",
         "-DCMAKE_SYSTEM_PROCESSOR=aarch64", "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++",
         "-DCMAKE_EXE_LINKER_FLAGS=-static"],
        ["cmake", "--build", build],
    ):  # fmt: skip
        done = subprocess.run(command, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return build / "compare_sets"


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_the_sets_that_a_processor_runs_are_found_and_equal_the_scalar_one(processor, program):
    done = subprocess.run(["qemu-aarch64", "-cpu", processor, program], text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    sets, *results = done.stdout.splitlines()
    assert sets == " ".join(["sets:", *PROCESSORS[processor]])
    names = [name for name in PROCESSORS[processor] if name != "scalar"]
    assert [line.split(":")[0] for line in results] == names
    assert all(": 0 of " in line for line in results), done.stdout
