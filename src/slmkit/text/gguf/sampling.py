"""How a model is meant to be sampled: the `general.sampling.*` metadata of a GGUF file, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from slmkit.errors import CheckpointError, OptionError, UnsupportedModel
from slmkit.models.gguf_config import SOURCE, decimal
from slmkit.options import FALLBACKS, Options
from slmkit.untrusted import shown

KEY = "general.sampling."
# Name in GGUF -> our option. penalty_last_n, the window of the penalty, counts otherwise than ours: see below.
_OPTIONS = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}
_FILTERS = ("top_k", "top_p", "min_p")
# Settings of samplers that are off unless another key switches them on, and the order of samplers.
_NO_SAMPLER = ("sequence", "xtc_threshold", "mirostat_tau", "mirostat_eta")
_ALL_TOKENS, _NO_TOKENS = -1, 0  # as values of penalty_last_n


def read_sampling(metadata: Mapping[str, Any]) -> Options:
    """The options that the metadata recommend; greedy and unfiltered if they do not say.

    A file that names a filter and no temperature is sampled at 1, one with a temperature of 0 is greedy.
    Raises UnsupportedModel for a sampler that slmkit does not have and that is switched on, CheckpointError for a value
    that is of the wrong type or out of bounds.
    """
    given = {key.removeprefix(KEY): value for key, value in metadata.items() if key.startswith(KEY)}
    for name, value in given.items():
        is_on = isinstance(value, (np.ndarray, list, str)) or value
        if is_on and name not in (*_OPTIONS, *_NO_SAMPLER, "penalty_last_n"):
            raise UnsupportedModel(
                f"{SOURCE} asks for {shown(KEY + name)} = {shown(value)}, a sampler that slmkit does not have"
            )
    values: dict[str, Any] = {ours: _number(name, given[name]) for name, ours in _OPTIONS.items() if name in given}
    if any(name in values for name in _FILTERS):
        values.setdefault("temperature", 1.0)
    if values.get("temperature", 0) == 0:
        values = {name: value for name, value in values.items() if name not in _FILTERS}
    if values.get("repetition_penalty", 1) != 1:
        # Without the key llama.cpp looks back at 64; the penalty comes from a generation_config.json, whose is on all.
        values |= _window(given.get("penalty_last_n", _ALL_TOKENS))
    try:
        return Options(**values).over(FALLBACKS)
    except OptionError as error:
        raise CheckpointError(f"the {KEY}* settings of {SOURCE} cannot be used: {error}") from None


def write_sampling(options: Options) -> dict[str, Any]:
    """The `general.sampling.*` metadata of options, where they differ from greedy and unfiltered."""
    idle = () if options.temperature else _FILTERS  # a reader would take them for a wish to sample
    found = {
        name: getattr(options, ours)
        for name, ours in _OPTIONS.items()
        if ours not in idle and getattr(options, ours) not in (None, getattr(FALLBACKS, ours))
    }
    if "penalty_repeat" in found:
        found["penalty_last_n"] = np.int32(options.repetition_window or _ALL_TOKENS)  # a plain int would be unsigned
    return {KEY + name: value for name, value in found.items()}


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise CheckpointError(f"{SOURCE} has {KEY}{name} = {shown(value)}; a number is needed")
    return decimal(value) if isinstance(value, float) else value


def _window(last: Any) -> dict[str, Any]:
    """What the repetition penalty is on, as options: nothing, all tokens, or so many of the last ones."""
    if isinstance(last, bool) or not isinstance(last, int) or last < _ALL_TOKENS:
        raise CheckpointError(
            f"{SOURCE} has {KEY}penalty_last_n = {shown(last)}; a number of tokens is needed, or -1 for all of them"
        )
    if last == _NO_TOKENS:
        return {"repetition_penalty": 1.0}
    return {} if last == _ALL_TOKENS else {"repetition_window": last}
