"""A real browser for the tests of the page: Chromium, of this system or of playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage

PATIENCE = 600_000.0  # ms: nothing waits so long unless something is broken
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def browser() -> Iterator[Browser]:
    """Skips the test, with the reason, where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the extra dev brings playwright")
    at = next(filter(None, map(shutil.which, NAMES)), None)
    with playwright.sync_playwright() as started:
        if at is None and not Path(started.chromium.executable_path).exists():
            pytest.skip("no Chromium is installed: apt-get install chromium, or playwright install chromium")
        # A sandbox cannot be had in most containers, where tests are root; the pages are our own.
        sandbox = [] if os.name != "posix" or os.geteuid() else ["--no-sandbox"]
        made = started.chromium.launch(executable_path=at, args=sandbox, timeout=PATIENCE)
        try:
            yield made
        finally:
            made.close()


class Watched:
    """A page, and all that its console said and its network was asked for. scheme: "light" or "dark"."""

    def __init__(self, browser: Browser, width: int = 1280, scheme: Any = "light") -> None:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        self.page, self.said, self.asked = page, list[str](), list[str]()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def _heard(self, message: ConsoleMessage) -> None:
        self.said.append(f"{message.type}: {message.text}")
