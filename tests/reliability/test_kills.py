"""Kill -9 at random moments: the next start comes right, and no half-written model ever loads. By hand: kills.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("SIGKILL", allow_module_level=True)

import kills


@pytest.mark.slow
@pytest.mark.parametrize("name", kills.WORKS)
def test_after_kills_at_random_moments_the_next_start_comes_right(name: str, tmp_path: Path) -> None:
    model = kills.make_model(tmp_path / "model", megabytes=100)
    done = kills.rounds(kills.WORKS[name](model, tmp_path / "place"), kills=5, seed=7)
    assert done["kills"] == 5
    assert done["most files left by kills"] <= 2  # the half-written file, and a lock: they do not add up


def test_the_harness_sees_a_file_that_is_not_whole(tmp_path: Path) -> None:
    """Else it would find nothing wrong with anything."""

    class Sloppy(kills.Work):
        """Writes under the final name, as `open(path, "wb")` does."""

        def final(self) -> dict[str, str]:
            return kills.hashes(self.place, "model.safetensors")

        def start(self):  # type: ignore[no-untyped-def]
            import subprocess

            program = (
                "import sys, time\n"
                "with open(sys.argv[1], 'wb', buffering=0) as f:\n"
                "    for i in range(100): f.write(b'x'); time.sleep(0.005)\n"
            )
            command = [sys.executable, "-c", program, str(self.place / "model.safetensors")]
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    Sloppy.command = ("sloppy",)
    with pytest.raises(AssertionError, match="sloppy: not whole after a kill"):
        kills.rounds(Sloppy(tmp_path, tmp_path / "place"), kills=20, seed=1)
