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
from slmkit.export import export_gguf
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


SUBJECTS: dict[str, Subject] = {"native": native, "ollama": ollama, "openai": openai}


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


HEAVY: dict[str, Subject] = {"llamacpp-server": llamacpp_server}
