"""A JSON schema that no answer can be held to is a 400 that names it, through the API as well."""

from __future__ import annotations

import pytest

from json_schema_suite import cases

FILES = ["uniqueItems", "not", "if-then-else", "propertyNames", "contains", "dependentSchemas"]


@pytest.mark.parametrize("file", FILES)
def test_schemas_of_the_official_suite_with_unknown_keywords_are_a_400(http, file):
    checked = 0
    for case in cases():
        if case.name.startswith(f"{file}: ") and isinstance(case.schema, dict):
            form = {"type": "json_schema", "json_schema": {"name": "a", "schema": case.schema}}
            asked = {"model": "tiny", "messages": [{"role": "user", "content": "Hm"}], "response_format": form}
            answer = http.post("/v1/chat/completions", json={**asked, "max_tokens": 1})
            assert answer.status_code == 400, case.name
            assert "the constraint (schema) cannot be used: " in answer.json()["error"]["message"]
            checked += 1
    assert checked >= 4


def test_a_schema_that_is_none_is_a_400_in_its_own_words(http):
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"format": "date", "allOf": 5}}}
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "Hm"}], "response_format": form}
    answer = http.post("/v1/chat/completions", json=asked)
    assert (answer.status_code, "allOf must be an array" in answer.json()["error"]["message"]) == (400, True)
