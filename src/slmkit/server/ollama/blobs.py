"""HEAD and POST /api/blobs/{digest}: files that a model is made of afterwards."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from slmkit.server.replies import ClientGone
from slmkit.weights.named.blobs import Incoming, blob_path

_AT_ONCE = 1 << 20  # bytes that are written in one go


def routes() -> APIRouter:
    """The endpoints. A blob goes to the disk as it comes: no more than a megabyte of it is held."""
    router = APIRouter(tags=["ollama"])

    @router.head("/api/blobs/{digest}")
    async def has(digest: str) -> Response:
        return Response(status_code=200 if blob_path(digest).is_file() else 404)

    @router.post("/api/blobs/{digest}")
    async def take(http: HttpRequest, digest: str) -> Response:
        if blob_path(digest).is_file():
            return Response(status_code=200)
        with await asyncio.to_thread(Incoming, digest) as incoming:
            held = bytearray()
            try:
                async for piece in http.stream():
                    held += piece
                    if len(held) >= _AT_ONCE:
                        await asyncio.to_thread(incoming.write, bytes(held))
                        held.clear()
            except ClientDisconnect:
                raise ClientGone from None
            await asyncio.to_thread(incoming.write, bytes(held))
            await asyncio.to_thread(incoming.finish)
        return Response(status_code=201)

    return router
