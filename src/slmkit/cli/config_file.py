"""The user's config file: TOML, one key for each option."""

from __future__ import annotations

import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from slmkit.cli.parser import near
from slmkit.errors import OptionError
from slmkit.options import LoadOptions, Options
from slmkit.server.settings import ServeOptions
from slmkit.untrusted import is_there, shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KINDS = (Options, LoadOptions, ServeOptions)
KEYS = tuple(f.name for kind in KINDS for f in fields(kind))
_MOST_BYTES = 1 << 16  # a few dozen lines are usual; an endless file, or a.a.a.a and so on, must not hang us


def config_path() -> Path:
    """Where the config file is, or would be: SLMKIT_CONFIG, else the platform's own place."""
    if named := os.environ.get("SLMKIT_CONFIG"):
        return Path(named)
    from platformdirs import user_config_path

    return user_config_path("slmkit", appauthor=False) / "config.toml"


def read_config() -> dict[str, Any]:
    """The config file's keys and values; none where there is no file, unless SLMKIT_CONFIG names one.

    Raises OptionError for a file that cannot be read or has a key that is no option.
    """
    path = config_path()
    if not os.environ.get("SLMKIT_CONFIG") and not is_there(path, OptionError):
        return {}
    try:
        if not path.is_file():
            raise OptionError(f"the config file {path} is missing or not an ordinary file; put one in its place")
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise OptionError(f"the config file {path} is larger than {_MOST_BYTES} bytes; is it the right file?")
        values = tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise OptionError(f"the config file {path} cannot be read ({error.strerror}); correct its rights") from None
    except (ValueError, RecursionError) as error:  # also of whole numbers with thousands of digits
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise OptionError(f"the config file {path} is not valid TOML: {why}") from None
    for key in values:
        if key not in KEYS:
            raise OptionError(
                f"the config file {path} has a key {shown(key)}, which is no option"
                f"{near(key, KEYS)}; `slm config` lists them, once this one is out"
            )
    return values
