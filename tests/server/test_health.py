"""What probes and dashboards ask, against a running server."""

from __future__ import annotations

import json
import logging
import threading
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from slow import SlowService

import slmkit
from live_server import running
from slmkit.options import LoadOptions
from slmkit.server import logs
from slmkit.server.metrics import MOST_LABELS, OTHER, VLLM, Metrics
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions

# as NIM documents them, and as vLLM does
NIM = [
    "gpu_cache_usage_perc",
    "num_requests_running",
    "num_requests_waiting",
    "num_request_max",
    "prompt_tokens",
    "generation_tokens",
    "time_to_first_token_seconds",
    "time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
    "request_finish",
]
VLLM_NAMES = [
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "vllm:prompt_tokens",
    "vllm:generation_tokens",
    "vllm:time_to_first_token_seconds",
    "vllm:time_per_output_token_seconds",
    "vllm:inter_token_latency_seconds",
    "vllm:e2e_request_latency_seconds",
    "vllm:request_prompt_tokens",
    "vllm:request_generation_tokens",
    "vllm:request_success",
    "vllm:num_preemptions",
    "vllm:prefix_cache_hits",
]


@pytest.fixture(scope="module")
def service():
    return Service(("tiny",), ServeOptions(log_prompts=False), LoadOptions(ctx=512))


@pytest.fixture(scope="module")
def client(service):
    with running(service) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def ask(client, text="Once upon a time", **fields):
    body = {
        "model": "tiny",
        "max_tokens": 7,
        "temperature": 0,
        "messages": [{"role": "user", "content": text}],
    } | fields
    return client.post("/v1/messages", json=body)


