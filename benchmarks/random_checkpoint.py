"""Write a checkpoint of a published model's true shape with random weights, to measure speed and memory where real
weights cannot be had.

    python benchmarks/random_checkpoint.py OUT [--model mini|small] [--layers 32] [--seed 0]

bfloat16 shards of four layers, N(0, 0.02), vectors of ones: 7.6 GB of Phi-3.5-mini, 14.8 of Phi-3-small at 32 layers,
made shard by shard. The tokenizer is a byte vocabulary padded to the true size; it only has to load.
"""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path

import numpy as np

from slmkit.models.registry import architecture
from slmkit.weights.safetensors import SafetensorsWriter

CONFIG = {
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "torch_dtype": "bfloat16", "vocab_size": 32064,
    "hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 32, "num_key_value_heads": 32,
    "max_position_embeddings": 131072, "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False, "attention_bias": False,
    "sliding_window": 262144, "bos_token_id": 1, "eos_token_id": 32000, "pad_token_id": 32000,
    # any ascending factors do for speed; the published ones start at 1 and end near 65
    "rope_scaling": {"type": "longrope", "short_factor": np.linspace(1, 2.8, 48).round(3).tolist(),
                     "long_factor": np.geomspace(1.08, 64.8, 48).round(3).tolist()},
}  # fmt: skip
SMALL = {
    "architectures": ["Phi3SmallForCausalLM"], "model_type": "phi3small", "torch_dtype": "bfloat16",
    "vocab_size": 100352, "hidden_size": 4096, "ff_intermediate_size": 14336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "max_position_embeddings": 8192, "bos_token_id": 100257, "eos_token_id": 100257,
}  # fmt: skip
LAYERS_OF_A_SHARD = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", choices=("mini", "small"), default="mini")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    config = {**(CONFIG if args.model == "mini" else SMALL), "num_hidden_layers": args.layers}
    family = architecture(config)
    ends = [32007, 32001, 32000] if args.model == "mini" else [100257, 100266]
    (args.out / "config.json").write_text(json.dumps(config, indent=1))
    (args.out / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    (write_tokenizer if args.model == "mini" else write_tiktoken)(args.out)
    write_weights(args.out, family.expected_tensors(family.Config.from_dict(config)), args.layers, args.seed)


def write_weights(out: Path, shapes: dict[str, tuple[int, ...]], layers: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shards: list[list[str]] = [[] for _ in range(-(-layers // LAYERS_OF_A_SHARD) + 1)]
    for name in shapes:
        parts = name.split(".")
        shards[int(parts[2]) // LAYERS_OF_A_SHARD if parts[1] == "layers" else -1].append(name)
    weight_map = {}
    for i, names in enumerate(shards):
        file = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        with SafetensorsWriter(out / file, [(n, "BF16", shapes[n]) for n in names], {"format": "pt"}) as writer:
            writer.begin()
            for name in names:
                writer.append(name, random_bf16(rng, shapes[name]))
                weight_map[name] = file
            writer.commit()
        print(file, flush=True)
    index = {"metadata": {"total_size": 2 * sum(int(np.prod(s)) for s in shapes.values())}, "weight_map": weight_map}
    (out / "model.safetensors.index.json").write_text(json.dumps(index))


def random_bf16(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """N(0, 0.02), or ones for a norm, as bfloat16 bits (the upper half of a float32)."""
    values = (
        np.ones(shape, np.float32) if len(shape) == 1 else rng.standard_normal(shape, np.float32) * np.float32(0.02)
    )
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def write_tokenizer(out: Path) -> None:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    pieces += [f"<unused{i}>" for i in range(32000 - len(pieces))]
    added = [{"id": i, "content": c, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for i, c in [(32000, "<|endoftext|>"), (32001, "<|assistant|>"), (32006, "<|system|>"),
                                            (32007, "<|end|>"), (32010, "<|user|>")]]  # fmt: skip
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
             "vocab": {p: i for i, p in enumerate(pieces)}, "merges": []}  # fmt: skip
    decoder = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
                 "pre_tokenizer": None, "post_processor": None, "decoder": decoder, "model": model}  # fmt: skip
    (out / "tokenizer.json").write_text(json.dumps(tokenizer))
    (out / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "<|endoftext|>"}))


def write_tiktoken(out: Path) -> None:
    tokens = [bytes([i]) for i in range(256)] + [b"%06d" % i for i in range(100000)]
    lines = [b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(tokens)]
    (out / "cl100k_base.tiktoken").write_bytes(b"".join(lines))
    (out / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}))


if __name__ == "__main__":
    main()
