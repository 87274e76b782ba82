"""The GGUF twin of random_moe.py, in Q4_0 with random blocks, to time llama.cpp on the same shape.

    python benchmarks/random_moe_gguf.py FOLDER OUT.gguf

FOLDER: of random_moe.py, with a tokenizer that GGUF can hold.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from slmkit.export import _metadata, _tensors, _types
from slmkit.models.gguf_metadata import write_factors
from slmkit.models.gguf_names import gguf_name
from slmkit.sources.find import open_source
from slmkit.weights.gguf.writer import GGUFWriter


def main(folder: str, out: Path) -> None:
    source = open_source(folder)
    tensors = _tensors(source)
    types = _types(tensors, ("Q4_0", "Q8_0"))
    stacks: dict[str, list[str]] = {}
    for name in tensors:
        stacks.setdefault(gguf_name("phimoe", name), []).append(name)
    factors = write_factors(source.config)
    plan = [(name, "F32", values.shape) for name, values in factors.items()]
    for name, (first, *others) in stacks.items():
        shape = tensors[first].shape
        plan.append((name, types[first], (1 + len(others), *shape) if "_exps." in name else shape))
    rng = np.random.default_rng(0)
    with GGUFWriter(out, _metadata(source, types), plan) as writer:
        writer.begin()
        for name, values in factors.items():
            writer.append(name, values)
        for name, type, shape in plan[len(factors) :]:
            pieces = shape[0] if len(shape) == 3 else 1
            if type == "F32":
                writer.append(name, rng.standard_normal(shape, np.float32) * np.float32(0.02))
                continue
            rows, block = (shape[-2], 18 if type == "Q4_0" else 34)
            data = rng.integers(0, 256, (rows, shape[-1] // 32, block), np.uint8)
            scale = np.float16(0.003 if type == "Q4_0" else 0.0002)
            data[..., :2] = np.frombuffer(scale.tobytes(), np.uint8)
            for _ in range(pieces):
                writer.append(name, data.reshape(rows, -1))
        writer.commit()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
