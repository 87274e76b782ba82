"""The places where models can be, each empty and the test's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from ollama_store import OllamaStore

GGUF = Path(__file__).parents[1] / "data" / "gguf"
TINY = Path(__file__).parents[2] / "src" / "slmkit" / "data" / "tiny"


@dataclass
class Places:
    hub: Path
    ollama: OllamaStore
    cache: Path


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    monkeypatch.setenv("SLMKIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("slmkit.weights.fingerprint.SETTLED_NS", 0)
    return Places(tmp_path / "hf" / "hub", OllamaStore(tmp_path / "ollama"), tmp_path / "cache")
