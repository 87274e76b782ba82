"""What stands before every route, in this order: the name of the server, the page that asks, the key, the size."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from slmkit.server import record
from slmkit.server.faults import Fault, reply
from slmkit.server.hosts import Hosts, Origins
from slmkit.server.keys import Keys, keys_of
from slmkit.server.limits import Bodies, Rate
from slmkit.server.settings import ServeOptions

OPEN_PLACES = ("/", "/health")
OPEN_FOLDERS = ("/v1/health/", "/playground/")  # what probes ask, and the page, which asks for a key itself


class Callers:
    """Refuses requests without a key (401), if there are any keys, and those beyond the rate of a caller (429)."""

    def __init__(self, app: ASGIApp, keys: Keys, rate: Rate) -> None:
        self.app, self._keys, self._rate = app, keys, rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self.app
        if scope["type"] == "http" and not _is_open(scope) and (fault := self._fault(scope)):
            refusal = answer = reply(fault, scope["path"])
            if fault.http_status == 401:
                refusal.headers["www-authenticate"] = "Bearer"
        await answer(scope, receive, send)

    def _fault(self, scope: Scope) -> Fault | None:
        key = self._keys.match(Headers(scope=scope))
        caller = key or (scope.get("client") or ("unknown",))[0]
        record.current().caller = caller
        if late := self._rate.take(caller):
            return late
        if self._keys and key is None:
            return Fault(401, "this server answers with an API key alone, sent as Authorization: Bearer or x-api-key")
        return None


def install(app: FastAPI, options: ServeOptions) -> None:
    """Put it before the application.   Raises OptionError for keys that cannot be read."""
    most = options.max_body_mb * 1_000_000
    app.add_middleware(Bodies, most=most, patience_s=options.client_timeout)  # the last one stands first
    app.add_middleware(Callers, keys=keys_of(options), rate=Rate(options.rate_limit))
    app.add_middleware(Origins, allowed=options.allow_origins)
    app.add_middleware(Hosts, names=(options.host, *options.allow_hosts))


def _is_open(scope: Scope) -> bool:
    path = scope["path"]
    return scope["method"] in ("GET", "HEAD") and (path in OPEN_PLACES or path.startswith(OPEN_FOLDERS))
