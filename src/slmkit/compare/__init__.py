"""Models beside each other: `compare` puts the same prompts to several, `verify` holds one against another."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slmkit.compare.cases import Case, read_cases
    from slmkit.compare.entry import Entry
    from slmkit.compare.faithful import verify
    from slmkit.compare.side_by_side import compare

# Loaded when first used: the command line asks for its flags before any model is near.
_HOMES = {
    "Case": "slmkit.compare.cases",
    "Entry": "slmkit.compare.entry",
    "compare": "slmkit.compare.side_by_side",
    "read_cases": "slmkit.compare.cases",
    "verify": "slmkit.compare.faithful",
}
__all__ = ["Case", "Entry", "compare", "read_cases", "verify"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'slmkit.compare' has no attribute {name!r}")
