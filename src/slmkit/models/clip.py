"""CLIP's vision tower, ViT-L/14 at 336 pixels, as part of other models: pixels to features of patches.

The features are those before the last layer, without the class token and the norm after the layers: what Phi-3-vision
takes. Source: arXiv 2103.00020 and the published configuration of clip-vit-large-patch14-336.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.layers.linear import Linear
from slmkit.layers.norm import LayerNorm
from slmkit.ops.matrix import Matrix
from slmkit.ops.pack import unpack

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Config:
    """The settings of a tower under the names of CLIPVisionConfig."""

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    image_size: int = 336
    patch_size: int = 14
    layer_norm_eps: float = 1e-5

    @property
    def patches(self) -> int:
        """In each direction."""
        return self.image_size // self.patch_size

    @property
    def n_tokens(self) -> int:
        """Of one view: its patches and the class token."""
        return self.patches**2 + 1

    @property
    def used_layers(self) -> int:
        """All but the last."""
        return self.num_hidden_layers - 1

    @property
    def view_macs(self) -> int:
        """Multiply-adds of one view in matrix products, attention not counted."""
        c = self.hidden_size
        return self.n_tokens * (self.used_layers * (4 * c * c + 2 * c * self.intermediate_size) + 3 * 196 * c)


class Attention:
    """Every token of a view sees every other."""

    def __init__(self, config: Config, weights: Mapping[str, Any], ops: Any, name: str) -> None:
        def linear(part: str) -> Linear:
            return Linear(ops, weights[f"{name}.{part}.weight"], weights[f"{name}.{part}.bias"])

        self.q_proj, self.k_proj, self.v_proj, self.out_proj = map(linear, ("q_proj", "k_proj", "v_proj", "out_proj"))
        self.config, self.ops = config, ops

    def __call__(self, x: F32) -> F32:
        c = self.config
        head_dim = c.hidden_size // c.num_attention_heads
        q, k, v = (project(x).reshape(len(x), -1, head_dim) for project in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(self.ops.encode(q, k, v, c.n_tokens, head_dim**-0.5))


class MLP:
    """fc2(quick_gelu(fc1 x))."""

    def __init__(self, weights: Mapping[str, Any], ops: Any, name: str) -> None:
        self.fc1 = Linear(ops, weights[f"{name}.fc1.weight"], weights[f"{name}.fc1.bias"])
        self.fc2 = Linear(ops, weights[f"{name}.fc2.weight"], weights[f"{name}.fc2.bias"])
        self.ops = ops

    def __call__(self, x: F32) -> F32:
        return self.fc2(self.ops.quick_gelu(self.fc1(x)))


class Layer:
    """One encoder layer."""

    def __init__(self, config: Config, weights: Mapping[str, Any], ops: Any, name: str) -> None:
        self.layer_norm1 = _norm(config, weights, ops, f"{name}.layer_norm1")
        self.self_attn = Attention(config, weights, ops, f"{name}.self_attn")
        self.layer_norm2 = _norm(config, weights, ops, f"{name}.layer_norm2")
        self.mlp = MLP(weights, ops, f"{name}.mlp")
        self.add = ops.add

    def __call__(self, x: F32) -> F32:  # (views * tokens, hidden), which is written into
        x = self.add(x, self.self_attn(self.layer_norm1(x)))
        out: F32 = self.add(x, self.mlp(self.layer_norm2(x)))
        return out


class Tower:
    """Views of 336 x 336 pixels to features. It keeps no state between calls."""

    def __init__(self, config: Config, weights: Mapping[str, Any], ops: Any, prefix: str) -> None:
        """prefix: of the names of its weights, up to `vision_model.`."""
        self.config, self.ops = config, ops
        kernel = _plain(weights[f"{prefix}embeddings.patch_embedding.weight"]).reshape(config.hidden_size, -1)
        self.patch_embedding = ops.prepare(Matrix("f32", *kernel.shape, np.ascontiguousarray(kernel)))
        self.class_embedding = weights[f"{prefix}embeddings.class_embedding"]
        self.position_embedding = _plain(weights[f"{prefix}embeddings.position_embedding.weight"])
        self.pre_layrnorm = _norm(config, weights, ops, f"{prefix}pre_layrnorm")
        names = [f"{prefix}encoder.layers.{i}" for i in range(config.used_layers)]
        self.layers = [Layer(config, weights, ops, name) for name in names]

    def run(self, views: F32) -> Generator[None, None, F32]:
        """(views, 3, 336, 336) -> (views, patches, patches, hidden), a layer at a time: others may run in between."""
        c = self.config
        x = self.pre_layrnorm(self._embed(views))
        for layer in self.layers:
            x = layer(x)
            yield
        features: F32 = x.reshape(len(views), c.n_tokens, -1)[:, 1:].reshape(len(views), c.patches, c.patches, -1)
        return features

    def _embed(self, views: F32) -> F32:
        """The patches' pixels times the kernel, row by row after the class token, and where each is."""
        c = self.config
        n, p, size = len(views), c.patches, c.patch_size
        patches = views.reshape(n, 3, p, size, p, size).transpose(0, 2, 4, 1, 3, 5).reshape(n * p * p, -1)
        x = np.empty((n, c.n_tokens, c.hidden_size), np.float32)
        x[:, 0] = self.class_embedding
        x[:, 1:] = self.ops.matmul(np.ascontiguousarray(patches), self.patch_embedding).reshape(n, p * p, -1)
        x += self.position_embedding
        return x.reshape(n * c.n_tokens, -1)


def expected_tensors(c: Config, prefix: str) -> dict[str, tuple[int, ...]]:
    """Every tensor of a tower and its shape; the last layer and the norm after it are stored and not used."""
    d, f = c.hidden_size, c.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}embeddings.class_embedding": (d,),
        f"{prefix}embeddings.patch_embedding.weight": (d, 3, c.patch_size, c.patch_size),
        f"{prefix}embeddings.position_embedding.weight": (c.n_tokens, d),
    }
    norms = [f"{prefix}pre_layrnorm", f"{prefix}post_layernorm"]
    for i in range(c.num_hidden_layers):
        name = f"{prefix}encoder.layers.{i}"
        norms += [f"{name}.layer_norm1", f"{name}.layer_norm2"]
        sizes = {f"self_attn.{part}_proj": (d, d) for part in ("q", "k", "v", "out")}
        for part, shape in (sizes | {"mlp.fc1": (f, d), "mlp.fc2": (d, f)}).items():
            shapes[f"{name}.{part}.weight"], shapes[f"{name}.{part}.bias"] = shape, shape[:1]
    return shapes | {f"{name}.{part}": (d,) for name in norms for part in ("weight", "bias")}


def _norm(config: Config, weights: Mapping[str, Any], ops: Any, name: str) -> LayerNorm:
    return LayerNorm(ops, weights[f"{name}.weight"], weights[f"{name}.bias"], config.layer_norm_eps)


def _plain(tensor: Any) -> F32:
    """Numbers that are no matrix of a product: as the file has them, whatever was done to the others."""
    return unpack(tensor) if isinstance(tensor, Matrix) else tensor
