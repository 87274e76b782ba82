"""Names of models in Ollama's API."""

from __future__ import annotations

from slmkit.server.faults import Fault
from slmkit.server.roster import LATEST


def check_name(name: str, field: str) -> str:
    """The name, if there is one.   Raises Fault."""
    if not name.strip():
        raise Fault(400, f"{field} is missing; it takes the name of a model, and /api/tags lists them", param=field)
    return name


def tagged(id: str) -> str:
    """The name with a tag, as Ollama shows every name."""
    return id if ":" in id.rpartition("/")[2] else id + LATEST
