"""Options by Ollama's names, as requests and Modelfiles give them, in our own.

What is asked for is done, is known to change no answer, or is refused by name. weights/ollama/options.py reads what
Ollama's store holds, where a model's maker and not the caller is to be told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from slmkit.errors import OptionError
from slmkit.options import Options
from slmkit.untrusted import shown
from slmkit.weights.ollama.options import ABSENT, NEUTRAL

WINDOW = 64  # tokens that Ollama's repetition penalty looks back at unless told
_OFF = {name: values for name, values in ABSENT.items() if not name.endswith("_penalty")}
_OWN_NAMES = ("temperature", "min_p", "top_p", "presence_penalty", "frequency_penalty")
KNOWN = (
    *_OWN_NAMES, "top_k", "seed", "stop", "num_predict", "num_ctx", "repeat_penalty", "repeat_last_n",
    "penalize_newline", *_OFF, *sorted(NEUTRAL),
)  # fmt: skip
# Ours by Ollama's names; our other options have none.
_THEIRS = {name: name for name in (*_OWN_NAMES, "top_k", "seed", "stop")} | {
    "max_tokens": "num_predict", "repetition_penalty": "repeat_penalty", "repetition_window": "repeat_last_n",
}  # fmt: skip
_LISTS, _FLAGS = {"stop"}, {"penalize_newline", "use_mmap", "use_mlock", "low_vram", "numa", "f16_kv", "vocab_only",
                            "logits_all", "embedding_only"}  # fmt: skip


def parameters(given: Mapping[str, Any]) -> tuple[Options, int | None]:
    """The options, and the context that is asked for (num_ctx).   Raises OptionError, which names what is at fault."""
    set_ = {name: value for name, value in given.items() if value is not None}
    options: dict[str, Any] = {}
    for name, value in set_.items():
        if name in _OFF:
            _require_off(name, value)
        elif name == "penalize_newline":
            if value is not True:
                raise OptionError("penalize_newline false is not supported; leave it out")
        elif name in _OWN_NAMES:
            options[name] = value
        elif name in _CONVERTED:
            options |= _CONVERTED[name](name, value)
        elif name in NEUTRAL:
            _require_plain(name, value)
        elif name not in ("num_ctx", "repeat_penalty", "repeat_last_n"):
            raise OptionError(f"there is no option {shown(name)}; known are {', '.join(KNOWN[:12])}")
    options |= _repetition(set_)
    ctx = _whole("num_ctx", set_["num_ctx"]) if "num_ctx" in set_ else None
    if ctx is not None and ctx < 1:
        raise OptionError(f"num_ctx is {ctx}; it takes a whole number of 1 or more")
    return Options(**options), ctx


def ollama_options(options: Options, window: int = 0) -> dict[str, Any]:
    """The options that are set and have a name of Ollama's, by it: what `parameters` reads as the same options.

    window: tokens that the repetition penalty looks at where the options do not say; 0 is all of them.
    """
    set_ = options.set_values()
    found = {theirs: set_[ours] for ours, theirs in _THEIRS.items() if ours in set_}
    if options.repetition_window is not None or options.repetition_penalty is not None:
        found["repeat_last_n"] = (window if options.repetition_window is None else options.repetition_window) or -1
    return found


def unnamed(options: Options) -> list[str]:
    """Our names of options that are set and that Ollama has no name for."""
    return [name for name in options.set_values() if name not in _THEIRS]


def typed(name: str, text: str) -> Any:
    """The value of a Modelfile's line, in the type that the name has; what cannot be read stays text.

    A name that may be given several times has a list.
    """
    if name in _LISTS:
        return [text]
    if name in _FLAGS:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _repetition(given: Mapping[str, Any]) -> dict[str, Any]:
    """Ollama looks back at the last repeat_last_n tokens: 64 unless told; 0: none, -1: all."""
    found: dict[str, Any] = {}
    back = _whole("repeat_last_n", given["repeat_last_n"]) if "repeat_last_n" in given else None
    if back is not None and back < -1:
        raise OptionError(
            f"repeat_last_n is {back}; it takes a number of tokens, 0 for no penalty or -1 for all of them"
        )
    if back == 0:
        return {"repetition_penalty": 1.0}
    if "repeat_penalty" in given:
        found = {"repetition_penalty": given["repeat_penalty"], "repetition_window": WINDOW}
        if isinstance(given["repeat_penalty"], bool) or not isinstance(given["repeat_penalty"], (int, float)):
            raise OptionError(f"repeat_penalty is {shown(given['repeat_penalty'])}; it takes a number from 0.01 to 100")
    if back is not None:
        found["repetition_window"] = max(back, 0)
    return found


def _whole(name: str, value: Any) -> int:
    """JSON writers turn whole numbers into 64.0 at times."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise OptionError(f"{name} is {shown(value)}; it takes a whole number")
    return value


def _limit(name: str, value: Any) -> dict[str, Any]:
    """-1, -2 and 0: until it ends by itself or the context is full, as it is here without a limit."""
    limit = _whole(name, value)
    if limit < -2:
        raise OptionError(f"{name} is {limit}; it takes a number of tokens, or -1 for as many as come")
    return {"max_tokens": limit} if limit > 0 else {}


def _seed(name: str, value: Any) -> dict[str, Any]:
    seed = _whole(name, value)
    return {"seed": seed} if seed != -1 else {}  # -1: another one each time


def _top_k(name: str, value: Any) -> dict[str, Any]:
    return {name: max(0, _whole(name, value))}  # 0 and below: all of them


def _stop(name: str, value: Any) -> dict[str, Any]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise OptionError(f"{name} is {shown(value)}; it takes a list of texts")
    return {name: tuple(texts)}


_CONVERTED: Mapping[str, Callable[[str, Any], dict[str, Any]]] = {
    "num_predict": _limit,
    "seed": _seed,
    "top_k": _top_k,
    "stop": _stop,
}


def _require_plain(name: str, value: Any) -> None:
    """What changes no answer is still written down with a model, in JSON."""
    if not isinstance(value, (str, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        raise OptionError(f"{name} is {shown(value)}; it takes a finite number, a text, or true or false")


def _require_off(name: str, value: Any) -> None:
    if isinstance(value, bool) or value not in _OFF[name]:
        raise OptionError(
            f"{name} is {shown(value)}, and slmkit does not have it; leave it out, or set {_OFF[name][0]}"
        )
