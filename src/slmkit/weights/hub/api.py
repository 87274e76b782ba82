"""Talking to the hub: huggingface_hub's session, so its proxies, its endpoint and its token; our bounds and patience.

Its own download functions are not used: they compare no checksums and set no limit to what a server sends, and those of
2.4 begin a file anew after a kill.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from difflib import get_close_matches
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

from slmkit.errors import AccessDenied, DownloadError, ModelNotFound, RequestError, SlmError
from slmkit.untrusted import parse_json, shown
from slmkit.weights.hub.files import HubFile
from slmkit.weights.hub.verify import is_checksum
from slmkit.weights.names import HubRef, check_path_in_repository, suggestion

GO_ON = "the same command goes on where it stopped"
_TRUE = ("1", "ON", "YES", "TRUE")  # as huggingface_hub reads its switches
_WAITS = (0.0, 1.0, 3.0)  # seconds before the second, third and fourth try
_LONGEST_WAIT = 60.0  # seconds that a server may ask for
_MOST_LISTING_BYTES = 64 << 20
_MOST_REDIRECTS = 20
_WINDOW = 60.0  # seconds in which at least so much has to come,
_LEAST_IN_WINDOW = 1 << 14  # or the connection counts as dropped
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_sleep = time.sleep


class Transient(Exception):
    """Something that may go well when it is tried again.   after: seconds that the server asked for."""

    def __init__(self, what: str, after: float | None = None) -> None:
        super().__init__(what)
        self.after = after


class Patience:
    """Counts failures in a row; what has made headway starts the count anew."""

    def __init__(self) -> None:
        self._failures = 0

    def headway(self) -> None:
        self._failures = 0

    def wait(self, problem: Transient, what: str) -> None:
        """Wait before the next try.   Raises DownloadError if there have been enough, or the wait would be long."""
        if problem.after is not None and problem.after > _LONGEST_WAIT:
            raise DownloadError(f"{what}: {problem}, for {problem.after:.0f} s; then {GO_ON}")
        if self._failures >= len(_WAITS):
            tries = len(_WAITS) + 1
            raise DownloadError(f"{what}: {problem}, {tries} times in a row; look at the network, then {GO_ON}")
        pause = max(_WAITS[self._failures], problem.after or 0.0)
        self._failures += 1
        if pause:
            _sleep(pause)


class Listing:
    """What the hub says of a repository at a revision.   architecture: of its GGUF files, where the hub has read it."""

    def __init__(self, commit: str, files: tuple[HubFile, ...], architecture: str | None) -> None:
        self.commit, self.files, self.architecture = commit, files, architecture


def offline_by_environment() -> bool:
    """Whether huggingface_hub was told to stay off the network."""
    asked = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return asked.upper() in _TRUE


def endpoint() -> str:
    """The address of the hub, or of the mirror in $HF_ENDPOINT.   Raises RequestError for what is no address."""
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or not address.isascii() or not address.isprintable() or " " in address:
        raise RequestError(f"HF_ENDPOINT is {shown(address)}; it takes an address such as https://huggingface.co")
    return address.rstrip("/")


def endpoint_shown() -> str:
    """`endpoint` for messages: without the password that a mirror's address may hold."""
    address = endpoint()
    return urlsplit(address)._replace(netloc=urlsplit(address).netloc.rpartition("@")[2]).geturl()


def list_repository(ref: HubRef) -> Listing:
    """The commit and the files of a reference.

    Raises ModelNotFound, AccessDenied, DownloadError; DownloadError too for a listing with names that could do harm,
    and for another commit than the one that was asked for.
    """
    what = f"the hub's listing of {ref.repo}"
    url = f"{endpoint()}/api/models/{ref.repo}/revision/{quote(ref.revision, safe='')}?blobs=true"
    found = _json(url, ref, what)
    commit, siblings = found.get("sha"), found.get("siblings")
    if not is_checksum(commit) or not isinstance(siblings, list):
        raise DownloadError(
            f"{what} from {endpoint_shown()} has no commit or no files; is that address a Hugging Face hub?"
        )
    if re.fullmatch("[0-9a-f]{40}", ref.revision) and commit != ref.revision:
        raise DownloadError(
            f"{endpoint_shown()} answers with commit {commit} of {ref.repo} where {ref.revision} was asked for; "
            "nothing is fetched: check HF_ENDPOINT and the proxies"
        )
    gguf = found.get("gguf")
    architecture = gguf.get("architecture") if isinstance(gguf, dict) else None
    return Listing(
        str(commit),
        tuple(_file(entry, what) for entry in siblings),
        architecture if isinstance(architecture, str) else None,
    )


