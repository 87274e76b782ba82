"""Names in Ollama's model store: `[host/][namespace/]model[:tag]`, as `ollama list` shows them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from slmkit.errors import RequestError
from slmkit.untrusted import shown

PREFIX = "ollama-store:"
_HOST, _NAMESPACE, _TAG = "registry.ollama.ai", "library", "latest"
_SCHEME = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*://")
# No part may begin with a dot, and none holds a separator, so no name leads anywhere but downwards.
_PARTS = {
    "host": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"),
    "namespace": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"),
    "model": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
    "tag": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
}


@dataclass(frozen=True)
class Name:
    """A complete name; its four parts are the folders and the file of the manifest."""

    host: str
    namespace: str
    model: str
    tag: str

    def __post_init__(self) -> None:
        for part, pattern in _PARTS.items():
            if not pattern.fullmatch(getattr(self, part)):
                raise RequestError(
                    f"{shown(getattr(self, part))} is no {part} of a name in Ollama's store; write "
                    f"{PREFIX}[host/][namespace/]model[:tag], as `ollama list` shows it"
                )

    @classmethod
    def parse(cls, text: str) -> Name:
        """The name that was typed, its missing parts filled in as Ollama does it. Raises RequestError."""
        if not text.strip():
            raise RequestError(
                f"{PREFIX} has no name behind it; write {PREFIX}[host/][namespace/]model[:tag], and `slm list` shows "
                "which there are"
            )
        rest = _SCHEME.sub("", text, count=1)
        before, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:
            before, tag = rest, _TAG
        parts = before.split("/")
        if len(parts) > 3:
            raise RequestError(
                f"{shown(text)} has {len(parts)} parts between slashes; write {PREFIX}[host/][namespace/]model[:tag]"
            )
        host, namespace, model = [_HOST, _NAMESPACE, ""][: 3 - len(parts)] + parts
        return cls(host, namespace, model, tag)

    @property
    def parts(self) -> tuple[str, str, str, str]:
        return self.host, self.namespace, self.model, self.tag

    def __str__(self) -> str:
        """The shortest spelling that means this name."""
        host = "" if self.host.lower() == _HOST else f"{self.host}/"
        namespace = "" if not host and self.namespace.lower() == _NAMESPACE else f"{self.namespace}/"
        return f"{host}{namespace}{self.model}" + ("" if self.tag.lower() == _TAG else f":{self.tag}")
