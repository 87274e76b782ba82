"""slmkit: small language models on the machine you have.

import slmkit
model = slmkit.load("tiny")
print(model.chat("Tell me a story about a dog."))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from slmkit import errors

if TYPE_CHECKING:
    from slmkit.events import Answer
    from slmkit.model import Model, load
    from slmkit.options import Options
    from slmkit.request import Constraint, Message, Request

__version__ = "0.1.0"

# Public names and where they live; loaded when first used, so that `import slmkit` stays instant.
_HOMES = {
    "Answer": "slmkit.events",
    "Constraint": "slmkit.request",
    "Message": "slmkit.request",
    "Model": "slmkit.model",
    "Options": "slmkit.options",
    "Request": "slmkit.request",
    "load": "slmkit.model",
}
__all__ = ["Answer", "Constraint", "Message", "Model", "Options", "Request", "__version__", "errors", "load"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'slmkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
