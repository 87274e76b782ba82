"""What goes wrong, in the words and shape of the API that was asked."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from typing import Any

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from slmkit.errors import ContextExceeded, ModelNotFound, OptionError, RequestError, SlmError
from slmkit.options import Options
from slmkit.server.replies import ClientGone
from slmkit.untrusted import shown

_OPTIONS = {*Options.__dataclass_fields__, "keep_alive"}
log = logging.getLogger("slmkit.server")
Body = dict[str, Any]


class Fault(SlmError):
    """Something that only the server can refuse, with its status.   param: the field at fault."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.http_status, self.code, self.param = status, code, param


def openai_body(error: SlmError) -> Body:
    """https://platform.openai.com/docs/guides/error-codes: always with all four, null where empty."""
    return {"error": {"message": str(error), "type": _openai_type(error), "param": _param(error), "code": _code(error)}}


def anthropic_body(error: SlmError) -> Body:
    """https://docs.anthropic.com/en/api/errors"""
    return {"type": "error", "error": {"type": _anthropic_type(error), "message": str(error)}}


def ollama_body(error: SlmError) -> Body:
    """A sentence, and nothing else."""
    return {"error": str(error)}


def body_of(path: str) -> Callable[[SlmError], Body]:
    """The shape that whoever calls this path expects."""
    if path.startswith("/api/"):
        return ollama_body
    return anthropic_body if path.startswith("/v1/messages") else openai_body


def reply(error: SlmError, path: str) -> JSONResponse:
    """The response for an error."""
    retry = getattr(error, "retry_after_s", None)
    headers = {"Retry-After": str(max(1, round(retry)))} if retry is not None else None
    return JSONResponse(body_of(path)(error), error.http_status, headers)


def install(app: FastAPI) -> None:
    """Have every exception of a handler answered in the right shape."""

    @app.exception_handler(SlmError)
    async def ours(http: HttpRequest, error: SlmError) -> Response:
        return reply(error, http.url.path)

    @app.exception_handler(RequestValidationError)
    async def invalid(http: HttpRequest, error: RequestValidationError) -> Response:
        return reply(_invalid(error), http.url.path)

    @app.exception_handler(HTTPException)
    async def refused(http: HttpRequest, error: HTTPException) -> Response:
        message = str(error.detail)
        if error.status_code == 404:
            message = _nothing_at(http.url.path, http.app.openapi()["paths"])
        elif error.status_code == 405:
            message = (
                f"{http.method} is not for {shown(http.url.path)}; it takes {(error.headers or {}).get('Allow', '')}"
            )
        answer = reply(Fault(error.status_code, message), http.url.path)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(ClientGone)
    async def gone(http: HttpRequest, error: ClientGone) -> Response:
        return Response(status_code=499)  # nobody reads it; logs do

    @app.exception_handler(Exception)
    async def unexpected(http: HttpRequest, error: Exception) -> Response:
        log.exception("a request failed unexpectedly")
        return reply(Fault(500, f"unexpected {type(error).__name__}; the server's log has more"), http.url.path)


def _nothing_at(path: str, endpoints: Iterable[str]) -> str:
    """What a 404 says, with the endpoint that was meant: some clients add /v1 to an address, others want it there."""
    alike = (known for known in endpoints if path.endswith(known) or known.endswith(path))
    meant = min(alike, key=len, default="")
    hint = f" (did you mean {meant}?)" if meant else ""
    return f"there is nothing at {shown(path)}{hint}; /openapi.json lists what there is"


def _invalid(error: RequestValidationError) -> Fault:
    """The first thing that is wrong with a body, with where it stands."""
    if isinstance(error.body, bytes):
        return Fault(400, "the body was not sent as JSON; add the header Content-Type: application/json")
    errors = error.errors()
    places = [_place(each, error.body) for each in errors]
    # of several kinds that were tried for one value, what fits best got furthest
    tried = [n for n, place in enumerate(places) if place[: len(places[0])] == places[0]]
    at = max(tried, key=lambda n: len(places[n]))
    first, where = errors[at], places[at]
    kind, param = first["type"], ".".join(where)
    if kind == "json_invalid":
        return Fault(400, f"the body is no JSON ({first.get('ctx', {}).get('error', first['msg'])})", "invalid_json")
    if kind == "missing" and not where:
        return Fault(400, "the request has no body; it takes a JSON object")
    if kind == "missing":
        return Fault(400, f"{param} is missing", "missing_required_parameter", param)
    if kind == "extra_forbidden":
        return Fault(400, f"{param} is not supported here; leave it out", "unsupported_parameter", param)
    if kind == "union_tag_invalid":
        name = first["ctx"]["discriminator"].strip("'")
        where, tag = [*where, name], shown(first["ctx"]["tag"])
        message = f"{'.'.join(where)} is {tag}; it should be one of {first['ctx']['expected_tags']}"
        return Fault(400, message, "invalid_value", ".".join(where))
    given = first.get("input")
    words = " or ".join(dict.fromkeys(_wanted(e) for e, place in zip(errors, places, strict=True) if place == where))
    is_given = "" if isinstance(given, (dict, list)) else f" is {'null' if given is None else shown(given)}"
    message = f"{param or 'the body'}{is_given}{'; it' if is_given else ''} {words}"
    return Fault(400, message, "invalid_value", param or None)


def _wanted(error: dict[str, Any]) -> str:
    """What would have been right, to follow upon "it"."""
    if error["type"] in ("dict_type", "model_type", "model_attributes_type"):
        return "should be an object"
    words = re.sub(r"^(Value error, |\w+ (?=should ))", "", error["msg"])
    return words[:1].lower() + words[1:]


def _place(error: dict[str, Any], body: Any) -> list[str]:
    """Where something stands in a body, without the names of kinds that were tried there."""
    loc = error["loc"]
    if loc[:1] != ("body",):
        return [str(part) for part in loc if part not in ("query", "path")]
    where: list[str] = []
    for n, part in enumerate(loc[1:], 2):
        is_there = part in body if isinstance(body, dict) else isinstance(body, list) and isinstance(part, int)
        if is_there:
            body = body[part]
        if is_there or (n == len(loc) and error["type"] == "missing"):
            where.append(str(part))
    return where


def _param(error: SlmError) -> str | None:
    if isinstance(error, Fault):
        return error.param
    if isinstance(error, OptionError):  # it begins with the option's name
        name = str(error).partition(" ")[0]
        return name if name in _OPTIONS else None
    return "model" if isinstance(error, ModelNotFound) else None


def _code(error: SlmError) -> str | None:
    if isinstance(error, Fault):
        return error.code
    if isinstance(error, ModelNotFound):
        return "model_not_found"
    if isinstance(error, OptionError):
        return "invalid_value"
    return "context_length_exceeded" if isinstance(error, ContextExceeded) else None


def _openai_type(error: SlmError) -> str:
    by_status = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    if error.http_status in by_status:
        return by_status[error.http_status]
    return "invalid_request_error" if isinstance(error, RequestError) or error.http_status < 500 else "server_error"


def _anthropic_type(error: SlmError) -> str:
    by_status = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large",
                 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error"}  # fmt: skip
    return by_status.get(error.http_status, "invalid_request_error" if error.http_status < 500 else "api_error")
