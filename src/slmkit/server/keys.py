"""API keys: which ones there are, and whether a request has one."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path

from starlette.datastructures import Headers

from slmkit.errors import OptionError
from slmkit.server.settings import ServeOptions
from slmkit.untrusted import read_text

VARIABLE = "SLMKIT_API_KEY"
LARGEST_FILE = 1 << 20


class Keys:
    """The keys of a server, as hashes alone: none can be read out of memory, a log or a traceback."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = tuple(dict.fromkeys(_digest(key.encode()) for key in keys))

    def __len__(self) -> int:
        return len(self._digests)

    def __repr__(self) -> str:
        return f"<Keys, {len(self)} of them>"

    def match(self, headers: Headers) -> str | None:
        """Which key a request has, as a name to log (`key 1`), or None. It takes as long whichever it is."""
        found = None
        for given in _given(headers):
            digest = _digest(given)
            for number, known in enumerate(self._digests, 1):
                if hmac.compare_digest(digest, known):
                    found = f"key {number}"
        return found


def keys_of(options: ServeOptions, environment: Mapping[str, str] = os.environ) -> Keys:
    """The keys of the file and of the variable.   Raises OptionError for a file without any, or a key with a space."""
    keys = [environment[VARIABLE].strip()] if environment.get(VARIABLE, "").strip() else []
    if options.api_keys is not None:
        lines = read_text(Path(options.api_keys).resolve(), LARGEST_FILE, OptionError).splitlines()
        listed = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not listed:
            raise OptionError(f"{options.api_keys} holds no API key; write one on each line")
        keys += listed
    for number, key in enumerate(keys, 1):
        if not key.isascii() or not key.isprintable() or " " in key:
            raise OptionError(
                f"API key {number} has a space or a character that is not ASCII, which no client can send; "
                'make one with: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
            )
    return Keys(keys)


def require_guarded(options: ServeOptions, keys: Keys) -> None:
    """Raise OptionError for a server that answers anyone who reaches this machine, unless that was asked for."""
    if keys or options.open_to_all or is_loopback(options.host):
        return
    raise OptionError(
        f"on {options.host} this server would answer anyone who reaches this machine; give API keys with "
        f"--api-keys FILE or {VARIABLE}, or say --open-to-all"
    )


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is this machine's own, which nobody else reaches."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _given(headers: Headers) -> list[bytes]:
    """What a request has where clients of the three APIs put their key."""
    given = [headers.get("x-api-key"), headers.get("api-key")]
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        given.append(token.strip())
    return [key.encode("latin-1") for key in given if key]


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
