"""The options of a request and of loading a model: one list that feeds Python, command line and HTTP.

None means "the checkpoint's own default" (its generation_config), and after that the value in `FALLBACKS`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any

from slmkit.errors import OptionError
from slmkit.untrusted import shown


def option(
    help: str,
    kind: type,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    many: bool = False,
    default: Any = None,
) -> Any:
    """A dataclass field that carries what every surface needs: a sentence, a type, bounds or choices."""
    metadata = {"help": help, "kind": kind, "low": low, "high": high, "choices": choices, "many": many}
    return field(default=default, metadata=metadata)


MOST_LOGPROBS = 1000  # alternatives of a token that can be asked for


class Checked:
    """A dataclass of options, whose values are checked and put into their own types as it is made."""

    def __post_init__(self) -> None:
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if value is not None and f.metadata:
                object.__setattr__(self, f.name, check(f, value))


@dataclass(frozen=True)
class Options(Checked):
    """How one request is answered."""

    max_tokens: int | None = option("most tokens to generate", int, low=1)
    temperature: float | None = option("randomness; 0 always takes the likeliest token", float, 0, 100)
    top_k: int | None = option("sample among the k likeliest tokens; 0 is all of them", int, 0)
    top_p: float | None = option("sample among the likeliest tokens that hold this much probability", float, 0, 1)
    min_p: float | None = option("drop tokens less likely than this fraction of the likeliest", float, 0, 1)
    repetition_penalty: float | None = option(
        "divide the logits of tokens seen so far, prompt included", float, 0.01, 100
    )
    repetition_window: int | None = option("how many of the last tokens that looks at; 0 is all of them", int, low=0)
    presence_penalty: float | None = option("subtract from the logits of tokens generated so far", float, -100, 100)
    frequency_penalty: float | None = option("subtract for each time a token was generated so far", float, -100, 100)
    logit_bias: Mapping[int, float] | None = option("token id -> number added to its logit", dict)
    seed: int | None = option("makes sampling repeatable", int, 0, 2**64 - 1)
    stop: tuple[str, ...] | None = option("text that ends the answer; it is not part of it", str, many=True)
    stop_ids: tuple[int, ...] | None = option(
        "token ids that end the answer, besides the model's own", int, 0, many=True
    )
    ignore_eos: bool | None = option("go on past the model's own stop tokens", bool)
    n: int | None = option("number of answers", int, 1, 256)
    beams: int | None = option("beam search with so many beams; 1 is off", int, 1, 64)
    length_penalty: float | None = option("beam scores are divided by length to this power", float, -10, 10)
    speculate: int | None = option(
        "guess so many tokens ahead where the text repeats itself, and check them in one step, which changes no answer;"
        " 0 is off, default is as many as pay", int, 0, 16)  # fmt: skip
    num_crops: int | None = option(
        "most crops of an image, beside the view of the whole; default is the model's own", int, 1, 64
    )
    adapter: str | None = option(
        "the adapter that answers: the name that it was loaded under, on the command line also its folder or hub "
        "repository; none is the model alone", str)  # fmt: skip
    logprobs: int | None = option(
        "report each token's log probability and this many alternatives", int, 0, MOST_LOGPROBS
    )

    def over(self, defaults: Options) -> Options:
        """These options where set, the defaults elsewhere."""
        return replace(defaults, **{k: v for k, v in vars(self).items() if v is not None})

    def set_values(self) -> dict[str, Any]:
        """Only the options that were set."""
        return {k: v for k, v in asdict(self).items() if v is not None}


MOST_ITEMS = 1000  # of one option: each stop text is looked for in every character of an answer
LONGEST_ITEM = 10_000  # characters
MOST_BIAS = 1e6  # far beyond any logit, and far from where float32 ends
QUANTIZATIONS = ("q4", "q8", "none")
CACHE_TYPES = ("auto", "q8", "f16", "f32")
KERNELS = ("auto", "avx512", "avx2", "scalar", "reference")


@dataclass(frozen=True)
class LoadOptions(Checked):
    """How a model is loaded."""

    threads: int | None = option("processor threads; default is one for each core", int, 1, 1024)
    ctx: int | None = option("context in tokens; default is the smaller of the model's and what fits in memory", int, 1)
    quantize: str | None = option(
        "weights of a folder loaded directly; default q4, or q8 under 200 M weights", str, choices=QUANTIZATIONS
    )
    cache: str | None = option(
        "numbers of the key-value cache; auto is f32 with plain weights, f16 with q8, q8 (8 bits) with others",
        str,
        choices=CACHE_TYPES,
    )
    kernels: str | None = option("kernel set; default is the best this processor has", str, choices=KERNELS)
    memory: str | None = option(
        "most memory to use, such as 16GB; experts beyond it are read from disk when a token needs them; default is "
        "what is free", str)  # fmt: skip
    offline: bool | None = option("use only what is on this machine; fetch nothing", bool)
    adapters: Mapping[str, str] | None = option(
        "LoRA adapters to load, each a name and its folder or its repository on the hub; default is the one that "
        "answers where no other is chosen", Mapping)  # fmt: skip
    private_urls: bool | None = option("fetch images also from addresses of this machine and its network", bool)
    prompt_cache: str | None = option(
        "file that keeps what was read of a prompt and its answer: the next run that begins with the same tokens does "
        "not read them again; it is made if it is missing", str)  # fmt: skip
    prompt_store_mb: int | None = option(
        "most megabytes for long system prompts that are kept by themselves for the next run; 0 keeps none, default is "
        "4000", int, 0)  # fmt: skip
    device: str | None = option(
        "what another runtime runs the model on, such as cpu, cuda, gpu, npu or qnn; default is what the runtime or "
        "the model's files say; slmkit's own engine has the processor alone", str)  # fmt: skip
    queue: int | None = option("most requests under way or waiting; one more is refused; default is 256", int, 1)
    fallback: str | None = option(
        "where a server or cloud has the model no longer, or nobody answers: local runs the same model on this "
        "machine, and says so; default is to fail", str, choices=("local",))  # fmt: skip


def check(f: Field[Any], value: Any) -> Any:
    """The value in the field's own type, or OptionError in one sentence."""
    meta = f.metadata
    if meta["many"]:
        items = tuple(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else (value,)
        if len(items) > MOST_ITEMS:
            raise OptionError(f"{f.name} has {len(items)} entries; it takes {MOST_ITEMS} at most")
        return tuple(_check_one(f.name, meta, item) for item in items)
    return _check_one(f.name, meta, value)


def _check_one(name: str, meta: Mapping[str, Any], value: Any) -> Any:
    kind, low, high = meta["kind"], meta["low"], meta["high"]
    if kind is dict:
        return _check_bias(name, value)
    if kind is Mapping:
        return _check_places(name, value)
    value = _plain(kind, value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise OptionError(f"{name} is {shown(value)}; it takes {_a(kind)}")
    if kind is float and not math.isfinite(value):
        raise OptionError(f"{name} is {value}; it takes a finite number{_bounds(low, high)}")
    if (low is not None and value < low) or (high is not None and value > high):
        raise OptionError(f"{name} is {shown(value)}; it takes {_a(kind)}{_bounds(low, high)}")
    if meta["choices"] and value not in meta["choices"]:
        raise OptionError(f"{name} is {shown(value)}; it takes one of {', '.join(meta['choices'])}")
    if kind is str and meta["many"] and len(value) > LONGEST_ITEM:
        raise OptionError(f"{name} holds a text of {len(value)} characters; it takes {LONGEST_ITEM} at most")
    if kind is str and meta["many"] and not value:
        raise OptionError(f"{name} holds an empty text, which would end every answer at once; leave it out")
    return value


def _check_bias(name: str, value: Any) -> dict[int, float]:
    try:
        given = dict(value)
        bias = {int(k): float(v) for k, v in given.items()}
        if len(bias) < len(given) or not all(_is_id(k) for k in given):
            raise ValueError  # 1.5 is no id, "1_0" none to anyone else, and "1" beside 1 would lose one of them
    except (TypeError, ValueError, OverflowError):
        raise OptionError(f"{name} is {shown(value)}; it takes pairs of a token id and a number") from None
    for k, v in bias.items():
        if k < 0 or not (v == -math.inf or abs(v) <= MOST_BIAS):
            raise OptionError(
                f"{name} has {v} for token {k}; ids are 0 or more, values from {-MOST_BIAS:g} to {MOST_BIAS:g}, "
                "or -inf, which bans the token"
            )
    return bias


def _is_id(key: Any) -> bool:
    """Whether it is a whole number, or one in digits as JSON has it for a key."""
    if isinstance(key, str):
        return key.removeprefix("-").isdecimal() and key.isascii()
    return isinstance(key, Integral) and not isinstance(key, bool)


def _check_places(name: str, value: Any) -> dict[str, str]:
    """Names and the places they stand for; one place alone is the default."""
    given = {"default": value} if isinstance(value, (str, os.PathLike)) else value
    try:
        places = {key: os.fspath(place) for key, place in dict(given).items()}
    except (TypeError, ValueError):
        places = {"": ""}
    for key, place in places.items():
        if not isinstance(key, str) or not isinstance(place, str) or not key.strip() or not place.strip():
            raise OptionError(f"{name} is {shown(value)}; it takes pairs of a name and a folder or hub repository")
        if key == "none" or not key.isprintable():
            raise OptionError(f"{name} has the name {shown(key)}; none means no adapter: give another name")
    return places


def _plain(kind: type, value: Any) -> Any:
    """Whole numbers and numbers of other libraries, such as NumPy's, as Python's own."""
    if isinstance(value, bool):
        return value
    if kind is int and isinstance(value, Integral):
        return int(value)
    if kind is float and isinstance(value, Real):
        return _float(value)
    return value


def _float(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return math.inf


def _a(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(kind, kind.__name__)


def _bounds(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {bound(low)} to {bound(high)}"
    return f" of {bound(low)} or more" if low is not None else ""


def bound(number: float) -> str:
    """A bound as people write it."""
    return "2^64-1" if number == 2**64 - 1 else f"{number:g}"


FALLBACKS = Options(
    temperature=0.0,
    top_k=0,
    top_p=1.0,
    min_p=0.0,
    repetition_penalty=1.0,
    repetition_window=0,
    presence_penalty=0.0,
    frequency_penalty=0.0,
    stop=(),
    stop_ids=(),
    ignore_eos=False,
    n=1,
    beams=1,
    length_penalty=1.0,
)