def metrics(client, path="/metrics"):
    """name -> {labels: value}, of every sample."""
    found = {}
    for family in text_string_to_metric_families(client.get(path).text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def families(client):
    return {family.name for family in text_string_to_metric_families(client.get("/metrics").text)}


def test_it_is_ready_once_a_model_is_loaded_and_until_it_drains(client, service):
    ready = client.get("/v1/health/ready")
    assert (ready.status_code, ready.json()["object"]) == (503, "health.response")
    assert client.get("/v1/health/live").status_code == 200
    assert client.get("/health").status_code == 200
    ask(client)
    ready = client.get("/v1/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"object": "health.response", "message": "Service is ready."})
    service.is_draining = True
    try:
        assert client.get("/v1/health/ready").status_code == 503
        assert client.get("/v1/health/live").status_code == 200
    finally:
        service.is_draining = False


def test_metadata_has_the_fields_of_nims(client):
    ask(client)
    metadata = client.get("/v1/metadata").json()
    assert set(metadata) == {
        "version", "assetInfo", "licenseInfo", "modelInfo", "selectedModelProfileId", "repository_override"
    }  # fmt: skip
    assert metadata["version"] == slmkit.__version__ == client.get("/v1/version").json()["release"]
    assert [model["shortName"] for model in metadata["modelInfo"]] == ["tiny"]
    assert set(metadata["licenseInfo"]) == {"name", "path", "sha"}
    assert "unknown" not in metadata["selectedModelProfileId"]


def test_metrics_have_the_names_of_nim_and_vllm(client):
    ask(client)
    there = families(client)
    assert set(NIM) <= there
    assert set(VLLM_NAMES) <= there
    assert client.get("/v1/metrics").status_code == 200
    assert set(VLLM) <= there


def test_metrics_count_what_was_answered(client):
    ask(client)
    model = (("model_name", "tiny"),)
    before = metrics(client)
    usage = ask(client, "A story", max_tokens=9).json()["usage"]
    after = metrics(client)

    def more(name, labels=model):
        return after[name][labels] - before[name].get(labels, 0)

    assert more("generation_tokens_total") == more("vllm:generation_tokens_total") == usage["output_tokens"] == 9
    assert more("prompt_tokens_total") == usage["input_tokens"] + usage["cache_read_input_tokens"]
    assert more("time_to_first_token_seconds_count") == 1
    assert more("time_per_output_token_seconds_count") == 8
    assert more("e2e_request_latency_seconds_count") == 1
    assert more("request_generation_tokens_sum") == 9
    length = (("finished_reason", "length"), *model)
    assert more("request_finish_total", length) == more("vllm:request_success_total", length) == 1
    http = (("handler", "/v1/messages"), ("method", "POST"), ("status", "200"))
    assert more("http_requests_total", http) == 1
    assert after["num_requests_running"][model] == 0


def test_an_answer_that_nobody_waits_for_is_counted_as_aborted():
    aborted = (("finished_reason", "abort"), ("model_name", "tiny"))
    body = {"model": "tiny", "max_tokens": 900, "stream": True, "messages": [{"role": "user", "content": "Long"}]}
    with running(SlowService()) as url, httpx.Client(base_url=url, timeout=60) as client:
        with client.stream("POST", "/v1/messages", json=body) as reply:
            next(reply.iter_lines())
        for _ in range(100):
            if metrics(client).get("request_finish_total") == {aborted: 1}:
                return
            time.sleep(0.02)
    pytest.fail("never counted")


def test_gauges_tell_what_the_engine_does_now():
    model = (("model_name", "tiny"),)
    body = {"model": "tiny", "max_tokens": 900, "stream": True, "messages": [{"role": "user", "content": "Long"}]}
    with running(SlowService()) as url, httpx.Client(base_url=url, timeout=60) as client:
        with client.stream("POST", "/v1/messages", json=body) as reply:
            lines = reply.iter_lines()  # held: httpx closes the connection with it, and the answer would end
            next(line for line in lines if "delta" in line)
            during = metrics(client)
        assert during["num_requests_running"][model] == during["vllm:num_requests_running"][model] == 1
        assert 0 < during["gpu_cache_usage_perc"][model] == during["vllm:kv_cache_usage_perc"][model] < 1
        assert during["vllm:prefix_cache_queries_total"][model] > 0
        for _ in range(100):
            after = metrics(client)
            if after["num_requests_running"][model] == after["gpu_cache_usage_perc"][model] == 0:
                return
            time.sleep(0.02)
    pytest.fail("the cache was never given back")


def test_labels_do_not_grow_with_what_clients_make_up(client):
    for n in range(20):
        client.get(f"/made/up/{n}")
        client.request(f"MADE{n}", "/v1/models")
        ask(client, model=f"made-up-{n}")
    labels = [dict(labels) for labels in metrics(client)["http_requests_total"]]
    assert {label["handler"] for label in labels if label["status"] == "404"} <= {OTHER, "/v1/messages"}
    assert not any(label["method"].startswith("MADE") for label in labels)
    assert "made-up" not in client.get("/metrics").text
    limited = Metrics(tuple, 1)
    assert len({limited.label(str(n)) for n in range(10 * MOST_LABELS)}) == MOST_LABELS + 1


def test_two_servers_of_one_process_count_apart(client):
    ask(client)
    with running(Service(("tiny",), ServeOptions(), LoadOptions(ctx=64))) as url, httpx.Client(base_url=url) as other:
        assert "generation_tokens_total" not in metrics(other)


@pytest.fixture
def lines(caplog):
    """The log's lines as they would be written, parsed."""
    caplog.set_level(logging.INFO, "slmkit")

    def wait(path, n=1):
        for _ in range(200):
            found = [json.loads(logs.Lines().format(record)) for record in list(caplog.records)]
            found = [line for line in found if line.get("path") == path]
            if len(found) >= n:
                return found
            time.sleep(0.01)
        raise AssertionError(f"no line for {path}")

    return wait


def test_a_line_of_the_log_says_what_happened_and_nothing_of_the_text(client, lines):
    reply = ask(client, "A secret of mine")
    (line,) = lines("/v1/messages")
    assert line["level"] == "info"
    assert (line["method"], line["status"], line["model"], line["finish"]) == ("POST", 200, "tiny", "length")
    assert (line["completion_tokens"], line["caller"]) == (7, "127.0.0.1")
    assert line["prompt_tokens"] > 0 < line["seconds"]
    assert line["request_id"] == reply.headers["x-request-id"] == reply.headers["request-id"]
    assert "secret" not in json.dumps(line)


def test_texts_are_logged_where_that_was_asked_for(lines):
    service = Service(("tiny",), ServeOptions(log_prompts=True), LoadOptions(ctx=256))
    with running(service) as url, httpx.Client(base_url=url, timeout=60) as client:
        text = ask(client, "A secret of mine").json()["content"][0]["text"]
    (line,) = lines("/v1/messages")
    assert line["text"] == ["user: A secret of mine", text]


@pytest.mark.parametrize(("given", "is_kept"), [("abc-1.2:3_", True), ("a b", False), ("x" * 200, False), ('"', False)])
def test_a_request_id_is_kept_if_it_is_sane(http, given, is_kept):
    reply = http.get("/health", headers={"x-request-id": given})
    assert (reply.headers["x-request-id"] == given) == is_kept


def test_keys_are_never_logged(tmp_path, lines, caplog):
    file = tmp_path / "keys"
    file.write_text("the-key-of-somebody\n")
    with running(Service(("tiny",), ServeOptions(api_keys=str(file)), LoadOptions())) as url:
        for key in ("the-key-of-somebody", "a-wrong-key"):
            httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"})
    right, wrong = lines("/v1/models", 2)
    assert (right["status"], right["caller"]) == (200, "key 1")
    assert (wrong["status"], wrong["caller"]) == (401, "127.0.0.1")
    written = "".join(logs.Lines().format(record) for record in caplog.records)
    assert "the-key" not in written
    assert "a-wrong-key" not in written


def test_metrics_are_read_while_answers_are_made(client):
    """From a thread of their own: nothing they walk through may change under them."""
    failed = []

    def read():
        for _ in range(20):
            reply = client.get("/metrics")
            if reply.status_code != 200:
                failed.append(reply.text)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(10):
        ask(client)
    for reader in readers:
        reader.join()
    assert not failed
