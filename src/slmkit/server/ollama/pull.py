"""POST /api/pull: a model fetched from the hub; and /api/push, which there is none of."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from slmkit.errors import ModelNotFound
from slmkit.models.registry import architecture
from slmkit.server.faults import Fault
from slmkit.server.ollama import progress
from slmkit.server.ollama.route import JsonRoute
from slmkit.server.ollama.schema import PullBody
from slmkit.server.roster import LATEST, without_host
from slmkit.server.service import Service
from slmkit.untrusted import shown
from slmkit.weights.hub import models as hub
from slmkit.weights.names import hub_reference, is_path, refuse_reserved, unknown
from slmkit.weights.telling import Progress

_ACCEPTED = "short names such as phi3.5, and owner/name[:QUANTIZATION]"


def routes(service: Service) -> APIRouter:
    """The endpoints."""
    router = APIRouter(route_class=JsonRoute, tags=["ollama"])

    @router.post("/api/pull")
    async def pull(http: HttpRequest, body: PullBody) -> Response:
        for field in ("insecure", "username", "password"):
            if getattr(body, field):
                raise Fault(400, f"{field} is not supported here; leave it out", "unsupported_parameter", field)
        name = without_host(body.id.removesuffix(LATEST))

        def work(told: Progress) -> None:
            _pull(service, name, told)

        return await progress.reply(http, work, "pulling manifest", body.stream)

    @router.post("/api/push")
    async def push(body: PullBody) -> Response:
        raise Fault(
            400, "push is not supported: slmkit publishes no models; copy the files, or use the hub's own tools"
        )

    return router


def _pull(service: Service, name: str, told: Progress) -> None:
    """Have the model here.   Raises ModelNotFound for a name that nothing answers to."""
    refuse_reserved(name)
    ref = hub_reference(name)
    if ref is None or service.load_options.offline:
        try:
            service.roster.find(name)  # what is here needs no fetching
            return
        except ModelNotFound:
            if ref is None and is_path(name):
                raise ModelNotFound(f"{shown(name)} is a path, and no request names one; give {_ACCEPTED}") from None
            if ref is None:
                raise unknown(name, _ACCEPTED) from None
            raise Fault(403, f"{shown(name)} is not here, and the server fetches nothing (--offline)") from None
    hub.pull(ref, told, None, architecture)
