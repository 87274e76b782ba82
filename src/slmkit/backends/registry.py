"""Which backend runs a model's name: an explicit table of prefixes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slmkit.backends.base import Backend
    from slmkit.options import LoadOptions


def open_backend(name: str, options: LoadOptions, **callbacks: object) -> Backend:
    """The backend for a model's name. Without a known prefix it is our own engine; no prefix is known yet."""
    from slmkit.backends.native import NativeBackend

    return NativeBackend(name, options, **callbacks)  # type: ignore[arg-type]
