"""The page in Debian's own Chromium, with hands that type, and eyes for what must never happen."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

# Where there is no browser or no driver for it, the tests that import this are skipped, and say what to install.
sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the page needs Playwright's driver: pip install playwright"
)
pytest.importorskip("PIL", reason="images for the page need Pillow: pip install 'slmkit[vision]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("the page needs Chromium: apt-get install chromium", allow_module_level=True)

expect = sync_api.expect
# Answers that a test asks for on purpose are no fault of the page.
EXPECTED = re.compile(r"Failed to load resource: .*(status of [45]\d\d|ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED)")


# Each option: what a person writes into its field, and what is sent.
VALUES = {
    "temperature": ("0.7", 0.7), "top_p": ("0,9", 0.9), "top_k": ("40", 40), "min_p": ("0.05", 0.05),
    "max_tokens": ("64", 64), "seed": ("7", 7), "stop": ("###\n\\n\\n", ["###", "\n\n"]),
    "presence_penalty": ("0.5", 0.5), "frequency_penalty": ("-0.5", -0.5), "repetition_penalty": ("1.1", 1.1),
}  # fmt: skip


@dataclass
class Visitor:
    """One person at the page, in a browser profile of their own."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Notes errors, breaches of the policy, and requests that leave the server."""
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._request)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning") and not EXPECTED.search(message.text):
            self.complaints.append(message.text)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.elsewhere.append(request.url)

    def visit(self) -> None:
        self.page.goto(self.address + "/")
        expect(self.page.locator("#model-0")).not_to_have_value("")

    def see(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def type(self, text: str) -> None:
        """Write the prompt and send it."""
        self.page.fill("#prompt", text)
        self.page.press("#prompt", "Enter")

    def ask(self, text: str) -> Locator:
        """Send the prompt and wait for the end of the answer; gives the turn."""
        before = self.see(".turn").count()
        self.type(text)
        expect(self.see(".turn")).to_have_count(before + 1)
        self.rest()
        return self.see(".turn").last

    def rest(self) -> None:
        """Wait until nothing is being written."""
        expect(self.see("#send")).to_be_visible(timeout=30_000)
        expect(self.see("[aria-busy=true]")).to_have_count(0)


def visitor(browser: Browser, address: str, **context: Any) -> Visitor:
    """Somebody new, who has not gone to the page yet."""
    page = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context}).new_page()
    page.set_default_timeout(30_000)
    page.set_default_navigation_timeout(90_000)  # the machine may have other work
    somebody = Visitor(page, address)
    somebody.watch()
    return somebody
