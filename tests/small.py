"""Tiny random `phi3small` checkpoints, made anew for each run of the tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from slmkit.models.phi3_small import expected_tensors
from slmkit.models.phi3_small_config import Config
from slmkit.weights.safetensors import SafetensorsWriter

if TYPE_CHECKING:
    from pathlib import Path

# Sparse from the third block of 32 on: with 8 heads for 2 key/value heads and a stride of 8, as published, half of the
# blocks are lost from sight to each of them.
CONFIG: dict[str, Any] = {
    "architectures": ["Phi3SmallForCausalLM"], "model_type": "phi3small", "torch_dtype": "float32", "vocab_size": 128,
    "hidden_size": 64, "ff_intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 2, "max_position_embeddings": 4096, "hidden_act": "gegelu", "gegelu_limit": 2.0,
    "layer_norm_epsilon": 1e-5, "rope_embedding_base": 1000000, "rope_position_scale": 1.0, "rope_scaling": None,
    "mup_use_scaling": True, "mup_attn_multiplier": 1.0, "mup_embedding_multiplier": 10.0, "mup_width_multiplier": 8.0,
    "blocksparse_block_size": 32, "blocksparse_num_local_blocks": 2, "blocksparse_vert_stride": 8,
    "blocksparse_homo_head_pattern": False, "dense_attention_every_n_layers": 2, "dummy_token_indices": [3, 100],
    "eos_token_id": 120, "bos_token_id": 120, "tie_word_embeddings": True,
}  # fmt: skip
LONGROPE = {
    "max_position_embeddings": 4096,
    "rope_scaling": {
        "type": "longrope", "original_max_position_embeddings": 96, "short_mscale": 1.05, "long_mscale": -1,
        "short_factor": [1.0, 1.1, 1.3, 1.6], "long_factor": [1.2, 2.0, 7.0, 40.0],
    },
}  # fmt: skip


def tensors(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """float32 weights with which a wrong angle, bias or block moves the logits by far more than rounding."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in expected_tensors(Config.from_dict(config)).items():
        values = rng.standard_normal(shape)
        if len(shape) == 2:
            # attention scores are divided by head_dim and not by its root
            values *= 0.05 if "embed" in name else (2.0 if "query" in name else 0.8) / shape[1] ** 0.5
        else:
            values = (1 if name.endswith("norm.weight") else 0) + 0.2 * values
        found[name] = values.astype(np.float32)
    return found


def write_model(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A folder in the hub's layout, without a tokenizer."""
    config = {**CONFIG, **changes}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [120, 121]}))
    held = tensors(config, seed)
    plan = [(name, "F32", tensor.shape) for name, tensor in held.items()]
    with SafetensorsWriter(folder / "model.safetensors", plan, {"format": "pt"}) as writer:
        writer.begin()
        for name, tensor in held.items():
            writer.append(name, tensor)
        writer.commit()
    return folder
