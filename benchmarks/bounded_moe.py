"""Decoding of a mixture of experts within a bound of memory: tokens/s, what was read, and what was held.

    python benchmarks/bounded_moe.py FOLDER --memory 10GB [--tokens 12]

The file's pages are dropped from the page cache first. `cached` is what of the file lies in the page cache afterwards,
by mincore, whoever brought it there; the bound is kept if that and the rest of the process are within it.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import time
from pathlib import Path

import numpy as np
import psutil

import slmkit
from slmkit.events import Finished
from slmkit.options import Options
from slmkit.request import Request
from slmkit.weights.safetensors import SafetensorsFile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--memory")
    parser.add_argument("--prompt", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument("--ctx", type=int, default=4096)
    args = parser.parse_args()
    path = args.folder / "model.safetensors"
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    print(f"file {path.stat().st_size / 1e9:.2f} GB, of which {cached(path) / 1e9:.2f} GB cached before")
    began = time.perf_counter()
    with slmkit.load(args.folder, memory=args.memory, ctx=args.ctx, notice=print) as model:
        print(f"loaded in {time.perf_counter() - began:.1f} s")
        options = Options(max_tokens=args.tokens, ignore_eos=True, temperature=0.0, speculate=0)
        ids = tuple((i * 7919 + 13) % 32000 for i in range(args.prompt))
        before = psutil.disk_io_counters()
        (end,) = (e for e in model.events(Request(ids=ids, options=options)) if isinstance(e, Finished))
        read = psutil.disk_io_counters().read_bytes - before.read_bytes
        rest = end.timing.total_s - end.timing.first_token_s
        print(f"first token {end.timing.first_token_s:.2f} s; {(args.tokens - 1) / rest:.3f} tokens/s after it")
        experts = model.backend.loaded.model.experts[0].resident
        if experts:
            print(f"experts: {experts.uses} uses, {experts.misses} misses, {experts.n_bytes / 1e9:.2f} GB held")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(f"read {read / 1e9:.1f} GB; peak resident {peak / 1e9:.2f} GB; cached {cached(path) / 1e9:.2f} GB")


def cached(path: Path) -> int:
    """Bytes of a file that are in the page cache."""
    file = SafetensorsFile(path)
    array = file.view(np.dtype("u1"), (file.identity.size,), 0)
    pages = (ctypes.c_ubyte * (-(-array.nbytes // 4096)))()
    ctypes.CDLL(None).mincore(ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes), pages)
    return 4096 * sum(page & 1 for page in bytes(pages))


if __name__ == "__main__":
    main()
