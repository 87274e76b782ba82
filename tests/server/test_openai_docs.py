"""The examples of docs/openai.md run as they stand."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("openai")

PAGE = Path(__file__).parents[2] / "docs" / "openai.md"
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"(?:^(?: {4}.*)?\n)+", PAGE.read_text("utf-8"), re.MULTILINE)]
PYTHON = [block for block in BLOCKS if "import OpenAI" in block and "curl" not in block]
CURL = re.findall(r"^ {4}(curl .*\\\n.*)$", PAGE.read_text("utf-8"), re.MULTILINE)


def test_there_are_examples():
    assert len(PYTHON) + len(CURL) >= 6


@pytest.mark.parametrize("code", PYTHON)
def test_an_example_in_python(base_url, code):
    code = code.replace("http://127.0.0.1:8000", base_url)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
@pytest.mark.parametrize("line", CURL)
def test_an_example_with_curl(base_url, line):
    line = line.replace("http://127.0.0.1:8000", base_url) + " --fail-with-body -s"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert '"usage"' in done.stdout
