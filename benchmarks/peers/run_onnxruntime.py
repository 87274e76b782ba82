"""ONNX Runtime GenAI, one timed step at a time: MODEL_FOLDER THREADS CONTEXT STREAMS.

All prompts of a run must be of one length (they are).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as genai
from driver import Run, serve


def load(path: str, threads: int, context: int, streams: int) -> tuple[Run, dict[str, Any]]:
    config = genai.Config(path)
    session = {"intra_op_num_threads": threads, "session.intra_op.allow_spinning": "0"}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
    model = genai.Model(config)

    def run(prompts: list[list[int]], tokens: int) -> tuple[float, float]:
        params = genai.GeneratorParams(model)
        length = len(prompts[0]) + tokens + 2
        params.set_search_options(max_length=length, min_length=length, do_sample=False, batch_size=len(prompts))
        ids = np.array(prompts, np.int32)
        generator = genai.Generator(model, params)
        began = time.perf_counter()
        generator.append_tokens(ids if len(prompts) > 1 else ids[0])
        generator.generate_next_token()
        first = time.perf_counter()
        for _ in range(tokens):
            generator.generate_next_token()
        ended = time.perf_counter()
        given = len(generator.get_sequence(0)) - len(prompts[0])
        if generator.is_done() or given != tokens + 1:
            raise SystemExit(f"ONNX Runtime gave {given} tokens instead of {tokens + 1}")
        return first - began, ended - first

    size = sum(file.stat().st_size for file in Path(path).glob("*.onnx*"))
    return run, {"token_bytes": size - embedding_bytes(Path(path)), "cache_bytes": CACHE_BYTES}


CACHE_BYTES = 4  # float32 on a CPU


def embedding_bytes(path: Path) -> int:
    """Of the embedding table; of this, a token reads one row."""
    import onnx

    graph = onnx.load(path / "model.onnx", load_external_data=False).graph
    tables = [t for t in graph.initializer if "embed_tokens" in t.name]
    lengths = [{e.key: e.value for e in t.external_data}.get("length", len(t.raw_data)) for t in tables]
    return sum(int(length) for length in lengths)


if __name__ == "__main__":
    serve(load)
