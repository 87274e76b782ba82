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
        contexts = {berth.name: berth.model.context for berth in service.fleet.berths}
        return {"object": "list", "data": [_model(one, contexts.get(one.name)) for one in await service.list()]}

    @router.get("/v1/models/{id:path}")
    async def model(id: str) -> dict[str, Any]:
        return _model(await service.find(id))

    return router


def _model(listed: Listed, context: int | None = None) -> dict[str, Any]:
    """context: of a loaded one, under the name that vLLM has for it. By owned_by clients see whose server this is."""
    created = int(listed.facts.get("modified") or 0)
    known = {} if context is None else {"max_model_len": context}
    return {"id": listed.id, "object": "model", "created": created, "owned_by": "slmkit", **known}
