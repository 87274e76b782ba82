"""A checkpoint's own generation_config as Options, and the ids that end its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slmkit.errors import CheckpointError, OptionError, UnsupportedModel
from slmkit.models.config import is_idle
from slmkit.options import FALLBACKS, Options
from slmkit.untrusted import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

# generation_config key -> ours
TRANSLATED = {
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "length_penalty": "length_penalty",
    "max_new_tokens": "max_tokens",
    "num_beams": "beams",
}
# Keys that change no answer here: bookkeeping, how many answers to give, or limits that the context sets.
NEUTRAL = frozenset(
    """
    _from_model_config transformers_version bos_token_id pad_token_id eos_token_id do_sample temperature use_cache
    max_length cache_implementation output_scores output_logits output_attentions output_hidden_states
    return_dict_in_generate num_return_sequences decoder_start_token_id trust_remote_code
    """.split()  # noqa: SIM905
)
FAMILY_STOPS = frozenset({32000, 32001, 32007})  # <|endoftext|>, <|assistant|>, <|end|> of every published phi3
_OWN_STOPS = {
    "phi3small": frozenset({100257, 100266}),  # <|endoftext|>, <|end|>
    "phi3_v": frozenset({2, 32000, 32007}),  # </s>, <|endoftext|>, <|end|>
}
_NAMED_IN_PART = frozenset({"phi3_v"})  # the published generation_config names </s> alone


def generation_defaults(raw: Mapping[str, Any]) -> Options:
    """Options that the checkpoint asks for; what it does not name is greedy and unfiltered.

    Temperature and filters apply only where do_sample is true, as in transformers.
    Raises UnsupportedModel for a setting that would change answers and is not implemented, CheckpointError for a value
    out of bounds.
    """
    for key, value in raw.items():
        if key not in NEUTRAL and key not in TRANSLATED and not is_idle(value):
            raise UnsupportedModel(
                f"generation_config.json asks for {shown(key)} = {shown(value)}, which slmkit does not have; "
                "remove the key to run without it"
            )
    values = {ours: raw[theirs] for theirs, ours in TRANSLATED.items() if raw.get(theirs) is not None}
    if _is_sampled(raw.get("do_sample")):
        values["temperature"] = 1.0 if raw.get("temperature") is None else raw["temperature"]
    else:
        values = {k: v for k, v in values.items() if k not in ("top_k", "top_p", "min_p")}
    try:
        return Options(**values).over(FALLBACKS)
    except OptionError as error:
        raise CheckpointError(f"generation_config.json cannot be used: {error}") from None


def _is_sampled(value: Any) -> bool:
    if value is not None and not isinstance(value, bool):
        raise CheckpointError(f"generation_config.json has do_sample = {shown(value)}; true or false is needed")
    return bool(value)


def stop_ids(generation: Mapping[str, Any], config: Mapping[str, Any], vocab_size: int) -> frozenset[int]:
    """Every id that ends an answer: generation_config's and config's.

    The family's own come with them where generation_config names none, or is known to leave some out.
    """
    family = str(config.get("model_type"))
    found: set[int] = set()
    for raw in (generation, config):
        value = raw.get("eos_token_id")
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
            raise CheckpointError(f"eos_token_id is {shown(value)}; a token id or a list of them is needed")
        found.update(ids)
    if generation.get("eos_token_id") is None or family in _NAMED_IN_PART:
        found |= _OWN_STOPS.get(family, FAMILY_STOPS)
    return frozenset(i for i in found if i < vocab_size)
