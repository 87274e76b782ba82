"""The clients for JavaScript of OpenAI and Ollama."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("npm"), reason="no npm here")
@pytest.mark.parametrize("package", ["openai", "ollama"])
def test_the_client_is_answered(package, base_url, tmp_path):
    script = f"ask_{package}.mjs"
    shutil.copy(Path(__file__).with_name(script), tmp_path)
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", package]
    subprocess.run(install, cwd=tmp_path, check=True, timeout=300)
    done = subprocess.run(
        ["node", script, base_url], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "all is well", done.stderr
