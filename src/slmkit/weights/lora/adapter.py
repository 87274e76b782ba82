"""LoRA adapters as PEFT stores them: adapter_config.json and adapter_model.safetensors, held against their model.

Every tensor is used or refused, and every module that the configuration names has its two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError, ModelNotFound, UnsupportedModel
from slmkit.ops.matrix import Matrix
from slmkit.ops.pack import as_f32
from slmkit.untrusted import is_there, read_json, shown
from slmkit.weights.lora.config import LoraConfig
from slmkit.weights.names import PUBLISHED
from slmkit.weights.safetensors import SafetensorsFile
from slmkit.weights.tensors import Shape

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MOST_CONFIG_BYTES = 1 << 20
_PREFIX = "base_model.model."
_TENSOR = re.compile(r"(.+)\.lora_([AB])\.weight", re.DOTALL)
_TYPES = ("F32", "F16", "BF16")
_OTHER_KINDS = {
    "lora_magnitude_vector": "DoRA",
    "lora_embedding_": "an adapted embedding",
    "modules_to_save": "a module that was trained whole",
    ".bias": "a bias",
}


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder, checked against the model that it will run with. No tensor is read yet.

    modules: the model's matrices that it changes, without `.weight`.
    """

    path: Path
    config: LoraConfig
    file: SafetensorsFile
    modules: tuple[str, ...]

    @property
    def n_bytes(self) -> int:
        """In memory, as float32."""
        return sum(4 * int(np.prod(info.shape)) for info in self.file.tensors.values())

    @property
    def ranks(self) -> tuple[int, ...]:
        """Each once."""
        return tuple(sorted({self.config.rank(module) for module in self.modules}))

    def matrices(self) -> dict[str, tuple[Matrix, Matrix]]:
        """Module -> A (r, in) and B (out, r), the scale in B.   Raises CheckpointError for what is no number."""
        found = {}
        for module in self.modules:
            a, b = (self._values(module, part) for part in "AB")
            b = b * np.float32(self.config.scale(module))
            found[module] = (_matrix(a), _matrix(b))
        self.file.release()
        return found

    def _values(self, module: str, part: str) -> NDArray[np.float32]:
        name = f"{_PREFIX}{module}.lora_{part}.weight"
        values = np.ascontiguousarray(as_f32(self.file.tensor(name)))
        if not np.isfinite(values).all():
            raise CheckpointError(f"{shown(name)} in {self.file.path} holds values that are not finite; fetch it again")
        return np.array(values)


def _matrix(values: NDArray[np.float32]) -> Matrix:
    return Matrix("f32", values.shape[0], values.shape[1], values)


def open_adapter(path: Path, expected: Mapping[str, Shape], made_for: str, known_as: str) -> Adapter:
    """The adapter that lies in a folder.

    expected: the model's tensors and their shapes.   made_for: the model as messages call it.   known_as: the
    published id that the model is known to be, "" if it is not known.
    Raises ModelNotFound, UnsupportedModel, CheckpointError; for an adapter of another model, too.
    """
    raw = _read_config(path)
    config = LoraConfig.from_dict(raw, str(path / CONFIG))
    _check_base(config, known_as, made_for)
    file = SafetensorsFile(path / WEIGHTS)
    modules = _modules(file, expected, made_for, config)
    for module, parts in modules.items():
        _check_shapes(file, module, parts, expected[f"{module}.weight"], made_for, config)
    missing = [name for name in _able(expected) if config.expects(name) and name not in modules]
    if missing:
        raise CheckpointError(
            f"{file.path} lacks the tensors for {shown(missing[0])}{_more(missing)}, which {CONFIG} names among its "
            "target_modules; fetch both again"
        )
    return Adapter(path, config, file, tuple(modules))


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise ModelNotFound(f"{path} is no folder; give the folder of an adapter, with {CONFIG} and {WEIGHTS}")
    if not is_there(path / CONFIG):
        raise CheckpointError(f"{path} has no {CONFIG}; give the folder of an adapter that PEFT saved")
    raw = read_json(path / CONFIG, MOST_CONFIG_BYTES)
    if not is_there(path / WEIGHTS):
        if is_there(path / "adapter_model.bin"):
            raise UnsupportedModel(
                f"{path} has its adapter as a pickle only, and slmkit never reads pickles, which can run any program; "
                "save it with PEFT's save_pretrained(..., safe_serialization=True) where you trust it"
            )
        raise CheckpointError(f"{path} has no {WEIGHTS}; fetch all files of the adapter")
    return raw


