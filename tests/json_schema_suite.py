"""The schemas of JSON-Schema-Test-Suite, draft 2020-12, each with instances and whether they are valid."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import jsonschema

SUITE = Path(__file__).parent / "data/json_schema/draft2020-12"


@dataclass(frozen=True)
class Case:
    """A schema.   text: as JSON, its numbers as they are written.   tests: description, data and valid of each."""

    name: str
    text: str
    tests: tuple[dict[str, Any], ...]

    @property
    def schema(self) -> Any:
        return json.loads(self.text)


def cases() -> list[Case]:
    """All, in the order of the files."""
    found = []
    for path in sorted(SUITE.rglob("*.json")):
        of = path.relative_to(SUITE).with_suffix("")
        for group in json.loads(path.read_text("utf-8")):
            found.append(Case(f"{of}: {group['description']}", json.dumps(group["schema"]), tuple(group["tests"])))
    return found


def is_valid(text: str, schema: str) -> bool:
    """Whether the text is JSON that validates.

    Numbers are decimal: 19.99 is a multiple of 0.01, and as binary floats it is none.
    """
    with localcontext() as context:
        context.prec = 400
        checks = jsonschema.Draft202012Validator.FORMAT_CHECKER
        value, rules = (json.loads(of, parse_float=Decimal) for of in (text, schema))
        return bool(jsonschema.Draft202012Validator(rules, format_checker=checks).is_valid(value))
