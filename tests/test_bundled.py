"""The bundled model says the same whatever computes it."""

from __future__ import annotations

import slmkit
from slmkit.ops.choose import available

PROMPTS = ["Hello!", "Tell me a story about a dog.", "Who are you?"]


def test_every_kernel_set_gives_the_same_greedy_text():
    """Native sets are equal to the bit; NumPy sums in another order, and no choice of these answers is that close."""
    said = {}
    for kernels in available():
        with slmkit.load("tiny", kernels=kernels) as model:
            said[kernels] = [model.chat(prompt, temperature=0).text for prompt in PROMPTS]
    assert all(texts == said["reference"] for texts in said.values())
    assert "dog" in said["reference"][1]
