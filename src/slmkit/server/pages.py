"""The playground: one page and its files, served from memory under a policy that lets it run nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Match, Route

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

FOLDER = Path(__file__).parent / "playground"

# No inline script, style or handler, no string that becomes HTML, nothing from elsewhere, and no page around this one.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # keep it, and ask each time whether it is still the same
    "Vary": "Accept",  # others get something else at the same place: the Ollama client looks for its server at /
}
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".md": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True)
class PageFile:
    """A file as it is sent."""

    body: bytes
    etag: str
    media_type: str


def page_files(folder: Path = FOLDER) -> dict[str, PageFile]:
    """Every file of the folder that a browser may ask for, by its path there; what is not in it does not exist."""
    paths = [p for p in folder.rglob("*") if p.is_file() and p.suffix in MEDIA_TYPES]
    return {p.relative_to(folder).as_posix(): _page_file(p) for p in paths}


def playground(app: FastAPI) -> None:
    """Serve the page at `/`, to whoever accepts HTML, and its files under `/static/`.

    Other clients do not see the route at `/`, so another one there answers them; it has to be added after this one.
    """
    files = page_files()

    async def index(request: Request) -> Response:
        return _answer(request, files["index.html"])

    async def static(request: Request) -> Response:
        file = files.get(request.path_params["path"])
        return Response("no such file", 404, HEADERS) if file is None else _answer(request, file)

    app.router.routes.append(_ForBrowsers("/", index, methods=["GET", "HEAD"], include_in_schema=False))
    app.router.routes.append(Route("/static/{path:path}", static, methods=["GET", "HEAD"], include_in_schema=False))


class _ForBrowsers(Route):
    """A route that is there only for those who name text/html among what they accept, as browsers do."""

    def matches(self, scope: Any) -> tuple[Match, Any]:
        accepted = b",".join(value for name, value in scope.get("headers", ()) if name == b"accept")
        return super().matches(scope) if b"text/html" in accepted.lower() else (Match.NONE, {})


def _page_file(path: Path) -> PageFile:
    body = path.read_bytes()
    return PageFile(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"', MEDIA_TYPES[path.suffix])


def _answer(request: Request, file: PageFile) -> Response:
    headers = HEADERS | {"ETag": file.etag}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if file.etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers=headers, media_type=file.media_type)
