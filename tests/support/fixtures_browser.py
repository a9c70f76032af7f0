"""A browser without a screen, for the tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # tests without it are skipped
    from playwright.sync_api import Browser, Page

_QUIET = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; tests that ask for it are skipped where it is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("there is no chromium (Debian: apt install chromium)")
    with playwright.sync_playwright() as runner:
        opened = runner.chromium.launch(executable_path=chromium, args=list(_QUIET))
        yield opened
        opened.close()


@dataclass
class Opened:
    """A page in the browser, and what it did on its way."""

    page: Page
    printed: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    def away(self, *origins: str) -> list[str]:
        """Return the requests that went anywhere but to these beginnings of addresses."""
        return [url for url in self.requested if not url.startswith((*origins, "data:", "about:"))]


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """An empty page; `said` gets what goes to its console, `asked` each address it asks for."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    found = Opened(context.new_page())
    found.page.set_default_timeout(60_000)
    found.page.on("console", lambda message: found.printed.append(message.text))
    found.page.on("pageerror", lambda error: found.printed.append(str(error)))
    found.page.on("request", lambda request: found.requested.append(request.url))
    yield found
    context.close()
