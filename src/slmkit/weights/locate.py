"""What a model's name means: the bundled `tiny`, a folder, or a GGUF file."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from slmkit.errors import ModelNotFound, RequestError, UnsupportedModel
from slmkit.untrusted import shown

Progress = Callable[[str, int, int], None]  # what, bytes done, bytes in all
Notice = Callable[[str], None]

BUNDLED = "tiny"
_ACCEPTED = f"{BUNDLED} (the bundled model), folders with config.json and model.safetensors, and .gguf files"
_LATER_SHARD = re.compile(r"(.+)-(?!0*1-)\d{5}-of-(\d{5})\.gguf", re.IGNORECASE)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Found:
    """A model that lies on this machine.

    path: a folder in Hugging Face layout, or a GGUF file, the first one of a split.
    overlay: what the Ollama store says beside the GGUF file; None from anywhere else.
    """

    name: str
    path: Path
    overlay: Any = None


def locate(
    name: str, *, offline: bool = False, progress: Progress | None = None, notice: Notice | None = None
) -> Found:
    """Where the model called `name` lies.

    Raises RequestError for a malformed name, ModelNotFound if nothing answers to it, UnsupportedModel for other files.
    """
    _check_spelling(name)
    if name == BUNDLED:
        return Found(name, _bundled())
    path = Path(os.path.expanduser(name))  # a ~name of nobody stays as it is, and is not found
    try:
        mode = os.stat(path).st_mode
    except PermissionError:
        raise ModelNotFound(f"{path} cannot be looked at (Permission denied); check the path and its rights") from None
    except (OSError, ValueError):  # nothing there, a name too long
        raise ModelNotFound(f"no model answers to {shown(name)}; accepted are {_ACCEPTED}; {_way_out(name)}") from None
    if not stat.S_ISDIR(mode):
        _check_file(path)
    return Found(name, path)


def _check_spelling(name: str) -> None:
    if not isinstance(name, str):
        raise RequestError(f"a model's name is text, not {type(name).__name__}; accepted are {_ACCEPTED}")
    if not name.strip():
        raise RequestError(f"the model's name is empty; accepted are {_ACCEPTED}")
    if not all(c.isprintable() or unicodedata.category(c) == "Zs" for c in name):  # Zs: Japanese spaces and the like
        raise RequestError(f"the model's name {shown(name)} has control characters; accepted are {_ACCEPTED}")
    parts = re.split(r"[/\\]", name)
    if ".." in parts[1:] and parts[0] not in ("", ".", "..", "~"):
        raise RequestError(
            f"the model's name {shown(name)} leads upwards through '..', which only a path may: "
            f"write ./{name} if a folder is meant"
        )


def _bundled() -> Path:
    folder = Path(str(files("slmkit") / "data" / BUNDLED))
    if not folder.is_dir():
        raise ModelNotFound(f"this installation lacks the bundled model {BUNDLED}; install slmkit again")
    return folder


def _check_file(path: Path) -> None:
    if path.suffix.lower() != ".gguf":
        raise UnsupportedModel(
            f"{path} is a file; give a .gguf file, or the folder that holds config.json and model.safetensors"
        )
    if later := _LATER_SHARD.fullmatch(path.name):
        first = f"{later[1]}-00001-of-{later[2]}.gguf"
        raise UnsupportedModel(f"{path} is a later piece of a split model; give its first one, {first}")


def _way_out(name: str) -> str:
    if get_close_matches(name.lower().strip("/"), [BUNDLED]):
        return f"did you mean {BUNDLED}?"
    if _HUB_NAME.fullmatch(name):
        return f"fetch that one with `hf download {name} --local-dir FOLDER` and give FOLDER"
    return "check the spelling, or fetch the model into a folder and give that"
