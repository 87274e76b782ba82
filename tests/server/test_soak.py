"""A minute of many clients; twenty of them by hand: benchmarks/soak.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.mark.slow
def test_a_minute_of_clients_loses_and_mixes_up_nothing():
    done = subprocess.run([sys.executable, SOAK, "--seconds", "60"], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every answer is the one that its request gets alone" in done.stdout
