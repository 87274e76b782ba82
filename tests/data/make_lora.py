"""Makes lora/: an adapter saved by PEFT for the stored checkpoint `gqa`, and the logits that PEFT computes with it.

Run with transformers 5.23, torch 2.13 and peft 0.21.2: python tests/data/make_lora.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
BASE = HERE.parent / "reference" / "phi3" / "gqa"


def main() -> None:
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32, attn_implementation="eager")
    config = LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=6, use_rslora=True, lora_dropout=0.05,
        target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj", "lm_head"],
        rank_pattern={"layers.1.self_attn.o_proj": 2}, alpha_pattern={"down_proj": 12},
    )  # fmt: skip
    adapted = get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapted.eval()
    ids = torch.randint(0, 128, (1, 40))
    with torch.no_grad():
        logits = adapted(ids).logits[0].numpy()
        with adapted.disable_adapter():
            plain = adapted(ids).logits[0].numpy()
    adapted.peft_config["default"].base_model_name_or_path = "gqa"
    adapted.save_pretrained(HERE / "lora", save_embedding_layers=False)
    (HERE / "lora" / "README.md").unlink()
    np.savez_compressed(HERE / "lora" / "logits.npz", ids=ids[0].numpy().astype(np.int32), logits=logits, plain=plain)


if __name__ == "__main__":
    main()
