"""What Prometheus reads: each figure once, shown under the names that dashboards of NIM and of vLLM look for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.responses import Response

from slmkit.events import Chunk, Event, Finished, Started
from slmkit.model import Model
from slmkit.server import record

MODEL = "model_name"
REASON = "finished_reason"
OTHER = "other"  # what labels say once there are MOST_LABELS values of one
MOST_LABELS = 100
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_TOKENS = tuple(float(unit * 10**power) for power in range(6) for unit in (1, 2, 5))
_FIRST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160)
_EACH = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
_WHOLE = (0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960)

# Of vLLM where it is not `vllm:` before NIM's own name.
VLLM: dict[str, tuple[str, ...]] = {
    "gpu_cache_usage_perc": ("vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc"),
    "time_per_output_token_seconds": ("vllm:time_per_output_token_seconds", "vllm:inter_token_latency_seconds"),
    "request_finish": ("vllm:request_success",),
    "num_request_max": (),
    "http_requests": (),
    "http_request_duration_seconds": (),
}

# What Model.stats() counts: name here -> field, what it is.
COUNTED = {
    "num_preemptions": ("preemptions", "Times that a sequence gave its cache back and was read again"),
    "prefix_cache_queries": ("prompt_tokens", "Tokens of prompts looked up among those read before"),
    "prefix_cache_hits": ("reused_tokens", "Tokens of prompts that were not read again"),
    "engine_steps": ("steps", "Steps of the engine"),
}


class Metrics:
    """Counts of one server, in a registry of its own.

    loaded: gives each loaded model by its name.   most: requests under way or waiting of one model.
    """

    def __init__(self, loaded: Callable[[], Iterable[tuple[str, Model]]], most: int) -> None:
        self._loaded, self._most = loaded, most
        self._registry = registry = CollectorRegistry()
        self._models: set[str] = set()

        def histogram(name: str, help: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, help, [MODEL], buckets=buckets, registry=registry)

        self.first_token = histogram("time_to_first_token_seconds", "Until the first token of an answer", _FIRST)
        self.each_token = histogram("time_per_output_token_seconds", "From one token to the next", _EACH)
        self.whole = histogram("e2e_request_latency_seconds", "From a request to the end of its answer", _WHOLE)
        self.request_prompt = histogram("request_prompt_tokens", "Tokens of a prompt", _TOKENS)
        self.request_answer = histogram("request_generation_tokens", "Tokens of an answer", _TOKENS)
        self.prompt = Counter("prompt_tokens", "Tokens of prompts", [MODEL], registry=registry)
        self.answer = Counter("generation_tokens", "Tokens of answers", [MODEL], registry=registry)
        self.finish = Counter("request_finish", "Answers, by what ended them", [MODEL, REASON], registry=registry)
        self.http = Counter("http_requests", "HTTP responses", ["handler", "method", "status"], registry=registry)
        self.http_seconds = Histogram(
            "http_request_duration_seconds",
            "Of HTTP requests",
            ["handler", "method"],
            buckets=_WHOLE,
            registry=registry,
        )

    def label(self, model: str) -> str:
        """The model as labels call it: no more than so many names, whatever clients make up."""
        if model not in self._models and len(self._models) >= MOST_LABELS:
            return OTHER
        self._models.add(model)
        return model

    def request(self, model: str) -> Watch:
        """A look at one answer: `with metrics.request(id) as watch: watch.see(event)`."""
        return Watch(self, model)

    def note(self, done: record.Record) -> None:
        """Count an HTTP request that has ended. Its path is shown as the pattern of a route, so these are few."""
        method = done.method if done.method in METHODS else OTHER
        handler = done.route or OTHER
        self.http.labels(handler, method, str(done.status)).inc()
        self.http_seconds.labels(handler, method).observe(done.seconds)

    def collect(self) -> Iterator[Metric]:
        """Everything, under each of its names."""
        for metric in (*self._registry.collect(), *self._of_engines()):
            for name in (metric.name, *VLLM.get(metric.name, (f"vllm:{metric.name}",))):
                yield _named(metric, name)

    def _of_engines(self) -> Iterator[Metric]:
        """What only the engines know, asked of them now."""
        running = GaugeMetricFamily("num_requests_running", "Requests that are being answered", labels=[MODEL])
        waiting = GaugeMetricFamily("num_requests_waiting", "Requests that wait for their turn", labels=[MODEL])
        cache = GaugeMetricFamily("gpu_cache_usage_perc", "Part of the key-value cache in use, 0 to 1", labels=[MODEL])
        most = GaugeMetricFamily("num_request_max", "Most requests under way or waiting", labels=[MODEL])
        counted = {name: CounterMetricFamily(name, help, labels=[MODEL]) for name, (_, help) in COUNTED.items()}
        for name, model in self._loaded():
            label, stats = [self.label(name)], model.stats()
            most.add_metric(label, self._most)
            running.add_metric(label, stats.running)
            waiting.add_metric(label, stats.waiting)
            cache.add_metric(label, stats.blocks_used / max(1, stats.blocks))
            for key, (field, _) in COUNTED.items():
                counted[key].add_metric(label, getattr(stats, field))
        yield from (running, waiting, cache, most, *counted.values())


class Watch:
    """Counts what one answer is made of, and fills in the record of its HTTP request."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._metrics, self._label = metrics, metrics.label(model)
        self._record = record.current()
        self._record.model = model
        self._began = time.perf_counter()
        # found once: they are told of every token
        self._each, self._answer = metrics.each_token.labels(self._label), metrics.answer.labels(self._label)
        self._last: dict[int, float] = {}  # when each choice got its last token
        self._counted: dict[int, int] = {}  # and how many it has
        self._finish = "abort"

    def see(self, event: Event) -> None:
        """An event of the answer, as it passes."""
        metrics, label = self._metrics, self._label
        if isinstance(event, Chunk):
            self._tokens(event.index, len(event.tokens))
        elif isinstance(event, Finished):
            n = event.usage.completion_tokens
            self._tokens(event.index, n - self._counted.get(event.index, 0))
            metrics.request_answer.labels(label).observe(n)
            metrics.finish.labels(label, event.reason).inc()
            self._finish = event.reason
        elif isinstance(event, Started):
            self._record.prompt_tokens += event.prompt_tokens
            metrics.prompt.labels(label).inc(event.prompt_tokens)
            metrics.request_prompt.labels(label).observe(event.prompt_tokens)

    def _tokens(self, index: int, n: int) -> None:
        if n <= 0:
            return
        now = time.perf_counter()
        if not self._last:
            self._metrics.first_token.labels(self._label).observe(now - self._began)
        if index in self._last:  # tokens that came together share the time
            for _ in range(n):
                self._each.observe((now - self._last[index]) / n)
        self._last[index] = now
        self._counted[index] = self._counted.get(index, 0) + n
        self._record.completion_tokens += n
        self._answer.inc(n)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, Exception):
            self._finish = "error"
        if self._finish in ("abort", "error"):
            self._metrics.finish.labels(self._label, self._finish).inc()
        self._record.finish = self._finish
        self._metrics.whole.labels(self._label).observe(time.perf_counter() - self._began)


def routes(metrics: Metrics) -> APIRouter:
    """GET /metrics and /v1/metrics."""
    router = APIRouter(include_in_schema=False)

    @router.get("/metrics")
    @router.get("/v1/metrics")
    def read() -> Response:
        return Response(generate_latest(metrics), media_type=CONTENT_TYPE)

    return router


def _named(metric: Metric, name: str) -> Metric:
    """The metric under a name; without the times at which its counters were made, which nobody asks for."""
    named = Metric(name, metric.documentation, metric.type)
    for sample in metric.samples:
        suffix = sample.name.removeprefix(metric.name)
        if suffix != "_created":
            named.add_sample(name + suffix, sample.labels, sample.value)
    return named
