"""llama.cpp through its own server, in xllamacpp's prebuilt library: MODEL.gguf THREADS CONTEXT STREAMS."""

from __future__ import annotations

import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import xllamacpp
from driver import Run, serve


def load(path: str, threads: int, context: int, streams: int) -> tuple[Run, dict[str, Any]]:
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx, params.n_parallel, params.verbosity = -(-context // 256) * 256 * streams, streams, 0
    params.n_batch, params.n_ubatch, params.cache_ram_mib = 2048, 512, 0
    params.kv_unified, params.fit_params = False, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)

    def times(ids: list[int], tokens: int) -> list[float]:
        """When each token came."""
        job = {"prompt": ids, "n_predict": tokens + 1, "temperature": 0, "ignore_eos": True, "cache_prompt": False,
               "return_tokens": True, "stream": True}  # fmt: skip
        url, kind = f"{server.listening_address}/completion", {"Content-Type": "application/json"}
        came: list[float] = []
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(job).encode(), kind)) as reply:
            for line in reply:
                if line.startswith(b"data: {"):
                    came += [time.perf_counter()] * len(json.loads(line[6:]).get("tokens", ()))
        if len(came) != tokens + 1:
            raise SystemExit(f"llama.cpp gave {len(came)} tokens instead of {tokens + 1}")
        return came

    def run(prompts: list[list[int]], tokens: int) -> tuple[float, float]:
        with ThreadPoolExecutor(len(prompts)) as pool:
            began = time.perf_counter()
            came = list(pool.map(times, prompts, [tokens] * len(prompts)))
        first = max(each[0] for each in came)
        return first - began, max(each[-1] for each in came) - first

    return run, {"cache_bytes": 2}  # float16


if __name__ == "__main__":
    serve(load)
