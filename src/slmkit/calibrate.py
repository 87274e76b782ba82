"""4-bit weights that know the inputs they will meet: a text is run through the model, and each layer rounded by it.

One layer at a time: in memory are its input for the whole text, the sums x x^T of what its matrices see, one matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.engine.cache import Cache
from slmkit.engine.memory import layout_of
from slmkit.engine.scheduler import Work
from slmkit.engine.step import assemble
from slmkit.errors import RequestError
from slmkit.ops.feedback import pack_with_feedback
from slmkit.ops.matrix import TILE, Matrix
from slmkit.ops.pack import as_f32
from slmkit.ops.segments import BLOCK
from slmkit.text.prompt import text_prompt
from slmkit.untrusted import read_bytes, shown
from slmkit.weights.load import load_weights

if TYPE_CHECKING:
    from slmkit.sources.base import Source

F32 = NDArray[np.float32]
PIECE = 512  # tokens that see one another
LEAST_TOKENS = 256
MOST_TOKENS = 65_536  # their inputs to a layer are held: 12 KB a token at 3072 features
MOST_BYTES = 1 << 24
_OWN_TEXTS = ("plots.txt", "chat.txt")


def calibration_ids(source: Source, text_file: str) -> list[list[int]]:
    """The pieces of a UTF-8 text file as token ids; "auto" is text that comes with slmkit.

    Raises RequestError for a file that is no text or too short; CheckpointError if it cannot be read.
    """
    if text_file == "auto":
        text = "\n\n".join(
            (Path(__file__).parent / "train" / "seeds" / name).read_text(encoding="utf-8") for name in _OWN_TEXTS
        )
    else:
        try:
            text = read_bytes(Path(text_file), MOST_BYTES).decode("utf-8")
        except UnicodeDecodeError:
            raise RequestError(f"{shown(text_file)} is no UTF-8 text; give a text file to calibrate on") from None
    ids = [int(i) for i in text_prompt(text, source.tokenizer).ids[:MOST_TOKENS]]
    if len(ids) < LEAST_TOKENS:
        raise RequestError(
            f"{shown(text_file)} has {len(ids)} tokens, calibrating takes {LEAST_TOKENS}; give a longer text"
        )
    piece = min(PIECE, source.config.max_position_embeddings)
    return [ids[i : i + piece] for i in range(0, len(ids), piece)]


@dataclass(eq=False)
class _Line:
    """A piece as the forward pass sees it."""

    ids: list[int]
    blocks: list[int]
    n_cached: int = 0
    draft: list[int] = field(default_factory=list)
    images: None = None
    adapter: str = ""


class _Watching:
    """Ops that sum x x^T for each matrix that is watched."""

    def __init__(self, ops: Any) -> None:
        self._ops = ops
        self._name_of_matrix: dict[int, str] = {}
        self._name_of_weight: dict[int, str] = {}
        self.grams: dict[str, F32] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def know(self, name: str, matrix: Matrix) -> None:
        self._name_of_matrix[id(matrix)] = name

    def watch(self, layer: int) -> None:
        """Forget what was seen, and see to the matrices of this layer."""
        self.grams = {}
        self._prefix = f"model.layers.{layer}."

    def prepare(self, matrix: Matrix) -> Any:
        weight = self._ops.prepare(matrix)
        self._name_of_weight[id(weight)] = self._name_of_matrix.get(id(matrix), "")  # no name: patches' kernel
        return weight

    def matmul(self, x: F32, weight: Any) -> F32:
        name = self._name_of_weight[id(weight)]
        if name.startswith(self._prefix):
            products = x.T @ x
            self.grams[name] = self.grams[name] + products if name in self.grams else products
        out: F32 = self._ops.matmul(x, weight)
        return out


class Calibrated:
    """The TensorSource of a model's folder, whose q4_s rows are rounded with error feedback.

    Layers have to be asked for in order, each matrix in any number of pieces.
    """

    def __init__(self, source: Source, pieces: list[list[int]], ops: Any) -> None:
        c = source.config
        self._tensors, self._pieces = source.tensors, pieces
        self._ops = _Watching(ops)
        weights = load_weights(source.tensors, source.expected, "none")
        for name, tensor in weights.items():
            if isinstance(tensor, Matrix):
                self._ops.know(name, tensor)
        self._weights = weights  # their identities stay taken
        self._model = source.family.MODEL(c, weights, self._ops)
        layout = layout_of(c)
        n_blocks = layout.blocks_of(PIECE, PIECE)
        self._cache = Cache(n_blocks, layout.layers, layout.kv_heads, layout.head_dim, "f32", layout.strands)
        self._hidden = [self._model.embed(np.array(ids, np.int32)) for ids in pieces]
        self._layer = -1
        self._held: tuple[str, Matrix] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tensors, name)

    def gram(self, name: str) -> F32 | None:
        """The sum of x x^T over the inputs of a matrix; None for one that is not calibrated."""
        if not name.startswith("model.layers."):
            return None
        layer = int(name.split(".")[2])
        while self._layer < layer:
            self._advance()
        return self._ops.grams.get(name)  # none of an expert that the text never chose: it is rounded without

    def pack_rows(self, name: str, rows: slice, format: str, ops: Any) -> Matrix:
        gram = self.gram(name) if format == "q4_s" else None
        if gram is None:
            return self._tensors.pack_rows(name, rows, format, ops)
        if self._held is None or self._held[0] != name:
            self._tensors.pack_rows(name, rows, format, ops)  # refuses weights that are no numbers
            self._held = name, pack_with_feedback(as_f32(self._tensors.tensor(name)), gram)
        whole = self._held[1]
        data = whole.data[rows.start // TILE : -(-rows.stop // TILE)]
        return Matrix(format, rows.stop - rows.start, whole.k, data)

    def _advance(self) -> None:
        self._layer += 1
        self._ops.watch(self._layer)
        layer = self._model.layers[self._layer]
        self._hidden = [self._through(layer, ids, x) for ids, x in zip(self._pieces, self._hidden, strict=True)]

    def _through(self, layer: Callable[..., F32], ids: list[int], x: F32) -> F32:
        line = _Line(ids, self._cache.take(-(-len(ids) // BLOCK) * self._cache.n_strands))
        _, step = assemble([Work(line, len(ids))], self._cache)  # type: ignore[arg-type]
        cos, sin = self._model.rope(step.positions, step.lengths)
        out = layer(x, step, cos, sin)
        self._cache.release(line.blocks)
        return out
