"""Where a server listens, or is looked for: an address as people write it, from flag, variable or config file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slmkit.cli.settings import effective
from slmkit.errors import OptionError
from slmkit.server.settings import ServeOptions
from slmkit.untrusted import shown

if TYPE_CHECKING:
    import argparse


def at_address(args: argparse.Namespace) -> ServeOptions:
    """The options, with host and port of a host that has both: 127.0.0.1:8000, http://...   A --port goes before it."""
    options = effective(ServeOptions, args)
    host = options.host.removeprefix("http://").rstrip("/")
    if host.count(":") != 1 and not host.startswith("["):
        if not host:
            raise _none(options.host)
        return replace(options, host=host)  # an IPv6 address has several
    host, _, port = host.rpartition(":")
    if not port.isdecimal() or int(port) > 65535 or not host:
        raise _none(options.host)
    given = getattr(args, "port", None) is not None
    return replace(options, host=host.strip("[]"), port=options.port if given else int(port))


def _none(text: str) -> OptionError:
    return OptionError(f"host is {shown(text)}; it takes an address, alone or with a port as 127.0.0.1:8000")
