"""Which file runs which `model_type`: an explicit table."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from slmkit.errors import UnsupportedModel
from slmkit.untrusted import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

ARCHITECTURES = {
    "phi3": "slmkit.models.phi3",
    "phi3small": "slmkit.models.phi3_small",
    "phimoe": "slmkit.models.phimoe",
    "phi3_v": "slmkit.models.phi3_vision",
}


def architecture(config: Mapping[str, Any]) -> Any:
    """The module for a config.json: it has Config, Phi3-like model class under MODEL, and expected_tensors."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UnsupportedModel(
            f"config.json has model_type {shown(kind)}, which slmkit cannot run; the architectures here are: {known}"
        )
    return import_module(ARCHITECTURES[kind])
