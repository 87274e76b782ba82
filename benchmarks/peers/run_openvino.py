"""OpenVINO GenAI, one timed step at a time: MODEL_FOLDER THREADS CONTEXT STREAMS."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai
from driver import Run, serve


def load(path: str, threads: int, context: int, streams: int) -> tuple[Run, dict[str, Any]]:
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size, scheduler.max_num_seqs, scheduler.enable_prefix_caching = 2, 16, False
    scheduler.max_num_batched_tokens = max(2048, context * streams)  # a step is then the whole of every prompt
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    pipeline = openvino_genai.ContinuousBatchingPipeline(path, scheduler, "CPU", settings)
    numbers = itertools.count()

    def run(prompts: list[list[int]], tokens: int) -> tuple[float, float]:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = tokens + 1, True, False
        began = time.perf_counter()
        arrays = [openvino.Tensor(np.array([ids], np.int64)) for ids in prompts]
        handles = [pipeline.add_request(next(numbers), array, config) for array in arrays]
        pipeline.step()
        first = time.perf_counter()
        while pipeline.has_non_finished_requests():
            pipeline.step()
        ended = time.perf_counter()
        for handle in handles:
            given = sum(len(output.generated_ids) for output in handle.read_all())
            if given != tokens + 1:
                raise SystemExit(f"OpenVINO gave {given} tokens instead of {tokens + 1}")
        return first - began, ended - first

    weights = (Path(path) / "openvino_model.bin").stat().st_size
    return run, {"token_bytes": weights - embedding_bytes(Path(path)), "cache_bytes": 1}  # 8 bits by default on a CPU


def embedding_bytes(path: Path) -> int:
    """Of the embedding table's constants; of these, a token reads one row."""
    import xml.etree.ElementTree as ElementTree

    layers = ElementTree.parse(path / "openvino_model.xml").getroot().iter("layer")
    named = [
        layer.find("data")
        for layer in layers
        if layer.get("type") == "Const" and "embed_tokens" in layer.get("name", "")
    ]
    return sum(int(data.get("size", 0)) for data in named if data is not None)


if __name__ == "__main__":
    serve(load)
