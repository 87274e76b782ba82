"""Modelfiles: what a named model is made of, in Ollama's words.

    # comment
    INSTRUCTION arguments          FROM, PARAMETER, TEMPLATE, SYSTEM, ADAPTER, MESSAGE, LICENSE, in any case and order

A value that begins with a quote goes on to a line that ends with one, and with three of them it may hold single ones;
there are no escapes. Source: https://docs.ollama.com/modelfile, and parser/parser.go of Ollama.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from slmkit.errors import OptionError, RequestError
from slmkit.request import Message
from slmkit.untrusted import shown
from slmkit.weights.ollama.parameters import parameters, typed

MOST_BYTES = 1 << 20
ROLES = ("system", "user", "assistant")
INSTRUCTIONS = ("FROM", "PARAMETER", "TEMPLATE", "SYSTEM", "ADAPTER", "MESSAGE", "LICENSE")
_REFUSED = {
    "RENDERER": "conversations are written by a program inside Ollama",
    "PARSER": "answers are read by a program inside Ollama",
    "DRAFT": "a second model that guesses ahead is not used here",
}
_NEUTRAL = ("REQUIRES",)  # the version of Ollama
_INSTRUCTION = re.compile(r"[ \t]*([A-Za-z]+)(?:[ \t]+(.*))?")
_PARAMETER = re.compile(r"(\w+)(?:[ \t]+(.*))?", re.ASCII | re.DOTALL)
_QUOTES = '"""'


class ModelfileError(RequestError):
    """A Modelfile cannot be read; the message has the line."""


@dataclass(frozen=True)
class Modelfile:
    """What a Modelfile says.

    base: what stands behind FROM.   parameters: by Ollama's names, in their types.   template: Go template text.
    adapter: where it lies.   lines: instruction -> the line it stands in, for messages.
    """

    base: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    template: str | None = None
    system: str | None = None
    adapter: str | None = None
    messages: tuple[Message, ...] = ()
    licences: tuple[str, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)

    def text(self) -> str:
        """A Modelfile that says the same."""
        found = [f"FROM {self.base}"]
        for name, value in self.parameters.items():
            found += [f"PARAMETER {name} {_written(each)}" for each in (value if isinstance(value, list) else [value])]
        for name, text in (("TEMPLATE", self.template), ("SYSTEM", self.system), ("ADAPTER", self.adapter)):
            found += [f"{name} {_quoted(text)}"] if text else []
        found += [f"MESSAGE {message.role} {_quoted(message.content)}" for message in self.messages]
        found += [f"LICENSE {_quoted(licence)}" for licence in self.licences]
        return "\n".join(found) + "\n"

    def where(self, instruction: str) -> str:
        """The instruction and its line, as a message begins."""
        line = self.lines.get(instruction)
        return f"{instruction} in line {line} of the Modelfile" if line else instruction


def decode(data: bytes) -> str:
    """The text of a Modelfile: UTF-8, or UTF-16 with a mark.   Raises ModelfileError."""
    _check_size(len(data))
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelfileError(f"the Modelfile is no UTF-8 text (byte {error.start}); convert it first") from None


def parse(text: str) -> Modelfile:
    """What the text says.   Raises ModelfileError with the line that is at fault."""
    _check_size(len(text))
    found: dict[str, Any] = {"parameters": {}, "messages": (), "licences": (), "lines": {}}
    for number, instruction, value in _instructions(text):
        if instruction in _REFUSED:
            raise _at(number, f"{instruction} is not supported: {_REFUSED[instruction]}")
        if instruction in _NEUTRAL:
            continue
        found["lines"].setdefault(instruction, number)
        if instruction == "PARAMETER":
            _add_parameter(found["parameters"], number, value)
        elif instruction == "MESSAGE":
            found["messages"] += (_message(number, value),)
        elif instruction == "LICENSE":
            found["licences"] += (_unquoted(value, number, instruction),)
        else:
            key = {"FROM": "base"}.get(instruction, instruction.lower())
            if instruction in ("FROM", "ADAPTER") and key in found:
                hint = "; of a split model give the first file" if instruction == "FROM" else ""
                raise _at(number, f"a second {instruction}, and there can be one{hint}")
            found[key] = _unquoted(value, number, instruction)
            if instruction in ("FROM", "ADAPTER") and not found[key].strip():
                raise _at(number, f"{instruction} has nothing behind it")
    if "base" not in found:
        raise ModelfileError("the Modelfile has no FROM line, which names the model to begin with; add one")
    return Modelfile(**found)


