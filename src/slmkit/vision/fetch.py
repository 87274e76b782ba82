"""Images from URLs: bounded in size and time, and never from inside the network unless that was allowed.

The address is looked up once, judged, and then connected to: a name that answers differently the second time gains
nothing. Each redirect is judged anew. Proxies of the environment are not used, since they would look names up again.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import ipaddress
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from slmkit.errors import DownloadError, RequestError
from slmkit.untrusted import brief, shown

_SECONDS = 30.0  # for all of a URL, redirects included
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK = 1 << 16
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in its last 32 bits
_ASSIGNED = ipaddress.ip_network("192.0.0.0/24")  # RFC 6890: of protocols, and of one cloud's metadata


@dataclass(frozen=True)
class Fetching:
    """What may be fetched.

    private: also addresses that only this machine or its network can reach.   offline: nothing.
    """

    private: bool = False
    offline: bool = False
    timeout_s: float = _SECONDS


def is_url(text: str) -> bool:
    """Whether it is one of those that `fetch` takes."""
    return text.lower().startswith(("http://", "https://", "data:"))


def fetch(url: str, limit: int, rules: Fetching) -> bytes:
    """The bytes that lie there, at most `limit`.   Raises RequestError for a URL that is refused, DownloadError."""
    if url.lower().startswith("data:"):
        return _data(url, limit)
    if rules.offline:
        raise RequestError(f"{shown(url)} would have to be fetched, and offline was asked for; give a file")
    end = time.monotonic() + rules.timeout_s
    for _ in range(_MOST_REDIRECTS + 1):
        found = _get(url, limit, rules, end)
        if isinstance(found, bytes):
            return found
        url = found
    raise DownloadError(f"{shown(url)} is the end of more than {_MOST_REDIRECTS} redirects; give the image's own URL")


def _data(url: str, limit: int) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or len(body) > limit * 4 // 3 + 4:
        raise RequestError(f"a data URL is data:image/png;base64,... of at most {limit >> 20} MiB; this one is not")
    try:
        return base64.b64decode(body, validate=True) if head.endswith(";base64") else unquote_to_bytes(body)
    except (binascii.Error, ValueError):
        raise RequestError("the data URL of an image is no valid base64; encode it again") from None


def _get(url: str, limit: int, rules: Fetching, end: float) -> bytes | str:
    """What lies there, or where it has moved to."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise RequestError(f"{shown(url)} is not a URL; check it") from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise RequestError(f"{shown(url)} is not a plain http or https URL, which an image has to be fetched from")
    secure = parts.scheme == "https"
    connection = _Connection(host, _address(host, rules), port or (443 if secure else 80), secure, end)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"User-Agent": "slmkit", "Accept": "image/*"})
        response = connection.getresponse()
        moved: str | None = response.headers.get("Location")
        if response.status in _REDIRECTS and moved:
            return _joined(url, moved)
        if response.status != 200:
            raise DownloadError(f"{shown(url)} gave status {response.status}, not an image; check the URL")
        return _body(response, connection, url, limit, end)
    except (OSError, http.client.HTTPException, ValueError) as reason:
        raise DownloadError(f"{shown(url)} could not be fetched ({brief(reason)}); try again, or give a file") from None
    finally:
        connection.close()


def _joined(url: str, moved: str) -> str:
    try:
        return urljoin(url, moved)
    except ValueError:
        raise RequestError(f"{shown(url)} leads to {shown(moved)}, which is no URL; give the image's own") from None


def _body(response: http.client.HTTPResponse, connection: _Connection, url: str, limit: int, end: float) -> bytes:
    data = bytearray()
    while chunk := response.read1(_CHUNK):
        data += chunk
        if len(data) > limit:
            raise RequestError(f"{shown(url)} has more than the {limit >> 20} MiB that are read of an image")
        connection.set_patience(end)
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and len(data) < int(length):
        raise DownloadError(f"{shown(url)} broke off after {len(data)} of {length} bytes; try again")
    return bytes(data)


def _address(host: str, rules: Fetching) -> str:
    """The address to connect to.   Raises RequestError for a private one."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as reason:
        raise DownloadError(f"the host {shown(host)} is not known ({brief(reason)}); check the URL") from None
    addresses = [str(place[0]) for _, _, _, _, place in found]
    for address in addresses:
        if not rules.private and not _is_public(address):
            raise RequestError(
                f"{shown(host)} is {address}, an address of this machine or its network, from which images are "
                "fetched only where private_urls allows it; give a file, or a public URL"
            )
    return addresses[0]


def _is_public(text: str) -> bool:
    address: Any = ipaddress.ip_address(text.partition("%")[0])
    if address.version == 6:
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            inner = ipaddress.ip_address(int(address) & 0xFFFFFFFF)
        address = inner or address
    if address.version == 4 and address in _ASSIGNED:  # Python took most of it for global up to 3.12
        return False
    return bool(address.is_global and not address.is_multicast and not address.is_reserved)


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was judged, under the name that was asked for."""

    def __init__(self, host: str, address: str, port: int, secure: bool, end: float) -> None:
        super().__init__(host, port)
        self._address, self._secure, self._end = address, secure, end

    def set_patience(self, end: float) -> None:
        """Let the next reads wait until the time is over."""
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError("it took too long")
        if self.sock is not None:
            self.sock.settimeout(left)

    def connect(self) -> None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("it took too long")
        self.sock = socket.create_connection((self._address, self.port), timeout=left)
        if self._secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)
