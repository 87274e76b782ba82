"""A model folder as Hugging Face lays it out: config.json, generation_config.json, and safetensors in one or many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from slmkit.errors import CheckpointError, ModelNotFound, UnsupportedModel
from slmkit.ops.matrix import Matrix
from slmkit.ops.pack import packer
from slmkit.untrusted import is_there, read_json, shown
from slmkit.weights.header import TensorInfo
from slmkit.weights.safetensors import SafetensorsFile

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MOST_CONFIG_BYTES = 1 << 20
MOST_INDEX_BYTES = 8 << 20
_LONGEST_NAME = 255  # bytes; no file system here takes a longer one
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class Checkpoint:
    """An opened folder: every header is read and checked, no tensor is. A TensorSource (tensors.py).

    config, generation_config: the JSON objects ({} for a missing generation_config.json).
    files: the safetensors files, in order of their names.
    """

    told_by = "config.json"
    dtypes: tuple[str, ...] = ("F32", "F16", "BF16")
    keeps_numbers = False

    def __init__(self, folder: Path, config: Mapping[str, Any], files: Iterable[SafetensorsFile]) -> None:
        self.folder = self.where = folder
        self.config = config
        self.generation_config: Mapping[str, Any] = _optional_json(folder / "generation_config.json")
        self.files = tuple(sorted(files, key=lambda file: file.path.name))
        self.metadata: Mapping[str, str] = self.files[0].metadata if self.files else {}
        self._file_of = {name: file for file in self.files for name in file.tensors}

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Raises ModelNotFound for no folder, UnsupportedModel for other weights, CheckpointError for damage."""
        if not folder.is_dir():
            raise ModelNotFound(f"{folder} is no folder; give the folder that holds config.json and {WEIGHTS}")
        if not is_there(folder / "config.json"):
            raise CheckpointError(f"{folder} has no config.json; give the folder of a model, with all its files")
        config = read_json(folder / "config.json", MOST_CONFIG_BYTES)
        if is_there(folder / WEIGHTS):
            return cls(folder, config, [SafetensorsFile(folder / WEIGHTS)])
        if is_there(folder / INDEX):
            return cls(folder, config, _open_shards(folder))
        raise _no_weights(folder)

    @property
    def names(self) -> list[str]:
        """Of all tensors, file by file."""
        return list(self._file_of)

    @property
    def total_bytes(self) -> int:
        """Of all safetensors files."""
        return sum(file.identity.size for file in self.files)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._info(name).shape

    def dtype(self, name: str) -> str:
        """As safetensors calls it: "BF16", "F32", ..."""
        return self._info(name).dtype

    def n_bytes(self, name: str) -> int:
        return self._info(name).end - self._info(name).start

    def tensor(self, name: str) -> NDArray[Any]:
        """A read-only view of the mapped file; BF16 as uint16."""
        return self._file_of[name].tensor(name)

    def kept_format(self, name: str) -> None:
        """None: every tensor is plain numbers."""

    def pack_rows(self, name: str, rows: slice, format: str, ops: Any) -> Matrix:
        """Those rows, rounded to the format."""
        return packer(ops)(self.tensor(name)[rows], format)

    def release(self, name: str | None = None) -> None:
        """Drop from memory the file that holds the tensor, or all of them. It is mapped anew when next asked for."""
        for file in self.files if name is None else [self._file_of[name]]:
            file.release()

    def _info(self, name: str) -> TensorInfo:
        return self._file_of[name].tensors[name]


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path, MOST_CONFIG_BYTES) if is_there(path) else {}


def _open_shards(folder: Path) -> list[SafetensorsFile]:
    """The files that the index names. The index and the files must say the same."""
    index = folder / INDEX
    weight_map = read_json(index, MOST_INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map from tensor to file; fetch it again")
    for name, file_name in weight_map.items():
        _check_file_name(file_name, name, index)
    files = {file_name: SafetensorsFile(folder / file_name) for file_name in sorted(set(weight_map.values()))}
    listed = {(name, file_name) for name, file_name in weight_map.items()}
    there = {(name, file_name) for file_name, file in files.items() for name in file.tensors}
    for name, file_name in sorted(listed - there)[:1]:
        raise CheckpointError(f"{index} puts tensor {shown(name)} in {file_name}, which lacks it; fetch both again")
    for name, file_name in sorted(there - listed)[:1]:
        raise CheckpointError(
            f"{file_name} holds tensor {shown(name)}, which {index} does not put there; fetch both again"
        )
    return list(files.values())


def _check_file_name(file_name: Any, tensor: str, index: Path) -> None:
    """A plain name: the index may not lead out of the folder. (Links do: the hub's cache keeps its blobs elsewhere.)"""
    plain = isinstance(file_name, str) and file_name.isprintable() and not set(file_name) & set('/\\:*?"<>|')
    plain = plain and len(file_name.encode()) <= _LONGEST_NAME
    if not plain or file_name.startswith(".") or not file_name.endswith(".safetensors"):
        raise CheckpointError(
            f"{index} puts tensor {shown(tensor)} in {shown(file_name)}; "
            "only the plain name of a .safetensors file in the same folder is accepted"
        )


def _no_weights(folder: Path) -> Exception:
    if any(file for pattern in PICKLES for file in folder.glob(pattern)):
        return UnsupportedModel(
            f"{folder} has its weights as pickles only, and slmkit never reads pickles, which can run any program; "
            'convert it where you trust it: python -c "from transformers import AutoModelForCausalLM as M; '
            "M.from_pretrained('FOLDER').save_pretrained('NEW_FOLDER')\""
        )
    if any(folder.glob("*.gguf")):
        return UnsupportedModel(f"{folder} has GGUF weights only; give a folder that has {WEIGHTS}")
    return CheckpointError(f"{folder} has neither {WEIGHTS} nor {INDEX}; fetch the model's weights")
