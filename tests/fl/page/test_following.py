"""The page of a run under way in a real browser: it follows the run, and leaves whoever reads it in peace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import pytest

from fl.page.following import contents
from fl.page.live import Dashboard, Live, listen
from fl.page.state import OpenRound, RunState
from tests.fl.page.browser import PATIENCE, Watched, browser
from tests.fl.page.test_live import a_round

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BEGUN = RunState(name="mine", title="masking: a test", total=3, settings=(("clients", "3"),)).after(
    [a_round(1)]
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture
def live() -> Live:
    return Live(BEGUN)


@pytest.fixture
def url(live: Live) -> Iterator[str]:
    with Dashboard(listen(0), live, contents()) as dashboard:
        yield dashboard.url


def test_a_round_arrives_without_a_reload(chromium: Browser, live: Live, url: str) -> None:
    """Whoever has folded something out, and stands somewhere, still does; plots are drawn anew; it is said
    aloud that a round has ended, and at last that the run has, which is then followed no more.
    """
    watched = Watched(chromium, 375, "dark")
    page = watched.page
    page.goto(url)
    page.wait_for_selector("html[data-drawn]")
    page.evaluate("window.untouched = true")
    summary = page.locator("summary", has_text="round by round")
    summary.click()
    live.open_round = lambda: OpenRound(round="share-keys", done=1, total=3, answered=(2,), awaited=(0, 1))
    page.locator("#live", has_text="share-keys is open: 1 of 3 have answered. Answered: 2.").wait_for()
    live.state = live.state.after([a_round(1), a_round(2, accuracy=0.75)])
    news = page.get_by_role("status")
    news.filter(has_text="Round 2 of 3 has ended: accuracy 0.7500.").wait_for()
    assert page.locator("details", has_text="round by round").get_attribute("open") is not None
    assert page.evaluate("document.activeElement.textContent") == summary.text_content()
    page.locator('[data-plot="run-accuracy"] svg', has_text="2").wait_for()
    assert page.locator("tbody", has_text="0.7500").is_visible()
    live.end("it came to its end")
    page.wait_for_selector('html[data-following="no"]')
    assert news.text_content() == "Ended: it came to its end."
    assert page.evaluate("window.untouched")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert watched.said == []
    assert {asked.removeprefix(url) for asked in watched.asked if not asked.startswith("data:")} == {
        "",
        "run",
    }
    page.context.close()


def test_without_a_script_the_page_comes_again_by_itself(chromium: Browser, live: Live, url: str) -> None:
    page = chromium.new_context(java_script_enabled=False).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(url)
    live.state = live.state.after([a_round(1), a_round(2, accuracy=0.75)])
    page.locator("dd", has_text="2 of 3").wait_for()
    live.state = msgspec.structs.replace(live.state, status="ended", why="it came to its end")
    page.locator(".run > p", has_text="it came to its end").wait_for()
    assert page.locator('meta[http-equiv="refresh"]').count() == 0
    page.context.close()
