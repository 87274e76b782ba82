"""Small random LoRA adapters in PEFT's files, and what they make of a model's weights when they are merged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from slmkit.weights.checkpoint import Checkpoint
from slmkit.weights.safetensors import SafetensorsWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Tensors = dict[str, np.ndarray]
RANK, ALPHA = 4, 6.0


def matrices(folder: Path) -> dict[str, tuple[int, int]]:
    """Module -> [out, in] of every matrix of a checkpoint that can be adapted, but the head."""
    source = Checkpoint.open(folder)
    names = [name for name in source.names if name.startswith("model.layers.") and len(source.shape(name)) == 2]
    return {name.removesuffix(".weight"): source.shape(name) for name in names}  # type: ignore[misc]


def tensors(modules: Mapping[str, tuple[int, int]], seed: int = 0, rank: int = RANK) -> Tensors:
    """A and B that move the logits by much."""
    rng = np.random.default_rng(seed)
    found: Tensors = {}
    for module, (n, k) in modules.items():
        found[f"base_model.model.{module}.lora_A.weight"] = rng.standard_normal((rank, k)) / k**0.5
        found[f"base_model.model.{module}.lora_B.weight"] = rng.standard_normal((n, rank)) * 0.5
    return {name: values.astype(np.float32) for name, values in found.items()}


def config(modules: Iterable[str], **changes: Any) -> dict[str, Any]:
    ends = sorted({module.rpartition(".")[2] for module in modules})
    plain = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA, "bias": "none",
             "target_modules": ends, "base_model_name_or_path": "a-model", "use_dora": False}  # fmt: skip
    return {key: value for key, value in {**plain, **changes}.items() if value != "absent"}


def write(folder: Path, held: Mapping[str, np.ndarray], written: Mapping[str, Any]) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(written))
    kinds = {"float32": "F32", "float16": "F16", "uint16": "BF16", "int8": "I8"}
    plan = [(name, kinds[str(values.dtype)], values.shape) for name, values in held.items()]
    with SafetensorsWriter(folder / "adapter_model.safetensors", plan, {"format": "pt"}) as writer:
        writer.begin()
        for name, values in held.items():
            writer.append(name, values)
        writer.commit()
    return folder


def write_for(folder: Path, model: Path, seed: int = 0, **changes: Any) -> Path:
    """An adapter for every matrix in the layers of a checkpoint."""
    modules = matrices(model)
    return write(folder, tensors(modules, seed), config(modules, **changes))


def merged(weights: Mapping[str, np.ndarray], adapter: Mapping[str, np.ndarray], scale: float) -> Tensors:
    """W + scale B A, in float64 and rounded once."""
    found = dict(weights)
    for name in adapter:
        if name.endswith(".lora_A.weight"):
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            a, b = (adapter[name.replace("lora_A", part)].astype(np.float64) for part in ("lora_A", "lora_B"))
            found[f"{module}.weight"] = (weights[f"{module}.weight"] + scale * (b @ a)).astype(np.float32)
    return found
