"""Which backend runs a model's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slmkit.backends.base import Backend
    from slmkit.options import LoadOptions
    from slmkit.weights.telling import Notice, Progress


def open_backend(name: str, options: LoadOptions, progress: Progress | None, notice: Notice | None) -> Backend:
    """The backend for a model's name. No prefix is known yet, so it is our own engine."""
    from slmkit.backends.native import NativeBackend

    return NativeBackend(name, options, progress, notice)
