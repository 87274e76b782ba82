"""Folders in the hub's layout, for the runtimes that read them by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slmkit.engine.defaults import stop_ids
from slmkit.errors import UnsupportedModel
from slmkit.models.registry import ARCHITECTURES
from slmkit.weights.packed import is_packed

if TYPE_CHECKING:
    from slmkit.weights.checkpoint import Checkpoint


def no_folder(prefix: str, model: str) -> UnsupportedModel:
    """What is said of a GGUF file, or of a name that someone gave to a model."""
    return UnsupportedModel(
        f"{prefix}: runs folders in Hugging Face's layout, and {model} is none; leave the prefix out, or run a GGUF "
        "file with llamacpp:"
    )


def refuse_packed(checkpoint: Checkpoint, runtime: str) -> None:
    """Raise UnsupportedModel for weights that slmkit packed."""
    if is_packed(checkpoint.metadata):
        raise UnsupportedModel(
            f"{checkpoint.folder} was packed by slmkit, which {runtime} cannot read; give the folder it was made from, "
            "or leave the prefix out"
        )


def ending_ids(checkpoint: Checkpoint, vocab_size: int) -> frozenset[int]:
    """The ids that end answers; those that belong to a family of slmkit's only for a model of it."""
    generation: Mapping[str, Any] = checkpoint.generation_config
    if checkpoint.config.get("model_type") not in ARCHITECTURES and generation.get("eos_token_id") is None:
        generation = {**generation, "eos_token_id": []}
    return stop_ids(generation, checkpoint.config, vocab_size)
