"""From a model's name to its source."""

from __future__ import annotations

from dataclasses import replace

from slmkit.models.registry import architecture
from slmkit.sources.base import Source
from slmkit.sources.folder import FolderSource
from slmkit.weights.locate import Found, locate
from slmkit.weights.telling import Notice, Progress


def open_source(
    name: str,
    *,
    offline: bool = False,
    progress: Progress | None = None,
    notice: Notice | None = None,
    weights: bool = True,
) -> Source:
    """The source of the model called `name`.   Raises what `locate` raises.

    weights: False for template and tokenizer alone, for which no weights are fetched where they lie in their own files.
    """
    found = locate(name, offline=offline, progress=progress, notice=notice, refuse=architecture, weights=weights)
    return source_of(found)


def source_of(found: Found) -> Source:
    """The source that lies there."""
    if found.named is not None:
        from slmkit.sources.named import NamedSource

        return NamedSource(source_of(replace(found, name=found.named.base, named=None)), found.named)
    if found.path.is_dir():
        return FolderSource(found.name, found.path)
    from slmkit.sources.gguf import GGUFSource, OllamaSource

    return GGUFSource(found.name, found.path) if found.overlay is None else OllamaSource(found.name, found.overlay)
