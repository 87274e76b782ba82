"""Functions that a model may call, also one that was never trained for it.

The functions are described in the system message. A call is written into the answer as
`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, and a grammar sees to it that what is written is one: with a
known name, and with arguments that match that function's JSON schema.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from slmkit.engine.json_schema import for_llguidance
from slmkit.errors import RequestError
from slmkit.request import Constraint, Message
from slmkit.untrusted import shown

OPEN, CLOSE = "<tool_call>", "</tool_call>"
AUTO, NONE, REQUIRED = "auto", "none", "required"  # any other choice is a function's name
NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
SPACING = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}  # nothing to get lost in


@dataclass(frozen=True)
class Tool:
    """A function.   parameters: the JSON schema of its arguments, an object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise RequestError(
                f"a function is called {shown(self.name)}; a name has 1 to 128 letters, digits, dots, _ and -"
            )
        if self.name in (AUTO, NONE, REQUIRED):
            raise RequestError(f"a function is called {self.name}, which is a tool_choice of its own; rename it")
        if self.parameters.get("type", "object") != "object":
            raise RequestError(f"the parameters of {self.name} are a schema of an object; name them in its properties")


@dataclass(frozen=True)
class Call:
    """A call that a model made.   arguments: JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Turn:
    """A message, with the calls that an assistant made in it, or the call whose result a tool's message is."""

    message: Message
    calls: tuple[Call, ...] = ()
    result_of: str = ""


@dataclass(frozen=True)
class Opened:
    """A call begins: the function is known, its arguments follow."""

    index: int
    id: str
    name: str


@dataclass(frozen=True)
class Arguments:
    """The next piece of the arguments' JSON text.   is_last: whether it closes the text."""

    index: int
    text: str
    is_last: bool = False


Part = str | Opened | Arguments  # str: text that is no call


def prepare(
    turns: Sequence[Turn],
    tools: Sequence[Tool] = (),
    choice: str = AUTO,
    parallel: bool = True,
    answer: Constraint | None = None,
    has_system: bool = True,
) -> tuple[tuple[Message, ...], Constraint | None]:
    """The conversation as any model reads it, and what its answer must match.

    choice: AUTO, NONE, REQUIRED, or the name of the one function to call.   parallel: several calls in one answer.
    answer: what an answer must match that is no call.   has_system: whether the model knows system messages; if not,
    functions are described in the first message.   Raises RequestError.
    """
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise RequestError(f"two functions have one name; the names are {', '.join(names)}")
    if choice not in (AUTO, NONE, REQUIRED, *names):
        raise RequestError(f"tool_choice names {shown(choice)}; the functions are {', '.join(names) or 'none'}")
    if choice == REQUIRED and not tools:
        raise RequestError("tool_choice is required and there are no tools; give some, or leave it out")
    messages = _plain(turns)
    if not tools or choice == NONE:
        return messages, answer
    used = [tool for tool in tools if choice in (AUTO, REQUIRED, tool.name)]
    described = _with_text(messages, _description(used, choice, parallel), has_system)
    return described, Constraint("lark", grammar(used, choice, parallel, answer))


def grammar(tools: Sequence[Tool], choice: str = AUTO, parallel: bool = True, answer: Constraint | None = None) -> str:
    """Answers with calls of these functions, in llguidance's dialect of Lark."""
    more = f'(GAP "{OPEN}" call)*' if parallel and choice in (AUTO, REQUIRED) else ""
    rules = []
    if choice != AUTO:
        rules += [f'start: "{OPEN}" call {more}']
    elif answer is None:
        anything = r"/(.|\n)*/"
        rules += [
            f"start: PLAIN | opened call {more}",
            rf"PLAIN: {anything} & ~/(.|\n)*{OPEN}(.|\n)*/",
            rf"opened[lazy]: /(.|\n)*{OPEN}/",  # ends where the tag does for the first time
        ]
    else:
        schema = for_llguidance(_schema_of(answer), {})
        rules += [f'start: plain | "{OPEN}" call {more}', f"plain: %json {json.dumps(schema)}"]
    each = " | ".join(f"f{n}" for n in range(len(tools)))
    rules += [f'call: NL? ({each}) NL? "{CLOSE}"', r"NL: /\n/", r"GAP: /\n?/"]
    for n, tool in enumerate(tools):
        head = json.dumps(f'{{"name": {json.dumps(tool.name)}, "arguments": ')
        rules += [f'f{n}: {head} a{n} "}}"', f"a{n}: %json {json.dumps(_arguments_schema(tool))}"]
    return "\n".join(rules)


