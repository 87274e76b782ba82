"""Speed of a model as its user sees it, beside the machine's limits measured in the same run."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import psutil

from slmkit.bench.limits import Limits, measure_limits, median_limits
from slmkit.errors import RequestError
from slmkit.events import Finished
from slmkit.model import Model
from slmkit.options import Options
from slmkit.request import Request

if sys.platform != "win32":
    import resource

Report = Callable[[str], None]


@dataclass(frozen=True)
class Rate:
    """Figures of several runs: the median and the best, and the share of the machine's limit in the same run.

    of_limit: median over the runs of (work done per second) / (limit measured beside that run); None without kernels.
    """

    median: float
    best: float
    of_limit: float | None

    @classmethod
    def of(cls, values: Sequence[float], shares: Sequence[float]) -> Rate:
        """From one value a run, and one share where the limits are known."""
        return cls(statistics.median(values), max(values), statistics.median(shares) if shares else None)


@dataclass(frozen=True)
class Guessing:
    """The same answer with speculation, which guesses tokens ahead where it pays.

    speedup: median over the runs of the time for the tokens after the first, without it and with it.
    drafted, accepted: tokens guessed in all runs, and those that came true.
    """

    decode: float
    speedup: float
    drafted: int
    accepted: int

    @classmethod
    def of(cls, tokens: int, without: Sequence[Run], with_: Sequence[Run]) -> Guessing:
        """From the runs of an answer of so many tokens, in pairs."""
        return cls(
            decode=statistics.median((tokens - 1) / run.rest_s for run in with_),
            speedup=statistics.median(a.rest_s / b.rest_s for a, b in zip(without, with_, strict=True)),
            drafted=sum(run.drafted for run in with_),
            accepted=sum(run.accepted for run in with_),
        )


@dataclass(frozen=True)
class Result:
    """What `slm bench` found. Rates are tokens/s; decode is without speculation."""

    model: dict[str, Any]
    prompt_tokens: int
    tokens: int
    runs: int
    load_s: float
    first_token_s: float
    prefill: Rate
    decode: Rate
    guessing: Guessing
    peak_bytes: int
    limits: Limits | None

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


@dataclass(frozen=True)
class Run:
    """Seconds of one answer: to its first token, and for all tokens after that.   drafted, accepted: as in Usage."""

    first_s: float
    rest_s: float
    drafted: int = 0
    accepted: int = 0


def bench(open_model: Callable[[], Model], prompt_tokens: int, tokens: int, runs: int, report: Report) -> Result:
    """Open a model and time it: one warm-up, then `runs` times the limits, an answer, and the same with speculation.

    prompt_tokens: length of the measured prompt, of arbitrary ids.   tokens: length of the answer, at least 2.
    Raises RequestError if both do not fit the context.
    """
    if prompt_tokens < 1 or tokens < 2 or runs < 1:
        raise RequestError(
            f"prompt tokens, tokens and runs are {prompt_tokens}, {tokens} and {runs}; at least 1, 2 and 1 are needed, "
            "as the speed of decoding is measured from the first token to the last"
        )
    report("loading")
    began = time.perf_counter()
    with open_model() as model:
        load_s = time.perf_counter() - began
        report("warming up")
        _time(model, _request(model, prompt_tokens, tokens, 0))
        peak_bytes = peak_memory()  # now: measuring the limits takes half a gigabyte of its own
        limits: list[Limits | None] = []
        timed: list[Run] = []
        guessed: list[Run] = []
        for i in range(runs):
            report(f"run {i + 1} of {runs}: the machine's limits, then {prompt_tokens} + {tokens} tokens")
            limits.append(measure_limits())
            timed.append(_time(model, _request(model, prompt_tokens, tokens, 2 * i + 1)))
            guessed.append(_time(model, _with_guesses(_request(model, prompt_tokens, tokens, 2 * i + 2))))
        return _result(model.describe(), prompt_tokens, tokens, load_s, peak_bytes, timed, guessed, limits)


def _request(model: Model, prompt_tokens: int, tokens: int, number: int) -> Request:
    """One of a number of its own begins with an id of its own: what others have read is of no use to it."""
    vocabulary = model.describe()["vocabulary"]
    ids = tuple((i * 7919 + 13 + number) % vocabulary for i in range(prompt_tokens))
    options = Options(max_tokens=tokens, ignore_eos=True, temperature=0.0, repetition_penalty=1.0, speculate=0)
    return Request(ids=ids, options=options)


def _with_guesses(request: Request) -> Request:
    return replace(request, options=replace(request.options, speculate=None))


def _time(model: Model, request: Request) -> Run:
    """By the engine's own stamps: a reader on another thread may wake late and find several tokens at once."""
    (end,) = (event for event in model.events(request) if isinstance(event, Finished))
    timing, usage = end.timing, end.usage
    rest_s = timing.total_s - timing.first_token_s
    return Run(timing.first_token_s, rest_s, usage.drafted_tokens, usage.accepted_tokens)


def _result(
    facts: dict[str, Any],
    prompt_tokens: int,
    tokens: int,
    load_s: float,
    peak_bytes: int,
    timed: list[Run],
    guessed: list[Run],
    limits: list[Limits | None],
) -> Result:
    prefill = [prompt_tokens / run.first_s for run in timed]
    decode = [(tokens - 1) / run.rest_s for run in timed]
    token_bytes = facts["token_bytes"] + facts["cache_bytes_per_token"] * (prompt_tokens + tokens / 2)
    seen = facts["attention_macs"] * (prompt_tokens + 1) / 2  # a query at position i sees i + 1 keys
    prompt_macs = facts["layer_macs"] + seen + facts["head_macs"] / prompt_tokens
    return Result(
        model=facts,
        prompt_tokens=prompt_tokens,
        tokens=tokens,
        runs=len(timed),
        load_s=load_s,
        first_token_s=statistics.median(run.first_s for run in timed),
        prefill=Rate.of(
            prefill, [v * prompt_macs / x.int8_macs_per_s for v, x in zip(prefill, limits, strict=True) if x]
        ),
        decode=Rate.of(
            decode, [v * token_bytes / x.read_bytes_per_s for v, x in zip(decode, limits, strict=True) if x]
        ),
        guessing=Guessing.of(tokens, timed, guessed),
        peak_bytes=peak_bytes,
        limits=median_limits(limits),
    )


def peak_memory() -> int:
    """Most memory this process has held, bytes, mapped weights included."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
