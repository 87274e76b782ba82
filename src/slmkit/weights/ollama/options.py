"""The `params` layer of an Ollama model, in our own options.

What it asks for is done as Ollama does it, is known to change no answer, or is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slmkit.errors import CheckpointError, OptionError, UnsupportedModel
from slmkit.options import Options
from slmkit.untrusted import shown

# Where and how fast it runs; what a context that shifts would keep (ours is never shifted); settings of mirostat.
NEUTRAL = frozenset(
    """
    num_gpu main_gpu num_thread num_batch use_mmap use_mlock low_vram numa f16_kv num_keep vocab_only logits_all
    embedding_only draft_num_predict mirostat_tau mirostat_eta
    """.split()  # noqa: SIM905
)
# Settings that we do not have, and the values at which they are off.
ABSENT: Mapping[str, tuple[Any, ...]] = {
    "mirostat": (0,),
    "tfs_z": (1, 1.0),
    "typical_p": (1, 1.0),
    "num_gqa": (0, 1),
    "rope_frequency_base": (0,),
    "rope_frequency_scale": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
}
_WITHOUT = "make a variant of the model without it: `ollama create`, from a Modelfile with the line PARAMETER {}"


def translate(params: Mapping[str, Any], what: str) -> tuple[dict[str, Any], int | None]:
    """(options by our own names, context) of a `params` layer; `what` names the model in messages.

    Raises UnsupportedModel for a setting that changes answers and that slmkit does not have, CheckpointError for a
    value that is of the wrong type or out of bounds.
    """
    given = {key: value for key, value in params.items() if value is not None}
    options: dict[str, Any] = {}
    ctx: int | None = None
    for key, value in given.items():
        if key in NEUTRAL or key in ("repeat_last_n", "penalize_newline"):
            continue
        if key in ABSENT:
            if isinstance(value, bool) or value not in ABSENT[key]:
                raise _refused(what, key, value, f"{key} {ABSENT[key][0]}")
        elif key == "repeat_penalty":
            options |= _repetition(given, what)
        elif key == "num_ctx":
            ctx = _whole(what, key, value)
        elif key in _CONVERTED:
            options |= _CONVERTED[key](what, key, value)
        else:
            raise UnsupportedModel(
                f"{what} has the parameter {shown(key)} = {shown(value)}, which slmkit does not know and so cannot "
                "honour; make a variant of the model without it by `ollama create`"
            )
    if ctx is not None and ctx < 1:
        raise CheckpointError(f"{what} has num_ctx = {ctx}; a context of 1 token or more is needed")
    try:
        return Options(**options).set_values(), ctx
    except OptionError as error:
        raise CheckpointError(f"the parameters of {what} cannot be used: {error}") from None


def _repetition(given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Ollama looks back at the last repeat_last_n tokens: 64 unless told; 0: none, -1: all."""
    penalty, back = given["repeat_penalty"], _whole(what, "repeat_last_n", given.get("repeat_last_n", 64))
    if isinstance(penalty, bool) or not isinstance(penalty, (int, float)):
        raise CheckpointError(f"{what} has repeat_penalty = {shown(penalty)}; a number is needed")
    if penalty == 1 or back == 0:
        return {}
    if given.get("penalize_newline") is False:
        raise _refused(what, "penalize_newline", False, "penalize_newline true")
    return {"repetition_penalty": penalty} | ({"repetition_window": back} if back != -1 else {})


def _whole(what: str, key: str, value: Any) -> int:
    """JSON writers turn whole numbers into 64.0 at times."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise CheckpointError(f"{what} has {key} = {shown(value)}; a whole number is needed")
    return value


def _limit(what: str, key: str, value: Any) -> dict[str, Any]:
    """num_predict: -1, -2 and 0 are "until it ends by itself or the context is full", as it is here without a limit."""
    limit = _whole(what, key, value)
    return {"max_tokens": limit} if limit > 0 else {}


def _seed(what: str, key: str, value: Any) -> dict[str, Any]:
    seed = _whole(what, key, value)
    return {"seed": seed} if seed != -1 else {}  # -1: another one each time


def _top_k(what: str, key: str, value: Any) -> dict[str, Any]:
    return {"top_k": max(0, _whole(what, key, value))}  # 0 and below: all of them


def _share(what: str, key: str, value: Any) -> dict[str, Any]:
    """Ollama cuts top_p and min_p to 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise CheckpointError(f"{what} has {key} = {shown(value)}; a number is needed")
    return {key: min(max(value, 0.0), 1.0)}


def _temperature(what: str, key: str, value: Any) -> dict[str, Any]:
    return {key: value}


def _stop(what: str, key: str, value: Any) -> dict[str, Any]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise CheckpointError(f"{what} has stop = {shown(value)}; a list of texts is needed")
    return {key: texts}


_CONVERTED: Mapping[str, Callable[[str, str, Any], dict[str, Any]]] = {
    "temperature": _temperature,
    "stop": _stop,
    "num_predict": _limit,
    "seed": _seed,
    "top_k": _top_k,
    "top_p": _share,
    "min_p": _share,
}


def _refused(what: str, key: str, value: Any, off: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{what} has the parameter {key} = {shown(value)}, which slmkit does not have; {_WITHOUT.format(off)}"
    )
