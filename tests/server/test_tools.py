"""Calls of functions: the conversation that a model reads, the grammar, and the parts of an answer."""

from __future__ import annotations

import json

import pytest

from slmkit.errors import RequestError
from slmkit.request import Constraint, Message
from slmkit.server.tools import Arguments, Call, Opened, Parser, Tool, Turn, grammar, parse, prepare

llguidance = pytest.importorskip("llguidance")

WEATHER = Tool(
    "weather",
    "The weather of a city",
    {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]},
)
TREE = Tool(
    "tree",
    parameters={
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/node"}},
        "required": ["root"],
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
    },
)
CLOCK = Tool("clock")
ASK = [Turn(Message("user", "Hi"))]


def call(name="weather", **arguments):
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


ULM, BONN = call(city="Ulm"), call(city="Bonn", days=2)


def accepts(lark: str, text: str) -> bool:
    """Whether the grammar takes the text, byte by byte, as a whole answer."""
    tokens = llguidance.LLTokenizer("byte")
    matcher = llguidance.LLMatcher(tokens, llguidance.LLMatcher.grammar_from_lark(lark))
    assert not matcher.is_error(), matcher.get_error()
    ids = tokens.tokenize_str(text)
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


@pytest.mark.parametrize(
    "text", ["", "Hello", "a < b\n<tool_cal", ULM, f"Let me see.\n{ULM}", ULM + BONN, f"{ULM}\n{BONN}",
             '<tool_call>\n{"name": "weather", "arguments": {"city":"Ulm","days":1}}\n</tool_call>', call("clock"),
             call("tree", root={"next": {"next": {}}})]
)  # fmt: skip
def test_auto_takes_text_and_calls(text):
    assert accepts(grammar([WEATHER, CLOCK, TREE]), text)


@pytest.mark.parametrize(
    "text", [call("other"), call(), call(city=1), call(city="Ulm", more=1), call("clock", now=1), f"{ULM} and so on",
             "<tool_call>", f"{ULM}{ULM[:-1]}", call("tree", root={"next": 1})]
)  # fmt: skip
def test_auto_takes_no_other_calls(text):
    assert not accepts(grammar([WEATHER, CLOCK, TREE]), text)


@pytest.mark.parametrize("choice", ["required", "weather"])
def test_a_forced_call_is_a_call_and_nothing_else(choice):
    lark = grammar([WEATHER], choice)
    assert accepts(lark, ULM)
    assert not accepts(lark, "Hello")
    assert not accepts(lark, f"Hello {ULM}")


def test_one_call_where_several_were_not_allowed():
    assert not accepts(grammar([WEATHER], parallel=False), ULM + BONN)
    assert not accepts(grammar([WEATHER], "required", parallel=False), ULM + BONN)
    assert accepts(grammar([WEATHER], "required"), ULM + BONN)


def test_beside_calls_an_answer_matches_its_own_schema():
    answer = Constraint("schema", {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]})
    lark = grammar([WEATHER], answer=answer)
    assert accepts(lark, '{"ok": true}')
    assert accepts(lark, ULM)
    assert not accepts(lark, "Hello")
    with pytest.raises(RequestError, match="regex"):
        grammar([WEATHER], answer=Constraint("regex", "a"))


def test_functions_stand_in_the_system_message():
    messages, constraint = prepare(ASK, [WEATHER])
    assert [m.role for m in messages] == ["system", "user"]
    assert "The weather of a city" in messages[0].content
    assert constraint is not None
    messages, _ = prepare([Turn(Message("system", "Be brief.")), *ASK], [WEATHER])
    assert messages[0].content.startswith("Be brief.\n\nYou can call")


def test_without_tools_nothing_is_said_or_constrained():
    assert prepare(ASK) == ((Message("user", "Hi"),), None)
    assert prepare(ASK, [WEATHER], "none") == ((Message("user", "Hi"),), None)
    assert prepare(ASK, answer=Constraint("json"))[1] == Constraint("json")


