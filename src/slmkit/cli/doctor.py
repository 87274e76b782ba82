"""Check this machine and this installation, and say what to do about each trouble. Nothing leaves the machine unless
--network is given.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from slmkit.cli import terminal
from slmkit.cli.config_file import config_path
from slmkit.cli.models import filled
from slmkit.cli.settings import settings
from slmkit.errors import OptionError
from slmkit.options import LoadOptions, Options

if TYPE_CHECKING:
    from slmkit.catalog.checks import Check

_PREFIXES = ("SLMKIT_", "HF_", "HUGGINGFACE_", "OLLAMA_")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
# Of these the values are shown too; any other may hold a token or a password.
_SHOWN = {"SLMKIT_CACHE_DIR", "SLMKIT_CONFIG", "SLMKIT_OFFLINE", "SLMKIT_KERNELS", "SLMKIT_THREADS", "SLMKIT_CTX",
          "SLMKIT_QUANTIZE", "SLMKIT_CACHE", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "OLLAMA_MODELS"}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network", action="store_true", help="also ask the hub whether it answers")
    parser.add_argument("--json", action="store_true", help="one JSON object: ok and checks")


def run(args: argparse.Namespace) -> int:
    checks = _checks(args.network)
    sound = all(check.state != "problem" for check in checks)
    if args.json:
        facts = {"ok": sound, "checks": [check.as_dict() for check in checks]}
        terminal.write(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    else:
        terminal.write("".join(_line(check) for check in checks) + _verdict(checks))
    return 0 if sound else 1


def _checks(network: bool) -> list[Check]:
    import slmkit
    from slmkit.catalog import check_machine as machine
    from slmkit.catalog import check_software as software
    from slmkit.weights.cache import cache_folder
    from slmkit.weights.hub.layout import hub_folder

    checks = [
        machine.check_processor(),
        machine.check_cores(),
        machine.check_kernels(),
        software.check_bundled_model(slmkit.load),
        machine.check_memory(),
        machine.check_disk("slmkit's cache", cache_folder(), "SLMKIT_CACHE_DIR"),
        machine.check_disk("hub's cache", hub_folder(), "HF_HOME"),
        machine.check_compiler(),
        software.check_python(),
        software.check_extras(),
        software.check_ollama(),
        check_variables(),
        check_settings(),
    ]
    if network:
        checks.append(software.check_network(os.environ.get("HF_ENDPOINT") or "https://huggingface.co"))
    return checks


def check_variables() -> Check:
    """The variables that slmkit, the hub's client and Ollama look at; values only of those that hold no secrets."""
    from slmkit.catalog.checks import OK, Check

    names = sorted(n for n in os.environ if n.startswith(_PREFIXES) or n.upper() in _PROXIES)
    told = {name: os.environ[name] if name in _SHOWN else None for name in names}
    found = ", ".join(name if value is None else f"{name}={value}" for name, value in told.items())
    return Check("variables", OK, found or "none set", facts={"variables": told})


def check_settings() -> Check:
    """Whether the config file and the variables say what can be understood."""
    from slmkit.catalog.checks import OK, PROBLEM, Check

    path = config_path()
    facts = {"file": str(path), "exists": path.exists()}
    try:
        nothing = argparse.Namespace()
        rows = [*settings(Options, nothing), *settings(LoadOptions, nothing)]
    except OptionError as error:
        return Check("settings", PROBLEM, str(error), "correct it; until then every verb fails with this line", facts)
    given = [row.name for row in rows if row.source]
    found = (
        f"{path}{'' if path.exists() else ' (not there)'}; set there or by variables: {', '.join(given) or 'nothing'}"
    )
    return Check("settings", OK, found, facts={**facts, "set": given})


def _line(check: Check) -> str:
    head = f"{check.state:<8}{check.name:<16}"
    text = filled(check.found, head, " " * len(head)) + "\n"
    if check.advice:
        text += filled(check.advice, " " * len(head) + "-> ", " " * (len(head) + 3)) + "\n"
    return text


def _verdict(checks: list[Check]) -> str:
    n = sum(check.state == "problem" for check in checks)
    return "\nno problem found\n" if not n else f"\n{n} problem{'s' * (n > 1)} found\n"
