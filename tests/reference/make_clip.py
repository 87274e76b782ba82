"""Store what `transformers` makes of a small CLIP tower in float32: clip.npz. Also compares the full shape, not stored.

PYTHONPATH=src:tests python tests/reference/make_clip.py [--full]
"""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from slmkit.models import clip
from slmkit.ops.choose import choose
from slmkit.ops.matrix import Matrix
from vision_models import random_tensors

SMALL = clip.Config(hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4)


def oracle(config: clip.Config, tensors: dict, views: np.ndarray) -> np.ndarray:
    """hidden_states[-2] without the class token, (views, 576, hidden)."""
    shape = {
        k: getattr(config, k) for k in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    }
    model = CLIPVisionModel(CLIPVisionConfig(**shape, image_size=336, patch_size=14, hidden_act="quick_gelu")).eval()
    names = set(model.state_dict())
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in names) else ""
    state = {prefix + name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    missing, extra = model.load_state_dict(state, strict=False)
    assert not extra, extra
    assert all("position_ids" in name for name in missing), missing
    with torch.no_grad():
        return model(torch.from_numpy(views), output_hidden_states=True).hidden_states[-2][:, 1:].numpy()


def ours(config: clip.Config, tensors: dict, views: np.ndarray) -> np.ndarray:
    held = {n: Matrix("f32", *t.shape, t) if t.ndim == 2 else t for n, t in tensors.items()}
    work = clip.Tower(config, held, choose("auto", 2), "").run(views)
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value.reshape(len(views), -1, config.hidden_size)


def inputs(n: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((n, 3, 336, 336)).astype(np.float32)


if __name__ == "__main__":
    config = clip.Config() if "--full" in sys.argv else SMALL
    tensors = random_tensors(clip.expected_tensors(config, ""), seed=3)
    views = inputs(2)
    expected = oracle(config, tensors, views)
    found = ours(config, tensors, views)
    print(
        "relative error",
        np.linalg.norm(found - expected) / np.linalg.norm(expected),
        "of the worst row",
        (np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)).max(),
    )
    if config is SMALL:
        rows = np.arange(0, 576, 9)
        np.savez_compressed(Path(__file__).parent / "clip.npz", rows=rows, expected=expected[:, rows], **tensors)
