"""Where an adapter lies: a folder, or a repository of the hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from slmkit.errors import ModelNotFound
from slmkit.untrusted import shown

if TYPE_CHECKING:
    from slmkit.weights.locate import Notice, Progress


def locate_adapter(
    place: str, *, offline: bool = False, progress: Progress | None = None, notice: Notice | None = None
) -> Path:
    """The folder of an adapter.   Raises ModelNotFound."""
    path = Path(os.path.expanduser(place))
    if path.is_dir():
        return path
    raise ModelNotFound(f"there is no folder {shown(place)}; give the folder of an adapter that PEFT saved")
