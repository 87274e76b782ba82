"""Runs a command in a process of its own and watches it: wall time, resident memory of it and its children.

Also a program: `python limits.py SECONDS BYTES COMMAND...` prints one line of JSON. It is started as one because Linux
counts what a process had before exec into its peak, and the tests' own process is large.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 0.02


@dataclass(frozen=True)
class Ran:
    """How it went.   code: exit code, negative for a signal.   ended: "", "time" or "memory" if it was stopped."""

    code: int
    seconds: float
    peak_bytes: int
    ended: str
    stdout: str
    stderr: str


def run(command: Sequence[str], seconds: float, most_bytes: int, environment: Mapping[str, str] | None = None) -> Ran:
    """Run to its end, or to the end of its allowance."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", __file__, str(seconds), str(most_bytes), *command],
        env=environment,
        capture_output=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return Ran(**json.loads(done.stdout))


def _watch(seconds: float, most_bytes: int, command: Sequence[str]) -> Ran:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        child = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
        ended, peak = "", 0
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            peak = max(peak, sum(map(_resident, _family(child.pid))))
            if not ended and (time.monotonic() - start > seconds or peak > most_bytes):
                ended = "memory" if peak > most_bytes else "time"
                os.killpg(child.pid, signal.SIGKILL)
            time.sleep(_TICK_S)
        taken = time.monotonic() - start
        peak = max(peak, usage.ru_maxrss * 1024)  # what came and went between two looks
        code = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read(1 << 20).decode("utf-8", "replace"))
        return Ran(code, taken, peak, ended, *texts)


def _family(pid: int) -> list[int]:
    """The process and all that it started."""
    found = [pid]
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _family(int(child))
    except OSError:  # gone meanwhile
        pass
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


if __name__ == "__main__":
    print(json.dumps(vars(_watch(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))))
