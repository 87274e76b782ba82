"""Phi-3-vision and Phi-3.5-vision (`model_type` "phi3_v"): Phi-3-mini, with features of images among its embeddings.

An image is cut into crops of 336 x 336 pixels and one view of the whole. CLIP makes 24 x 24 features of each, four
neighbours become one, and two matrices make them embeddings. Source: arXiv 2404.14219, and the published files.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.layers.linear import Linear
from slmkit.models import clip, phi3
from slmkit.models.config import MOST_LAYERS, ConfigReader

if TYPE_CHECKING:
    from slmkit.layers.step import Step
    from slmkit.vision.hd import Grid, HdImage

F32 = NDArray[np.float32]
PREFIX = "model.vision_embed_tokens."
TOWER = f"{PREFIX}img_processor.vision_model."
FEATURES = 12  # of a view, in each direction
_VIEWS_AT_ONCE = 4  # more are no faster, and each takes 24 MB while it is worked on
_ROWS_AT_ONCE = 512  # of the projection
_OWN = ("architectures", "embd_layer", "img_processor")


@dataclass(frozen=True)
class Config(phi3.Config):
    """The settings of a phi3_v checkpoint: those of its language model, and of its tower."""

    tower: clip.Config

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], source: str = "config.json") -> Config:
        """Read and check a config.json.   Raises UnsupportedModel for a setting that is not implemented."""
        text = phi3.Config.from_dict({key: value for key, value in raw.items() if key not in _OWN}, source)
        ConfigReader(raw, "phi3_v", source).must_be("architectures", ["Phi3VForCausalLM"], ["Phi3VForCausalLM"])
        _check_embedding(ConfigReader(_table(raw, "embd_layer"), "phi3_v", f"embd_layer of {source}"))
        tower = _tower(ConfigReader(_table(raw, "img_processor"), "phi3_v", f"img_processor of {source}"))
        return cls(**vars(text), tower=tower)


def _table(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = raw.get(key)
    return found if isinstance(found, Mapping) else {}


def _check_embedding(read: ConfigReader) -> None:
    read.must_be("embedding_cls", "image", None)
    read.must_be("hd_transform_order", "sub_glb", None)
    read.must_be("projection_cls", "mlp", None)
    read.must_be("use_hd_transform", True, None)
    read.must_be("with_learnable_separator", True, None)
    read.finish()


def _tower(read: ConfigReader) -> clip.Config:
    """The shape may be given as CLIPVisionConfig has it; the published files name the model that it is of."""
    plain = clip.Config()
    read.must_be("name", "clip_vision_model", None)
    read.must_be("model_name", "openai/clip-vit-large-patch14-336", "openai/clip-vit-large-patch14-336")
    read.must_be("num_img_tokens", FEATURES**2, FEATURES**2)
    read.must_be("layer_idx", -2, -2)
    read.must_be("type_feature", "patch", "patch")
    tower = clip.Config(
        hidden_size=read.integer("image_dim_out", plain.hidden_size),
        intermediate_size=read.integer("intermediate_size", plain.intermediate_size),
        num_hidden_layers=read.integer("num_hidden_layers", plain.num_hidden_layers, most=MOST_LAYERS),
        num_attention_heads=read.integer("num_attention_heads", plain.num_attention_heads),
    )
    read.require(tower.hidden_size % tower.num_attention_heads == 0,
                 f"{tower.hidden_size} features do not divide into {tower.num_attention_heads} heads")  # fmt: skip
    read.finish()
    return tower


class Phi3Vision(phi3.Phi3):
    """The whole model: images to rows, ids and rows to hidden states, hidden states to logits."""

    def __init__(self, config: Config, weights: Mapping[str, Any], ops: Any) -> None:
        super().__init__(config, weights, ops)
        self.tower = clip.Tower(config.tower, weights, ops, TOWER)
        self.glb_GN, self.sub_GN = (weights[f"{PREFIX}{name}"].reshape(-1) for name in ("glb_GN", "sub_GN"))
        self.img_projection = [
            Linear(ops, weights[f"{PREFIX}img_projection.{i}.weight"], weights[f"{PREFIX}img_projection.{i}.bias"])
            for i in (0, 2)
        ]

    def inputs(self, ids: NDArray[np.int32], step: Step) -> F32:
        """Embeddings of ids, and in the rows that the step names what `features` made of an image."""
        x = super().inputs(ids, step)
        if step.features is not None:
            x[step.features.rows] = step.features.values
        return x

    def features(self, image: HdImage) -> Generator[None, None, F32]:
        """The rows that stand for an image, (grid.n_tokens, hidden). It stops between pieces of work."""
        grid = image.grid
        joined, whole, crops = self._joined(grid)
        for first in range(0, grid.n_views, _VIEWS_AT_ONCE):
            last = min(first + _VIEWS_AT_ONCE, grid.n_views)
            found = yield from self.tower.run(image.views(first, last))
            for i, view in enumerate(merged(found), first):
                row, column = divmod(i - 1, grid.columns)
                place = whole if i == 0 else crops[FEATURES * row :, FEATURES * column :]
                place[:FEATURES, :FEATURES] = view
        out = np.empty((len(joined), self.config.hidden_size), np.float32)
        first_, second = self.img_projection
        for i in range(0, len(joined), _ROWS_AT_ONCE):
            rows = slice(i, i + _ROWS_AT_ONCE)
            out[rows] = second(self.ops.gelu(first_(joined[rows])))
            yield
        return out

    def _joined(self, grid: Grid) -> tuple[F32, F32, F32]:
        """The sequence of features with its separators in place, and views of it for the whole and for the crops.

        Crops first, in the image's own order of rows, each ended by sub_GN; then glb_GN; then the whole likewise.
        """
        lines, width = FEATURES * grid.rows, FEATURES * grid.columns
        n_crops, features = lines * (width + 1), len(self.glb_GN)
        joined = np.empty((grid.n_tokens, features), np.float32)
        crops = joined[:n_crops].reshape(lines, width + 1, features)
        whole = joined[n_crops + 1 :].reshape(FEATURES, FEATURES + 1, features)
        joined[n_crops] = self.glb_GN
        crops[:, -1] = whole[:, -1] = self.sub_GN
        return joined, whole, crops


def merged(features: F32) -> F32:
    """Four neighbours as one: (views, 24, 24, c) -> (views, 12, 12, 4 c), top left, top right, then the lower two."""
    n, size, _, c = features.shape
    pairs = features.reshape(n, size // 2, 2, size // 2, 2, c).swapaxes(2, 3)
    return np.ascontiguousarray(pairs).reshape(n, size // 2, size // 2, 4 * c)


def feature_bytes(c: Config, grid: Grid) -> int:
    """Memory that `features` needs at its peak: the joined features, the rows, and the larger of its two stages."""
    views = min(grid.n_views, _VIEWS_AT_ONCE)
    # x and its norm, the wide layer before and after its activation, and its inputs as 8-bit integers
    tower = views * c.tower.n_tokens * (2 * c.tower.hidden_size + 2.5 * c.tower.intermediate_size)
    projection = _ROWS_AT_ONCE * (2 * c.tower.hidden_size + 3 * c.hidden_size)
    pixels = 2.5 * views * 3 * c.tower.image_size**2
    return int(4 * (grid.n_tokens * (4 * c.tower.hidden_size + c.hidden_size) + max(tower + pixels, projection)))


def expected_tensors(c: Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a phi3_v checkpoint and its shape."""
    wide = 4 * c.tower.hidden_size
    shapes = phi3.expected_tensors(c) | clip.expected_tensors(c.tower, TOWER)
    shapes |= {f"{PREFIX}glb_GN": (1, 1, wide), f"{PREFIX}sub_GN": (1, 1, 1, wide)}
    for i, inputs in ((0, wide), (2, c.hidden_size)):
        shapes[f"{PREFIX}img_projection.{i}.weight"] = (c.hidden_size, inputs)
        shapes[f"{PREFIX}img_projection.{i}.bias"] = (c.hidden_size,)
    return shapes


MODEL = Phi3Vision