def file_url(repo: str, commit: str, name: str) -> str:
    """Where a file of a repository is handed out."""
    return f"{endpoint()}/{repo}/resolve/{commit}/{quote(name)}"


@contextmanager
def stream(url: str, ref: HubRef, what: str, start: int = 0) -> Iterator[Any]:
    """The hub's answer, its body not yet read, from byte `start` on.

    Raises Transient for what may pass, and ModelNotFound, AccessDenied, DownloadError for what will not. Status 416
    comes back as an answer.
    """
    session = _session()
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    # httpx in older releases, httpx2 in newer ones: in all the base of every error of the network is this one.
    network_error: Any = HfHubHTTPError.__bases__[0]
    headers = {"User-Agent": "slmkit", "Accept-Encoding": "identity", **_authorization()}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        request = session.build_request("GET", url, headers=headers, timeout=_timeout())
        with closing(_redirected(session, request)) as answer:
            if answer.status_code not in (200, 206, 416):
                _refuse(answer.status_code, answer.headers, ref, what)
            yield answer
    except OfflineModeIsEnabled:
        raise DownloadError(f"{what} was asked for while HF_HUB_OFFLINE is set; unset it, and {GO_ON}") from None
    except network_error as error:
        raise Transient(_in_words(error)) from None


def body(answer: Any) -> Iterator[bytes]:
    """The body piece by piece.   Raises Transient if next to nothing comes any more."""
    since, came = time.monotonic(), 0
    for piece in answer.iter_bytes():
        yield piece
        came += len(piece)
        now = time.monotonic()
        if now - since > _WINDOW:
            if came < _LEAST_IN_WINDOW:
                raise Transient(f"fewer than {_LEAST_IN_WINDOW} bytes came in {_WINDOW:.0f} s")
            since, came = now, 0


def _redirected(session: Any, request: Any) -> Any:
    """The answer at the end of all redirects. The client itself would read their bodies, however long, into memory."""
    for _ in range(_MOST_REDIRECTS + 1):
        answer = session.send(request, stream=True, follow_redirects=False)
        if answer.next_request is None:
            return answer
        answer.close()
        request = answer.next_request  # without the token, where it goes to another host
    raise Transient(f"more than {_MOST_REDIRECTS} redirects follow each other")


def _json(url: str, ref: HubRef, what: str) -> dict[str, Any]:
    patience = Patience()
    while True:
        try:
            with stream(url, ref, what) as answer:
                data = bytearray()
                for piece in body(answer):
                    data += piece
                    if len(data) > _MOST_LISTING_BYTES:
                        raise DownloadError(
                            f"{what} is longer than {_MOST_LISTING_BYTES >> 20} MiB; nothing is fetched"
                        )
            return parse_json(bytes(data), what, DownloadError)
        except Transient as problem:
            patience.wait(problem, what)


def _file(entry: Any, what: str) -> HubFile:
    entry = entry if isinstance(entry, dict) else {}
    name, size, etag = entry.get("rfilename"), entry.get("size"), entry.get("blobId")
    lfs = entry.get("lfs")
    if isinstance(lfs, dict):
        size, etag = lfs.get("size"), lfs.get("sha256", lfs.get("oid"))
    check_path_in_repository(name, DownloadError, f"{what} has")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or not is_checksum(etag):
        raise DownloadError(
            f"{what} has no size or no checksum for {shown(name)}; what cannot be checked is not fetched"
        )
    return HubFile(name, size, str(etag))


