"""Print a completion script for a shell: verbs, flags, choices, and names of models and files.

bash:  eval "$(slm completion bash)"      in ~/.bashrc
zsh:   eval "$(slm completion zsh)"       in ~/.zshrc, after compinit
fish:  slm completion fish | source       in ~/.config/fish/config.fish
"""

from __future__ import annotations

import argparse
import importlib
from typing import TYPE_CHECKING

from slmkit.cli import completion_scripts, terminal
from slmkit.cli.completion_scripts import Flag, Verb
from slmkit.cli.main import VERBS
from slmkit.cli.parser import Parser

if TYPE_CHECKING:
    from collections.abc import Iterator

SHELLS = {"bash": completion_scripts.bash, "zsh": completion_scripts.zsh, "fish": completion_scripts.fish}
_MODELS = ("tiny",)  # those that are no folders


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=tuple(SHELLS), help="the shell that will read the script")


def run(args: argparse.Namespace) -> int:
    terminal.write(SHELLS[args.shell]([_verb(name, about) for name, about in VERBS.items()]))
    return 0


def _verb(name: str, about: str) -> Verb:
    """A verb as its own parser describes it; the flags of verbs below it count as its own."""
    parser = Parser(prog=f"slm {name}")
    importlib.import_module(f"slmkit.cli.{name}").add_arguments(parser)
    words: list[str] = []
    flags: dict[str, Flag] = {}
    for action in _actions(parser):
        if action.option_strings:
            flags |= {option: _flag(option, action) for option in action.option_strings}
        elif action.choices is not None:
            words += [str(choice) for choice in action.choices]
        elif action.dest in ("model", "models", "a"):
            words += _MODELS
    return Verb(name, about, tuple(flags.values()), tuple(words))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)


def _flag(option: str, action: argparse.Action) -> Flag:
    help = (action.help or "").replace("%%", "%")
    return Flag(option, help, action.nargs != 0, tuple(map(str, action.choices or ())))
