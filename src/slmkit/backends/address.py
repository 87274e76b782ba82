"""Where a model of a server is, and the key for it: from the model's name, and from variables of the environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from slmkit.backends.http import check_key
from slmkit.errors import RequestError
from slmkit.untrusted import shown

OWN_KEY = "SLMKIT_API_KEY"  # for servers that are named by their address


@dataclass(frozen=True)
class Address:
    """A base URL, and what it takes to be let in.

    query: of its URL, for each request.   key: "" sends none.   hint: where the key is from, or was looked for.
    """

    url: str
    query: dict[str, str] = field(default_factory=dict, repr=False)
    key: str = field(default="", repr=False)
    hint: str = ""

    @property
    def host(self) -> str:
        """In lower case."""
        return (urlsplit(self.url).hostname or "").lower()


def parted(model: str) -> tuple[str, str]:
    """`URL#NAME`, `URL` or `NAME` as URL and name; "" for what is left out."""
    if "#" in model:
        url, _, name = model.partition("#")
        return url.strip(), name.strip()
    return (model.strip(), "") if "://" in model else ("", model.strip())


def address_of(text: str, what: str) -> Address:
    """The address that a text is, without a key.   what: names it in messages.   Raises RequestError."""
    if "@" in text.partition("://")[2].partition("/")[0]:
        raise RequestError(
            f"{what} has a name or a password in it; put the key in a variable, where nobody is shown it"
        )
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise RequestError(f"{what} is {shown(text)}, which is no URL; write it as http://127.0.0.1:8000/v1") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise RequestError(f"{what} is {shown(text)}; it takes a URL of http or https, as http://127.0.0.1:8000/v1")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = host if port is None else f"{host}:{port}"
    return Address(f"{parts.scheme}://{place}{parts.path.rstrip('/')}", dict(parse_qsl(parts.query)))


def same_place(one: Address, other: Address) -> bool:
    """Whether a key for one of them may be shown to the other: same scheme, host and port."""
    return _origin(one.url) == _origin(other.url)


def first_set(variables: Sequence[str]) -> tuple[str, str]:
    """The first of these variables that is set, and its value; two empty texts if none is."""
    for name in variables:
        if value := os.environ.get(name, "").strip():
            return name, value
    return "", ""


def key_of(variables: Sequence[str]) -> tuple[str, str]:
    """The key, "" if there is none, and where it is from or was looked for, as the end of a sentence.

    Raises RequestError for one that no header can hold.
    """
    name, value = first_set(variables)
    if not name:
        are = "is" if len(variables) == 1 else "are"
        return "", f"no key was sent, since {' and '.join(variables)} {are} not set"
    return check_key(value, name), f"the key is that of {name}"


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
