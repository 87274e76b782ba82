"""What rounding the weights costs: KL of the next-token distributions and perplexity, against the model as published.

    python benchmarks/quality.py [MODEL] [--text FILE] [--calibrate FILE|auto] [--llama-cpp LIBRARY]

Only the matrices of the layers are rounded, to float32 numbers that one set of kernels runs, so nothing but the weights
differs. Bits are counted from the packed bytes; of GGUF types, which need rows of 256, from their nominal bits, and
shorter rows are filled with zeros, which take no part in a scale. Q4_K_M is the mix of llama.cpp: qkv in Q5_K, of
down_proj the first and last eighth of the layers and every third in Q6_K, the rest in Q4_K.
LIBRARY: a shared library that exports ggml_quantize_chunk, for the rows of GGUF types.
Without --text: the texts in tests/data/speculation, none of which `--calibrate auto` reads.
"""

from __future__ import annotations

import argparse
import ctypes
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from slmkit.calibrate import Calibrated, calibration_ids
from slmkit.engine.cache import Cache
from slmkit.engine.scheduler import Work
from slmkit.engine.step import assemble
from slmkit.ops.choose import choose
from slmkit.ops.matrix import Matrix
from slmkit.ops.pack import as_f32, unpack
from slmkit.ops.segments import BLOCK
from slmkit.sources.find import open_source
from slmkit.text.prompt import text_prompt
from slmkit.weights.gguf.blocks import BLOCKS, dequantize

TEXTS = Path(__file__).parents[1] / "tests" / "data" / "speculation" / "texts.jsonl"
GGML_TYPES = {"Q4_0": 2, "Q8_0": 8, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14}
PIECE, MOST_TOKENS = 1024, 20_000
Rounding = Callable[[str, np.ndarray], tuple[np.ndarray, float]]  # (name, weights) -> (rounded, bits in all)


class Line:
    """A text as the forward pass sees it."""

    def __init__(self, ids: list[int], blocks: list[int]) -> None:
        self.ids, self.blocks, self.n_cached, self.draft = ids, blocks, 0, []
        self.adapter, self.images = "", None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--text")
    parser.add_argument("--calibrate", default="auto")
    parser.add_argument("--llama-cpp", metavar="LIBRARY")
    args = parser.parse_args()
    source, ops = open_source(args.model), choose("auto", None)
    weights = {name: as_f32(source.tensors.tensor(name)) for name in source.expected}
    texts = texts_of(source, args.text)
    base = log_probabilities(source, weights, texts, ops)
    print(f"{sum(map(len, texts))} tokens; perplexity {perplexity(base, texts):.2f}")
    calibrated = Calibrated(source, calibration_ids(source, args.calibrate), ops)
    roundings: dict[str, Rounding] = {
        f"{format}": lambda name, w, format=format: ours(source.tensors, name, format, ops)
        for format in ("q8", "q4", "q4_s")
    }
    roundings["q4_s calibrated"] = lambda name, w: ours(calibrated, name, "q4_s", ops)
    if args.llama_cpp:
        library = ctypes.PyDLL(args.llama_cpp)
        for type in GGML_TYPES:
            roundings[type] = lambda name, w, type=type: ggml(library, w, type)
        n = source.config.num_hidden_layers
        roundings["Q4_K_M"] = lambda name, w: ggml(library, w, mixed(name, n))
    print("format             bits       KL  perplexity")
    for label, rounding in roundings.items():
        rounded, bits = all_rounded(weights, rounding)
        found = log_probabilities(source, rounded, texts, ops)
        kl = np.mean(np.concatenate([(np.exp(b) * (b - f)).sum(-1) for b, f in zip(base, found, strict=True)]))
        print(f"{label:16} {bits:6.3f} {kl:8.5f} {perplexity(found, texts):11.2f}", flush=True)


def texts_of(source: Any, path: str | None) -> list[list[int]]:
    if path:
        ids = text_prompt(Path(path).read_text(encoding="utf-8"), source.tokenizer).ids[:MOST_TOKENS]
        return [list(ids[i : i + PIECE]) for i in range(0, len(ids) - 1, PIECE)]
    rows = [json.loads(line) for line in TEXTS.read_text(encoding="utf-8").splitlines()]
    return [list(text_prompt(row["prompt"] + row["answer"], source.tokenizer).ids[:PIECE]) for row in rows]


def log_probabilities(source: Any, weights: dict[str, np.ndarray], texts: list[list[int]], ops: Any) -> list[Any]:
    c = source.config
    matrices = {n: Matrix("f32", *w.shape, np.ascontiguousarray(w)) if w.ndim == 2 else w for n, w in weights.items()}
    model = source.family.MODEL(c, matrices, ops)
    cache = Cache(PIECE // BLOCK, c.num_hidden_layers, c.num_key_value_heads, c.head_dim, "f32")
    found = []
    for ids in texts:
        line = Line(ids, cache.take(-(-len(ids) // BLOCK)))
        tokens, step = assemble([Work(line, len(ids))], cache)
        x = model.logits(model.hidden(tokens, step)).astype(np.float64)
        cache.release(line.blocks)
        x -= x.max(-1, keepdims=True)
        found.append(x - np.log(np.exp(x).sum(-1, keepdims=True)))
    return found


def perplexity(found: list[np.ndarray], texts: list[list[int]]) -> float:
    losses = [-x[np.arange(len(ids) - 1), ids[1:]] for x, ids in zip(found, texts, strict=True)]
    return float(np.exp(np.mean(np.concatenate(losses))))


def all_rounded(weights: dict[str, np.ndarray], rounding: Rounding) -> tuple[dict[str, np.ndarray], float]:
    """The weights, those of the layers rounded, and the bits of one of these."""
    rounded, bits, count = dict(weights), 0.0, 0
    for name, w in weights.items():
        if w.ndim == 2 and name.startswith("model.layers."):
            rounded[name], more = rounding(name, w)
            bits, count = bits + more, count + w.size
    return rounded, bits / count


def ours(tensors: Any, name: str, format: str, ops: Any) -> tuple[np.ndarray, float]:
    matrix = tensors.pack_rows(name, slice(0, tensors.shape(name)[0]), format, ops)
    return unpack(matrix), 8 * matrix.nbytes


def ggml(library: Any, w: np.ndarray, type: str) -> tuple[np.ndarray, float]:
    of_block, size = BLOCKS[type]
    rows, k = w.shape
    padded = np.zeros((rows, -(-k // of_block) * of_block), np.float32)
    padded[:, :k] = w
    blocks = np.zeros((rows, padded.shape[1] // of_block * size), np.uint8)
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.ggml_quantize_chunk(
        ctypes.c_int(GGML_TYPES[type]), pointer(padded.ctypes.data), pointer(blocks.ctypes.data),
        count(0), count(rows), count(padded.shape[1]), pointer(None),
    )  # fmt: skip
    return dequantize(blocks, type)[:, :k], 8 * size / of_block * w.size


def mixed(name: str, n_layers: int) -> str:
    """The type that Q4_K_M gives a matrix.   Source: llama_tensor_get_type in llama.cpp."""
    layer = int(name.split(".")[2])
    eighth = n_layers // 8
    more = layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2
    return "Q5_K" if "qkv_proj" in name else "Q6_K" if "down_proj" in name and more else "Q4_K"


if __name__ == "__main__":
    main()
