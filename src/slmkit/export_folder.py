"""A model into a folder that another runtime loads, by that runtime's own exporter, in a process of its own.

The exporter asks no hub, counts nobody and runs no program code of a checkpoint. The folder appears once complete.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmkit.backends.registry import version_of
from slmkit.errors import MissingDependency, RequestError, RuntimeFailure, StorageError, UnsupportedModel
from slmkit.sources.base import Source
from slmkit.sources.folder import FolderSource
from slmkit.untrusted import brief, is_there, read_json, shown
from slmkit.weights.atomic import storage_errors
from slmkit.weights.packed import is_packed

_MOST_CONFIG_BYTES = 4 << 20
_TEXTS = ("LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE")  # which no exporter takes along


@dataclass(frozen=True)
class Format:
    """What one exporter needs, and what it writes.

    types: ours -> its own word for it, the default first.   devices: likewise, that the folder is made for.
    mark: the file by which its folders are known.   stops: the file and the keys that hold the ids that end answers.
    command: (folder, out, type, device, a folder for what is not kept) -> the line that runs it.
    """

    packages: tuple[str, ...]
    install: str
    types: Mapping[str, str]
    devices: tuple[str, ...]
    mark: str
    stops: tuple[str, ...]
    command: Callable[[str, str, str, str, str], list[str]]


def _onnx(folder: str, out: str, type: str, device: str, spare: str) -> list[str]:
    line = ["-m", "onnxruntime_genai.models.builder", "-i", folder, "-o", out, "-p", type, "-e", device, "-c", spare]
    return [*line, "--extra_options", "hf_remote=false"]


def _openvino(folder: str, out: str, type: str, device: str, spare: str) -> list[str]:
    line = ["-m", "optimum.commands.optimum_cli", "export", "openvino", "-m", folder, "--cache_dir", spare]
    return [*line, "--task", "text-generation-with-past", "--library", "transformers", "--weight-format", type, out]


FORMATS = {
    "onnx": Format(
        packages=("onnxruntime-genai", "onnx-ir", "torch", "transformers"),
        install="'slmkit[onnx-export]'",
        types={"int4": "int4", "int8": "int8", "f32": "fp32", "f16": "fp16", "bf16": "bf16"},
        devices=("cpu", "cuda", "dml", "webgpu"),
        mark="genai_config.json",
        stops=("genai_config.json", "model", "eos_token_id"),
        command=_onnx,
    ),
    "openvino": Format(
        packages=("optimum-intel", "openvino-genai", "torch"),
        install="'slmkit[openvino-export]'",
        types={"int8": "int8", "int4": "int4", "f32": "fp32", "f16": "fp16"},
        devices=("cpu",),  # its folders are for any
        mark="openvino_model.xml",
        stops=("generation_config.json", "eos_token_id"),
        command=_openvino,
    ),
}


@dataclass(frozen=True)
class Written:
    """What was written: bytes of the weight files before, of all files now, and how many they are."""

    source_bytes: int
    n_bytes: int
    n_files: int


def export_folder(
    source: Source, out: Path, format: str, type: str | None = None, device: str | None = None, *, force: bool = False
) -> Written:
    """Write the model into the folder `out`.

    type, device: of the format's; None is its first.   force: replace a folder that such an export made.
    Raises RequestError for a folder that may not be written, UnsupportedModel, MissingDependency, RuntimeFailure.
    """
    known = FORMATS[format]
    theirs = known.types[_one_of("type", type, tuple(known.types), format)]
    on = _one_of("device", device, known.devices, format)
    _require_target(out, known, force)
    _require_source(source, format, on)
    if missing := [package for package in known.packages if version_of(package) is None]:
        raise MissingDependency(
            f"exporting to {format} needs {' and '.join(missing)}, not installed here; run: pip install {known.install}"
        )
    with _partial(out) as partial, tempfile.TemporaryDirectory(prefix="slmkit-export-") as spare:
        _run(known.command(str(source.path), str(partial), theirs, on, spare), format, source.name)
        if not (partial / known.mark).is_file():
            raise RuntimeFailure(f"the exporter to {format} ended without a {known.mark}; update it: {known.install}")
        _write_stops(partial, known, source)
        for name in _TEXTS:
            if (source.path / name).is_file():
                shutil.copyfile(source.path / name, partial / name)
        _replace(partial, out)
    files = [file for file in out.rglob("*") if file.is_file()]
    return Written(source.tensors.total_bytes, sum(file.stat().st_size for file in files), len(files))


def _one_of(name: str, asked: str | None, there: tuple[str, ...], format: str) -> str:
    if asked is not None and asked not in there:
        raise RequestError(f"{name} is {shown(asked)}; an export to {format} takes one of {', '.join(there)}")
    return asked or there[0]


def _require_target(out: Path, known: Format, force: bool) -> None:
    if not is_there(out, StorageError):
        return
    if not out.is_dir():
        raise RequestError(f"{out} is there and is no folder; give another name")
    if not any(out.iterdir()):
        return
    if not force:
        raise RequestError(f"{out} is there already; give another name, or --force to replace it")
    if not (out / known.mark).is_file():
        raise RequestError(f"{out} has no {known.mark}, so no such export made it, and it stays; give another name")


def _require_source(source: Source, format: str, device: str) -> None:
    """Raise UnsupportedModel for what the exporter cannot read, or would write in part."""
    if not isinstance(source, FolderSource) or is_packed(source.tensors.metadata):
        raise UnsupportedModel(
            f"{source.name} is not a folder with its original weights, which exporters to {format} read; name the "
            "model that it was made from"
        )
    if source.sees:
        raise UnsupportedModel(
            f"{source.name} sees images, and the model builder of ONNX Runtime GenAI writes the text part alone; fetch "
            "a folder that Microsoft made, such as microsoft/Phi-3.5-vision-instruct-onnx"
            if format == "onnx"
            else f"{source.name} sees images, and openvino: runs text models alone; run it without an export"
        )
    if source.architecture == "phi3small":
        raise UnsupportedModel(
            f"{source.name} is a phi3small, which exporters read by program code in the checkpoint, and slmkit runs "
            "none; run it without an export"
        )
    if source.architecture == "phimoe" and format == "onnx" and device != "cuda":
        raise UnsupportedModel(
            f"{source.name} has experts, which ONNX Runtime runs on CUDA alone; give --device cuda, or run it without "
            "an export"
        )


@contextmanager
def _partial(out: Path) -> Iterator[Path]:
    """A folder beside `out` that is gone afterwards."""
    with storage_errors(out, 0):
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _run(line: list[str], format: str, name: str) -> None:
    """Run Python with that line. What it prints is kept for its last words."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "PYTHONUTF8": "1"}
    with tempfile.TemporaryFile() as told:
        done = subprocess.run([sys.executable, *line], stdout=told, stderr=told, env={**os.environ, **offline})
        told.seek(0)
        words = told.read().decode("utf-8", "replace").strip().splitlines()
    if done.returncode:
        last = next((text.strip() for text in reversed(words) if text.strip()), "it said nothing")
        killed = " (it was killed, perhaps for want of memory)" if done.returncode < 0 else ""
        raise RuntimeFailure(
            f"the exporter to {format} cannot export {name}{killed}: {brief(RuntimeError(last))}; try another --type, "
            "or another version of the exporter"
        )


def _write_stops(folder: Path, known: Format, source: Source) -> None:
    """Every id that ends an answer here ends it there, too: exporters know those of one file alone."""
    name, *keys, last = known.stops
    raw: dict[str, Any] = read_json(folder / name, _MOST_CONFIG_BYTES) if (folder / name).is_file() else {}
    place = raw
    for key in keys:
        place = place[key]
    given = place.get(last)
    found = given if isinstance(given, list) else [given]
    if set(found) != source.stop_ids:
        place[last] = sorted(source.stop_ids)
        (folder / name).write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")


def _replace(partial: Path, out: Path) -> None:
    with storage_errors(out, 0):
        if out.is_dir():
            shutil.rmtree(out)
        os.replace(partial, out)
        out.chmod(0o777 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
