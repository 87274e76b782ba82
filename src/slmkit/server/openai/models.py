"""GET /v1/models and /v1/models/{id}: what can be asked for."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from slmkit.server.roster import Listed
from slmkit.server.service import Service


def routes(service: Service) -> APIRouter:
    """The endpoints that list models."""
    router = APIRouter()

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(listed) for listed in await service.list()]}

    @router.get("/v1/models/{id:path}")
    async def model(id: str) -> dict[str, Any]:
        return _model(await service.find(id))

    return router


def _model(listed: Listed) -> dict[str, Any]:
    created = int(listed.facts.get("modified") or 0)
    return {"id": listed.id, "object": "model", "created": created, "owned_by": listed.facts.get("origin", "slmkit")}
