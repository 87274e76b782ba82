"""Pulling from a hub on this machine, found again without it, and what other programs left in the cache."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import scan_cache_dir, snapshot_download
from huggingface_hub.utils import disable_progress_bars

from hub_server import HubServer, etag, hub_of_the_test
from slmkit.errors import DownloadError, ModelNotFound, UnsupportedModel
from slmkit.models.registry import architecture
from slmkit.weights.fingerprint import known_sha256
from slmkit.weights.hub import inventory as hub_list
from slmkit.weights.hub import models as hub
from slmkit.weights.hub import removal
from slmkit.weights.hub.layout import Repository, hub_folder
from slmkit.weights.hub.verify import identity_if_sound
from slmkit.weights.locate import Found, locate
from slmkit.weights.mapped import FileIdentity
from slmkit.weights.names import HubRef

REPO = "owner/name"
REF = HubRef(REPO)
WEIGHTS = random.Random(3).randbytes(300_000)
MODEL = {
    "config.json": b'{"model_type": "phi3"}',
    "generation_config.json": b"{}",
    "tokenizer.json": b'{"model": {}}' * 100,
    "tokenizer_config.json": b'{"bos_token": null}',
    "LICENSE": b"MIT",
    "model.safetensors": WEIGHTS,
}
OTHERS = {
    "README.md": b"# card",
    "modeling.py": b"import os",
    "pytorch_model.bin": b"pickle",
    "onnx/model.onnx": b"onnx",
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with hub_of_the_test(monkeypatch, tmp_path) as server:
        yield server


def downloaded(server: HubServer, **settings: Any) -> Path:
    """What huggingface_hub itself puts into the cache, as other programs do."""
    disable_progress_bars()
    return Path(snapshot_download(REPO, endpoint=server.url, cache_dir=hub_folder(), max_workers=1, **settings))


def by_the_client(code: str) -> str:
    """What huggingface_hub does in a process of its own, told by its environment alone."""
    settings = {**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-c", f"from huggingface_hub import snapshot_download; {code}"]
    run = subprocess.run(command, capture_output=True, text=True, env=settings, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_a_pull_brings_what_a_model_needs_and_nothing_else(server: HubServer) -> None:
    commit = server.add(REPO, MODEL | OTHERS).commit
    told: list[tuple[str, int, int]] = []
    said: list[str] = []
    done = hub.pull(REF, lambda *call: told.append(call), said.append, architecture)
    assert done.path == hub_folder() / "models--owner--name" / "snapshots" / commit
    assert {path.name: path.read_bytes() for path in done.path.iterdir()} == MODEL
    assert (done.n_bytes, done.n_fetched) == (sum(map(len, MODEL.values())),) * 2
    assert said == [
        f"owner/name is not here yet: fetching 0.3 MB into {hub_folder()}; "
        "Ctrl-C stops, and the same command goes on where it stopped"
    ]
    assert {what for what, _, _ in told} == {"fetching owner/name"}
    counts = [count for _, count, _ in told]
    assert counts == sorted(counts)
    assert told[-1][1:] == (done.n_bytes, done.n_bytes)


def test_what_was_pulled_is_found_without_the_hub_and_without_its_client(server: HubServer) -> None:
    server.add(REPO, MODEL)
    path = locate(REPO).path
    asked = len(server.requests)
    assert locate(REPO) == Found(REPO, path)
    assert locate(f"{REPO}@main", offline=True).path == path
    code = "from slmkit.weights.locate import locate; print(locate(sys.argv[1]).path, 'huggingface_hub' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}", REPO], capture_output=True, text=True, timeout=60
    )
    assert run.stdout.split() == [str(path), "False"], run.stderr
    assert len(server.requests) == asked


def test_large_files_are_hashed_while_they_come_and_not_read_again(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add(REPO, MODEL)
    read: list[str] = []

    def watched(path: Path, *rest: Any) -> Any:
        read.append(path.name)
        return identity_if_sound(path, *rest)

    monkeypatch.setattr("slmkit.weights.hub.cache.identity_if_sound", watched)
    path = hub.pull(REF).path
    assert "config.json" in read
    assert "model.safetensors" not in read
    with (path / "model.safetensors").open("rb") as file:
        identity = FileIdentity.of(file.fileno())
    memo = Path(os.environ["SLMKIT_CACHE_DIR"]) / "hashes"  # where packing looks, too
    assert known_sha256(path / "model.safetensors", identity, memo) == etag("model.safetensors", WEIGHTS)


@pytest.mark.parametrize(
    "receipt", ["", "{", "[]", "{}",
                '{"layout": 1}', '{"layout": 1, "files": {"a": 3}, "folder": 1, "main": "", "commit": ""}',
                '{"layout": 1, "files": {"a": [1, 2, 3]}, "folder": "x", "main": "", "commit": ""}']
)  # fmt: skip
def test_a_damaged_receipt_is_none(server: HubServer, receipt: str) -> None:
    server.add(REPO, MODEL)
    path = hub.pull(REF).path
    for note in (Path(os.environ["SLMKIT_CACHE_DIR"]) / "hub").iterdir():
        note.write_text(receipt)
    assert [model.is_checked for model in hub_list.cached()] == [False]
    assert hub.find_cached(REF) == path
    assert [model.is_checked for model in hub_list.cached()] == [True]


def test_a_second_pull_asks_for_the_commit_alone(server: HubServer) -> None:
    server.add(REPO, MODEL)
    first = hub.pull(REF)
    asked = len(server.requests)
    said: list[str] = []
    second = hub.pull(REF, notice=said.append)
    assert (second.path, second.n_fetched, said) == (first.path, 0, [])
    assert [r.path for r in server.requests[asked:]] == ["/api/models/owner/name/revision/main"]


def test_the_model_changes_with_a_pull_only_and_what_is_the_same_is_not_fetched_again(server: HubServer) -> None:
    server.add(REPO, MODEL)
    old = hub.pull(REF).path
    new = server.add(REPO, MODEL | {"generation_config.json": b'{"temperature": 1}'}).commit
    assert locate(REPO).path == old
    downloaded(server, allow_patterns=["config.json"])  # moves refs/main to a commit that is not all here
    assert Repository.of(REPO).commit("main") == new
    assert locate(REPO).path == old
    sent = server.sent()
    assert hub.pull(REF).path.name == new == locate(REPO).path.name
    assert server.sent() - sent == len(b'{"temperature": 1}')


@pytest.mark.parametrize("revision", ["v1", "refs/pr/2", "commit"])
def test_a_revision_is_a_branch_a_tag_or_a_commit(server: HubServer, revision: str) -> None:
    repository = server.add(REPO, MODEL, revisions={"v1": "", "refs/pr/2": ""})
    repository.revisions = dict.fromkeys(["main", "v1", "refs/pr/2"], repository.commit)
    name = repository.commit if revision == "commit" else revision
    assert hub.pull(HubRef(REPO, None, name)).commit == repository.commit
    assert locate(f"{REPO}@{name}", offline=True).path.name == repository.commit


def test_what_is_noted_of_one_revision_says_nothing_of_another(server: HubServer) -> None:
    old = server.add(REPO, MODEL).commit
    hub.pull(REF)
    new = HubRef(REPO, None, server.add(REPO, MODEL | {"generation_config.json": b'{"temperature": 1}'}).commit)
    assert hub.find_cached(new) is None
    hub.pull(new)
    found = [hub.find_cached(ref) for ref in (REF, new)]
    assert [path.name for path in found if path] == [old, new.revision]


def test_what_is_noted_of_one_cache_says_nothing_of_another(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.add(REPO, MODEL)
    hub.pull(REF)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "another"))
    assert hub.find_cached(REF) is None


def test_the_shards_are_those_of_the_index(server: HubServer) -> None:
    shards = {f"model-0000{n}-of-00002.safetensors": bytes([n]) * 1000 for n in (1, 2)}
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    files = {**MODEL, **shards, "model.safetensors.index.json": json.dumps(index).encode()}
    del files["model.safetensors"]
    server.add(REPO, files)
    assert {path.name for path in hub.pull(REF).path.iterdir()} == set(files)
    index["weight_map"]["c"] = "model-00003-of-00002.safetensors"
    server.add(REPO, {**files, "model.safetensors.index.json": json.dumps(index).encode()})
    with pytest.raises(UnsupportedModel, match=r"names 'model-00003-of-00002\.safetensors', which is no weight file"):
        hub.pull(REF)


def test_a_model_that_nothing_here_runs_is_refused_before_its_weights_come(server: HubServer) -> None:
    server.add("maker/recurrent", MODEL | {"config.json": b'{"model_type": "mamba"}'})
    with pytest.raises(UnsupportedModel, match="'mamba', which slmkit cannot run"):
        hub.pull(HubRef("maker/recurrent"), refuse=architecture)
    assert not server.gets("model.safetensors")
    assert hub.pull(HubRef("maker/recurrent")).path.is_dir()  # as `slm pull --force` does


def test_one_gguf_file_is_fetched_by_default_rule_or_by_name(server: HubServer) -> None:
    files = {f"m-{quant}.gguf": quant.encode() * 100 for quant in ("Q4_K_M", "Q8_0", "IQ2_XXS")} | {
        "config.json": b"{}"
    }
    server.add(REPO, files, gguf={"architecture": "phi3"})
    assert locate(REPO).path.name == "m-Q4_K_M.gguf"
    assert locate(f"{REPO}:Q8_0").path.read_bytes() == files["m-Q8_0.gguf"]
    assert locate(f"{REPO}:m-Q8_0.gguf").path.name == "m-Q8_0.gguf"
    assert sorted(path.name for path in locate(REPO).path.parent.iterdir()) == ["m-Q4_K_M.gguf", "m-Q8_0.gguf"]
    with pytest.raises(UnsupportedModel, match=r"IQ2_XXS, which slmkit cannot run.*--list"):
        hub.pull(HubRef(REPO, "IQ2_XXS"), refuse=architecture)
    with pytest.raises(ModelNotFound, match=r"no 'Q5_K_M' .did you mean Q4_K_M\?"):
        hub.pull(HubRef(REPO, "Q5_K_M"))
    server.add("owner/other", files, gguf={"architecture": "llama"})
    with pytest.raises(UnsupportedModel, match="'llama'"):
        hub.pull(HubRef("owner/other"), refuse=architecture)
    assert not server.gets("/owner/other/resolve")


def test_a_split_gguf_is_fetched_whole_and_opened_by_its_first_shard(server: HubServer) -> None:
    shards = {f"Q8_0/m-Q8_0-0000{n}-of-00002.gguf": bytes([n]) * 500 for n in (1, 2)}
    server.add(REPO, shards | {"m-Q2_K.gguf": b"x"})
    path = locate(f"{REPO}:Q8_0").path
    assert path.name == "m-Q8_0-00001-of-00002.gguf"
    assert [one.read_bytes() for one in sorted(path.parent.iterdir())] == list(shards.values())
    next(path.parent.glob("*-00002-*")).unlink()
    assert hub.find_cached(HubRef(REPO, "Q8_0")) is None


def test_another_program_s_download_is_checked_once_and_used_offline(server: HubServer) -> None:
    server.add(REPO, MODEL | OTHERS)
    downloaded(server)
    asked, told = len(server.requests), []
    path = locate(REPO, offline=True, progress=lambda *call: told.append(call)).path
    assert told[-1] == ("checking the files", sum(map(len, MODEL.values())), sum(map(len, MODEL.values())))
    assert {path.name for path in path.iterdir()} >= set(MODEL)
    del told[:]
    assert locate(REPO, offline=True, progress=lambda *call: told.append(call)).path == path
    assert (told, len(server.requests)) == ([], asked)


def test_what_we_pulled_serves_another_program(server: HubServer) -> None:
    server.add(REPO, MODEL)
    path = hub.pull(REF).path
    sent = server.sent()
    assert by_the_client(f"print(snapshot_download({REPO!r}))") == str(path)
    assert downloaded(server, local_files_only=True) == path
    assert server.sent() == sent
    report = scan_cache_dir(hub_folder())
    assert (report.warnings, report.size_on_disk) == ([], sum(map(len, MODEL.values())))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "generation_config.json"])
def test_a_part_of_a_model_that_another_program_left_is_not_used_offline(server: HubServer, name: str) -> None:
    server.add(REPO, MODEL)
    downloaded(server, ignore_patterns=[name])
    with pytest.raises(ModelNotFound, match="not all in the cache"):
        locate(REPO, offline=True)
    sent = server.sent()
    assert (locate(REPO).path / name).read_bytes() == MODEL[name]
    assert server.sent() - sent == len(MODEL[name])


def test_a_file_that_the_repository_lacks_is_not_missed_offline(server: HubServer) -> None:
    files = {name: data for name, data in MODEL.items() if name != "generation_config.json"}
    server.add(REPO, files)
    path = hub.pull(REF).path
    shutil.rmtree(Path(os.environ["SLMKIT_CACHE_DIR"]))  # with the receipt
    assert locate(REPO, offline=True).path == path


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("receipt", [True, False])
def test_a_file_that_was_changed_is_removed_reported_and_never_loaded(
    server: HubServer, name: str, receipt: bool
) -> None:
    server.add(REPO, MODEL)
    path = hub.pull(REF).path
    with (path / name).open("r+b") as file:
        file.seek(40)
        file.write(b"?!")
    if not receipt:
        shutil.rmtree(Path(os.environ["SLMKIT_CACHE_DIR"]))
    with pytest.raises(DownloadError, match=rf"{name} in \S+ did not hold what its checksum says, and was removed"):
        locate(REPO, offline=True)
    assert not os.path.lexists(path / name)
    assert not (Repository.of(REPO).blobs / etag(name, MODEL[name])).exists()
    sent = server.sent()
    assert (locate(REPO).path / name).read_bytes() == MODEL[name]
    assert server.sent() - sent == len(MODEL[name])


def test_a_changed_file_is_reported_and_fetched_again_where_there_is_a_network(server: HubServer) -> None:
    server.add(REPO, MODEL)
    path = hub.pull(REF).path
    (path / "config.json").resolve().write_bytes(b"x")
    said: list[str] = []
    assert (locate(REPO, notice=said.append).path / "config.json").read_bytes() == MODEL["config.json"]
    assert [("config.json" in line, "fetched again" in line) for line in said[:1]] == [(True, True)]


def test_a_file_put_beside_a_model_is_not_read_unchecked(server: HubServer) -> None:
    server.add(REPO, MODEL)
    path = hub.pull(REF).path
    (path / "chat_template.jinja").write_text("{{ evil }}")
    with pytest.raises(ModelNotFound, match="not all in the cache"):
        locate(REPO, offline=True)


def test_where_there_are_no_links_the_files_themselves_lie_in_the_snapshot(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Any) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr("slmkit.weights.hub.fetch.os.symlink", no_links)
    server.add(REPO, MODEL)
    path = hub.pull(REF).path
    assert {one.name: one.read_bytes() for one in path.iterdir() if not one.is_symlink()} == MODEL
    assert locate(REPO, offline=True).path == path
    sent = server.sent()
    assert hub.pull(REF).n_fetched == 0
    assert server.sent() == sent
    (path / "config.json").write_bytes(b"x")
    assert (hub.pull(REF).path / "config.json").read_bytes() == MODEL["config.json"]


def test_the_cache_lists_models_of_all_programs_and_gives_back_the_room_of_one(server: HubServer) -> None:
    server.add(REPO, MODEL | OTHERS)
    server.add("owner/gguf", {f"m-{quant}.gguf": quant.encode() * 100 for quant in ("Q4_0", "Q8_0")})
    downloaded(server)
    hub.pull(HubRef("owner/gguf", "Q4_0"))
    hub.pull(HubRef("owner/gguf", "Q8_0"))
    (hub_folder() / "models--owner--broken" / "snapshots").mkdir(parents=True)
    listed = {str(model.ref): (model.n_bytes, model.is_checked) for model in hub_list.cached()}
    assert listed == {
        "owner/gguf:Q4_0": (400, True), "owner/gguf:Q8_0": (400, True), REPO: (sum(map(len, MODEL.values())), False),
    }  # fmt: skip
    assert removal.remove(HubRef("owner/gguf", "Q4_0")) == 400
    (Repository.of("owner/gguf").blobs / etag("m.gguf", b"Q8_0" * 100)).touch()
    assert [(str(model.ref), model.is_checked) for model in hub_list.cached()] == [
        ("owner/gguf:Q8_0", False), (REPO, False),
    ]  # fmt: skip
    assert locate("owner/gguf:Q8_0", offline=True)
    assert removal.remove(REF) == sum(map(len, (MODEL | OTHERS).values()))
    assert removal.remove(HubRef("owner/gguf", "Q8_0")) == 400
    assert not list(hub_folder().glob("models--owner--[gn]*"))
    with pytest.raises(ModelNotFound, match="not in the cache"):
        removal.remove(REF)


def test_a_blob_that_two_snapshots_share_stays_with_the_other(server: HubServer) -> None:
    first = server.add(REPO, MODEL).commit
    hub.pull(HubRef(REPO, None, first))
    second = server.add(REPO, MODEL | {"LICENSE": b"new"}).commit
    hub.pull(HubRef(REPO, None, second))
    assert removal.remove(HubRef(REPO, None, first)) == len(b"MIT")
    assert locate(f"{REPO}@{second}", offline=True).path.name == second


def test_a_blob_in_the_store_of_all_repositories_is_used_and_stays(server: HubServer) -> None:
    """As huggingface_hub 2.4 leaves what it fetched through Xet: a link to a link, the last by another hash."""
    server.add(REPO, MODEL)
    path = hub.pull(REF).path
    blob, store = (path / "model.safetensors").resolve(), hub_folder() / "blobs" / "ab" / f"ab{'c' * 62}"
    store.parent.mkdir(parents=True)
    blob.rename(store)
    blob.symlink_to(os.path.relpath(store, blob.parent))
    assert locate(REPO, offline=True).path == path
    assert removal.remove(REF) == sum(map(len, MODEL.values())) - len(WEIGHTS)
    assert store.exists()


@pytest.mark.parametrize(
    "environment",
    [
        {}, {"XDG_CACHE_HOME": "/x"}, {"HF_HOME": "~/h"}, {"HF_HOME": "$HOME/h", "XDG_CACHE_HOME": "/x"},
        {"HUGGINGFACE_HUB_CACHE": "/old"}, {"HF_HUB_CACHE": "~/new", "HUGGINGFACE_HUB_CACHE": "/old"},
    ],
)  # fmt: skip
def test_the_cache_is_the_one_that_huggingface_hub_takes(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", "/home/of the test")
    import importlib.util

    spec = importlib.util.find_spec("huggingface_hub.constants")
    assert spec is not None
    assert spec.loader is not None
    constants = importlib.util.module_from_spec(spec)  # read anew, with this environment
    spec.loader.exec_module(constants)
    assert str(hub_folder()) == constants.HF_HUB_CACHE


def test_a_link_to_a_file_that_no_checksum_names_is_left_alone_and_not_used_offline(
    server: HubServer, tmp_path: Path
) -> None:
    """There is nothing to hold it against, and it is somebody's own."""
    server.add(REPO, MODEL)
    folder = downloaded(server)
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"mine")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(own)
    assert hub.find_cached(REF) is None
    assert own.read_bytes() == b"mine"
    assert (folder / "model.safetensors").is_symlink()
