"""The kernels under sanitizers: every set of this processor against the scalar one, and every op on several threads."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# AVX-512 is built where it can run: with sanitizers that takes minutes. tests/ops compares an emulation everywhere.
HAS_AVX512 = Path("/proc/cpuinfo").exists() and "avx512_vnni" in Path("/proc/cpuinfo").read_text()
SETTINGS = ("-DSLMKIT_COMPARE_SETS=ON", *(() if HAS_AVX512 else ("-Dhas_avx512=OFF",)))
FLAGS = {"address,undefined": ["compare_sets", "compare_threads"], "thread": ["compare_threads"]}


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", FLAGS)
def test_no_kernel_steps_over_an_end_or_races(sanitizer, tmp_path):
    missing = [name for name in ("cmake", "ninja", "g++") if not shutil.which(name)]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing")
    run(["cmake", "-S", ROOT, "-B", tmp_path, "-G", "Ninja", *SETTINGS, f"-DSLMKIT_SANITIZE={sanitizer}"])
    run(["cmake", "--build", tmp_path, "--target", *FLAGS[sanitizer]])
    for program in FLAGS[sanitizer]:
        assert ": 0 of " in run([tmp_path / program])


def run(command) -> str:
    done = subprocess.run(command, text=True, capture_output=True, env=os.environ | {"CXX": "g++"})
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout
