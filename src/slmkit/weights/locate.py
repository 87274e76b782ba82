"""What a model's name means: the bundled `tiny`, or a folder."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from slmkit.errors import ModelNotFound, RequestError, UnsupportedModel
from slmkit.untrusted import shown

BUNDLED = "tiny"
_ACCEPTED = f"{BUNDLED} (the bundled model) and folders with config.json and model.safetensors"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def locate(name: str) -> Path:
    """The folder of the model called `name`.

    Raises RequestError for a malformed name, ModelNotFound if nothing answers to it, UnsupportedModel for a file.
    """
    _check_spelling(name)
    if name == BUNDLED:
        return _bundled()
    path = Path(os.path.expanduser(name))  # a ~name of nobody stays as it is, and is not found
    try:
        mode = os.stat(path).st_mode
    except PermissionError:
        raise ModelNotFound(f"{path} cannot be looked at (Permission denied); check the path and its rights") from None
    except (OSError, ValueError):  # nothing there, a name too long
        raise ModelNotFound(f"no model answers to {shown(name)}; accepted are {_ACCEPTED}; {_way_out(name)}") from None
    if not stat.S_ISDIR(mode):
        raise UnsupportedModel(_about_file(path))
    return path


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


def _about_file(path: Path) -> str:
    if path.suffix.lower() == ".gguf":
        return f"{path} is a GGUF file, which is not read yet; give a folder with config.json and model.safetensors"
    return f"{path} is a file; give the folder that holds it, with config.json and model.safetensors"


def _way_out(name: str) -> str:
    if get_close_matches(name.lower().strip("/"), [BUNDLED]):
        return f"did you mean {BUNDLED}?"
    if _HUB_NAME.fullmatch(name):
        return f"fetch that one with `hf download {name} --local-dir FOLDER` and give FOLDER"
    if name.lower().endswith(".gguf"):
        return "GGUF files are not read yet"
    return "check the spelling, or fetch the model into a folder and give that"