def _session() -> Any:
    try:
        from huggingface_hub import get_session

        return get_session()
    except Exception as error:  # a proxy's address, a certificate file, a number in a variable: whatever can be wrong
        raise DownloadError(
            f"the network cannot be used as the environment says ({_in_words(error)}); "
            "check the variables of proxies and certificates and those that begin with HF_"
        ) from None


def _authorization() -> dict[str, str]:
    from huggingface_hub import constants, get_token

    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    if token and not (token.isascii() and token.isprintable()):
        raise AccessDenied("the token in use has characters that no token has; set HF_TOKEN to a valid one")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _timeout() -> float:
    """Seconds without a byte."""
    from huggingface_hub import constants

    return float(constants.HF_HUB_DOWNLOAD_TIMEOUT)


def _refuse(status: int, headers: Mapping[str, str], ref: HubRef, what: str) -> NoReturn:
    if status in _TRANSIENT:
        raise Transient(f"the hub answers {status}", _retry_after(headers))
    code = headers.get("X-Error-Code", "")
    refusal = _REFUSALS.get(code)
    if refusal is None and status in (401, 403, 404):
        bad_token = status == 401 and "Invalid credentials" in headers.get("X-Error-Message", "")
        refusal = _token if bad_token else _forbidden if status == 403 else _no_repository
    if refusal is None:
        raise DownloadError(
            f"{what}: {endpoint_shown()} answers {status}; check HF_ENDPOINT and the proxies, then {GO_ON}"
        )
    raise refusal(ref, what)


def _no_repository(ref: HubRef, what: str) -> SlmError:
    hint = suggestion(ref.repo)
    return ModelNotFound(
        f"{endpoint_shown()} has no repository {ref.repo}, or it is private: "
        f"{hint or 'check the spelling'}; for a private one set HF_TOKEN, and for a path write ./{ref.repo}"
    )


def _no_revision(ref: HubRef, what: str) -> SlmError:
    known = _revisions(ref)
    near = get_close_matches(ref.revision, known, 1)
    hint = (
        f"did you mean {near[0]}?" if near else f"it has {', '.join(map(shown, known[:10]))}" if known else "check it"
    )
    return ModelNotFound(f"{ref.repo} has no revision {shown(ref.revision)}; {hint}")


def _no_file(ref: HubRef, what: str) -> SlmError:
    return ModelNotFound(
        f"{what} is listed by the hub and not handed out; try again, or another revision of {ref.repo}"
    )


def _gated(ref: HubRef, what: str) -> SlmError:
    state = "the token in use is not of such an account" if _authorization() else "no token is set"
    return AccessDenied(
        f"{ref.repo} is given to those alone who have accepted its licence, and {state}; "
        f"accept it at {endpoint_shown()}/{ref.repo}, then set HF_TOKEN to a token of that account"
    )


def _forbidden(ref: HubRef, what: str) -> SlmError:
    return AccessDenied(
        f"{what} is refused (403): the token may not read {ref.repo}; set HF_TOKEN to one that may, or ask for access "
        f"at {endpoint_shown()}/{ref.repo}"
    )


def _token(ref: HubRef, what: str) -> SlmError:
    return AccessDenied(
        f"{endpoint_shown()} does not know the token in use; set HF_TOKEN to a valid one, or log in again"
    )


_REFUSALS: Mapping[str, Callable[[HubRef, str], SlmError]] = {
    "RepoNotFound": _no_repository,
    "RevisionNotFound": _no_revision,
    "EntryNotFound": _no_file,
    "GatedRepo": _gated,
}


def _revisions(ref: HubRef) -> list[str]:
    """Branches and tags, for a message; none if the hub does not say."""
    try:
        found = _json(f"{endpoint()}/api/models/{ref.repo}/refs", ref, "the list of revisions")
    except SlmError:
        return []
    groups = [found.get("branches"), found.get("tags")]
    entries = [entry for group in groups if isinstance(group, list) for entry in group if isinstance(entry, dict)]
    return [entry["name"] for entry in entries if isinstance(entry.get("name"), str)]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds; the header's other form, a date, is not used by the hub."""
    try:
        return max(0.0, float(headers.get("Retry-After", "")))
    except ValueError:
        return None


def _in_words(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
