"""What can go wrong between the hub and the disk: each is one sentence, and no corrupt model is ever found."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from hub_server import Fault, HubServer, etag, hub_of_the_test
from slmkit.errors import AccessDenied, DownloadError, ModelNotFound, RequestError, SlmError, StorageError
from slmkit.weights.hub import api as hub_api
from slmkit.weights.hub import models as hub
from slmkit.weights.hub.layout import Repository, hub_folder
from slmkit.weights.names import HubRef

REPO = "owner/name"
REF = HubRef(REPO)
WEIGHTS = random.Random(4).randbytes(3_000_000)
MODEL = {
    "config.json": b'{"model_type": "phi3"}',
    "tokenizer.json": b'{"model": {}}' * 100,
    "model.safetensors": WEIGHTS,
}
BLOB = etag("model.safetensors", WEIGHTS)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with hub_of_the_test(monkeypatch, tmp_path) as server:
        server.add(REPO, MODEL)
        yield server


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that would have been."""
    pauses: list[float] = []
    monkeypatch.setattr(hub_api, "_sleep", pauses.append)
    return pauses


def partial() -> Path:
    return Repository.of(REPO).blobs / f"{BLOB}.incomplete"


def refused(error: type[SlmError], ref: HubRef = REF) -> str:
    """The sentence of a pull that fails, after which nothing is found."""
    with pytest.raises(error) as caught:
        hub.pull(ref)
    assert hub.find_cached(ref) is None
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 500
    return text


def pull_fully() -> None:
    path = hub.pull(REF).path
    assert {one.name: one.read_bytes() for one in path.iterdir()} == MODEL
    assert hub.find_cached(REF) == path


def test_a_dropped_connection_is_taken_up_where_it_broke(server: HubServer, slept: list[float]) -> None:
    server.faults["model.safetensors"] = [Fault(drop_after=1_000_000), Fault(drop_after=700_000)]
    pull_fully()
    ranges = [r.headers.get("range") for r in server.gets("model.safetensors") if r.sent]
    starts = [int(r.removeprefix("bytes=").rstrip("-")) for r in ranges[1:] if r]
    assert ranges[0] is None
    assert len(starts) == 2
    # A server's last packet may be lost with its connection; nothing is asked for twice otherwise.
    assert 900_000 <= starts[0] <= 1_000_000 < 1_500_000 <= starts[1] <= 1_700_000
    assert slept == [1.0]  # nothing before the second try, a second before the third


def test_a_connection_that_keeps_breaking_is_given_up_and_what_came_is_kept(
    server: HubServer, slept: list[float]
) -> None:
    server.faults["model.safetensors"] = [Fault(drop_after=200_000, times=None)]
    assert "4 times in a row; look at the network, then the same command goes on" in refused(DownloadError)
    assert slept == [1.0, 3.0]
    kept = partial().stat().st_size
    assert 500_000 < kept <= 800_000
    assert partial().read_bytes() == WEIGHTS[:kept]
    server.faults.clear()
    sent = server.sent()
    pull_fully()
    assert server.sent() - sent == len(WEIGHTS) - kept
    assert not partial().exists()


