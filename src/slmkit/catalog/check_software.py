"""The installation: Python, packages, the bundled model and what it says, stores of models, the network if asked."""

from __future__ import annotations

import http.client
import platform
import re
import time
import urllib.error
import urllib.request
from importlib import metadata
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from slmkit.catalog.checks import NOTE, OK, PROBLEM, Check
from slmkit.errors import SlmError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)[^;]*?(?:>=\s*([0-9.]+))?[^;]*(?:;\s*(.*))?")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")
# What the bundled model says, whatever computes it; tests/test_bundled.py holds every kernel set to the same words.
PROMPT, ANSWER = "Tell me a story about a dog.", "Once upon a time, there was a dog named Bell"
TOKENS = 12


def check_bundled_model(load: Callable[..., Any]) -> Check:
    """The bundled model, whole and saying what it should on the kernels that are in use.   load: slmkit.load."""
    began = time.perf_counter()
    try:
        with load("tiny", ctx=128) as model:
            said = model.chat(PROMPT, temperature=0.0, max_tokens=TOKENS).text
            kernels = model.describe()["kernel_set"]
    except SlmError as error:
        return Check("self-test", PROBLEM, f"the bundled model does not run: {error}", "install slmkit again")
    facts = {"said": said, "expected": ANSWER, "kernels": kernels, "seconds": round(time.perf_counter() - began, 3)}
    if said != ANSWER:
        advice = "slmkit computes wrongly here: install it again, try --kernels reference, and please report it"
        return Check("self-test", PROBLEM, f"the bundled model said {said!r}, not {ANSWER!r}", advice, facts)
    return Check("self-test", OK, f"the bundled model says what it should, on {kernels}", facts=facts)


def check_python() -> Check:
    """Python and the packages that slmkit cannot do without."""
    from slmkit import __version__

    wanted = _requirements().get("", {})
    versions = {name: _installed(name) for name in wanted}
    found = f"slmkit {__version__}, Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    facts = {"slmkit": __version__, "python": platform.python_version(), "packages": versions}
    if not wanted:
        advice = "slmkit runs from a folder and is not installed, so what it requires is not known; pip install . there"
        return Check("python", NOTE, found, advice, facts)
    bad = [_wish(name, least) for name, least in wanted.items() if not _enough(versions[name], least)]
    if bad:
        return Check("python", PROBLEM, f"{found}; missing or too old: {', '.join(bad)}", _install(bad), facts)
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Check("python", OK, f"{found}; {listed}", facts=facts)


def check_extras() -> Check:
    """Which optional parts have all that they need."""
    extras = {extra: wanted for extra, wanted in _requirements().items() if extra}
    there = {extra: all(_enough(_installed(n), least) for n, least in w.items()) for extra, w in extras.items()}
    if not extras:
        return Check("extras", OK, "not known", facts={"extras": {}})
    found = ", ".join(f"{extra} {'installed' if ok else 'not installed'}" for extra, ok in there.items())
    advice = "" if all(there.values()) else "none is needed to run models; pip install 'slmkit[NAME]' adds one"
    return Check("extras", OK, found, advice, {"extras": there})


def check_ollama() -> Check:
    """Ollama's store, whose models run in place."""
    from slmkit.weights.ollama.store import stores

    try:
        found = stores()
    except SlmError as error:
        return Check("ollama store", NOTE, str(error), "correct or unset OLLAMA_MODELS")
    counts = {str(store.root): len(store.names()) for store in found}
    facts = {"stores": counts}
    if not counts:
        return Check("ollama store", OK, "none", facts=facts)
    listed = ", ".join(f"{root} with {n} model{'s' * (n != 1)}" for root, n in counts.items())
    return Check("ollama store", OK, f"{listed}; `slm run ollama-store:NAME`", facts=facts)


def check_network(url: str, timeout_s: float = 10.0) -> Check:
    """Whether the hub answers. The only check that leaves this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""  # and no more of it: an address may carry a password
    facts = {"host": host}
    if parts.scheme not in ("http", "https") or not host:
        return Check("network", PROBLEM, "HF_ENDPOINT is no http or https address", "correct or unset it", facts)
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "slmkit"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s):
            return Check("network", OK, f"{host} answers", facts=facts)
    except urllib.error.HTTPError as error:  # it answers, if only with a refusal
        error.close()
        return Check("network", OK, f"{host} answers ({error.code})", facts=facts)
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = getattr(error, "reason", error)
        advice = "check the connection and HTTPS_PROXY; models that are here already run with --offline"
        return Check("network", PROBLEM, f"{host} cannot be reached ({why})", advice, facts)


def _requirements() -> dict[str, dict[str, str]]:
    """Extra ("" for the base) -> package -> least version, as the installation states them."""
    found: dict[str, dict[str, str]] = {}
    try:
        lines = metadata.requires("slmkit") or []
    except metadata.PackageNotFoundError:
        return {}
    for line in lines:
        parts = _REQUIREMENT.fullmatch(line)
        if parts is None or (parts[3] and "python_version" in parts[3]):  # for another Python than most have
            continue
        extra = _EXTRA.search(parts[3] or "")
        found.setdefault(extra[1] if extra else "", {})[parts[1]] = parts[2] or ""
    return found


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _enough(version: str | None, least: str) -> bool:
    return version is not None and _numbers(version) >= _numbers(least)


def _numbers(version: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", version)[:3]]


def _wish(name: str, least: str) -> str:
    return f"{name}>={least}" if least else name


def _install(wishes: Iterable[str]) -> str:
    return "pip install " + " ".join(f"'{wish}'" for wish in wishes)
