"""llama.cpp as its source builds for this processor, through llama-cpp-python: MODEL.gguf THREADS CONTEXT STREAMS.

    CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary llama-cpp-python llama-cpp-python

Its prebuilt libraries have no AVX-512. Settings are those of run_llamacpp.py (batch 2048, micro-batch 512, float16
cache, a sequence for each stream). No server: all streams go through one llama_decode a step, chosen greedily.
"""

from __future__ import annotations

import time
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
from driver import Run, serve

BATCH = 2048


def load(path: str, threads: int, context: int, streams: int) -> tuple[Run, dict[str, Any]]:
    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_seq_max, params.kv_unified = -(-context // 256) * 256 * streams, streams, False
    params.n_batch, params.n_ubatch, params.n_threads, params.n_threads_batch = BATCH, 512, threads, threads
    if not model or not (ctx := lib.llama_init_from_model(model, params)):
        raise SystemExit("llama.cpp did not load the model")
    vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    batch = lib.llama_batch_init(BATCH, 0, 1)

    def feed(rows: list[tuple[int, int, int, bool]]) -> dict[int, int]:
        """Of each stream that asks for it, the next token; rows are (token, position, stream, is_asked)."""
        chosen = {}
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            batch.n_tokens = len(part)
            for i, (token, position, stream, is_asked) in enumerate(part):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, is_asked
                batch.seq_id[i][0] = stream
            if lib.llama_decode(ctx, batch):
                raise SystemExit("llama.cpp failed to decode")
            for i, (_, _, stream, is_asked) in enumerate(part):
                if is_asked:
                    logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(ctx, i), (vocabulary,))
                    chosen[stream] = int(logits.argmax())
        return chosen

    def run(prompts: list[list[int]], tokens: int) -> tuple[float, float]:
        lib.llama_memory_clear(lib.llama_get_memory(ctx), True)
        began = time.perf_counter()
        last = feed(
            [
                (token, position, stream, position == len(ids) - 1)
                for stream, ids in enumerate(prompts)
                for position, token in enumerate(ids)
            ]
        )
        first = time.perf_counter()
        for step in range(tokens):
            last = feed([(last[stream], len(ids) + step, stream, True) for stream, ids in enumerate(prompts)])
        return first - began, time.perf_counter() - first

    return run, {"cache_bytes": 2}  # float16


if __name__ == "__main__":
    serve(load)
