"""What the conformance suite runs over: for each backend a way to open a small model on it.

A subject gives a Model whose answers to PROMPT are longer than a few tokens. It is skipped where its packages are not
installed; those in HEAVY run with `-m runtimes` alone, in the environments that `.ci/runtimes` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

import slmkit
from live_server import running
from slmkit import Model
from slmkit.export_folder import export_folder
from slmkit.options import LoadOptions
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions
from slmkit.sources.find import open_source

PROMPT = "Tell me a story about a dog."
Subject = Callable[[Path], AbstractContextManager[Model]]


@contextmanager
def native(folder: Path) -> Iterator[Model]:
    with slmkit.load("tiny", ctx=512) as model:
        yield model


@contextmanager
def ollama(folder: Path) -> Iterator[Model]:
    with (
        running(Service(("tiny",), ServeOptions(), LoadOptions(ctx=512))) as url,
        slmkit.load(f"ollama:{url}#tiny") as model,
    ):
        yield model


def exported(format: str, base: Path) -> Path:
    """The bundled model as a folder of another runtime, made once for all tests of a run.   base: their folder."""
    out = base / f"tiny-{format}"
    if not out.exists():
        export_folder(open_source("tiny"), out, format, "f32")
    return out


@contextmanager
def onnx(folder: Path) -> Iterator[Model]:
    pytest.importorskip("onnxruntime_genai")
    with slmkit.load(f"onnx:{exported('onnx', folder.parent)}") as model:
        yield model


@contextmanager
def openvino(folder: Path) -> Iterator[Model]:
    pytest.importorskip("openvino_genai")
    with slmkit.load(f"openvino:{exported('openvino', folder.parent)}") as model:
        yield model


SUBJECTS: dict[str, Subject] = {"native": native, "ollama": ollama}
HEAVY: dict[str, Subject] = {"onnx": onnx, "openvino": openvino}
