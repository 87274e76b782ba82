"""A model folder into a packed model folder, which loads by itself."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from slmkit.errors import RequestError, StorageError
from slmkit.untrusted import is_there, read_bytes
from slmkit.weights.atomic import make_folder, remove_leftovers, write_atomically
from slmkit.weights.checkpoint import INDEX, WEIGHTS, Checkpoint
from slmkit.weights.expect import check_tensors
from slmkit.weights.fingerprint import source_sha256
from slmkit.weights.packed import is_packed, packed_metadata, packed_plan, recipe_formats
from slmkit.weights.packing import WAITING, pack_tensors
from slmkit.weights.safetensors import SafetensorsWriter
from slmkit.weights.telling import Progress, silent
from slmkit.weights.tensors import Shape, TensorSource

COPIED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "cl100k_base.tiktoken",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "LICENSE",
)
_MOST_COPIED_BYTES = 1 << 27


@dataclass(frozen=True)
class Quantized:
    """What was written: bytes of all weight files before and after, and the number of weights."""

    source_bytes: int
    packed_bytes: int
    n_weights: int

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.packed_bytes / self.n_weights


def quantize_folder(
    checkpoint: Checkpoint,
    expected: Mapping[str, Shape],
    quantization: str,
    out: Path,
    *,
    force: bool = False,
    ops: Any = None,
    progress: Progress = silent,
    rounding: TensorSource | None = None,
) -> Quantized:
    """Write the checkpoint, packed, with its configuration and tokenizer into the folder `out`.

    force: write into a folder that has files in it, replacing those of the same names.
    rounding: the same tensors, rounded in another way or watched.
    The weights come last, so a folder that was left half-written does not load.
    Raises RequestError for a folder that may not be written to, CheckpointError, StorageError.
    """
    _check_target(checkpoint, out, force)
    check_tensors(expected, checkpoint)
    is_new = not is_there(out, StorageError)
    make_folder(out)
    try:
        sha256 = source_sha256(checkpoint, progress)
        formats = recipe_formats(expected, quantization)
        plan, metadata = packed_plan(expected, formats), packed_metadata(expected, formats, quantization, sha256)
        with SafetensorsWriter(
            out / WEIGHTS, plan, metadata, waiting=lambda: progress(WAITING, 0, checkpoint.total_bytes)
        ) as writer:
            pack_tensors(rounding or checkpoint, expected, formats, writer, ops, progress)
            (out / WEIGHTS).unlink(missing_ok=True)  # old weights never meet a new configuration
            _copy_side_files(checkpoint.folder, out)
            writer.commit()
        remove_leftovers(out, (WEIGHTS, *COPIED))
    except BaseException:
        if is_new:
            _remove_new(out)
        raise
    n_weights = sum(prod(shape) for shape in expected.values())
    return Quantized(checkpoint.total_bytes, writer.n_bytes, n_weights)


def _check_target(checkpoint: Checkpoint, out: Path, force: bool) -> None:
    if is_packed(checkpoint.metadata):
        raise RequestError(f"{checkpoint.folder} is packed already; give the original model")
    if is_there(out, StorageError) and not out.is_dir():
        raise RequestError(f"{out} is a file; give a folder to write to")
    if out.is_dir() and out.samefile(checkpoint.folder):
        raise RequestError(f"{out} is the original model's own folder; give another one to write to")
    if is_there(out / INDEX, StorageError):
        raise RequestError(f"{out} holds another model, in several files; remove it or give another folder")
    if out.is_dir() and not force and _holds_files(out):
        raise RequestError(f"{out} has files in it; give another folder, or --force to replace files of the same names")


def _copy_side_files(source: Path, out: Path) -> None:
    """Also take out those of a model that was there before: its template is not the new one's."""
    for name in COPIED:
        if is_there(source / name):
            write_atomically(out / name, read_bytes(source / name, _MOST_COPIED_BYTES))
        else:
            (out / name).unlink(missing_ok=True)


def _remove_new(out: Path) -> None:
    """Take back a folder of our own making, and only what we put there."""
    for name in COPIED:
        (out / name).unlink(missing_ok=True)
    with suppress(OSError):
        out.rmdir()


def _holds_files(out: Path) -> bool:
    """Whether there is anything in the folder that a killed run of ours did not leave there.

    The weights come last: side files beside half-written weights, and no others, are such a run's.
    """
    there = {path.name for path in out.iterdir() if not _is_partial(path)}
    was_killed = is_there(out / f".{WEIGHTS}.partial", StorageError)
    return bool(there - set(COPIED) if was_killed else there)


def _is_partial(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".partial")
