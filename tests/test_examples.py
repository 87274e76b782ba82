"""The Python code that a newcomer copies runs as it stands: examples/ and the README's own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import slmkit

ROOT = Path(__file__).parents[1]
README = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
PROGRAMS = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples").glob("*.py"))}
PROGRAMS |= {f"README-{number}": code for number, code in enumerate(README, 1)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_code_that_newcomers_copy_runs_as_it_stands(name, tmp_path):
    package = Path(slmkit.__file__).parents[1]  # as installed, with its kernels, or the source tree under development
    environment = os.environ | {"PYTHONPATH": str(package), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAMS[name]],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.split()) > 5  # words: it said something


def test_the_readme_has_code_to_copy():
    assert README
