"""Writes a random LoRA adapter for every matrix in a model's layers, to measure what adapters cost.

python benchmarks/random_lora.py MODEL FOLDER --rank 16
slm bench MODEL; slm bench MODEL --adapters FOLDER
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from slmkit.sources.find import open_source
from slmkit.weights.safetensors import SafetensorsWriter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rank", type=int, default=16)
    args = parser.parse_args()
    expected = open_source(args.model, offline=True).expected
    shapes = {name.removesuffix(".weight"): shape for name, shape in expected.items()
              if name.startswith("model.layers.") and len(shape) == 2}  # fmt: skip
    plan = []
    for module, (n, k) in shapes.items():
        plan += [(f"base_model.model.{module}.lora_A.weight", "F16", (args.rank, k)),
                 (f"base_model.model.{module}.lora_B.weight", "F16", (n, args.rank))]  # fmt: skip
    args.folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": args.rank, "lora_alpha": 2 * args.rank,
              "target_modules": sorted({module.rpartition(".")[2] for module in shapes})}  # fmt: skip
    (args.folder / "adapter_config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(0)
    with SafetensorsWriter(args.folder / "adapter_model.safetensors", plan, {"format": "pt"}) as writer:
        writer.begin()
        for name, _, shape in plan:
            writer.append(name, (rng.standard_normal(shape) / shape[1] / 4).astype(np.float16))
        writer.commit()


if __name__ == "__main__":
    main()
