"""Kills `slm` at random moments of its work and looks at what the next start makes of it.

    python tests/reliability/kills.py pack|quantize|export|pull|all [--kills 50] [--megabytes 200] [--seed 1]

Moments are spread evenly over the time that an undisturbed run takes. One to three kills come in a row; after each,
what lies under a final name must be whole and right; then a run to the end must give the very bytes, and leave nothing
else behind.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import tiny  # noqa: E402
from hub_server import HubServer  # noqa: E402
from slmkit.models import phi3  # noqa: E402
from slmkit.weights.safetensors import SafetensorsWriter  # noqa: E402

REPO = "owner/name"
BUNDLED = ROOT.parent / "src" / "slmkit" / "data" / "tiny"


def make_model(folder: Path, megabytes: int) -> Path:
    """A phi3 of about so many megabytes of bfloat16: random weights, the bundled model's tokenizer."""
    shutil.copytree(BUNDLED, folder)
    (folder / "model.safetensors").unlink()
    tiny.edit_json(folder / "config.json", hidden_size=512, intermediate_size=1408, num_attention_heads=8,
                   num_key_value_heads=8, num_hidden_layers=max(1, round(megabytes * 1e6 / 6.42e6)))  # fmt: skip
    expected = phi3.expected_tensors(phi3.Config.from_dict(json.loads((folder / "config.json").read_text())))
    numbers = np.random.default_rng(1).standard_normal(1 << 20, dtype=np.float32) / 50
    numbers = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    plan = [(name, "BF16", shape) for name, shape in expected.items()]
    with SafetensorsWriter(folder / "model.safetensors", plan, {}) as writer:
        writer.begin()
        for number, (name, _, shape) in enumerate(plan):
            writer.append(name, np.resize(np.roll(numbers, 977 * number), shape))
        writer.commit()
    time.sleep(
        2.1
    )  # younger files have no hash kept (weights/fingerprint.py), and the first run shall be as the others
    return folder


