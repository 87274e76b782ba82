"""A whole tiny phi3_v folder: random weights, a tokenizer with BOS, and the files that go with images."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

CONFIG: dict[str, Any] = {
    "model_type": "phi3_v",
    "architectures": ["Phi3VForCausalLM"],
    "vocab_size": 128,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "original_max_position_embeddings": 400,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": {
        "type": "su",
        "short_factor": [1.0 + i / 9 for i in range(6)],
        "long_factor": [2.0 + i for i in range(6)],
    },
    "sliding_window": 262144,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 120,
    "embd_layer": {
        "embedding_cls": "image",
        "hd_transform_order": "sub_glb",
        "projection_cls": "mlp",
        "use_hd_transform": True,
        "with_learnable_separator": True,
    },
    "img_processor": {
        "name": "clip_vision_model",
        "model_name": "openai/clip-vit-large-patch14-336",
        "image_dim_out": 32,
        "num_img_tokens": 144,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    },
}  # fmt: skip
PREPROCESSOR = {
    "num_crops": 2,
    "num_img_tokens": 144,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "image_processor_type": "Phi3VImageProcessor",
    "processor_class": "Phi3VProcessor",
    "do_convert_rgb": True,
}


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Weights that keep numbers of order 1, and vectors that are all in use."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in shapes.items():
        size = np.prod(shape[1:]) if len(shape) > 1 else 1
        scale = 1.0 if "embed" in name or "GN" in name else 0.3 if len(shape) == 1 else 1.5 / np.sqrt(size)
        found[name] = (rng.standard_normal(shape) * scale + (name.endswith("norm.weight") or ".layer_norm" in name)
                       ).astype(np.float32)  # fmt: skip
        if "patch_embedding" in name:
            found[name] = (rng.standard_normal(shape) / np.sqrt(size)).astype(np.float32)
    return found


def tokenizer_spec() -> dict[str, Any]:
    """tiny.py's, with BOS before every text."""
    import tiny

    spec = tiny.spec()
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    return spec


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    header, data = {}, b""
    for name, array in tensors.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + array.nbytes],
        }
        data += array.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_vision_model(folder: Path, **config: Any) -> Path:
    """A folder that `slmkit.load` takes."""
    from slmkit.models import phi3_vision

    folder.mkdir(parents=True)
    raw = CONFIG | config
    shapes = phi3_vision.expected_tensors(phi3_vision.Config.from_dict(raw))
    write_safetensors(folder / "model.safetensors", random_tensors(shapes))
    (folder / "config.json").write_text(json.dumps(raw))
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_spec()))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "<|endoftext|>"}))
    return folder
