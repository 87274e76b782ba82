"""What every test shares: places for packed weights and the hub's cache that are not the user's own, and no network."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# On a busy machine the clock says nothing about a test.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("busy")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Packed weights go here and are shared by the tests of one run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLMKIT_CACHE_DIR", str(tmp_path_factory.mktemp("packed")))
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        patch.setenv("SLMKIT_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        patch.setenv("HF_HUB_OFFLINE", "1")  # tests of the hub take it away, and have a server of their own
        yield
    if "checkpoints" in sys.modules:
        sys.modules["checkpoints"].runner.cache_clear()
