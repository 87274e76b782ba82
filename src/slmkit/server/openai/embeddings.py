"""POST /v1/embeddings: the mean of a text's last hidden states.

No model here was trained to embed texts: they are near or far as what the model makes of them is.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response
from numpy.typing import NDArray

from slmkit.errors import RequestError, UnsupportedFeature
from slmkit.model import Model
from slmkit.server.bodies import JsonRoute
from slmkit.server.faults import Fault
from slmkit.server.openai.schema import Embedding
from slmkit.server.replies import whole
from slmkit.server.service import Service, seconds

MOST_INPUTS = 2048  # as OpenAI's


def routes(service: Service) -> APIRouter:
    """The endpoint that embeds texts."""
    router = APIRouter(route_class=JsonRoute)

    @router.post("/v1/embeddings")
    async def embeddings(asked: Embedding, http: HttpRequest) -> Response:
        keep_alive_s = None if asked.keep_alive is None else seconds(asked.keep_alive, "keep_alive")
        inputs = as_inputs(asked)

        async def embedded() -> tuple[NDArray[np.float32], int]:
            async with service.model(asked.model, keep_alive_s) as model:
                texts = await asyncio.to_thread(_texts, model, inputs)
                vectors = await service.embed(asked.model, texts)  # before they are counted: too long ones are refused
                return vectors, await asyncio.to_thread(lambda: sum(len(model.tokenize(text)) for text in texts))

        vectors, n_tokens = await whole(http, embedded())
        written = _base64 if asked.encoding_format == "base64" else _numbers
        return JSONResponse(
            {
                "object": "list",
                "data": [{"object": "embedding", "index": n, "embedding": written(v)} for n, v in enumerate(vectors)],
                "model": asked.model,
                "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
            }
        )

    return router


def as_inputs(asked: Embedding) -> list[str | list[int]]:
    """What is to be embedded, each a text or its ids.   Raises Fault."""
    given: Any = asked.input
    inputs = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else list(given)
    if not inputs or not all(inputs):
        raise Fault(
            400, "input is empty, or has an empty text; give texts with something in them", "invalid_value", "input"
        )
    if len(inputs) > MOST_INPUTS:
        raise Fault(
            400, f"input has {len(inputs)} texts, over {MOST_INPUTS}; send fewer at once", "invalid_value", "input"
        )
    return inputs


def _texts(model: Model, inputs: Sequence[str | list[int]]) -> list[str]:
    """The texts.   Raises Fault for ids that are not how the model writes their text."""
    texts = []
    for n, given in enumerate(inputs):
        text = given if isinstance(given, str) else _text(model, given, n)
        if not isinstance(given, str) and list(model.tokenize(text)) != given:
            raise _foreign(n, "has ids that this model's tokenizer would not give for their text")
        texts.append(text)
    return texts


def _text(model: Model, ids: list[int], n: int) -> str:
    try:
        return model.detokenize(ids)
    except UnsupportedFeature:
        raise
    except RequestError as error:
        raise _foreign(n, f"has ids of another tokenizer: {error}") from None


def _foreign(n: int, why: str) -> Fault:
    """LangChain sends such ids to every model unless told otherwise; the message is all that its users see."""
    return Fault(400, f"input.{n} {why}; send the text itself", "invalid_value", "input")


def _numbers(vector: NDArray[np.float32]) -> list[float]:
    return [float(number) for number in vector]


def _base64(vector: NDArray[np.float32]) -> str:
    """Little-endian float32, as OpenAI's clients read it."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
