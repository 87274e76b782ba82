"""A hub on this machine: the part of Hugging Face's protocol that downloads use, with faults to switch on.

    with HubServer() as hub:
        hub.add("owner/name", {"config.json": b"{}", "model.safetensors": b"..."})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.faults["model.safetensors"] = [Fault(drop_after=100)]

Large files (.safetensors, .gguf, tokenizer.model) are "LFS": their ETag is a SHA-256, and they are handed out by a
second server on another port after a redirect, as the hub's own are by a CDN. The others have git's blob SHA-1.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

LFS = (".safetensors", ".gguf", "tokenizer.model")


@dataclass
class Fault:
    """What goes wrong with one request for a file or, under the name "api", for the listing.

    times: for so many requests; None is for all.   drop_after: the connection ends after so many bytes.
    status, code, headers: an answer instead of the file.   wrong: other bytes of the same length.   length: a
    Content-Length that is not the body's.   endless: more and more bytes, with no Content-Length; of a redirect to the
    CDN ("hub:" and the file's name), 64 MiB.   no_range: the whole file whatever was asked.   redirect: to this
    address.
    """

    times: int | None = 1
    drop_after: int | None = None
    status: int | None = None
    code: str | None = None
    message: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    wrong: bool = False
    length: int | None = None
    endless: bool = False
    no_range: bool = False
    redirect: str | None = None
    body: bytes | None = None  # of the listing
    hold: threading.Event | None = None  # the body waits for it after `drop_after` bytes, instead of ending


@dataclass
class Repository:
    """Files at one commit.   listing: what the API says instead of what is there, by name."""

    files: dict[str, bytes]
    commit: str
    revisions: dict[str, str] = field(default_factory=dict)  # branch or tag -> commit
    gguf: dict[str, Any] | None = None
    extra: list[dict[str, Any]] = field(default_factory=list)  # entries of the listing with no file behind them


@dataclass(frozen=True)
class Request:
    """One request as it came.   sent: bytes of body that went out."""

    method: str
    path: str
    headers: dict[str, str]
    host: str
    sent: list[int] = field(default_factory=list, compare=False)


class HubServer:
    """As a context manager it serves until it is left."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self._servers = [_serve(self, is_cdn=False), _serve(self, is_cdn=True)]
        self.url, self.cdn = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)

    def add(self, repo: str, files: dict[str, bytes], **facts: Any) -> Repository:
        """Serve a repository; its commit follows from its files."""
        digest = hashlib.sha1(b"".join(name.encode() + data for name, data in sorted(files.items()))).hexdigest()
        added = Repository(dict(files), facts.pop("commit", digest), **facts)
        added.revisions.setdefault("main", added.commit)
        self.repositories[repo] = added
        return added

    def fault(self, name: str) -> Fault | None:
        """The fault that the next request for a name meets."""
        with self._lock:
            for fault in self.faults.get(name, []):
                if fault.times is None:
                    return fault
                if fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def sent(self, name: str = "") -> int:
        """Bytes of the bodies that went out for files whose path ends so."""
        return sum(sum(r.sent) for r in self.requests if "/resolve/" in r.path and r.path.endswith(name))

    def gets(self, part: str) -> list[Request]:
        """GET requests with a text in their path."""
        return [r for r in self.requests if r.method == "GET" and part in r.path]

    def __enter__(self) -> HubServer:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


def is_lfs(name: str) -> bool:
    return name.endswith(LFS)


@lru_cache(maxsize=100)
def etag(name: str, data: bytes) -> str:
    """As the hub has it."""
    return (
        hashlib.sha256(data).hexdigest() if is_lfs(name) else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    )


