"""What the verbs and flags look like in the completion language of each shell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Flag:
    """One spelling of a flag; `choices` are the values it accepts, where they can be listed."""

    name: str
    help: str
    takes_value: bool
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Verb:
    """What can follow one verb: flags, and words in place of its first positional argument."""

    name: str
    about: str
    flags: tuple[Flag, ...]
    words: tuple[str, ...]


def bash(verbs: Sequence[Verb]) -> str:
    """For bash 3.2 or newer. Where the function has no word, readline offers file names."""
    values, words = [], []
    for verb in verbs:
        for f in verb.flags:
            if f.takes_value:
                choices = f'COMPREPLY=($(compgen -W "{" ".join(f.choices)}" -- "$cur")); ' if f.choices else ""
                values.append(f'    "{verb.name} {f.name}") {choices}return ;;')
        flags = " ".join(f.name for f in verb.flags)
        words.append(f'    {verb.name}) flags="{flags}" words="{" ".join(verb.words)}" ;;')
    names = " ".join([*(verb.name for verb in verbs), "--help", "--version"])
    return f"""_slm() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}"
  local verb="${{COMP_WORDS[1]}}" flags="" words=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{names}" -- "$cur"))
    return
  fi
  # readline splits --flag=value at the equals sign
  if [ "$cur" = "=" ]; then cur=""; elif [ "$prev" = "=" ]; then prev="${{COMP_WORDS[COMP_CWORD-2]}}"; fi
  case "$verb $prev" in
{_lines(values)}
  esac
  case "$verb" in
{_lines(words)}
  esac
  case "$cur" in
    -*) COMPREPLY=($(compgen -W "$flags" -- "$cur")); return ;;
  esac
  if [ "$COMP_CWORD" -eq 2 ] && [ -n "$words" ]; then
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    local IFS=$'\\n'
    COMPREPLY+=($(compgen -d -S / -- "$cur"))
    compopt -o nospace 2>/dev/null
    if [ "${{#COMPREPLY[@]}}" -eq 1 ] && [ "${{COMPREPLY[0]}}" = "${{COMPREPLY[0]%/}}" ]; then COMPREPLY[0]+=" "; fi
  fi
}}
complete -o bashdefault -o default -F _slm slm
"""


def zsh(verbs: Sequence[Verb]) -> str:
    """For zsh with compinit."""
    names = " ".join(_zsh_quoted(f"{verb.name}:{verb.about}") for verb in verbs)
    cases = [f"        {verb.name}) _arguments {' '.join(_zsh_specs(verb))} ;;" for verb in verbs]
    return f"""#compdef slm
_slm() {{
  local state
  local -a line verbs
  _arguments -C '1:verb:->verb' '*::argument:->argument' '--help' '--version'
  case $state in
    verb)
      verbs=({names})
      _describe verb verbs ;;
    argument)
      case $words[1] in
{_lines(cases)}
      esac ;;
  esac
}}
compdef _slm slm
"""


def _zsh_specs(verb: Verb) -> list[str]:
    specs = []
    for f in verb.flags:
        help = f.help.replace("[", r"\[").replace("]", r"\]").replace(":", r"\:")
        value = f":value:({' '.join(f.choices)})" if f.choices else ":value: "
        equals = "=" if f.takes_value and f.name.startswith("--") else ""
        specs.append(f"{f.name}{equals}[{help}]{value if f.takes_value else ''}")
    if verb.words:
        specs.append(f"1:name:_alternative 'words:name:({' '.join(verb.words)})' 'folders:folder:_directories'")
    return [_zsh_quoted(spec) for spec in [*specs, "*:file:_files"]]


def _zsh_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def fish(verbs: Sequence[Verb]) -> str:
    """For fish 3 or newer."""
    lines = []
    for verb in verbs:
        lines.append(f"complete -c slm -n '__slm_verb' -f -a {verb.name} -d {_fish_quoted(verb.about)}")
        here = f"complete -c slm -n '__slm_verb {verb.name}'"
        if verb.words:
            lines.append(f"{here} -a '{' '.join(verb.words)}'")
        for f in verb.flags:
            name = f"-l {f.name[2:]}" if f.name.startswith("--") else f"-s {f.name[1:]}"
            choices = f" -a '{' '.join(f.choices)}'" if f.choices else ""
            lines.append(f"{here} {name}{' -x' * f.takes_value}{choices} -d {_fish_quoted(f.help)}")
    return f"""function __slm_verb --description 'whether the verb is $argv, or there is none yet'
  set -l words (commandline -opc)
  test "$words[2..2]" = "$argv"
end
complete -c slm -n '__slm_verb' -l help -d 'the verbs'
complete -c slm -n '__slm_verb' -l version -d 'the version'
{_lines(lines)}
"""


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _lines(lines: Sequence[str]) -> str:
    return "\n".join(lines)
