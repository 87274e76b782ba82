"""The options in effect: flag, else environment variable, else config file, else the checkpoint's own.

Every value is checked where it came from, so that a complaint names its source.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from slmkit.cli.config_file import KINDS, config_path, read_config
from slmkit.cli.flags import AnyOptions, flag
from slmkit.cli.parser import near
from slmkit.errors import OptionError
from slmkit.options import LoadOptions, Options, check
from slmkit.server.settings import ServeOptions
from slmkit.untrusted import shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

Kind = TypeVar("Kind", Options, LoadOptions, ServeOptions)
OTHER_VARIABLES = {"SLMKIT_API_KEY", "SLMKIT_CACHE_DIR", "SLMKIT_CONFIG", "SLMKIT_DATA_DIR", "SLMKIT_DEBUG"}
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True)
class Setting:
    """One option: its value and where that came from, "" if nowhere."""

    name: str
    value: Any
    source: str


def variable(name: str) -> str:
    """`max_tokens` as an environment variable: `SLMKIT_MAX_TOKENS`."""
    return "SLMKIT_" + name.upper()


def effective(kind: type[Kind], args: argparse.Namespace) -> Kind:
    """The Options, LoadOptions or ServeOptions in effect for these arguments. Raises OptionError."""
    return kind(**{s.name: s.value for s in settings(kind, args) if s.source})


def settings(kind: AnyOptions, args: argparse.Namespace) -> list[Setting]:
    """Every option of a kind with its value and source. Raises OptionError."""
    refuse_unknown_variables()
    config = read_config()
    return [_setting(f, args, config) for f in fields(kind)]


def option_of(kind: AnyOptions, text: str, source: str) -> dict[str, Any]:
    """The one option that NAME=VALUE sets.   source: what has that text.   Raises OptionError."""
    name, equals, value = text.partition("=")
    name = name.strip().removeprefix("--").replace("-", "_")
    known = {f.name: f for f in fields(kind)}
    if not equals or name not in known:
        raise OptionError(f"{source} sets {shown(text)}; it takes NAME=VALUE, of {', '.join(known)}{near(name, known)}")
    f = known[name]
    return {name: _checked(f, _parsed(f, _listed(f, value)), f"{name} of {source}", source).value}


def refuse_unknown_variables() -> None:
    """Raise OptionError for an SLMKIT_ variable that nothing reads: a misspelt option must not be passed over."""
    known = {variable(f.name) for kind in KINDS for f in fields(kind)} | OTHER_VARIABLES
    for name in os.environ:
        if name.startswith("SLMKIT_") and name not in known:
            raise OptionError(f"the environment has {name}, which is no option{near(name, known)}; unset or correct it")


def _setting(f: Field[Any], args: argparse.Namespace, config: Mapping[str, Any]) -> Setting:
    given = getattr(args, f.name, None)
    if given is not None:
        return _checked(f, _parsed(f, given), flag(f.name), flag(f.name))
    if text := os.environ.get(variable(f.name)):
        return _checked(f, _parsed(f, _listed(f, text)), variable(f.name), variable(f.name))
    if f.name in config:
        return _checked(f, config[f.name], f"{f.name} in {config_path()}", str(config_path()))
    return Setting(f.name, None, "")


def _checked(f: Field[Any], value: Any, label: str, source: str) -> Setting:
    try:
        return Setting(f.name, check(f, value), source)
    except OptionError as error:
        raise OptionError(label + str(error).removeprefix(f.name)) from None


def _listed(f: Field[Any], text: str) -> str | list[str]:
    """A variable's text as the list of texts that repeated flags would give."""
    if f.name == "stop":
        return [text]  # commas are part of it
    return text.split(",") if f.metadata["many"] or f.metadata["kind"] in (dict, Mapping) else text


def _parsed(f: Field[Any], given: str | bool | Sequence[str]) -> Any:
    """Text as the option's own type; what cannot be read stays text, for check() to refuse."""
    kind = f.metadata["kind"]
    if isinstance(given, bool):
        return given
    if isinstance(given, str):
        return _value(kind, given)
    if kind is Mapping:  # a place without a name is the default
        return {name or "default": place for name, _, place in (item.rpartition("=") for item in given)}
    if kind is dict:
        return {key: number for key, _, number in (item.partition("=") for item in given)}
    return [_value(kind, item) for item in given]


def _value(kind: type, text: str) -> Any:
    if kind is bool:
        word = text.lower()
        return True if word in _TRUE else False if word in _FALSE else text
    if kind not in (int, float):
        return text
    try:
        return kind(text)
    except ValueError:
        return text
