"""Where llguidance would hold an answer to less than its schema says, we say it more closely or refuse the schema."""

from __future__ import annotations

import json

import pytest

import slmkit
from guides import follows
from slmkit import Constraint
from slmkit.engine.constrain import Vocabulary
from slmkit.errors import RequestError
from slmkit.server.tools import Tool, grammar

INTEGER = {"type": "integer"}


@pytest.fixture(scope="module")
def words():
    with slmkit.load("tiny") as model:
        tokenizer = model.backend.loaded.tokenizer
        yield Vocabulary(tokenizer, tokenizer.vocab_size)


def matches(words: Vocabulary, schema: dict, text: str, constraint: Constraint | None = None) -> bool:
    guide = words.guide(constraint or Constraint("schema", schema), continues=not words.tokenizer.strips_first_space)
    return follows(guide, words.tokenizer.encode(text))


def pattern(of: str) -> dict:
    return {"type": "string", "pattern": of}


@pytest.mark.parametrize(
    ("schema", "no", "yes"),
    [
        ({"properties": {"a": INTEGER}}, r'{"\u0061": "x"}', '{"a": 1, "b": "x"}'),
        ({"patternProperties": {"^a": INTEGER}}, r'{"\u0061": "x"}', '{"ab": 1}'),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, "0", "0.5"),
        ({"type": "number", "exclusiveMinimum": 1000000, "maximum": 1000000.5}, "1000000", "1000000.25"),
        ({"allOf": [{"exclusiveMaximum": -2}, {"type": "number", "minimum": -2.5}]}, "-2", "-2.5"),
        ({"type": "integer", "exclusiveMinimum": 0}, "0", "1"),
        ({"format": "date"}, '"2023-02-29"', '"2024-02-29"'),
        ({"format": "date"}, '"1900-02-29"', '"2000-02-29"'),
        ({"format": "date-time"}, '"2023-02-29T10:00:00Z"', '"2023-02-28T10:00:00Z"'),
        ({"format": "time"}, '"22:59:60Z"', '"22:59:59Z"'),
        ({"format": "date", "allOf": [{"pattern": "^2"}]}, '"1999-01-01"', '"2000-01-01"'),
        ({"format": "hostname"}, '"a.xn--X"', '"a-b.c--d"'),
        ({"format": "hostname"}, json.dumps("a." * 130 + "a"), '"a.a"'),
        (pattern(r"^\s$"), '"\u0085"', '"\ufeff"'),
        (pattern(r"^[^\S]$"), '"\u0085"', '"\ufeff"'),
        (pattern(r"^\S$"), '"\ufeff"', '"\u0085"'),
        (pattern("^.$"), '"\u2028"', '"é"'),
        (pattern("^.$"), r'"\r"', r'"\\"'),
        (pattern(r"^[.]\.$"), '"a."', '".."'),
        (pattern("^[[a]]$"), '"a"', '"a]"'),
        (pattern("^[a-z&&b]$"), '"1"', '"c"'),
        (pattern("^a--b$"), '"a"', '"a--b"'),
        ({"type": "object", "minProperties": 1}, "{}", '{"a": 1}'),
        ({"required": ["a", "b"], "type": "object", "minProperties": 3}, '{"a":1,"b":1}', '{"a":1,"b":1,"c":1}'),
        ({"properties": {"const": pattern("^.$")}}, '{"const": "\u2028"}', '{"const": "a"}'),
        ({"properties": {"pattern": INTEGER}}, '{"pattern": "x"}', '{"pattern": 1}'),
        ({"const": {"pattern": "."}}, '{"pattern": "a"}', '{"pattern": "."}'),
    ],
)
def test_an_answer_is_held_to_all_of_the_schema(words, schema, no, yes):
    assert not matches(words, schema, no)
    assert matches(words, schema, yes)


def test_so_are_the_arguments_of_functions(words):
    lark = Constraint("lark", grammar([Tool("f", parameters={"properties": {"on": {"format": "date"}}})], "f"))
    call = '<tool_call>{"name": "f", "arguments": {"on": "%s"}}</tool_call>'
    assert matches(words, {}, call % "2024-02-29", lark)
    assert not matches(words, {}, call % "2023-02-29", lark)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"minProperties": 2}, "minProperties is 2, and .* set additionalProperties to false, or leave out"),
        ({"minProperties": 2, "patternProperties": {"a": {}}, "additionalProperties": False}, "minProperties"),
        ({"const": "a\x00"}, "'a.x00' has a control character"),
        ({"enum": [{"\x01": 1}]}, "has a control character"),
        (pattern(r"a\v"), "has a control character"),
        (pattern(r"a\u0001b"), "has a control character"),
        (pattern("[a--b]"), "-- in the pattern .* means one thing"),
        (pattern("[]a]"), r"\[\] in the pattern"),
        (pattern("(?s)."), r"\(\?s\) in the pattern"),
        (pattern("a\\"), "in the pattern"),
        ({"patternProperties": {"[^]": {}}}, r"\[\^\] in the pattern"),
        ({"x-guidance": {"lenient": True}, "uniqueItems": True}, "uniqueItems"),
        ({"x-guidance": {"coerce_one_of": True}, "oneOf": [INTEGER, {"minimum": 2}]}, "oneOf"),
    ],
)  # fmt: skip
def test_what_no_answer_can_be_held_to_is_refused_by_name(words, schema, said):
    with pytest.raises(RequestError, match=rf"the constraint \(schema\) cannot be used: .*{said}"):
        words.guide(Constraint("schema", schema), continues=True)


COMMON = [r"^[^\x00-\x1f]*$", r"\t\n\f\r", r"[\x09]", r"(?i)a", r"(?<n>a)(?:b)", r"[^[\]]", r"\p{L}"]


@pytest.mark.parametrize("of", COMMON)
def test_common_patterns_are_accepted(words, of):
    words.guide(Constraint("schema", pattern(of)), continues=True)
