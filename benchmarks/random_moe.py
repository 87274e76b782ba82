"""A Phi-3.5-MoE of true width with random weights, written straight as packed 4 bits, a tensor at a time.

    python benchmarks/random_moe.py OUT [--layers 32] [--tokenizer FOLDER]

Every matrix of a shape is one of a few that were packed once: the bytes on disk are as many as the real ones', and a
product takes as long. Its router draws at random, so that every expert is as likely as any other: no cache of experts
can do well on it (benchmarks/expert_cache.py has skewed routes).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np

from slmkit.models.phimoe import Config, expected_tensors
from slmkit.ops.choose import choose
from slmkit.weights.packed import packed_metadata, packed_plan, recipe_formats
from slmkit.weights.safetensors import SafetensorsWriter

VARIANTS = 4
PAIRS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--tokenizer", type=Path, help="a folder whose tokenizer files are taken along")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    raw = config(args.layers)
    (args.out / "config.json").write_text(json.dumps(raw, indent=2))
    (args.out / "generation_config.json").write_text(json.dumps({"eos_token_id": [32000, 32001, 32007]}))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if args.tokenizer:
            shutil.copy(args.tokenizer / name, args.out / name)
    expected = expected_tensors(Config.from_dict(raw))
    formats = recipe_formats(expected, "q4")
    ops, rng, packed = choose(), np.random.default_rng(0), {}
    plan, metadata = packed_plan(expected, formats), packed_metadata(expected, formats, "q4", "0" * 64)
    with SafetensorsWriter(args.out / "model.safetensors", plan, metadata) as writer:
        writer.begin()
        for number, (name, format) in enumerate(formats.items()):
            shape = expected[name]
            if format is None:
                writer.append(name, vector(name, shape, rng))
                continue
            key = (shape, format, number % VARIANTS)
            if key not in packed:
                weights = rng.standard_normal(shape, np.float32) * np.float32(0.6 / shape[1] ** 0.5)
                packed[key] = ops.pack(weights, format)
            matrix = packed[key]
            writer.append(f"{name}.{format}", matrix.data)
            if matrix.scale is not None:
                writer.append(f"{name}.scale", matrix.scale)
        writer.commit()


def vector(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if name.endswith("norm.weight"):
        return np.ones(shape, np.float32)
    scale = 1.0 if len(shape) == 1 else shape[1] ** -0.5
    return rng.standard_normal(shape, np.float32) * np.float32(0.02 if len(shape) == 1 else scale)


def config(layers: int) -> dict[str, object]:
    mscale = 1.243163121016122
    return {
        "architectures": ["PhiMoEForCausalLM"], "model_type": "phimoe", "vocab_size": 32064, "hidden_size": 4096,
        "intermediate_size": 6400, "num_hidden_layers": layers, "num_attention_heads": 32, "num_key_value_heads": 8,
        "num_local_experts": 16, "num_experts_per_tok": 2, "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "attention_bias": True, "lm_head_bias": True, "tie_word_embeddings": False, "sliding_window": 131072,
        "router_jitter_noise": 0.01, "bos_token_id": 1, "eos_token_id": 32000, "torch_dtype": "bfloat16",
        "rope_scaling": {
            "type": "longrope", "short_factor": [1.0] * PAIRS, "long_factor": [1.0 + 0.6 * i for i in range(PAIRS)],
            "short_mscale": mscale, "long_mscale": mscale, "original_max_position_embeddings": 4096,
        },
    }  # fmt: skip


if __name__ == "__main__":
    main()
