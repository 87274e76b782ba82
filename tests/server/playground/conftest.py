"""The playground in a real browser, each flow as a person goes through it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from browser import CHROMIUM, sync_api

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def app() -> Any:
    from stand_in import stand_in

    return stand_in()


@pytest.fixture(scope="module")
def scripted(app) -> Iterator[str]:
    """The stand-in, which answers by words in the prompt."""
    from stand_in import served

    with served(app) as address:
        yield address


@pytest.fixture(scope="module", params=["stand-in", "server"])
def address(request) -> str:
    """The stand-in, then the real server with the bundled model, for what any answer shows."""
    return request.getfixturevalue("scripted" if request.param == "stand-in" else "base_url")


@pytest.fixture
def come(browser) -> Iterator[Any]:
    """come(address, **context) opens the page; at the end nobody may have complained or gone elsewhere."""
    from browser import Visitor, visitor

    people: list[Visitor] = []

    def open_page(address: str, **context: Any) -> Visitor:
        somebody = visitor(browser, address, **context)
        people.append(somebody)
        somebody.visit()
        return somebody

    yield open_page
    for somebody in people:
        somebody.page.context.close()
        assert somebody.complaints == []
        assert somebody.elsewhere == []


@pytest.fixture
def picture(tmp_path) -> Path:
    from PIL import Image

    path = tmp_path / "red.png"
    Image.new("RGB", (40, 30), "red").save(path)
    return path
