"""`slm serve` as a process of its own: what it prints, refuses and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from live_server import serving


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_what_is_loaded_and_ends_with_0(end):
    with serving() as (process, url):
        assert process.stdout is not None
        assert process.stdout.readline() == "  tiny: loaded, context 512 tokens\n"
        assert httpx.get(f"{url}/v1/models").status_code == 200
        process.send_signal(end)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out) == (0, "")
        (logged,) = map(json.loads, err.splitlines())
        assert (logged["path"], logged["status"]) == ("/v1/models", 200)


def test_a_port_in_use_is_one_sentence_that_names_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "slmkit", "serve", "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("slm: ")
    assert f"port {port} of 127.0.0.1 is in use" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("host", ["nosuch.invalid", "127.0.0.1:99999", "http://"])
def test_an_address_that_is_none_is_one_sentence(host):
    command = [sys.executable, "-m", "slmkit", "serve", "--host", host]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_the_address_may_come_from_the_environment_as_clients_write_it():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {**os.environ, "SLMKIT_HOST": f"http://127.0.0.1:{port}"}
    command = [sys.executable, "-m", "slmkit", "serve", "--ctx", "512"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"listening on http://127.0.0.1:{port}\n"
    finally:
        process.kill()
        process.communicate()


def test_what_is_under_way_is_finished_and_what_is_new_is_refused():
    with serving() as (process, url):
        told, lines = threading.Event(), []

        def ask() -> None:
            options = {"num_predict": 400, "stop": ["\x00"], "temperature": 1.0, "seed": 1}
            body = {"model": "tiny", "prompt": "Once", "raw": True, "options": options}
            with httpx.stream("POST", f"{url}/api/generate", json=body, timeout=60) as reply:
                for line in reply.iter_lines():
                    lines.append(json.loads(line))
                    told.set()

        asking = threading.Thread(target=ask)
        with httpx.Client(base_url=url) as other:
            other.get("/v1/models")  # a connection that is there already
            asking.start()
            assert told.wait(20)
            process.send_signal(signal.SIGTERM)
            refused = None
            while asking.is_alive() and refused is None:
                reply = other.get("/v1/models")
                refused = reply if reply.status_code == 503 else None
        asking.join()
        assert lines[-1]["done"] is True
        process.communicate(timeout=20)
        assert process.returncode == 0
        assert refused is not None
        assert int(refused.headers["retry-after"]) >= 1
        assert "being stopped" in refused.json()["error"]["message"]


def test_what_takes_too_long_is_ended_in_the_end():
    with serving("--drain", "0.2") as (process, url):
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as half:
            half.sendall(
                b"POST /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"
            )  # and never a body
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
        assert process.returncode == 0
