from __future__ import annotations

import pytest


@pytest.fixture
def threads():
    """Sets the number of native threads; what it was comes back after the test."""
    native = pytest.importorskip("slmkit.ops.native")
    before = native.threads()
    yield native.set_threads
    native.set_threads(before)