def _check_size(n: int) -> None:
    if n > MOST_BYTES:
        raise ModelfileError(f"the Modelfile is larger than {MOST_BYTES} bytes; is it the right file?")


def _instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """(line, instruction in capitals, the value with its quotes)."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    at = 0
    while at < len(lines):
        first, line = at + 1, lines[at]
        at += 1
        if not line.strip() or line.lstrip(" \t").startswith("#"):
            continue
        read = _INSTRUCTION.fullmatch(line)
        instruction = read[1].upper() if read else ""
        if read is None or instruction not in (*INSTRUCTIONS, *_REFUSED, *_NEUTRAL):
            word = line.split()[0]
            raise _at(first, f"{shown(word)} is no instruction; there are {', '.join(INSTRUCTIONS)}")
        if read[2] is None:
            raise _at(first, f"{instruction} has nothing behind it")
        value, quote = [read[2]], _opened(_value_of(instruction, read[2]))
        while quote:
            if at == len(lines):
                raise _at(first, f"{instruction} opens a quote that no line closes")
            value.append(lines[at])
            quote = "" if lines[at].rstrip().endswith(quote) else quote
            at += 1
        yield first, instruction, "\n".join(value)


def _value_of(instruction: str, value: str) -> str:
    """What may be quoted: behind the parameter's name, and behind the role."""
    if instruction not in ("PARAMETER", "MESSAGE"):
        return value
    read = _PARAMETER.fullmatch(value)
    return (read[2] or "") if read else ""


def _opened(value: str) -> str:
    """The quote that the value opens and does not close; "" for none."""
    value = value.strip()
    quote = _QUOTES if value.startswith(_QUOTES) else '"' if value.startswith('"') else ""
    return "" if len(value) >= 2 * len(quote) and value.endswith(quote) else quote


def _unquoted(value: str, number: int, instruction: str) -> str:
    value = value.strip()
    if value.startswith(_QUOTES):
        value = value[3:-3]
    elif value.startswith('"'):
        value = value[1:-1]
    if not all(char.isprintable() or char in "\n\t" for char in value):
        raise _at(number, f"{instruction} holds control characters; take them out")
    return value


def _add_parameter(found: dict[str, Any], number: int, value: str) -> None:
    read = _PARAMETER.fullmatch(value.strip())
    if read is None or read[2] is None:
        raise _at(number, f"PARAMETER takes a name and a value, not {shown(value)}")
    name = read[1].lower()
    given = typed(name, _unquoted(read[2], number, "PARAMETER"))
    try:
        parameters({name: given})
    except OptionError as error:
        raise _at(number, str(error)) from None
    found[name] = [*found.get(name, []), *given] if isinstance(given, list) else given


def _message(number: int, value: str) -> Message:
    role, _, content = value.replace("\t", " ", 1).partition(" ")
    if role not in ROLES or not content.strip():
        raise _at(number, f"MESSAGE takes one of {', '.join(ROLES)} and a text, not {shown(value)}")
    return Message(role, _unquoted(content, number, "MESSAGE"))


def _at(number: int, problem: str) -> ModelfileError:
    return ModelfileError(f"line {number} of the Modelfile: {problem}")


def _quoted(text: str) -> str:
    plain = text == text.strip() and text and not text.startswith('"') and "\n" not in text
    if plain:
        return text
    return f'"{text}"' if '"' not in text else f"{_QUOTES}{text}{_QUOTES}"


def _written(value: Any) -> str:
    return _quoted(value) if isinstance(value, str) else json.dumps(value)
