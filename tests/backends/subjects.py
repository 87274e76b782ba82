"""What the conformance suite runs over: for each backend a way to open a small model on it.

A subject gives a Model whose answers to PROMPT are longer than a few tokens. It is skipped where its packages are not
installed; those in HEAVY run with `-m runtimes` alone, in the environments that `.ci/runtimes` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

import gguf_models
import phimoe_checkpoint
import slmkit
import tiny
from live_server import running
from slmkit import Model
from slmkit.export import export_gguf
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


@contextmanager
def openai(folder: Path) -> Iterator[Model]:
    with (
        running(Service(("tiny",), ServeOptions(), LoadOptions(ctx=512))) as url,
        slmkit.load(f"openai:{url}/v1#tiny") as model,
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
def llamacpp_server(folder: Path) -> Iterator[Model]:
    """llama.cpp's own server, as another one of OpenAI's API."""
    xllamacpp = pytest.importorskip("xllamacpp")
    file = folder / "tiny.gguf"
    export_gguf(open_source("tiny"), file)
    params = xllamacpp.CommonParams()
    params.model.path, params.hostnames, params.port, params.warmup = str(file), ["127.0.0.1"], 0, False
    params.n_ctx, params.n_parallel = 1024, 2
    server = xllamacpp.Server(params)
    with slmkit.load(f"openai:{server.listening_address}/v1") as model:
        yield model
    del server  # which ends it


@contextmanager
def transformers(folder: Path) -> Iterator[Model]:
    _require("torch", "transformers")
    with slmkit.load("transformers:tiny", ctx=512) as model:
        yield model


@contextmanager
def transformers_phi3(folder: Path) -> Iterator[Model]:
    """Random weights, with LongRoPE's switch within each answer."""
    _require("torch", "transformers")
    with slmkit.load(f"transformers:{tiny.write_model(folder / 'model', 'longrope')}") as model:
        yield model


@contextmanager
def transformers_phimoe(folder: Path) -> Iterator[Model]:
    _require("torch", "transformers")
    written = phimoe_checkpoint.write_folder(folder / "model")
    tiny.edit_json(written / "config.json", max_position_embeddings=512)
    with slmkit.load(f"transformers:{written}", ctx=512) as model:
        yield model


@contextmanager
def llamacpp(folder: Path) -> Iterator[Model]:
    _require("xllamacpp")
    with slmkit.load(f"llamacpp:{gguf_models.export('tiny', folder)}", ctx=512) as model:
        yield model


@contextmanager
def llamacpp_longrope(folder: Path) -> Iterator[Model]:
    """Random weights, all of whose prompts are turned by the long factors."""
    _require("xllamacpp")
    with slmkit.load(f"llamacpp:{gguf_models.export('longrope-long', folder)}", ctx=512) as model:
        yield model


@contextmanager
def mlx(folder: Path) -> Iterator[Model]:
    _require("mlx.core", "mlx_lm")
    with slmkit.load("mlx:tiny", ctx=512) as model:
        yield model


@contextmanager
def openvino(folder: Path) -> Iterator[Model]:
    pytest.importorskip("openvino_genai")
    with slmkit.load(f"openvino:{exported('openvino', folder.parent)}") as model:
        yield model


def _require(*packages: str) -> None:
    for package in packages:
        pytest.importorskip(package)


SUBJECTS: dict[str, Subject] = {"native": native, "ollama": ollama, "openai": openai}
HEAVY: dict[str, Subject] = {
    "transformers": transformers,
    "transformers-phi3": transformers_phi3,
    "transformers-phimoe": transformers_phimoe,
    "llamacpp": llamacpp,
    "llamacpp-longrope": llamacpp_longrope,
    "mlx": mlx,
    "onnx": onnx,
    "openvino": openvino,
    "llamacpp-server": llamacpp_server,
}
