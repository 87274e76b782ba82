"""The playground's files as a server sends them; playground/ looks at the page itself."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from slmkit.server.pages import FOLDER, HEADERS, page_files, playground


@pytest.fixture(scope="module")
def app() -> FastAPI:
    app = FastAPI()
    playground(app)

    @app.api_route("/", methods=["GET", "HEAD"])
    def root() -> PlainTextResponse:
        return PlainTextResponse("another answer at the same place")

    return app


def get(app: FastAPI, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request, whose path goes to the app exactly as it is written here."""
    sent: list[dict[str, Any]] = []
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": raw,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:])


def test_a_browser_gets_the_page_under_the_strict_policy(app):
    status, headers, body = get(app, "/", accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert body.startswith(b"<!doctype html>")
    assert {name: headers[name.lower()] for name in HEADERS} == HEADERS
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy


@pytest.mark.parametrize("accept", ["*/*", "application/json", ""])
def test_others_get_what_else_is_at_that_place(app, accept):
    assert get(app, "/", accept=accept)[2] == b"another answer at the same place"


def test_every_file_comes_with_its_type_and_an_etag_that_saves_sending_it_again(app):
    for name, file in page_files().items():
        status, headers, body = get(app, f"/static/{name}")
        assert (status, body) == (200, (FOLDER / name).read_bytes())
        assert headers["content-type"] == file.media_type
        assert headers["x-content-type-options"] == "nosniff"
        status, headers, body = get(app, f"/static/{name}", if_none_match=f'W/{headers["etag"]}, "other"')
        assert (status, body) == (304, b"")
        assert headers["etag"] == file.etag
    assert get(app, "/static/main.js", if_none_match='"other"')[0] == 200


def test_a_head_request_tells_the_length(app):
    status, headers, _ = get(app, "/static/main.js", "HEAD")
    assert status == 200
    assert headers["content-length"] == str(len((FOLDER / "main.js").read_bytes()))


@pytest.mark.parametrize(
    "path",
    ["../pages.py", "..%2fpages.py", "../playground/../pages.py", "//etc/passwd", "/etc/passwd",
     "vendor/../../pages.py", "vendor", "", "main.js/", "main.js\0", ".", "nothing.js"],
)  # fmt: skip
def test_nothing_outside_the_folder_exists(app, path):
    status, headers, body = get(app, f"/static/{path}")
    assert (status, body) == (404, b"no such file")
    assert headers["x-content-type-options"] == "nosniff"


def test_nothing_on_the_page_comes_from_elsewhere_or_is_inline():
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    for address in re.findall(r'(?:src|href)="([^"#]*)"', page):
        assert address.removeprefix("static/") in page_files()
    for path in FOLDER.glob("*.*"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?:fetch|import|url)\s*\(?\s*[\"']?https?:", text), path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text), (
            path
        )


def test_every_import_is_a_file_of_the_folder():
    for path in FOLDER.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8")):
            assert name in page_files(), f"{path.name} imports {name}"


def test_what_comes_from_others_has_its_version_and_licence():
    told = (FOLDER / "vendor" / "README.md").read_text(encoding="utf-8")
    for folder in (p for p in (FOLDER / "vendor").iterdir() if p.is_dir()):
        assert re.search(rf"`{folder.name}/` \| .*\| \d+\.\d+\.\d+ \| \w+", told), folder
        assert (folder / "LICENSE.txt").stat().st_size > 0
