from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory of the test's own; files count as settled at once."""
    monkeypatch.setenv("SLMKIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("slmkit.weights.fingerprint.SETTLED_NS", 0)
    return tmp_path / "cache"
