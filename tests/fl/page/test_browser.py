"""The page in a real browser: it draws its plots without a network, and its controls answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from fl.page import curves, vega
from fl.page.published import read
from fl.page.render import Report, render
from tests.fl.page.browser import PATIENCE, Watched, browser
from tests.fl.page.helpers import HOSTILE, POINTS, PUBLISHED, state

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHART = '[data-plot="chart"]'
MARKS = f"{CHART} svg .mark-symbol.role-mark path"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as made:
        yield made


def written(report: Report, folder: Path) -> Path:
    picture = vega.png(curves.over_rounds({"a": [(1, 0.5)]}, "nothing", 200, 100))
    text = render(report, vega.bundle(), dict.fromkeys(report.plots, picture))
    (folder / "report.html").write_text(text, encoding="utf-8")
    return folder / "report.html"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that can be on a page, with a name that would be more than text if it could."""
    published = msgspec.structs.replace(read(), points=PUBLISHED.points)
    return written(Report(published, (state("mine"), state(HOSTILE))), tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with the chart, and little else."""
    return written(Report(PUBLISHED), tmp_path_factory.mktemp("small"))


@contextmanager
def opened(chromium: Browser, file: Path, width: int, scheme: str) -> Iterator[Watched]:
    watched = Watched(chromium, width, scheme)
    watched.page.goto(file.as_uri())
    watched.page.wait_for_selector("html[data-drawn]")
    yield watched
    watched.page.context.close()


@pytest.fixture(params=[(1280, "light"), (375, "dark")], ids=["wide, light", "phone, dark"])
def everything(chromium: Browser, whole: Path, request: pytest.FixtureRequest) -> Iterator[Watched]:
    with opened(chromium, whole, *request.param) as watched:
        yield watched


@pytest.fixture
def watched(chromium: Browser, small: Path) -> Iterator[Watched]:
    with opened(chromium, small, 1280, "light") as watched:
        yield watched


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page


def names(page: Page) -> list[str]:
    """Of the marks of the chart, as a screen reader has them."""
    return [mark.get_attribute("aria-label") or "" for mark in page.locator(MARKS).all()]


def test_the_whole_page_is_drawn_of_itself_alone_and_no_wider_than_the_window(
    everything: Watched, whole: Path
) -> None:
    """Also with all that unfolds, and with the details of a protection."""
    page = everything.page
    assert page.title() == "secagg: what protecting a training costs, and what it stops"
    assert page.locator("[data-plot]:not([data-drawn])").count() == 0
    assert page.locator(".canvas svg.marks").count() == page.locator("[data-plot]").count() > 5
    assert names(page) == [point.name for point in POINTS[:3]]
    assert page.get_by_text(HOSTILE, exact=True).count() > 0
    assert page.locator("img[src='x']").count() == 0
    for summary in page.locator("summary").all():
        summary.click()
    page.locator('[data-point="2"]').click()  # nothing that appears lies over what is pressed
    assert POINTS[2].command in page.locator("#details").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    right = "each => each.getBoundingClientRect().right <= window.innerWidth"
    boxes = page.locator(".scroll").all()
    assert len(boxes) > 5
    assert all(box.evaluate(right) for box in boxes)
    assert everything.said == []
    assert {url for url in everything.asked if not url.startswith("data:")} == {whole.as_uri()}


def test_another_axis_draws_another_chart(watched: Watched) -> None:
    page = watched.page
    assert (
        "ckks, keep: the server has ciphertexts alone"
        in page.locator('[data-undrawn="leakage"]').inner_text()
    )
    page.get_by_label("Upwards").select_option("accuracy")
    page.wait_for_function(f"document.querySelectorAll('{MARKS}').length === 4")
    assert names(page) == [point.name for point in POINTS]
    assert page.locator(f"{CHART} svg").get_by_text("accuracy (%)").count() == 1
    assert not page.locator('[data-undrawn="leakage"]').is_visible()
    page.get_by_label("Across").select_option("epsilon")
    page.wait_for_function(f"document.querySelectorAll('{MARKS}').length === 1")
    assert page.locator('[data-undrawn="epsilon"]').is_visible()
    assert watched.said == []


def test_one_axis_is_not_on_both_sides(page: Page) -> None:
    page.get_by_label("Upwards").select_option("client_ms")
    assert page.get_by_label("Across").input_value() == "leakage"


def test_a_mark_shows_its_numbers_and_its_command(page: Page) -> None:
    """While it is looked at; once it was chosen, until another is."""
    details = page.locator("#details")
    masking, plain = POINTS[1].command, POINTS[0].command
    assert plain in details.inner_text()
    page.locator(MARKS).nth(1).hover()
    assert masking in details.inner_text()
    assert "9 ± 1" in details.inner_text()
    page.mouse.move(0, 0)
    assert plain in details.inner_text()
    page.locator(MARKS).nth(1).click()
    page.mouse.move(0, 0)
    assert masking in details.inner_text()
    assert page.locator('[data-point="1"]').get_attribute("aria-pressed") == "true"
    assert page.locator('[aria-pressed="true"]').count() == 1


def test_the_keyboard_reaches_every_protection(page: Page) -> None:
    """Also those that are not drawn."""
    details = page.locator("#details")
    page.locator('[data-point="0"]').focus()
    for point in POINTS:
        assert page.evaluate("document.activeElement.innerText").strip() == point.name
        assert point.command in details.inner_text()
        page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert POINTS[3].command in details.inner_text()


def test_the_first_stop_of_the_keyboard_leads_to_the_content(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top >= 0")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_what_is_taken_along_is_the_file(page: Page) -> None:
    with page.expect_download() as csv:
        page.locator('a[download="poisoning-few.csv"]').click()
    assert Path(csv.value.path()).read_text(encoding="utf-8") == "rule,none,opposite\nmean,95,48\nkrum,67,\n"
    with page.expect_download() as png:
        page.locator('a[download="chart.png"]').click()
    assert Path(png.value.path()).read_bytes().startswith(b"\x89PNG")


def colour(page: Page, where: str, what: str) -> str:
    return str(page.locator(where).first.evaluate(f"each => getComputedStyle(each).{what}"))


def test_plots_follow_the_page_into_the_dark_and_onto_paper(page: Page) -> None:
    def seen() -> tuple[str, str]:
        return colour(page, "html", "backgroundColor"), colour(page, MARKS, "fill")

    page.emulate_media(color_scheme="dark")
    dark = seen()
    page.emulate_media(color_scheme="light")
    light = seen()
    page.emulate_media(color_scheme="dark", media="print")
    assert seen() == light
    assert dark[0] != light[0]
    assert dark[1] != light[1]


def test_on_paper_everything_is_unfolded_and_no_control_is_left(page: Page) -> None:
    page.emulate_media(media="print")
    assert page.get_by_role("rowheader", name="masking", exact=True).first.is_visible()
    assert not page.locator("[data-axes]").is_visible()
    assert not page.locator("nav").is_visible()


def test_without_a_script_the_pictures_are_there(chromium: Browser, small: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(small.as_uri(), timeout=PATIENCE)
    assert page.locator(".canvas img").count() == page.locator("[data-plot]").count()
    assert page.locator(".canvas img").first.is_visible()
    context.close()