def _serve(hub: HubServer, is_cdn: bool) -> ThreadingHTTPServer:
    class Handler(_Handler):
        pass

    Handler.hub, Handler.is_cdn = hub, is_cdn
    server = _Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer
    is_cdn: bool

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)  # a proxy is asked with the whole address
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.request_log = Request(self.command, unquote(url.path), headers, self.headers.get("Host", ""))
        self.hub.requests.append(self.request_log)
        try:
            if self.path.startswith("/api/models/") or url.path.startswith("/api/models/"):
                self._api(url.path.removeprefix("/api/models/"), parse_qs(url.query))
            else:
                self._file(url.path.lstrip("/"))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _api(self, path: str, query: dict[str, list[str]]) -> None:
        parts = path.split("/")
        repo = self.hub.repositories.get("/".join(parts[:2]))
        fault = self.hub.fault("api")
        if fault and fault.status:
            return self._error(fault.status, fault.code, fault.message, fault.headers)
        if fault and fault.endless:
            return self._endless(b'{"padding": "')
        if fault and fault.body is not None:
            return self._raw(fault.body)
        if repo is None:
            return self._error(401, "RepoNotFound", "Invalid username or password.")
        if parts[2:3] == ["refs"]:
            branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in repo.revisions.items()]
            return self._json({"branches": branches, "tags": [], "converts": []})
        revision = unquote("/".join(parts[3:4])) if len(parts) > 3 else "main"
        commit = repo.commit if revision == repo.commit else repo.revisions.get(revision)
        if commit is None:
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if parts[2:3] == ["tree"]:
            return self._json([self._tree_entry(name, data) for name, data in repo.files.items()])
        siblings = [self._sibling(name, data) for name, data in repo.files.items()]
        facts: dict[str, Any] = {"id": "/".join(parts[:2]), "modelId": "/".join(parts[:2]), "sha": commit}
        facts |= {
            "private": False,
            "gated": False,
            "tags": [],
            "downloads": 1,
            "likes": 1,
            "siblings": siblings + repo.extra,
        }
        return self._json(facts | ({"gguf": repo.gguf} if repo.gguf else {}))

    def _sibling(self, name: str, data: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"rfilename": name, "size": len(data)}
        if not is_lfs(name):
            entry["blobId"] = etag(name, data)
        else:
            sha256 = etag(name, data)
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(data)}\n".encode()
            entry["blobId"] = etag("", pointer)
            entry["lfs"] = {"sha256": etag(name, data), "size": len(data), "pointerSize": len(pointer)}
        return entry

    def _tree_entry(self, name: str, data: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": etag("", data)}
        if is_lfs(name):
            entry["lfs"] = {"oid": etag(name, data), "size": len(data), "pointerSize": 130}
        return entry

    def _file(self, path: str) -> None:
        owner, name, _, revision, *rest = [*map(unquote, path.split("/")), "", "", "", ""]
        repo, file = self.hub.repositories.get(f"{owner}/{name}"), "/".join(part for part in rest if part)
        if repo is None:
            return self._error(401, "RepoNotFound", "Invalid username or password.")
        if revision != repo.commit and revision not in repo.revisions:
            return self._error(404, "RevisionNotFound", "")
        if file not in repo.files:
            return self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": repo.commit})
        data = repo.files[file]
        known = {"X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        if is_lfs(file) and not self.is_cdn:
            known |= {"X-Linked-Etag": f'"{etag(file, data)}"', "X-Linked-Size": str(len(data))}
            fault = self.hub.fault(f"hub:{file}")
            if fault and fault.status:
                return self._error(fault.status, fault.code, fault.message, fault.headers)
            place = fault.redirect if fault and fault.redirect else f"{self.hub.cdn}{urlsplit(self.path).path}"
            if fault and fault.endless:
                return self._long_redirect(place)
            return self._head(302, {**known, "Location": place, "Content-Length": "0"})
        return self._body(
            data, {**known, "ETag": f'"{etag(file, data)}"'}, self.hub.fault(file) if self.command == "GET" else None
        )

    def _body(self, data: bytes, headers: dict[str, str], fault: Fault | None) -> None:
        fault = fault or Fault()
        if fault.status:
            return self._error(fault.status, fault.code, fault.message, fault.headers)
        if fault.endless:
            return self._endless(data)
        start, status = 0, 200
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes=") and not fault.no_range:
            start, status = int(asked[6:].split("-")[0]), 206
            if start >= len(data):
                return self._head(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
            headers = {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        body = bytes(255 - byte for byte in data[start:]) if fault.wrong else data[start:]
        length = len(body) if fault.length is None else fault.length
        self._head(status, {**headers, "Content-Length": str(length)})
        if self.command == "HEAD":
            return None
        if fault.length is not None and fault.length > len(body):
            body += bytes(fault.length - len(body))
        self._send(body[: fault.drop_after] if fault.drop_after is not None else body[:length])
        if fault.hold is not None:
            fault.hold.wait(30)
        if fault.drop_after is not None:
            self.close_connection = True
            self.connection.close()
        return None

    def _send(self, body: bytes) -> None:
        for at in range(0, len(body), 1 << 16):
            piece = body[at : at + (1 << 16)]
            self.wfile.write(piece)
            self.request_log.sent.append(len(piece))

    def _endless(self, first: bytes) -> None:
        self.close_connection = True
        self._head(200, {"Connection": "close"})
        self._send(first)
        while True:
            self._send(bytes(1 << 16))

    def _long_redirect(self, place: str) -> None:
        """A redirect with a body of 64 MiB."""
        self.close_connection = True
        self._head(302, {"Location": place, "Connection": "close"})
        self._send(bytes(1 << 26))

    def _json(self, value: Any) -> None:
        self._raw(json.dumps(value).encode())

    def _raw(self, body: bytes) -> None:
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        if self.command == "GET":
            self.wfile.write(body)

    def _error(
        self, status: int, code: str | None, message: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        told = {"X-Error-Code": code, "X-Error-Message": message}
        self._head(status, {**{k: v for k, v in told.items() if v}, **(headers or {}), "Content-Length": "0"})

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def hub_of_the_test(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[HubServer]:
    """A server that this process and those it starts take for the hub, with empty caches in a folder."""
    from huggingface_hub import constants

    with HubServer() as hub:
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_HUB_CACHE", str(folder / "hub"))
        patch.setenv("HF_HOME", str(folder / "hf"))
        patch.setenv("SLMKIT_CACHE_DIR", str(folder / "slmkit"))
        patch.setenv("NO_PROXY", "127.0.0.1")
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            patch.delenv(name, raising=False)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)  # read from the environment at import
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        patch.setattr(constants, "HF_TOKEN_PATH", str(folder / "hf" / "token"))
        yield hub
