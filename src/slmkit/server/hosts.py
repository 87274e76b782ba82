"""Who may be spoken to under which name, and by which web pages.

A page of another site can make a browser ask a server on its user's own machine: by its address, in which case the
browser says where the page is from (Origin), or under a name of the page's own site that was made to point here (DNS
rebinding), in which case the name gives it away (Host). An address cannot be made to point elsewhere.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slmkit.errors import OptionError
from slmkit.server.faults import Fault, reply
from slmkit.untrusted import shown

ANY = "*"
PREFLIGHT_S = 600  # how long a browser may remember that a page is allowed
READABLE = "x-request-id, request-id, retry-after"  # what a page's scripts may read, beside the body
PORTS = {"http": 80, "https": 443}


class Hosts:
    """Refuses, with 403, requests for a name that is not this server's.

    names: what it is called, beside localhost, loopback addresses and the address that a connection arrived at;
    `*.example.org` is every name below example.org, `*` any name.
    """

    def __init__(self, app: ASGIApp, names: tuple[str, ...]) -> None:
        self.app = app
        self._any = ANY in names
        self._names = {name.lower() for name in names if not name.startswith("*.")} | {"localhost"}
        self._domains = tuple(name[1:].lower() for name in names if name.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host") if scope["type"] == "http" else None
        answer = self.app
        if host is not None and not self._is_ours(host, scope):  # without one it is no browser
            name = shown(_name(host))
            answer = reply(Fault(403, f"this server is not called {name}; --allow-hosts names it so"), scope["path"])
        await answer(scope, receive, send)

    def _is_ours(self, host: str, scope: Scope) -> bool:
        name = _name(host)
        if self._any or name in self._names or name.endswith(self._domains):
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        here = (scope.get("server") or ("",))[0]
        return address.is_loopback or name == here.partition("%")[0]


class Origins:
    """Refuses, with 403, requests that a web page of another origin makes, and tells browsers which ones may.

    allowed: origins such as `https://example.org`; `*` is any. The server's own page always may.
    """

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        self.app = app
        self._allowed = frozenset(map(checked_origin, allowed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        origin = headers.get("origin")
        answer = self.app
        if origin is None or _is_own(origin, headers.get("host", "")):
            pass
        elif not {ANY, origin.lower()} & self._allowed:
            refusal = f"pages of {shown(origin)} may not call this server; --allow-origins names those that may"
            answer = reply(Fault(403, refusal), scope["path"])
        elif scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            answer = _preflight(origin, headers)
        else:
            send = _telling(send, origin)
        await answer(scope, receive, send)


def checked_origin(text: str) -> str:
    """An origin as browsers write it.   Raises OptionError."""
    word = text.strip().lower().removesuffix("/")
    parts = urlsplit(word)
    if word not in (ANY, "null") and (not parts.scheme or not parts.netloc or parts.path or parts.query):
        raise OptionError(
            f"allow_origins has {shown(text)}; an origin is written https://example.org or http://host:8080"
        )
    return word


def _name(host: str) -> str:
    """The name or address in a Host header, without port and brackets."""
    if host.startswith("["):
        address, _, rest = host[1:].partition("]")
        return address.lower() if not rest or rest.startswith(":") else host
    return host.partition(":")[0].lower().removesuffix(".")


def _is_own(origin: str, host: str) -> bool:
    """Whether a page was loaded from the very server that it calls; the scheme may be a proxy's."""
    try:
        parts = urlsplit(origin.lower())
        default = PORTS.get(parts.scheme)
        there, here = urlsplit(f"//{host.lower()}"), parts
        same_port = (here.port or default) == (there.port or default)
    except ValueError:  # a port that is no number
        return False
    return default is not None and here.hostname is not None and here.hostname == there.hostname and same_port


def _telling(send: Send, origin: str) -> Send:
    """Tell the browser that the page may read the answer."""

    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["access-control-allow-origin"] = origin
            headers["access-control-expose-headers"] = READABLE
            headers.add_vary_header("Origin")
        await send(message)

    return tell


def _preflight(origin: str, asked: Headers) -> Response:
    """What a browser wants to hear before it sends a page's request."""
    headers = {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": "GET, HEAD, POST, DELETE",
        "access-control-max-age": str(PREFLIGHT_S),
        "vary": "Origin, Access-Control-Request-Headers",
    }
    if wanted := asked.get("access-control-request-headers"):
        headers["access-control-allow-headers"] = wanted
    if asked.get("access-control-request-private-network") == "true":
        headers["access-control-allow-private-network"] = "true"
    return Response(status_code=204, headers=headers)
