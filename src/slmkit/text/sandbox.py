"""Runs a chat template nobody has vouched for, in a process of its own that cannot take more than its share.

A template is a program from the internet. Jinja's sandbox keeps it from Python's objects, not from `{{ 'x' * 10**10 }}`
or a loop in a loop; guarding every operator and filter that can grow would be a race against Jinja's next release.
So the kernel guards: processor time, memory, open files and written files are limited (Linux; macOS enforces no limit
on memory, Windows has none of these), and everywhere a clock ends the process and its output is counted.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmkit.errors import MissingDependency, RequestError, TemplateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CPU_SECONDS = 1  # a published template needs about 1 ms
WALL_SECONDS = 5  # for machines that are busy, and those without a limit on processor time
MEMORY_BYTES = 256 * 2**20
LARGEST_SOURCE = 2**18  # characters; the longest in wide use have about 20,000
# What a Python may need to start at all; nothing else of the environment reaches the child.
_ENVIRONMENT = ("SYSTEMROOT", "PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def render(source: str, renderings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Render one template with each set of variables, in one child process (about 0.1 s).

    Raises TemplateError when the template fails or exceeds a limit, RequestError when it calls raise_exception: that
    is how templates refuse conversations they cannot show.
    """
    if len(source) > LARGEST_SOURCE:
        raise TemplateError(
            f"the chat template has {len(source)} characters, at most {LARGEST_SOURCE} are accepted; "
            f"put a shorter chat_template.jinja beside the weights"
        )
    n_chars = sum(len(json.dumps(variables)) for variables in renderings)
    job = {
        "source": source,
        "renderings": renderings,
        "now": datetime.datetime.now().isoformat(),
        "cpu_s": CPU_SECONDS + n_chars // 10**7,
        "memory_bytes": MEMORY_BYTES + 64 * n_chars,
        "output_chars": 2**20 + 4 * n_chars,
    }
    reply = _ask(json.dumps(job))
    if "refused" in reply:
        raise RequestError(
            f"the model's chat template does not accept this conversation: {_one_line(reply['refused'])}"
        )
    if "failed" in reply:
        raise TemplateError(
            f"the chat template fails: {_one_line(reply['failed'])}; put a working chat_template.jinja "
            f"beside the weights, or use `slm complete`, which needs none"
        )
    return [str(text) for text in reply["texts"]]


def _ask(job: str) -> dict[str, Any]:
    program = Path(__file__).with_name("template_child.py")
    command = [sys.executable, "-I", "-S", "-X", "utf8", str(program), *_folders_of("jinja2", "markupsafe")]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    try:
        done = subprocess.run(
            command,
            input=job,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            timeout=WALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TemplateError(_too_much(f"{WALL_SECONDS} s")) from None
    except OSError as reason:
        raise TemplateError(
            f"the chat template needs a second Python process and {sys.executable!r} cannot be "
            f"started ({reason.strerror})"
        ) from None
    if done.returncode != 0:
        raise TemplateError(_too_much(f"{CPU_SECONDS} s of processor time or {MEMORY_BYTES >> 20} MiB of memory"))
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


def _too_much(limit: str) -> str:
    return (
        f"the chat template takes more than {limit} and was stopped; put a working chat_template.jinja beside the "
        f"weights, or use `slm complete`, which needs none"
    )


def _folders_of(*packages: str) -> list[str]:
    """Where the packages lie, without importing them."""
    folders = []
    for name in packages:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise MissingDependency(f"chat templates need the package {name}; pip install {name}")
        folders.append(str(Path(spec.origin).parents[1]))
    return sorted(set(folders))


def _one_line(message: str) -> str:
    """A template's own words, made fit for a terminal."""
    return "".join(char if char.isprintable() else " " for char in message)
