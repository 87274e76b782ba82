"""Tiny random `phi3` checkpoints, as ordinary Hugging Face folders under the published tensor names."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from phi3_variations import head_dim
from safetensors.numpy import save_file

Tensors = dict[str, np.ndarray]

# With normalized inputs this gives scores q.k / sqrt(head_dim) a deviation of about 1.2, before LongRoPE sharpens
# them: enough that a wrong angle or a key too many moves the logits by a tenth and more. With 1.6 in place of 1.1
# rounding grew fourfold for no better sight.
QUERY_KEY_DEVIATION = 1.1
# Small enough that the first norm divides by a mean square of 0.01, where an epsilon of 1e-6 for 1e-5 shows.
EMBEDDING_DEVIATION = 0.1


def random_tensors(config: dict[str, Any], seed: int, full_precision: bool) -> Tensors:
    """Every tensor of the checkpoint in float32; lm_head.weight only if the head is not tied.

    Without full_precision all values are exact in bfloat16 and in float16 too.
    """
    rng = np.random.default_rng(seed)
    hidden, ff, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    n_q, n_kv = config["num_attention_heads"] * head_dim(config), config["num_key_value_heads"] * head_dim(config)

    def normal(rows: int, columns: int, deviation: float) -> np.ndarray:
        return rng.standard_normal((rows, columns)) * deviation

    def norm() -> np.ndarray:
        return 1.0 + 0.25 * rng.standard_normal(hidden)

    tensors = {"model.embed_tokens.weight": normal(vocab, hidden, EMBEDDING_DEVIATION)}
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        tensors |= {
            f"{name}.input_layernorm.weight": norm(),
            f"{name}.self_attn.qkv_proj.weight": normal(n_q + 2 * n_kv, hidden, QUERY_KEY_DEVIATION / hidden**0.5),
            f"{name}.self_attn.o_proj.weight": normal(hidden, n_q, 0.4 / n_q**0.5),
            f"{name}.post_attention_layernorm.weight": norm(),
            f"{name}.mlp.gate_up_proj.weight": normal(2 * ff, hidden, 1.2 / hidden**0.5),
            f"{name}.mlp.down_proj.weight": normal(hidden, ff, 0.6 / ff**0.5),
        }
    tensors["model.norm.weight"] = norm()
    head = "model.embed_tokens.weight"
    if not config["tie_word_embeddings"]:
        head = "lm_head.weight"
        tensors[head] = normal(vocab, hidden, 1.6 / hidden**0.5)
    # Ids from the end-of-text on, and the first three, are special: kept quiet, so that greedy text goes on.
    tensors[head][config["eos_token_id"] :] *= 0.25
    tensors[head][:3] *= 0.25
    tensors = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    return tensors if full_precision else {name: half_exact(tensor) for name, tensor in tensors.items()}


def half_exact(x: np.ndarray) -> np.ndarray:
    """float32 values rounded to the nearest that bfloat16 holds; those below float16's range become 0."""
    bits = x.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return np.where(np.abs(rounded) < 2.0**-17, np.float32(0), rounded)


def write_checkpoint(folder: Path, config: dict[str, Any], tensors: Tensors, n_shards: int) -> None:
    """config.json, generation_config.json, and one model.safetensors or shards with their index."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    eos = config["eos_token_id"]
    write_json(
        folder / "generation_config.json",
        {
            "_from_model_config": True,
            "bos_token_id": config["bos_token_id"],
            "eos_token_id": [eos, eos + 1, eos + 7],
            "pad_token_id": config["pad_token_id"],
            "transformers_version": config["transformers_version"],
        },
    )
    if n_shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map = {}
    for shard in range(n_shards):
        file = f"model-{shard + 1:05}-of-{n_shards:05}.safetensors"
        part = dict(list(tensors.items())[shard * len(tensors) // n_shards : (shard + 1) * len(tensors) // n_shards])
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))},
    )


def write_json(path: Path, value: Any) -> None:
    """Indented, but with each list of numbers on one line."""
    text = json.dumps(value, indent=2)
    text = re.sub(r"\[[-+.\de,\s]+\]", lambda numbers: f"[{' '.join(numbers[0][1:-1].split())}]", text)
    path.write_text(text + "\n", encoding="utf-8")