def test_calls_and_their_results_are_rendered_back():
    calls = (Call("1", "weather", '{"city": "Köln"}'), Call("2", "clock", ""))
    turns = [
        *ASK,
        Turn(Message("assistant", "Let me see."), calls),
        Turn(Message("tool", "rain"), result_of="1"),
        Turn(Message("tool", "noon"), result_of="2"),
        Turn(Message("user", "So?")),
    ]
    messages, _ = prepare(turns)
    assert [m.role for m in messages] == ["user", "assistant", "user", "user"]
    assert messages[1].content == (
        'Let me see.\n<tool_call>{"name": "weather", "arguments": {"city": "Köln"}}</tool_call>\n'
        '<tool_call>{"name": "clock", "arguments": {}}</tool_call>'
    )
    assert messages[2].content == (
        '<tool_response>"weather": rain</tool_response>\n<tool_response>"clock": noon</tool_response>'
    )


@pytest.mark.parametrize(
    ("turns", "tools", "choice", "words"),
    [
        (ASK, [WEATHER, WEATHER], "auto", "one name"),
        (ASK, [WEATHER], "other", "'other'"),
        (ASK, [], "required", "no tools"),
        ([Turn(Message("tool", "x"), result_of="9")], [WEATHER], "auto", "'9'"),
        ([*ASK, Turn(Message("assistant", ""), (Call("1", "f", "{"),))], [], "auto", "no JSON"),
        ([*ASK, Turn(Message("assistant", ""), (Call("1", "f", "[" * 100_000),))], [], "auto", "no JSON"),
    ],
)
def test_what_cannot_be_is_refused(turns, tools, choice, words):
    with pytest.raises(RequestError, match=words):
        prepare(turns, tools, choice)


def test_a_function_has_a_name_and_an_object_of_arguments():
    with pytest.raises(RequestError, match="name"):
        Tool('a"b')
    with pytest.raises(RequestError, match="none, which is a tool_choice"):  # it could not be told from "call none"
        Tool("none")
    with pytest.raises(RequestError, match="object"):
        Tool("f", parameters={"type": "string"})


@pytest.mark.parametrize(
    ("text", "plain", "calls"),
    [
        ("Hello < <tool", "Hello < <tool", []),
        ("Hi " + ULM, "Hi ", [("weather", {"city": "Ulm"})]),
        (f"{ULM}\n{BONN}\n", "", [("weather", {"city": "Ulm"}), ("weather", {"city": "Bonn", "days": 2})]),
        (call(city='}"{\\<tool_call>'), "", [("weather", {"city": '}"{\\<tool_call>'})]),
        ('<tool_call>\n{ "name" : "f" , "arguments" : {"a": [{}]} }\n</tool_call>', "", [("f", {"a": [{}]})]),
        ("<tool_call>no JSON</tool_call> so", "<tool_call>no JSON</tool_call> so", []),
        ('<tool_call>{"name": "f"', '<tool_call>{"name": "f"', []),
        ("", "", []),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_an_answer_is_taken_apart_the_same_in_pieces_of_any_size(text, plain, calls, size):
    parser, parts = Parser(), []
    for at in range(0, len(text), size):
        parts += parser.push(text[at : at + size])
    parts += parser.flush()
    assert "".join(part for part in parts if isinstance(part, str)) == plain
    opened = [part for part in parts if isinstance(part, Opened)]
    found = ["".join(p.text for p in parts if isinstance(p, Arguments) and p.index == o.index) for o in opened]
    assert [(o.name, json.loads(a)) for o, a in zip(opened, found, strict=True)] == calls
    assert parse(text)[0] == plain
    assert parser.has_calls == bool(calls)


def test_text_and_arguments_are_told_as_they_come():
    parser = Parser()
    assert parser.push("Hello ") == ["Hello "]
    assert parser.push("<tool_call>") == []
    opened, first = parser.push('{"name": "f", "arguments": {"a": ')
    assert (opened.index, opened.name, first.text) == (0, "f", '{"a": ')
    assert parser.push("1") == [Arguments(0, "1")]
    assert parser.push("}}") == [Arguments(0, "}", is_last=True)]
    assert parser.push("</tool_call>") == []


def test_ids_differ_and_carry_the_prefix():
    calls = parse(ULM + BONN, prefix="toolu_")[1]
    assert len({c.id for c in calls}) == 2
    assert all(c.id.startswith("toolu_") for c in calls)
