"""The chat on a real pseudo-terminal, answered by a real `slm serve` that has the model loaded."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest

import slmkit
from live_server import serving
from slmkit.cli.conversation import load
from slmkit.errors import ContextExceeded
from vision_models import write_vision_model

pexpect = pytest.importorskip("pexpect")
pytest.importorskip("PIL")

TABLE = Path(__file__).parents[1] / "data" / "images" / "exceltable.png"
GREEDY = ("--temperature", "0", "--max-tokens", "6")
PROMPT = "\x1b[?2004h"  # pasting is bracketed from here on: sent once for each prompt, which is drawn at every key
STORY = "Tell me a story."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(write_vision_model(tmp_path_factory.mktemp("vision") / "seeing"))


@pytest.fixture
def chat(tmp_path):
    """chat(url, *argv): `slm run` that looks for a server there."""
    children = []

    def start(url, *argv):
        env = os.environ | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "SLMKIT_HOST": url, "COLUMNS": "200"}
        command = ["-m", "slmkit", "run", *argv]
        child = pexpect.spawn(
            sys.executable, command, env=env, encoding="utf-8", timeout=30, cwd=tmp_path, dimensions=(40, 300)
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.close(force=True)


def says(child, line: str, *expected: str) -> None:
    """Type a line; what is shown then, and the next prompt."""
    child.sendline(line)
    for text in expected:
        child.expect_exact(text)
    child.expect_exact(PROMPT)


def loaded(url: str, name: str) -> None:
    httpx.post(f"{url}/api/generate", json={"model": name}, timeout=60).raise_for_status()


def test_a_chat_is_answered_by_the_server_and_changes_models(chat, folder, tmp_path):
    with serving("tiny", folder, "--ctx", "1024") as (_, url):
        child = chat(url, "tiny", *GREEDY)
        child.expect_exact(f"slm: tiny is loaded in the server at {url}, which answers")
        child.expect_exact("slm: tiny, context 1024 tokens")
        child.expect_exact(PROMPT)
        says(child, STORY)
        says(child, "/adapter none", "tiny runs on a server, which lets no request choose an adapter")
        says(child, f"/image {TABLE}", "tiny reads text alone")
        says(child, "/model nosuch", "nosuch")
        says(child, "And then?")
        says(child, "/save tiny.json", "4 messages saved")
        loaded(url, "seeing")  # a name of the server's alone
        says(child, "/model seeing", f"seeing is loaded in the server at {url}, which answers", "seeing, context 1024")
        says(child, f"/image {TABLE}", "487 x 206 pixels")
        says(child, "what")
        says(child, "why")
        says(child, "/save seeing.json", "8 messages saved")
        says(child, f"/model {folder}", f"slm: {folder}, context")
        assert "which answers" not in child.before
        assert httpx.post(f"{url}/api/generate", json={"model": "seeing", "keep_alive": 0}, timeout=60).is_success
        says(child, "how")
        says(child, "/save here.json", "10 messages saved")
    for name, file in (("tiny", "tiny.json"), (folder, "seeing.json")):
        talk = load(tmp_path / file)
        with slmkit.load(name, ctx=1024) as model:
            expected = model.chat(talk[:-1], temperature=0, max_tokens=6).text
        assert talk[-1].content == expected != ""
    assert json.loads((tmp_path / "seeing.json").read_text())["messages"][4]["images"] == [str(TABLE)]


def test_a_chat_begins_with_an_image_for_the_server(chat, folder, tmp_path):
    with serving(folder, "--ctx", "1024") as (_, url):
        child = chat(url, "seeing", "-q", "--image", str(TABLE), *GREEDY)
        child.expect_exact(PROMPT)
        assert "which answers" not in child.before  # it is quiet
        says(child, "what")
        says(child, "/save talk.json", "2 messages saved")
    with slmkit.load(folder, ctx=1024) as model:
        expected = model.chat("what", images=[TABLE], temperature=0, max_tokens=6).text
    assert load(tmp_path / "talk.json")[-1].content == expected


def test_a_server_that_goes_away_is_one_line_and_the_talk_goes_on(chat, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with serving("tiny", "--port", port) as (process, url):
        child = chat(url, "tiny", *GREEDY)
        child.expect_exact(PROMPT)
        says(child, STORY)
        process.kill()
        process.wait()
        says(child, "And then?", f"slm: no server answers at {url} (", "`slm serve` starts one")
        says(child, "/save talk.json", "2 messages saved")
    with serving("tiny", "--port", port):
        says(child, "And then?")
        says(child, "/save talk.json", "4 messages saved")
    says(child, "/model tiny", "slm: tiny, context 1024 tokens")  # now in this process
    says(child, "And then?")
    says(child, "/save talk.json", "6 messages saved")


def n_connected(url: str) -> int:
    """How many connections to the server are open."""
    port = f":{int(url.rpartition(':')[2]):04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(port) and row[3] == "01" for row in rows)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/net/tcp tells when the chat waits")
def test_ctrl_c_stops_the_wait_for_the_first_token(chat):
    with serving("tiny") as (process, url):
        child = chat(url, "tiny", *GREEDY)
        child.expect_exact(PROMPT)
        process.send_signal(signal.SIGSTOP)
        child.sendline(STORY)
        until = time.monotonic() + 30
        while not n_connected(url) and time.monotonic() < until:
            time.sleep(0.01)
        child.sendcontrol("c")
        child.expect_exact("slm: stopped; this turn is not kept")
        child.expect_exact(PROMPT)
        assert n_connected(url) == 0
        process.send_signal(signal.SIGCONT)
        says(child, STORY, "Once upon")


def test_a_full_context_is_said_as_in_a_chat_of_this_process(chat):
    with serving("tiny", "--ctx", "64") as (_, url):
        child = chat(url, "tiny", *GREEDY)
        child.expect_exact(PROMPT)
        long = "a dog and " * 25
        with slmkit.load("tiny", ctx=64) as model, pytest.raises(ContextExceeded) as expected:
            model.chat(long.strip(), max_tokens=6)
        says(child, long.strip(), f"slm: {expected.value}; /clear starts over")


def test_what_the_api_cannot_say_is_chatted_here(chat):
    with serving("tiny") as (_, url):
        for flags in (("--parse-special",), ("--ignore-eos",), ("--ctx", "600"), ("--logprobs", "1")):
            child = chat(url, "tiny", *flags, *GREEDY)
            child.expect("slm: tiny, context ")
            assert "which answers" not in child.before
            child.close(force=True)
