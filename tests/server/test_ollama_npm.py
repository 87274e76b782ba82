"""Ollama's client for JavaScript."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("npm"), reason="no npm here")
def test_the_client_for_javascript(base_url, tmp_path):
    shutil.copy(Path(__file__).with_name("ask_ollama.mjs"), tmp_path)
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "ollama"]
    subprocess.run(install, cwd=tmp_path, check=True, timeout=300)
    done = subprocess.run(
        ["node", "ask_ollama.mjs", base_url], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "all is well", done.stderr
