"""Muon for matrices, AdamW for the rest, in float32 and with a state that is plain named tensors.

Muon (Keller Jordan, 2024) replaces a matrix's momentum by the nearest orthogonal matrix, found with a few
Newton-Schulz steps. torch.optim.Muon does that in bfloat16, which a CPU without bf16 units emulates slowly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from slmkit.train.recipe import ModelShape, Optimizer

# Coefficients of the quintic that pulls singular values to about 1 in five steps (Keller Jordan, 2024).
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalised(g: Tensor) -> Tensor:
    """The matrix with g's singular vectors and singular values near 1. g: (rows, columns)."""
    a, b, c = QUINTIC
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if g.shape[0] > g.shape[1] else x


class Optimiser:
    """Steps a Phi3 model's parameters; `state` holds the moments by parameter name."""

    def __init__(self, model: nn.Module, shape: ModelShape, settings: Optimizer):
        self.settings = settings
        self.parameters = dict(model.named_parameters())
        self.n_steps = 0
        self.state: dict[str, Tensor] = {}
        head_dim = shape.hidden_size // shape.num_attention_heads
        kv = shape.num_key_value_heads * head_dim
        # A fused projection is several matrices that happen to share a name; each is orthogonalised alone.
        self.parts = {"qkv_proj": [shape.hidden_size, kv, kv], "gate_up_proj": [shape.intermediate_size] * 2}
        for name, parameter in self.parameters.items():
            for moment in ("momentum",) if is_matrix(name, parameter) else ("mean", "square"):
                self.state[f"{moment}.{name}"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, rate: float) -> float:
        """Move all parameters by their gradients, `rate` times the recipe's rates; gives the gradients' norm."""
        norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.clip))
        self.n_steps += 1
        for name, parameter in self.parameters.items():
            if is_matrix(name, parameter):
                self._step_matrix(name, parameter, rate * self.settings.matrix_rate)
            else:
                self._step_other(name, parameter, rate * self.settings.other_rate)
            parameter.grad = None
        return norm

    def _step_matrix(self, name: str, parameter: nn.Parameter, rate: float) -> None:
        momentum, gradient = self.state[f"momentum.{name}"], parameter.grad
        momentum.lerp_(gradient, 1 - self.settings.matrix_momentum)
        ahead = gradient.lerp(momentum, self.settings.matrix_momentum)  # Nesterov
        parameter.mul_(1 - rate * self.settings.weight_decay)
        sizes = self.parts.get(name.split(".")[-2], [parameter.shape[0]])
        for part, target in zip(ahead.split(sizes), parameter.split(sizes), strict=False):
            scale = max(1.0, part.shape[0] / part.shape[1]) ** 0.5
            target.add_(orthogonalised(part), alpha=-rate * scale)

    def _step_other(self, name: str, parameter: nn.Parameter, rate: float) -> None:
        first, second = self.settings.betas
        mean, square, gradient = self.state[f"mean.{name}"], self.state[f"square.{name}"], parameter.grad
        mean.lerp_(gradient, 1 - first)
        square.lerp_(gradient.square(), 1 - second)
        unbiased = (square / (1 - second**self.n_steps)).sqrt_().add_(1e-8)
        if parameter.ndim == 2:
            parameter.mul_(1 - rate * self.settings.weight_decay)
        parameter.addcdiv_(mean, unbiased, value=-rate / (1 - first**self.n_steps))


def is_matrix(name: str, parameter: Tensor) -> bool:
    """True for the weights that Muon steps: all matrices but the embedding, whose rows are looked up one by one."""
    return parameter.ndim == 2 and "embed_tokens" not in name
