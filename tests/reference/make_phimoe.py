"""Make tests/reference/phimoe again: a tiny checkpoint, and its logits by `transformers` 4.46.3 in float32.

    python tests/reference/make_phimoe.py

Release 5.23 keeps LongRoPE's short factors beyond the original context and is no oracle there; 4.46.3 is. Every row
comes from one plain forward pass over one whole prompt (eager attention, no cache).
"""

import platform
import re
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from phi3_checkpoint import half_exact, write_checkpoint, write_json
from transformers import PhimoeConfig, PhimoeForCausalLM

SEED = 20240823
OUT = Path(__file__).parent / "phimoe"
LENGTHS = (1, 9, 31, 32, 33, 64, 70)  # the switch of tables is at 33
STEPS = 52  # ids that tests of batches and steps draw on
PAIRS = 8
CONFIG = {
    "architectures": ["PhiMoEForCausalLM"],
    "model_type": "phimoe",
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 128,
    "original_max_position_embeddings": 32,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "rope_scaling": {
        "type": "longrope",
        "short_factor": [1.0 + 0.05 * i for i in range(PAIRS)],
        "long_factor": [1.5 + 1.7 * i for i in range(PAIRS)],
        "short_mscale": 1.1,
        "long_mscale": 1.243163121016122,
        "original_max_position_embeddings": 32,
    },
    "hidden_act": "silu",
    "attention_bias": True,
    "lm_head_bias": True,
    "tie_word_embeddings": False,
    "sliding_window": 128,
    "router_jitter_noise": 0.01,
    "input_jitter_noise": 0.01,
    "router_aux_loss_coef": 0.0,
    "output_router_logits": False,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 120,
    "pad_token_id": 120,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.46.3",
}


def main() -> None:
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    settings = {
        key: value for key, value in CONFIG.items() if key not in ("architectures", "model_type", "torch_dtype")
    }
    config = PhimoeConfig(**settings)
    config._attn_implementation = "eager"
    model = PhimoeForCausalLM(config).eval()
    state = {name: torch.tensor(drawn(name, tuple(value.shape), rng)) for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    write_checkpoint(OUT, CONFIG, {name: value.numpy() for name, value in state.items()}, 2)
    arrays = {"steps_ids": rng.integers(3, 120, STEPS).astype(np.int32)}
    with torch.no_grad():
        for i, length in enumerate(LENGTHS):
            ids = rng.integers(0, CONFIG["vocab_size"], length)
            at = sorted({p for p in (0, 7, length // 2, length - 2, length - 1) if 0 <= p < length})
            # 4.46.3 asks `length < original` for the factors and `length > original` for the scale: at exactly the
            # original length it mixes both tables. The published code, and every other runtime, has the short ones.
            model.config.original_max_position_embeddings = 33 if length == 32 else 32
            logits = model(torch.tensor(ids)[None], use_cache=False).logits[0, at].numpy()
            arrays |= {f"prompt_{i}": ids.astype(np.int32), f"positions_{i}": np.int32(at), f"logits_{i}": logits}
    np.savez_compressed(OUT / "reference.npz", **arrays)
    made_by = {"command": "python tests/reference/make_phimoe.py", "seed": SEED, "python": platform.python_version(),
               "torch": torch.__version__, "transformers": transformers.__version__, "dtype": "float32"}  # fmt: skip
    write_json(OUT / "made_by.json", made_by | {"lengths": list(LENGTHS)})


def drawn(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Values that let every part show in the logits; exact in bfloat16 and float16."""
    if re.search(r"norm\.weight$", name):
        values = 1 + 0.25 * rng.standard_normal(shape)
    elif name.endswith("bias"):
        values = 0.2 * rng.standard_normal(shape)
    elif "embed" in name:
        values = 0.3 * rng.standard_normal(shape)
    else:
        values = (1.1 if "self_attn" in name else 1.3) / shape[1] ** 0.5 * rng.standard_normal(shape)
    return half_exact(values.astype(np.float32))


if __name__ == "__main__":
    sys.exit(main())
