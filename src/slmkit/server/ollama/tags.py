"""GET /api/tags and /api/ps: the models that there are, and those that are loaded."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter

from slmkit.server.fleet import Berth
from slmkit.server.ollama.details import details_of, digest_of, modified_of, time_text
from slmkit.server.ollama.names import tagged
from slmkit.server.roster import Listed
from slmkit.server.service import Service

NEVER = "9999-12-31T23:59:59Z"  # Ollama has no word for it either


def routes(service: Service) -> APIRouter:
    """The endpoints."""
    router = APIRouter(tags=["ollama"])

    @router.get("/api/tags")
    async def tags() -> dict[str, Any]:
        listed = await service.list()
        return {"models": await asyncio.to_thread(lambda: [_tag(one) for one in listed])}

    @router.get("/api/ps")
    async def ps() -> dict[str, Any]:
        ids = {listed.name: listed for listed in await service.list()}
        running = [(berth, ids.get(berth.name) or Listed(berth.name, berth.name, {})) for berth in service.fleet.berths]
        return {"models": await asyncio.to_thread(lambda: [_running(*pair) for pair in running])}

    return router


def _tag(listed: Listed) -> dict[str, Any]:
    return {
        "name": tagged(listed.id),
        "model": tagged(listed.id),
        "modified_at": time_text(modified_of(listed)),
        "size": listed.facts.get("n_bytes", 0),
        "digest": digest_of(listed),
        "details": details_of(listed),
    }


def _running(berth: Berth, listed: Listed) -> dict[str, Any]:
    facts = berth.model.describe()
    return {
        "name": tagged(listed.id),
        "model": tagged(listed.id),
        "size": facts.get("weight_bytes", 0) + facts.get("cache_bytes_per_token", 0) * berth.model.context,
        "digest": digest_of(listed),
        "details": details_of(listed),
        "expires_at": NEVER if berth.expires_at is None else time_text(berth.expires_at),
        "size_vram": 0,
        "context_length": berth.model.context,
    }
