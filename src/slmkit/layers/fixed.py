"""Arrays that stay what they are while a model is in use."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


def fixed(array: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written: by that a recording knows what no step changes (ops/recording.py)."""
    view = array.view()
    view.flags.writeable = False
    return view
