"""How Ollama's own server is called: curl's bodies are no forms, and a browser at / is somebody else's."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request as HttpRequest
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import Scope

from slmkit.server import bodies

NDJSON = "application/x-ndjson"


class JsonRoute(bodies.JsonRoute):
    """Takes a body as JSON whatever its Content-Type says: `curl -d` calls it a form, and Ollama's manual uses that."""

    def get_route_handler(self) -> Callable[[HttpRequest], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(http: HttpRequest) -> Response:
            others = [(name, value) for name, value in http.scope["headers"] if name != b"content-type"]
            scope = {**http.scope, "headers": [*others, (b"content-type", b"application/json")]}
            return await handle(HttpRequest(scope, http.receive))

        return handle_json


class ClientRoute(APIRoute):
    """A route that browsers pass by: it is for those who do not ask for a page."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and "text/html" in Headers(scope=scope).get("accept", ""):
            return Match.NONE, {}
        return super().matches(scope)
