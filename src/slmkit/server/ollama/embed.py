"""POST /api/embed and /api/embeddings: texts as vectors, each the mean of its tokens' last hidden states."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
from fastapi import APIRouter
from fastapi import Request as HttpRequest
from numpy.typing import NDArray

from slmkit.errors import OptionError, RequestError
from slmkit.server.ollama.answers import keep_alive_of, prepared
from slmkit.server.ollama.route import JsonRoute
from slmkit.server.ollama.schema import EmbedBody, EmbeddingsBody
from slmkit.server.replies import whole
from slmkit.server.service import Service
from slmkit.weights.ollama.parameters import parameters


def routes(service: Service) -> APIRouter:
    """The endpoints. /api/embed gives vectors of length 1, /api/embeddings gives them as they are; both as Ollama."""
    router = APIRouter(route_class=JsonRoute, tags=["ollama"])

    @router.post("/api/embed")
    async def embed(http: HttpRequest, body: EmbedBody) -> dict[str, Any]:
        began = time.perf_counter_ns()
        texts = [body.input] if isinstance(body.input, str) else body.input
        load_ns, vectors, n_tokens = await _embedded(http, service, body, texts)
        if body.dimensions is not None:
            if body.dimensions > vectors.shape[1]:
                raise OptionError(f"dimensions is {body.dimensions}; vectors of {body.id} have {vectors.shape[1]}")
            vectors = vectors[:, : body.dimensions]
        return {
            "model": body.id,
            "embeddings": _of_length_1(vectors).tolist(),
            "total_duration": time.perf_counter_ns() - began,
            "load_duration": load_ns,
            "prompt_eval_count": n_tokens,
        }

    @router.post("/api/embeddings")
    async def embeddings(http: HttpRequest, body: EmbeddingsBody) -> dict[str, Any]:
        _, vectors, _ = await _embedded(http, service, body, [body.prompt] if body.prompt else [])
        return {"embedding": vectors[0].tolist() if len(vectors) else []}

    return router


async def _embedded(
    http: HttpRequest, service: Service, body: EmbedBody | EmbeddingsBody, texts: list[str]
) -> tuple[int, NDArray[np.float32], int]:
    """Nanoseconds of loading, the vectors (texts, hidden), and how many tokens were read; no texts only load."""
    keep = keep_alive_of(body.keep_alive)
    _, num_ctx = parameters(body.options or {})
    if not all(texts):
        raise RequestError("a text to embed is empty; give at least one character")
    load_ns = await prepared(http, service, body.id, num_ctx, keep)
    if not texts:
        return load_ns, np.zeros((0, 1), np.float32), 0

    async def embedded() -> tuple[NDArray[np.float32], int]:
        async with service.model(body.id, keep) as model:
            vectors = await service.embed(body.id, texts, keep)  # before they are counted: what is too long is refused
            return vectors, await asyncio.to_thread(lambda: sum(len(model.tokenize(text)) for text in texts))

    return load_ns, *await whole(http, embedded())


def _of_length_1(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms == 0, 1, norms), np.float32)
