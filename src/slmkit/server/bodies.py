"""Bodies of requests, read as strictly as JSON is defined: no NaN, no key twice, no half characters."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Coroutine
from json import JSONDecodeError
from typing import Any, NoReturn

from fastapi import Request as HttpRequest
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, GetCoreSchemaHandler

from slmkit.untrusted import shown

MOST_VALUES = 300_000  # of one body: the ids of the longest prompt are fewer; each becomes an object, or an error
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def _fail_fast(schema: Any) -> None:
    if isinstance(schema, dict):
        if schema.get("type") == "list":
            schema["fail_fast"] = True
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            _fail_fast(part)


class Body(BaseModel):
    """A body whose lists are read up to the first thing that is wrong: a list may have as many faults as values."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> Any:
        schema = handler(source)
        _fail_fast(schema)
        return schema


class JsonRoute(APIRoute):
    """A route whose body is strict JSON."""

    def get_route_handler(self) -> Callable[[HttpRequest], Coroutine[Any, Any, Response]]:
        """The route's own handler, given a request that reads its body strictly."""
        handle = super().get_route_handler()

        async def strictly(http: HttpRequest) -> Response:
            return await handle(_JsonRequest(http.scope, http.receive))

        return strictly


class _JsonRequest(HttpRequest):
    async def json(self) -> Any:
        return parse(await self.body())


def parse(body: bytes) -> Any:
    """The value that the body spells.   Raises JSONDecodeError, whatever is wrong."""
    try:
        text = body.decode()
        if text.count(",") > MOST_VALUES and _TEXT.sub("", text).count(",") > MOST_VALUES:
            raise JSONDecodeError(f"it has more than the {MOST_VALUES} values that are read of one", "", 0)
        value = json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse)
        if "\\ud" in text.lower():  # the escape of half a character, or of a whole one in two halves
            json.dumps(value, ensure_ascii=False).encode()
    except JSONDecodeError:
        raise
    except UnicodeDecodeError as error:
        raise JSONDecodeError(f"byte {error.start} is no UTF-8", "", error.start) from None
    except UnicodeEncodeError:
        raise JSONDecodeError("a text has half a surrogate pair, which is no character", "", 0) from None
    except RecursionError:
        raise JSONDecodeError("it is nested too deeply", "", 0) from None
    except ValueError:
        raise JSONDecodeError("a number has too many digits", "", 0) from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise JSONDecodeError(f"the key {shown(key)} stands there twice", "", 0)
        found[key] = value
    return found


def _finite(digits: str) -> float:
    """JSON has 1e999, which no float holds; what is read as infinite could not be written again."""
    number = float(digits)
    if math.isinf(number):
        raise JSONDecodeError(f"{shown(digits)} is beyond what a number here can be", "", 0)
    return number


def _refuse(constant: str) -> NoReturn:
    raise JSONDecodeError(f"{constant} is no number that JSON has", "", 0)
