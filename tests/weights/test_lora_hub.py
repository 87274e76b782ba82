"""Adapters of the hub: two files come, checked; then they are found without it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_server import Fault, HubServer, hub_of_the_test
from slmkit.errors import DownloadError, ModelNotFound, RequestError, UnsupportedModel
from slmkit.sources.folder import FolderSource
from slmkit.weights.hub.layout import hub_folder
from slmkit.weights.lora.adapter import open_adapter
from slmkit.weights.lora.locate import locate_adapter

PEFT = Path(__file__).parents[1] / "data" / "lora"
FILES = {name: (PEFT / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")}
OTHERS = {"README.md": b"# card", "tokenizer.json": b"{}", "training_args.bin": b"pickle", "optimizer.pt": b"pickle"}
REPO = "owner/an-adapter"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with hub_of_the_test(monkeypatch, tmp_path) as server:
        yield server


def test_two_files_are_fetched_once_and_found_offline(server: HubServer) -> None:
    server.add(REPO, FILES | OTHERS)
    said: list[str] = []
    folder = locate_adapter(REPO, notice=said.append)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert folder.is_relative_to(hub_folder())
    assert f"{REPO} is not here yet" in said[0]
    expected = FolderSource("gqa", PEFT.parents[1] / "reference" / "phi3" / "gqa").expected
    assert len(open_adapter(folder, expected, "gqa", "").matrices()) == 9  # the links that the cache keeps are followed
    sent = len(server.requests)
    assert locate_adapter(REPO) == locate_adapter(f"{REPO}@main", offline=True) == folder
    assert len(server.requests) == sent


def test_a_damaged_file_is_fetched_again_and_never_used(server: HubServer) -> None:
    server.add(REPO, FILES)
    folder = locate_adapter(REPO)
    (folder / "adapter_model.safetensors").resolve().write_bytes(b"other")
    with pytest.raises(DownloadError, match="did not hold what its checksum says"):
        locate_adapter(REPO, offline=True)
    locate_adapter(REPO)
    assert (folder / "adapter_model.safetensors").read_bytes() == FILES["adapter_model.safetensors"]
    server.add("owner/wrong", FILES)
    server.faults["adapter_model.safetensors"] = [Fault(wrong=True, times=None)]
    with pytest.raises(DownloadError):
        locate_adapter("owner/wrong")


def test_what_is_no_adapter_is_refused_before_anything_is_fetched(server: HubServer) -> None:
    server.add("owner/model", {"config.json": b"{}", "model.safetensors": b"x"})
    server.add("owner/pickle", {"adapter_config.json": b"{}", "adapter_model.bin": b"x"})
    with pytest.raises(UnsupportedModel, match=r"has no adapter_config\.json with adapter_model\.safetensors"):
        locate_adapter("owner/model")
    with pytest.raises(UnsupportedModel, match="never reads pickles"):
        locate_adapter("owner/pickle")
    assert server.sent() == 0
    with pytest.raises(ModelNotFound):
        locate_adapter("owner/nothing")
    with pytest.raises(ModelNotFound, match="nothing is fetched offline"):
        locate_adapter("owner/nothing", offline=True)
    with pytest.raises(RequestError, match="names a file"):
        locate_adapter("owner/model:Q4_0")
    with pytest.raises(ModelNotFound, match="there is no folder 'nothing'"):
        locate_adapter("nothing")
