"""From a model's name to its source."""

from __future__ import annotations

from slmkit.models.registry import architecture
from slmkit.sources.base import Source
from slmkit.sources.folder import FolderSource
from slmkit.weights.locate import Found, Notice, Progress, locate


def open_source(
    name: str, *, offline: bool = False, progress: Progress | None = None, notice: Notice | None = None
) -> Source:
    """The source of the model called `name`.   Raises what `locate` raises."""
    return source_of(locate(name, offline=offline, progress=progress, notice=notice, refuse=architecture))


def source_of(found: Found) -> Source:
    """The source that lies there."""
    if found.path.is_dir():
        return FolderSource(found.name, found.path)
    from slmkit.sources.gguf import GGUFSource, OllamaSource

    return GGUFSource(found.name, found.path) if found.overlay is None else OllamaSource(found.name, found.overlay)
