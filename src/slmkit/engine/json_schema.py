"""A JSON schema as llguidance takes it: what it would hold an answer to too loosely is told more closely, or refused.

llguidance refuses the keywords that it does not know and holds answers to the others, but for a few things: it reads
patterns as Rust has them, some formats loosely and some exclusive bounds as inclusive, and it lets a property's name be
written in two ways, or twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from slmkit.errors import RequestError
from slmkit.untrusted import shown

# Without \u: "\u0061" would be another name than "a" to llguidance, and none that is closed, required or has a schema.
ESCAPES = 'nrbtf\\"'
# And without it llguidance drops the other control characters, unless a pattern has them in a range.
_UNWRITTEN = re.compile(r"(?<!\\)(?:\\\\)*\\u00[01]")  # as JSON writes it
_WRITTEN = "\b\t\n\f\r"
_CODE = r"\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\[xu]\{[0-9A-Fa-f]+\}"

_EXCLUSIVE = {"exclusiveMinimum": 1, "exclusiveMaximum": -1}  # and which way the numbers are
_MAPS = {"properties", "patternProperties", "$defs", "definitions"}  # of names to schemas
_DATA = {"const", "enum", "default", "examples"}

# ECMA 262's; Rust's own \s has U+0085 and lacks U+FEFF, and its dot matches all but \n.
_SPACES = r"\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_OUTSIDE = {"\\s": f"[{_SPACES}]", "\\S": f"[^{_SPACES}]", ".": r"[^\n\r\u2028\u2029]"}
# Rust nests classes, and combines them by && and ~~.
_IN_CLASS = {"\\s": _SPACES, "\\S": f"[^{_SPACES}]", "[": r"\[", "&&": r"&\&", "~~": r"~\~"}
_PART = re.compile(rf"{_CODE}|\\.|\[\^?\]?|\(\?[A-Za-z-]+[:)]|.", re.DOTALL)
_PART_IN_CLASS = re.compile(rf"{_CODE}|\\.|&&|~~|--|.", re.DOTALL)
# The last are flags that change what a dot or a space is.
_OTHERS = re.compile(r"\\|--|\[\^?\]|\(\?(?![i-]+[:)])[A-Za-z-]+[:)]")

_LEAP_DAYS = (
    r"^(?:[0-9]{4}-(?:0[13-9]|1[0-2]|02-[01]|02-2[0-8])"
    r"|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
)
# A leap second is one at 23:59 UTC alone, which takes the offset; few programs read any.
_NO_LEAP_SECONDS = r"^[^:]*:[^:]*:[0-5]"
# xn-- marks letters of other scripts in a code (punycode) that no grammar can check.
_LABEL = r"(?:[^.]{1,3}|[^.]{2}(?:[^.-][^.]|-[^.-])[^.]*)"
_FORMATS: dict[str, list[dict[str, Any]]] = {
    "date": [{"pattern": _LEAP_DAYS}],
    "date-time": [{"pattern": _LEAP_DAYS}, {"pattern": _NO_LEAP_SECONDS}],
    "time": [{"pattern": _NO_LEAP_SECONDS}],
    "hostname": [{"pattern": rf"^{_LABEL}(?:\.{_LABEL})*$", "maxLength": 253}],
}


def for_llguidance(schema: Mapping[str, Any], spacing: Mapping[str, Any]) -> dict[str, Any]:
    """The schema, with how llguidance is to write it.   spacing: its options of white space.

    Raises RequestError for what it cannot be held to.
    """
    own = schema.get("x-guidance", {})
    options = {**spacing, "json_allowed_escapes": ESCAPES, **own} if isinstance(own, Mapping) else own
    return {**_narrowed(schema), "x-guidance": options}


def _narrowed(schema: Any) -> Any:
    if isinstance(schema, list | tuple):
        return [_narrowed(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in _MAPS and isinstance(value, Mapping):
            is_pattern = keyword == "patternProperties"
            made[keyword] = {_rust(name) if is_pattern else name: _narrowed(each) for name, each in value.items()}
        elif keyword == "pattern" and isinstance(value, str):
            made[keyword] = _rust(value)
        elif keyword in _EXCLUSIVE and isinstance(value, int | float) and not isinstance(value, bool):
            made[keyword] = _apart(value, _EXCLUSIVE[keyword])
        elif keyword in _DATA:
            made[keyword] = value
            if _UNWRITTEN.search(json.dumps(value)):
                raise _control(value)
        else:
            made[keyword] = _narrowed(value)
    _check_count(schema)
    format = schema.get("format")
    if isinstance(format, str) and format in _FORMATS and isinstance(others := made.get("allOf", []), list):
        made["allOf"] = [*others, *_FORMATS[format]]
    return made


def _check_count(schema: Mapping[str, Any]) -> None:
    """llguidance counts a name of its own making again where it is written again; of names in required there is one."""
    least, required = schema.get("minProperties"), schema.get("required", [])
    if not isinstance(least, int) or not isinstance(required, list):
        return  # llguidance says what is wrong
    is_closed = schema.get("additionalProperties") is False and "patternProperties" not in schema
    if least > len(set(map(str, required))) + 1 and not is_closed:
        raise RequestError(
            f"the constraint (schema) cannot be used: minProperties is {least}, and an object's names may repeat where "
            "they are not known; set additionalProperties to false, or leave out minProperties"
        )


def _apart(bound: float, sign: int) -> float:
    """The bound, moved by a billionth where llguidance may take it to be allowed.

    It does so with a whole one and a second one less than 1 further from zero, which may stand anywhere in the schema.
    """
    if bound % 1 != 0 or sign * bound < 0 or abs(bound) >= 1e9:
        return bound
    return bound + sign * 1e-9 * max(1, abs(bound))


def _rust(pattern: str) -> str:
    """A pattern of ECMA 262 so that Rust's regex reads it alike. What neither has llguidance refuses."""
    written, at, in_class = "", 0, False
    while found := (_PART_IN_CLASS if in_class else _PART).match(pattern, at):
        part, at = found[0], found.end()
        if _OTHERS.fullmatch(part):
            raise RequestError(
                f"the constraint (schema) cannot be used: {part} in the pattern {shown(pattern)} means one thing to "
                "JSON Schema and another to llguidance; write it with a backslash, or leave it out"
            )
        is_range = in_class and (pattern[at : at + 1] == "-" or written.endswith("-"))
        if _is_unwritten(part) and not is_range:
            raise _control(pattern)
        written += (_IN_CLASS if in_class else _OUTSIDE).get(part, part)
        in_class = part != "]" if in_class else part in ("[", "[^")
    return written


def _is_unwritten(part: str) -> bool:
    """Whether a part of a pattern is a character that no answer is held to."""
    is_code = re.fullmatch(_CODE, part)
    code = int(part[2:].strip("{}"), 16) if is_code else ord("\v" if part == "\\v" else part[0])
    return code < 0x20 and chr(code) not in _WRITTEN


def _control(value: object) -> RequestError:
    return RequestError(
        f"the constraint (schema) cannot be used: {shown(value)} has a control character that no answer is held to; "
        "leave it out"
    )