def _check_base(config: LoraConfig, known_as: str, made_for: str) -> None:
    """Models of one family have equal shapes, so the name is all that tells their adapters apart."""
    published = {id.lower(): id for id in PUBLISHED} | {id.lower().partition("/")[2]: id for id in PUBLISHED}
    base = published.get(config.base.lower().rstrip("/"))
    if base and known_as and base != known_as:
        raise UnsupportedModel(
            f"{config.where} says that the adapter was made for {base}, and {made_for} is {known_as}; "
            f"run it with {base}"
        )


def _modules(
    file: SafetensorsFile, expected: Mapping[str, Shape], made_for: str, config: LoraConfig
) -> dict[str, set[str]]:
    """Module -> which of A and B are there. Every tensor has to be one of those."""
    modules: dict[str, set[str]] = {}
    able = set(_able(expected))
    for name, info in file.tensors.items():
        found = _TENSOR.fullmatch(name)
        module = found[1].removeprefix(_PREFIX) if found and name.startswith(_PREFIX) else ""
        if not found or not module or info.dtype not in _TYPES:
            kind = next((f", which is {kind}," for part, kind in _OTHER_KINDS.items() if part in name), "")
            raise UnsupportedModel(
                f"{file.path} has the tensor {shown(name)}{kind} of type {info.dtype}; slmkit runs lora_A and lora_B "
                f"of matrices in {', '.join(_TYPES)}"
            )
        if module not in able:
            raise UnsupportedModel(_no_such(module, expected, made_for, config))
        if config.expects(module) is False:
            raise CheckpointError(
                f"{file.path} has tensors for {shown(module)}, which is not among the target_modules of {CONFIG}; "
                "fetch both again"
            )
        modules.setdefault(module, set()).add(found[2])
    if not modules:
        raise CheckpointError(f"{file.path} holds no tensors; fetch it again")
    return modules


def _able(expected: Mapping[str, Shape]) -> list[str]:
    """The modules that can be adapted: matrices of the layers that tokens pass, and the head."""
    names = [name.removesuffix(".weight") for name, shape in expected.items() if len(shape) == 2]
    return [name for name in names if name.startswith("model.layers.") or name == "lm_head"]


def _no_such(module: str, expected: Mapping[str, Shape], made_for: str, config: LoraConfig) -> str:
    if f"{module}.weight" in expected:
        return (
            f"{config.where} is of an adapter that changes {shown(module)}; slmkit adapts matrices of the language "
            "model's layers and its head: merge the adapter into its model with PEFT"
        )
    base = f" (it was made for {shown(config.base)})" if config.base else ""
    return (
        f"the adapter {config.where} changes {shown(module)}, which {made_for} does not have{base}; "
        "give an adapter for this model"
    )


def _check_shapes(
    file: SafetensorsFile, module: str, parts: set[str], shape: Shape, made_for: str, config: LoraConfig
) -> None:
    rank = config.rank(module)
    for part, wanted in (("A", (rank, shape[1])), ("B", (shape[0], rank))):
        if part not in parts:
            raise CheckpointError(f"{file.path} lacks lora_{part} of {shown(module)}; fetch it again")
        held = file.tensors[f"{_PREFIX}{module}.lora_{part}.weight"].shape
        if held != wanted:
            raise CheckpointError(
                f"lora_{part} of {shown(module)} in {file.path} is {list(held)}, not {list(wanted)} as rank {rank} "
                f"and the matrix {list(shape)} of {made_for} make it; is it an adapter for another model?"
            )


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more modules" if len(names) > 1 else ""