@pytest.mark.parametrize("left", [b"", WEIGHTS[:1_234_567], WEIGHTS, WEIGHTS + b"more", b"?" * 50_000])
def test_whatever_a_killed_pull_left_ends_in_the_right_file(server: HubServer, left: bytes) -> None:
    partial().parent.mkdir(parents=True)
    partial().write_bytes(left)
    pull_fully()
    good = left if left == WEIGHTS[: len(left)] else b""
    assert server.sent("model.safetensors") <= 2 * len(WEIGHTS) - len(good)
    if good:
        assert server.sent("model.safetensors") == len(WEIGHTS) - len(good)


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="the system cannot open without following links")
def test_a_link_in_the_place_of_what_arrives_is_not_written_through(server: HubServer, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    partial().parent.mkdir(parents=True)
    partial().symlink_to(precious)
    assert "could not be written" in refused(StorageError)
    assert precious.read_bytes() == b"mine"


def test_a_file_is_on_the_disk_before_it_gets_its_name(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power failure a blob must not have its name and lack its end."""
    synced: list[int] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), fsync(fd)))

    def checked(before: Any, after: Any) -> None:
        if str(before).endswith(".incomplete"):
            assert Path(before).stat().st_ino in synced
        replace(before, after)

    monkeypatch.setattr(os, "replace", checked)
    pull_fully()
    assert len(synced) >= len(MODEL)


def test_a_pull_killed_at_any_byte_is_gone_on_with(server: HubServer) -> None:
    hold = threading.Event()
    server.faults["model.safetensors"] = [Fault(drop_after=1_000_000, hold=hold)]
    code = "import slmkit.weights.hub.models as hub; hub.pull(hub.HubRef('owner/name'))"
    child = subprocess.Popen([sys.executable, "-c", code])
    wait_for(lambda: partial().exists() and partial().stat().st_size > 500_000)
    child.send_signal(signal.SIGKILL)
    assert child.wait(30) == -signal.SIGKILL
    hold.set()
    assert hub.find_cached(REF) is None
    there, sent = partial().stat().st_size, server.sent("model.safetensors")
    pull_fully()
    assert server.sent("model.safetensors") - sent == len(WEIGHTS) - there


def test_a_server_that_does_not_resume_is_read_from_the_beginning(server: HubServer) -> None:
    server.faults["model.safetensors"] = [Fault(drop_after=1_000_000), Fault(no_range=True)]
    pull_fully()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_wrong_bytes_are_removed_and_reported(server: HubServer, name: str) -> None:
    server.faults[name] = [Fault(wrong=True)]
    assert f"{name} of owner/name is not what the hub promised: its checksum is wrong" in refused(DownloadError)
    assert not list(Repository.of(REPO).blobs.glob(f"{etag(name, MODEL[name])}*"))
    pull_fully()


def test_what_a_killed_pull_left_wrong_is_fetched_once_more_before_it_is_an_error(server: HubServer) -> None:
    partial().parent.mkdir(parents=True)
    partial().write_bytes(b"?" * 50_000)
    server.faults["model.safetensors"] = [Fault(), Fault(wrong=True)]
    assert "checksum" in refused(DownloadError)


def test_more_than_was_promised_is_cut_off(server: HubServer) -> None:
    server.faults["model.safetensors"] = [Fault(length=len(WEIGHTS) + 1_000_000)]
    assert f"more of model.safetensors than the {len(WEIGHTS)} bytes" in refused(DownloadError)
    assert not partial().exists()
    server.faults["model.safetensors"] = [Fault(endless=True)]
    assert "more of model.safetensors" in refused(DownloadError)
    pull_fully()


def test_less_than_was_promised_is_asked_for_again(server: HubServer) -> None:
    server.faults["model.safetensors"] = [Fault(length=1_000_000)]
    pull_fully()
    assert server.sent("model.safetensors") == len(WEIGHTS)


def test_a_trickle_of_a_listing_counts_as_a_broken_connection(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_api, "_WINDOW", -1.0)
    monkeypatch.setattr(hub_api, "_LEAST_IN_WINDOW", 1 << 40)
    assert f"the hub's listing of {REPO}: fewer than {1 << 40} bytes came" in refused(DownloadError)


def test_a_trickle_of_a_file_counts_as_a_broken_connection(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = hub.plan
    monkeypatch.setattr(hub, "plan", lambda ref: (plan(ref), monkeypatch.setattr(hub_api, "_WINDOW", -1.0))[0])
    monkeypatch.setattr(hub_api, "_LEAST_IN_WINDOW", 1 << 40)
    assert f"model.safetensors of {REPO}: fewer than {1 << 40} bytes came" in refused(DownloadError)


def test_the_body_of_a_redirect_is_not_read(server: HubServer) -> None:
    """The client keeps such bodies whole in memory, and nothing says how long they are."""
    server.faults["hub:model.safetensors"] = [Fault(endless=True)]
    pull_fully()
    redirect = next(r for r in server.gets("model.safetensors") if r.host == server.url.removeprefix("http://"))
    assert sum(redirect.sent) < 1 << 26


def test_an_endless_listing_is_cut_off(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_api, "_MOST_LISTING_BYTES", 1 << 20)
    server.faults["api"] = [Fault(endless=True)]
    assert "is longer than 1 MiB; nothing is fetched" in refused(DownloadError)


@pytest.mark.parametrize(
    "entry",
    [
        {"rfilename": "../x.json"}, {"rfilename": "/etc/passwd"}, {"rfilename": "a\\b"}, {"rfilename": "a/../b.gguf"},
        {"rfilename": "c:x"}, {"rfilename": 1}, {}, 3, {"rfilename": "x", "size": -1}, {"rfilename": "x", "size": []},
        {"rfilename": "x", "size": True}, {"rfilename": "x", "blobId": "../../x"}, {"rfilename": "x", "blobId": None},
        {"rfilename": "x", "lfs": {"sha256": "a" * 63, "size": 3}}, {"rfilename": "x", "lfs": {"size": 3}},
    ],
)  # fmt: skip
def test_a_listing_that_could_do_harm_is_refused_whole(server: HubServer, entry: Any) -> None:
    good = {"size": 3, "blobId": "0" * 40}
    server.repositories[REPO].extra.append(good | entry if isinstance(entry, dict) else entry)
    assert "listing of owner/name has" in refused(DownloadError)
    assert not server.gets("/resolve/")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"sha": "x", "siblings": []}', b'{"sha": NaN}'])
def test_an_answer_that_is_no_listing_is_refused(server: HubServer, body: bytes) -> None:
    server.faults["api"] = [Fault(body=body)]
    assert "listing of owner/name" in refused(DownloadError)


def test_a_gated_repository_says_where_to_accept_the_licence(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults["config.json"] = [Fault(status=403, code="GatedRepo", times=None)]
    text = refused(AccessDenied)
    assert "no token is set" in text
    assert f"accept it at {server.url}/owner/name, then set HF_TOKEN" in text
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert "the token in use is not of such an account" in refused(AccessDenied)
    assert "hf_secret" not in text


def test_the_token_goes_to_the_hub_and_nowhere_else(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    pull_fully()
    to_cdn = {r.headers.get("authorization") for r in server.requests if r.host == server.cdn.removeprefix("http://")}
    to_hub = {r.headers.get("authorization") for r in server.requests if r.host == server.url.removeprefix("http://")}
    assert (to_cdn, to_hub) == ({None}, {"Bearer hf_secret"})


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (Fault(status=401, message="Invalid credentials in Authorization header"), AccessDenied, "does not know the"),
        (Fault(status=403), AccessDenied, "the token may not read owner/name"),
        (Fault(status=404, code="EntryNotFound"), ModelNotFound, "listed by the hub and not handed out"),
        (Fault(status=400), DownloadError, "answers 400; check HF_ENDPOINT and the proxies"),
        (Fault(status=418), DownloadError, "answers 418"),
    ],
)  # fmt: skip
def test_refusals_say_what_to_do(server: HubServer, fault: Fault, error: type[SlmError], says: str) -> None:
    server.faults["config.json"] = [fault]
    assert says in refused(error)


@pytest.mark.parametrize(
    ("ref", "fault"),
    [
        (HubRef("a/b"), None),
        (HubRef(REPO, None, "zzz"), None),
        (REF, Fault(status=400)),
        (REF, Fault(status=403)),
        (REF, Fault(status=401, code="GatedRepo")),
        (REF, Fault(status=401, message="Invalid credentials in Authorization header")),
    ],
)
def test_a_password_in_the_address_of_a_mirror_is_not_shown(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, ref: HubRef, fault: Fault | None
) -> None:
    server.faults["config.json"] = [fault] if fault else []
    monkeypatch.setenv("HF_ENDPOINT", server.url.replace("http://", "http://user:hunter2@"))
    text = refused(SlmError, ref)
    assert "hunter2" not in text
    assert "user" not in text


def test_another_commit_than_the_one_asked_for_is_refused(server: HubServer) -> None:
    """Who names a commit wants these bytes and no newer ones."""
    repository = server.repositories[REPO]
    repository.revisions["f" * 40] = repository.commit
    text = refused(DownloadError, HubRef(REPO, None, "f" * 40))
    assert f"answers with commit {repository.commit} of {REPO} where {'f' * 40} was asked for" in text
    assert not hub_folder().exists()


def test_what_is_not_on_the_hub_gets_near_names(server: HubServer) -> None:
    assert "did you mean microsoft/Phi-3.5-mini-instruct?" in refused(ModelNotFound, HubRef("microsoft/Phi-3.5-mini"))
    assert "no repository a/b, or it is private" in refused(ModelNotFound, HubRef("a/b"))
    server.repositories[REPO].revisions["v1.0"] = server.repositories[REPO].commit
    assert "no revision 'v1'; did you mean v1.0?" in refused(ModelNotFound, HubRef(REPO, None, "v1"))
    assert "no revision 'zzz'; it has 'main', 'v1.0'" in refused(ModelNotFound, HubRef(REPO, None, "zzz"))


@pytest.mark.parametrize("place", ["api", "config.json", "model.safetensors", "hub:model.safetensors"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_hub_is_asked_again_when_it_says_so(
    server: HubServer, slept: list[float], place: str, status: int
) -> None:
    server.faults[place] = [Fault(status=status, headers={"Retry-After": "7"}), Fault(status=500)]
    pull_fully()
    assert slept == [7.0, 1.0]


def test_a_hub_that_stays_busy_is_given_up(server: HubServer, slept: list[float]) -> None:
    server.faults["api"] = [Fault(status=502, times=None)]
    assert "the hub answers 502, 4 times in a row" in refused(DownloadError)
    server.faults["api"] = [Fault(status=429, headers={"Retry-After": "3600"})]
    del slept[:]
    assert "the hub answers 429, for 3600 s" in refused(DownloadError)
    assert slept == []


@pytest.mark.parametrize("place", ["http://127.0.0.1:9/x", "file:///etc/passwd", "nonsense://x", "http://[", ""])
def test_a_redirect_to_nowhere_is_an_error_and_nothing_is_kept(server: HubServer, place: str) -> None:
    server.faults["hub:model.safetensors"] = [
        Fault(redirect=place or f"{server.url}/owner/name/resolve/x/y", times=None)
    ]
    refused(SlmError)
    assert not (Repository.of(REPO).blobs / BLOB).exists()


def test_a_redirect_in_a_ring_is_an_error(server: HubServer) -> None:
    commit = server.repositories[REPO].commit
    ring = f"{server.url}/owner/name/resolve/{commit}/model.safetensors"
    server.faults["hub:model.safetensors"] = [Fault(redirect=ring, times=None)]
    refused(DownloadError)


def test_a_hub_that_nobody_reaches_is_an_error_that_names_the_way_on(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "ConnectError" in refused(DownloadError)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    pull_fully()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert hub.find_cached(REF)


def test_proxies_of_the_environment_are_used(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    huggingface_hub.close_session()  # the next one looks at the environment again
    try:
        assert hub.look_up(REF).commit == server.repositories[REPO].commit
        assert server.requests[-1].host == "hub.invalid"
    finally:
        huggingface_hub.close_session()


@pytest.mark.parametrize(
    "address", ["hub", "ftp://hub", "http://", "http://[", "http://h:x", "http://h:99999", "http://a b"]
)
def test_an_endpoint_that_is_no_address_is_refused(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert "it takes an address such as https://huggingface.co" in refused(RequestError)


def test_a_proxy_that_is_no_address_is_one_sentence(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("ALL_PROXY", "nonsense://x")
    huggingface_hub.close_session()
    try:
        assert "check the variables of proxies" in refused(DownloadError)
    finally:
        huggingface_hub.close_session()


def test_a_token_that_no_header_takes_is_refused_and_not_shown(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_\u00e9")
    assert "\u00e9" not in refused(AccessDenied)


def test_the_room_on_the_disk_is_looked_at_first(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 50_000_000})
    with monkeypatch.context() as patch:
        patch.setattr("slmkit.weights.hub.models.shutil.disk_usage", lambda _: usage)
        text = refused(StorageError)
    assert "owner/name needs 3.0 MB more" in text
    assert "has 50.0 MB left" in text
    assert not server.gets("model.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE")
def test_a_disk_that_fills_up_keeps_what_came_and_is_gone_on_with(server: HubServer) -> None:
    code = """
import resource, sys
from slmkit.errors import StorageError
from slmkit.weights import names
from slmkit.weights.hub import models as hub
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    hub.pull(names.HubRef("owner/name"))
except StorageError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "model.safetensors has 3.0 MB, and the disk of" in run.stdout, run.stderr
    assert "free some space and the same command goes on" in run.stdout
    assert partial().read_bytes() == WEIGHTS[:1_000_000]
    assert hub.find_cached(REF) is None
    pull_fully()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_says_so(server: HubServer, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert "set HF_HOME to a folder that you may write to" in refused(StorageError)
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_way_of_the_cache_says_so(server: HubServer) -> None:
    hub_folder().write_text("in the way")
    assert "set HF_HOME to a folder that you may write to" in refused(StorageError)


def test_two_pulls_of_one_model_fetch_it_once(server: HubServer) -> None:
    hold = threading.Event()
    server.faults["model.safetensors"] = [Fault(drop_after=1_000_000, hold=hold)]
    said: list[str] = []
    results: list[Any] = []
    first = threading.Thread(target=lambda: results.append(hub.pull(REF)))
    first.start()
    wait_for(lambda: partial().exists() and partial().stat().st_size > 500_000)
    second = threading.Thread(target=lambda: results.append(hub.pull(REF, notice=said.append)))
    second.start()
    wait_for(lambda: hub.WAITING in said)
    hold.set()
    first.join(30)
    second.join(30)
    assert len({one.path for one in results}) == 1
    assert len(results) == 2
    assert server.sent("model.safetensors") <= len(WEIGHTS) + 100_000  # the packet lost with the connection
    pull_fully()


def wait_for(happened: Callable[[], bool]) -> None:
    """Until another thread or process has come so far."""
    end = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_file_that_is_changed_before_the_last_one_came_is_an_error(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = hub.Fetcher.fetch

    def and_spoil(self: hub.Fetcher, file: Any) -> None:
        fetch(self, file)
        if file.name == "model.safetensors":
            config = self.repository.snapshot(self.commit) / "config.json"
            config.write_bytes(config.read_bytes().replace(b"phi3", b"phi4"))

    monkeypatch.setattr(hub.Fetcher, "fetch", and_spoil)
    assert "changed while it was being fetched" in refused(DownloadError)
    monkeypatch.setattr(hub.Fetcher, "fetch", fetch)
    pull_fully()