class Work:
    """One kind of work on files, done by `slm` in a process of its own, in a folder that is emptied between rounds."""

    def __init__(self, model: Path, place: Path) -> None:
        self.model, self.place = model, place
        self.expected: dict[str, str] = {}

    command: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        return {"SLMKIT_CACHE_DIR": str(self.place / "cache"), "HOME": str(self.place)}

    def final(self) -> dict[str, str]:
        """Name -> hash of every file that some later start would take for whole."""
        raise NotImplementedError

    def start(self) -> subprocess.Popen[str]:
        command = [part.format(model=self.model, place=self.place) for part in self.command]
        path = os.pathsep.join(part for part in sys.path if part)
        return subprocess.Popen(
            [sys.executable, "-m", "slmkit", *command],
            env={**os.environ, "PYTHONPATH": path, **self.environment()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> str:
        """Run to the end. Gives what it says."""
        process = self.start()
        out, err = process.communicate()
        assert process.returncode == 0, (self.command, process.returncode, err)
        return out

    def empty(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)

    def everything(self) -> set[str]:
        """All files below the place."""
        return {str(path.relative_to(self.place)) for path in self.place.rglob("*") if not path.is_dir()}


class Pack(Work):
    """The first start with a checkpoint packs it into the cache, and answers."""

    command = (
        "complete",
        "{model}",
        "a story",
        "--max-tokens",
        "4",
        "--temperature",
        "0",
        "--ctx",
        "64",
        "--quiet",
        "--quantize",
        "q4",
    )

    def final(self) -> dict[str, str]:
        return hashes(self.place / "cache" / "packed", "*.safetensors")


class Quantize(Work):
    """`slm quantize` into a folder."""

    command = ("quantize", "{model}", "{place}/out", "--to", "q4", "--quiet", "--json")
    said = ""

    def final(self) -> dict[str, str]:
        return hashes(self.place / "out", "model.safetensors")

    def finish(self) -> str:
        """As somebody would who looks first whether the file is there: a kill may come when all is done."""
        if not self.expected or self.final() != self.expected:
            self.said = json.dumps({**json.loads(super().finish()), "seconds": None})
        return self.said


class Export(Quantize):
    """`slm export gguf` into a file."""

    command = ("export", "gguf", "{model}", "{place}/out/model.gguf", "--type", "q8_0", "--quiet", "--json")

    def final(self) -> dict[str, str]:
        return hashes(self.place / "out", "*.gguf")

    def empty(self) -> None:
        super().empty()
        (self.place / "out").mkdir()


class Pull(Work):
    """`slm pull` from a hub on this machine."""

    command = ("pull", REPO, "--quiet")

    def __init__(self, model: Path, place: Path) -> None:
        super().__init__(model, place)
        self.server = HubServer().__enter__()
        self.server.add(REPO, {path.name: path.read_bytes() for path in model.iterdir()})

    def environment(self) -> dict[str, str]:
        hub = {"HF_HOME": str(self.place / "hub"), "HF_ENDPOINT": self.server.url, "HF_HUB_OFFLINE": "0"}
        return {**super().environment(), **hub}

    def final(self) -> dict[str, str]:
        """What a snapshot shows, and blobs without `.incomplete`, which count as whole."""
        found = {}
        for path in (self.place / "hub").rglob("*"):
            hidden = path.name.startswith(".")  # links that are about to be renamed: no loader opens such a name
            if (
                path.is_file()
                and {"snapshots", "blobs"} & set(path.parts)
                and path.suffix != ".incomplete"
                and not hidden
            ):
                found |= hashes(path.parent, path.name)
        return found

    def finish(self) -> str:
        return super().finish().splitlines()[-1]


WORKS: dict[str, Callable[[Path, Path], Work]] = {"pack": Pack, "quantize": Quantize, "export": Export, "pull": Pull}


def hashes(folder: Path, pattern: str) -> dict[str, str]:
    """Name -> SHA-256 of the files in the folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob(pattern))}


def kill(work: Work, rng: random.Random, seconds: float) -> str:
    """Start, and kill after a random part of the time that the whole takes.   Says where it fell."""
    process = work.start()
    try:
        process.communicate(timeout=rng.uniform(0, 1.05 * seconds))
        fell = "after the end"
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        halves = [name for name in work.everything() if name.endswith((".partial", ".incomplete"))]
        fell = "writing" if halves else "done writing" if work.final() == work.expected else "before writing"
    whole = work.final()
    assert whole.items() <= work.expected.items(), f"{work.command[0]}: not whole after a kill: {whole}"
    return fell


def rounds(work: Work, kills: int, seed: int) -> dict[str, Any]:
    """Kill so many times.   Raises AssertionError at the first start that does not come right."""
    rng = random.Random(seed)
    taken = []
    for _ in range(3):  # the machine may have been busy the first time
        work.empty()
        start = time.monotonic()
        said = work.finish()
        taken.append(time.monotonic() - start)
    seconds = min(taken)
    work.expected, files = work.final(), work.everything()
    fell: Counter[str] = Counter()
    rounds_done = 0
    most_left = 0
    while fell.total() < kills:
        work.empty()
        for _ in range(min(rng.randint(1, 3), kills - fell.total())):
            fell[kill(work, rng, seconds)] += 1
            left = work.everything() - files
            most_left = max(most_left, len(left))
        assert work.finish() == said, f"{work.command[0]}: another answer after a kill"
        assert work.final() == work.expected, f"{work.command[0]}: other bytes after a kill"
        kept = {name for name in work.everything() - files if not name.endswith(".lock")}
        assert not kept, f"{work.command[0]}: left over: {kept}"
        rounds_done += 1
    return {
        "work": type(work).__name__.lower(),
        "kills": fell.total(),
        "restarts": rounds_done,
        "seconds": round(seconds, 2),
        "fell": dict(fell),
        "most files left by kills": most_left,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=[*WORKS, "all"])
    parser.add_argument("--kills", type=int, default=50, help="of each work")
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder) / "model", args.megabytes)
        for name in WORKS if args.work == "all" else [args.work]:
            print(json.dumps(rounds(WORKS[name](model, Path(folder) / name), args.kills, args.seed)), flush=True)


if __name__ == "__main__":
    main()