class Parser:
    """Takes an answer apart as it comes: text on one side, calls on the other. What is no whole call stays text.

    prefix: of the ids that calls get.
    """

    def __init__(self, prefix: str = "call_") -> None:
        self._prefix = prefix
        self._held = ""
        self._step = self._text
        self._index = -1
        self._depth, self._in_string, self._is_escaped = 0, False, False

    @property
    def has_calls(self) -> bool:
        """Whether a call was met."""
        return self._index >= 0

    def push(self, text: str) -> list[Part]:
        """What is certain by now."""
        self._held += text
        parts: list[Part] = []
        while True:
            step, before = self._step, self._held
            parts += step()
            if step == self._step and self._held == before:
                return parts

    def flush(self) -> list[Part]:
        """What is left at the end of the answer."""
        held, self._held = self._held, ""
        if self._step == self._text and held and not (self.has_calls and held.isspace()):
            return [held]
        return [OPEN + held] if self._step == self._head else []

    def _text(self) -> Iterator[Part]:
        """Text up to the tag that opens a call; its beginning waits, and so does white space between calls."""
        at = self._held.find(OPEN)
        end = at if at >= 0 else len(self._held) - _overlap(self._held, OPEN)
        text, self._held = self._held[:end], self._held[end:]
        if self.has_calls and text.isspace():
            if at < 0:
                self._held = text + self._held
        elif text:
            yield text
        if at >= 0:
            self._held = self._held[len(OPEN) :]
            self._step = self._head

    def _head(self) -> Iterator[Part]:
        """The name."""
        if found := _HEAD.match(self._held):
            self._index += 1
            self._held = self._held[found.end() :]
            self._depth, self._in_string, self._is_escaped = 0, False, False
            self._step = self._arguments
            yield Opened(self._index, self._prefix + secrets.token_hex(12), json.loads(found[1]))
        elif (at := self._held.find(CLOSE)) >= 0:  # an answer without the grammar, and without a name
            text, self._held = OPEN + self._held[: at + len(CLOSE)], self._held[at + len(CLOSE) :]
            self._step = self._text
            yield text

    def _arguments(self) -> Iterator[Part]:
        """JSON text until its last bracket closes."""
        for at, char in enumerate(self._held):
            if self._in_string:
                self._in_string = self._is_escaped or char != '"'
                self._is_escaped = char == "\\" and not self._is_escaped
            else:
                self._in_string = char == '"'
                self._depth += (char in "{[") - (char in "}]")
                if self._depth <= 0:
                    text, self._held = self._held[: at + 1], self._held[at + 1 :]
                    self._step = self._tail
                    yield Arguments(self._index, text, is_last=True)
                    return
        if self._held:
            text, self._held = self._held, ""
            yield Arguments(self._index, text)

    def _tail(self) -> Iterator[Part]:
        """What closes the call."""
        if (at := self._held.find(CLOSE)) >= 0:
            self._held = self._held[at + len(CLOSE) :]
            self._step = self._text
        yield from ()


def parse(text: str, prefix: str = "call_") -> tuple[str, list[Call]]:
    """The text of a whole answer, and its calls."""
    parser, plain, calls = Parser(prefix), "", list[Call]()
    for part in parser.push(text) + parser.flush():
        if isinstance(part, str):
            plain += part
        elif isinstance(part, Opened):
            calls.append(Call(part.id, part.name, ""))
        else:
            calls[-1] = replace(calls[-1], arguments=calls[-1].arguments + part.text)
    return plain, calls


_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=[\[{])')


def _plain(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """Calls as the model wrote them, and their results, those of one answer together, as a turn of the user.

    Few templates have a place for the role of a tool.
    """
    messages: list[Message] = []
    called: dict[str, str] = {}
    in_results = False
    for turn in turns:
        message = turn.message
        if turn.calls:
            called |= {call.id: call.name for call in turn.calls}
            written = "\n".join(f"{OPEN}{_written(call)}{CLOSE}" for call in turn.calls)
            message = replace(message, content="\n".join(filter(None, (message.content, written))))
        if message.role != "tool":
            in_results = False
            messages.append(message)
            continue
        if turn.result_of not in called:
            raise RequestError(
                f"a tool's message answers the call {shown(turn.result_of)}, which no assistant's message before it "
                "made; give that message with its calls, too"
            )
        result = f"<tool_response>{json.dumps(called[turn.result_of])}: {message.content}</tool_response>"
        if in_results:
            last = messages.pop()
            messages.append(replace(last, content=f"{last.content}\n{result}", images=last.images + message.images))
        else:
            messages.append(Message("user", result, message.images))
        in_results = True
    return tuple(messages)


def _written(call: Call) -> str:
    try:
        arguments = json.dumps(json.loads(call.arguments or "{}"), ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        raise RequestError(
            f"the arguments of the call {shown(call.id)} are {shown(call.arguments)}, which is no JSON; give them as "
            "they came"
        ) from None
    return f'{{"name": {json.dumps(call.name)}, "arguments": {arguments}}}'


def _description(tools: Sequence[Tool], choice: str, parallel: bool) -> str:
    lines = [
        json.dumps({"name": t.name, "description": t.description, "parameters": t.parameters}, ensure_ascii=False)
        for t in tools
    ]
    when = "Call a function if it helps, else answer in plain text." if choice == AUTO else "Answer with a call."
    many = " Several calls may follow one another." if parallel and choice in (AUTO, REQUIRED) else ""
    return (
        "You can call these functions:\n" + "\n".join(lines) + f"\n{when} A call is written as "
        f'{OPEN}{{"name": "...", "arguments": {{...}}}}{CLOSE}.{many}'
    )


def _with_text(messages: tuple[Message, ...], text: str, has_system: bool) -> tuple[Message, ...]:
    """The conversation with a text at the end of its system message, or at the beginning of its first message."""
    first, *others = messages or (Message("user", ""),)
    if first.role == "system":
        return (replace(first, content="\n\n".join(filter(None, (first.content, text)))), *others)
    if has_system:
        return (Message("system", text), *messages)
    return (replace(first, content="\n\n".join(filter(None, (text, first.content)))), *others)


def _arguments_schema(tool: Tool) -> dict[str, Any]:
    """Closed where nothing else was said: a model that was not trained for it would make up more."""
    schema = {"type": "object", "properties": {}, "additionalProperties": False, **tool.parameters}
    return for_llguidance({**schema, "x-guidance": {}}, SPACING)


def _schema_of(answer: Constraint) -> Mapping[str, Any]:
    if answer.kind == "json":
        return {"type": "object"}
    if answer.kind == "schema" and isinstance(answer.value, Mapping):
        return answer.value
    raise RequestError("a regex or a grammar says what the whole answer is; leave it out, or the tools")


def _overlap(text: str, tag: str) -> int:
    """How many characters at the end of the text are the beginning of the tag."""
    return next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:n])), 0)
