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

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KEYS = tuple(f.name for kind in (Options, LoadOptions) for f in fields(kind))
_MOST_BYTES = 1 << 20  # a few dozen lines are usual; an endless file must not hang us


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
    if not path.exists() and not os.environ.get("SLMKIT_CONFIG"):
        return {}
    try:
        if not path.is_file():
            raise OptionError(f"the config file {path} (from SLMKIT_CONFIG) is missing or not an ordinary file")
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise OptionError(f"the config file {path} is larger than {_MOST_BYTES} bytes; is it the right file?")
        values = tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise OptionError(f"the config file {path} cannot be read ({error.strerror}); correct its rights") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise OptionError(f"the config file {path} is not valid TOML: {why}") from None
    for key in values:
        if key not in KEYS:
            raise OptionError(
                f"the config file {path} has a key {key!r}, which is no option"
                f"{near(key, KEYS)}; `slm config` lists them, once this one is out"
            )
    return values
