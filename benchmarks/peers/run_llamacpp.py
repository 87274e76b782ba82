"""llama.cpp, through llama-cpp-python's layer over its C functions: MODEL.gguf THREADS CONTEXT."""

from __future__ import annotations

import time
from typing import Any

import llama_cpp.llama_cpp as llama
from driver import Run, serve


def load(path: str, threads: int, context: int) -> tuple[Run, dict[str, Any]]:
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    if not model:
        raise SystemExit(f"llama.cpp does not load {path}")

    def run(prompts: list[list[int]], tokens: int) -> tuple[float, float]:
        length, streams = len(prompts[0]), len(prompts)
        settings = llama.llama_context_default_params()
        settings.n_ctx = -(-(length + tokens + 1) // 256) * 256 * streams
        settings.n_batch, settings.n_ubatch, settings.n_seq_max = 2048, 512, streams
        settings.n_threads = settings.n_threads_batch = threads
        state = llama.llama_init_from_model(model, settings)
        try:
            began = time.perf_counter()
            rows = [(ids[i], i, s, i == length - 1) for s, ids in enumerate(prompts) for i in range(length)]
            for at in range(0, len(rows), 2048):
                decode(state, rows[at : at + 2048])
            first = time.perf_counter()
            for i in range(tokens):
                decode(state, [(300 + 7 * i + s, length + i, s, True) for s in range(streams)])
            return first - began, time.perf_counter() - first
        finally:
            llama.llama_free(state)

    return run, {}


def decode(state: Any, rows: list[tuple[int, int, int, bool]]) -> None:
    """One pass over (token, position, stream, whether its logits are wanted)."""
    batch = llama.llama_batch_init(len(rows), 0, 1)
    batch.n_tokens = len(rows)
    for i, (token, position, stream, wanted) in enumerate(rows):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, wanted
        batch.seq_id[i][0] = stream
    failed = llama.llama_decode(state, batch)
    llama.llama_synchronize(state)
    llama.llama_batch_free(batch)
    if failed:
        raise SystemExit(f"llama_decode returned {failed}")


if __name__ == "__main__":
    serve(load)
