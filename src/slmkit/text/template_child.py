"""Renders one chat template under hard limits. A program of its own, started by sandbox.py; nobody imports it.

Reads a JSON job from standard input and writes a JSON answer to standard output:
    job     {"source", "renderings": [variables, ...], "now", "cpu_s", "memory_bytes", "output_chars"}
    answer  {"texts": [...]}, {"refused": message} where the template itself raised, or {"failed": what}
"""

from __future__ import annotations

import datetime
import json
import sys
from typing import Any

sys.path[:0] = sys.argv[1:]  # where jinja2 and markupsafe are; the program runs with -I -S

import jinja2.debug  # noqa: E402  (used when a template fails; no file can be opened by then)
import jinja2.ext  # noqa: E402
import jinja2.nodes  # noqa: E402
import jinja2.sandbox  # noqa: E402


class RefusedError(Exception):
    """The template called raise_exception."""


class GenerationTag(jinja2.ext.Extension):
    """`{% generation %}` marks the assistant's tokens for training; for a prompt its body is all there is."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def environment(now: str) -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """Jinja as checkpoints expect it: the environment of transformers' apply_chat_template."""
    extensions = [GenerationTag, "jinja2.ext.loopcontrols"]
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = refuse
    env.globals["strftime_now"] = datetime.datetime.fromisoformat(now).strftime
    return env


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def refuse(message: str) -> None:
    raise RefusedError(str(message))


def limit(cpu_s: int, memory_bytes: int) -> None:
    """Ask the kernel to end this process when it takes too much, and to let it open and start nothing more."""
    try:
        import resource
        import signal
    except ImportError:  # Windows: the parent's clock alone
        return
    signal.setitimer(signal.ITIMER_PROF, cpu_s)  # counts processor time, and ends a program that has no handler
    for name, most in (
        ("RLIMIT_AS", memory_bytes),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_NOFILE", 3),
        ("RLIMIT_NPROC", 0),
    ):
        try:
            resource.setrlimit(getattr(resource, name), (most, most))
        except (AttributeError, ValueError, OSError):  # not every system has or allows each of them
            continue


def render(template: jinja2.Template, variables: dict[str, Any], output_chars: int) -> str:
    parts: list[str] = []
    size = 0
    for part in template.generate(**variables):
        size += len(part)
        if size > output_chars:
            raise OverflowError(f"it writes more than {output_chars} characters")
        parts.append(part)
    return "".join(parts)


def answer(job: dict[str, Any]) -> dict[str, Any]:
    try:
        env = environment(job["now"])
        env.from_string("{{ '\\n' }}").render()  # imports what Jinja imports late, while files can be opened
        limit(job["cpu_s"], job["memory_bytes"])
        template = env.from_string(job["source"])
        return {"texts": [render(template, variables, job["output_chars"]) for variables in job["renderings"]]}
    except RefusedError as reason:
        return {"refused": str(reason)[:500]}
    except MemoryError:
        return {"failed": f"it needs more than {job['memory_bytes'] >> 20} MiB of memory"}
    except RecursionError:
        return {"failed": "it is nested too deeply"}
    except OverflowError as reason:
        return {"failed": str(reason)[:500]}
    except Exception as reason:  # whatever a template can raise is the template's fault
        return {"failed": f"{type(reason).__name__}: {reason}"[:500]}


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
