"""The page holds what is measured and what runs say, as text, and needs no network."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from fl.page import sheets
from fl.page.published import AXES, PICTURES, Published, read
from fl.page.render import Report, headline, render, render_run, slug
from fl.page.state import Meter, OpenRound, Tried
from tests.fl.page.helpers import HOSTILE, KEPT, MASKING, MATRIX, NOISED, PLAIN, POINTS, PUBLISHED, state

BUNDLE = "window.vegaEmbed = null;"
PIXEL = b"\x89PNG"


class Page(HTMLParser):
    """Tags, in order: (tag, or /tag, attributes, the text up to the next)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements = list[tuple[str, dict[str, str | None], str]]()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}", {}, ""))

    def handle_data(self, data: str) -> None:
        if self.elements:
            tag, attributes, text = self.elements.pop()
            self.elements.append((tag, attributes, text + data))
        self.text += f" {data}"

    @property
    def words(self) -> str:
        return " ".join(self.text.split())

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, text) for name, attributes, text in self.elements if name == tag]


def page(report: Report) -> Page:
    return Page(render(report, BUNDLE, dict.fromkeys(report.plots, PIXEL)))


FULL = Report(PUBLISHED, (state("one"), state("two")))


def test_the_page_asks_no_other_address_for_anything() -> None:
    """Links within it, and data: nothing else is named in an attribute that loads or leads anywhere."""
    for _, attributes, _ in page(FULL).elements:
        for name in ("src", "href", "action", "srcset", "poster", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:"))
    assert "@import" not in render(FULL, BUNDLE, {})
    assert not re.search(r"url\((?!data:)", "".join(text for _, text in page(FULL).of("style")))


def test_its_policy_names_its_scripts_and_its_style_and_nothing_else() -> None:
    parsed = page(FULL)
    (policy,) = [
        each["content"] or ""
        for each, _ in parsed.of("meta")
        if each.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert (
        rules["default-src"] == rules["connect-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    )
    scripts = [
        text for attributes, text in parsed.of("script") if attributes.get("type") != "application/json"
    ]
    for allowed, texts in (
        (rules["script-src"], scripts),
        (rules["style-src"], [t for _, t in parsed.of("style")]),
    ):
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        assert allowed == " ".join(f"'sha256-{digest}'" for digest in digests)
    assert not [name for _, attributes, _ in parsed.elements for name in attributes if name.startswith("on")]
    assert not [attributes for _, attributes, _ in parsed.elements if "style" in attributes]


def test_what_a_run_says_is_text_wherever_it_stands() -> None:
    report = Report(PUBLISHED, (state(HOSTILE), state()))
    mine, parsed = page(FULL), page(report)
    assert [tag for tag, _, _ in parsed.elements] == [tag for tag, _, _ in mine.elements]
    assert HOSTILE in parsed.text
    assert "onerror=alert(1)>" not in render(report, BUNDLE, {}).replace("&gt;", "")
    for name in (*report.plots, *report.sheets):
        assert re.fullmatch(r"[a-z0-9-]+", name)


def test_data_of_plots_is_json_again() -> None:
    parsed = page(Report(PUBLISHED, (state(HOSTILE), state())))
    held = [msgspec.json.decode(t) for a, t in parsed.of("script") if a.get("type") == "application/json"]
    assert len(held) == 8
    curves = {row.get("of") for each in held for row in each["spec"]["data"]["values"]}
    assert {f"1. {HOSTILE}", "2. mine"} <= curves


def test_every_plot_and_every_table_can_be_taken_along() -> None:
    parsed = page(FULL)
    taken = {each["download"]: each.get("href") or "" for each, _ in parsed.of("a") if "download" in each}
    assert set(taken) == {f"{name}.png" for name in FULL.plots} | {f"{name}.csv" for name in FULL.sheets}
    text = base64.b64decode(taken["poisoning-few.csv"].partition("base64,")[2]).decode()
    assert list(csv.reader(io.StringIO(text))) == [
        ["rule", "none", "opposite"],
        ["mean", "95", "48"],
        ["krum", "67", ""],
    ]


@pytest.mark.parametrize("report", [FULL, Report(Published()), Report(Published(), (state(),))])
def test_anchors_names_and_labels_lead_somewhere(report: Report) -> None:
    parsed = page(report)
    ids = [attributes["id"] for _, attributes, _ in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes, _ in parsed.elements:
        for name in ("aria-labelledby", "aria-controls", "for"):
            assert attributes.get(name) in (None, *ids)
        if (attributes.get("href") or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in ids
    assert len(parsed.of("h1")) == len(parsed.of("main")) == len(parsed.of("header")) == 1
    assert all(each.get("scope") for each, _ in parsed.of("th"))
    assert len(parsed.of("caption")) == len(parsed.of("table"))
    assert all(each.get("alt") for each, _ in parsed.of("img"))
    assert all(each.get("aria-label") for each, _ in parsed.of("nav"))


def test_each_protection_has_its_numbers_and_its_command() -> None:
    parsed = page(FULL)
    for point in POINTS:
        commands = [text for _, text in parsed.of("code")]
        assert commands.count(point.command) == 2  # of the details, and of the table
    assert "96.1 ± 0.5" in parsed.words
    assert "8 (against the server and the corrupt clients)" in parsed.words
    assert "none: the server has ciphertexts alone" in parsed.words
    sheet = FULL.sheets["protections"]
    noised, kept = (dict(zip(sheet.header, row, strict=True)) for row in sheet.rows[2:])
    assert kept["leakage to the server (% of examples)"] == "n/a"
    assert kept["remarks"] == (
        "leakage to the server: the server has ciphertexts alone; epsilon: no noise is added"
    )
    assert noised["remarks"] == "epsilon: against the server and the corrupt clients"


def test_what_is_not_drawn_is_listed_with_its_reason() -> None:
    parsed = page(FULL)
    shown = [
        each["data-undrawn"]
        for each, _ in parsed.of("div")
        if "data-undrawn" in each and "hidden" not in each
    ]
    assert FULL.sides == (AXES[0], AXES[4])
    assert shown == ["leakage"]
    assert "ckks, keep: the server has ciphertexts alone" in parsed.text


def test_the_headline_says_who_hides_the_examples_and_what_that_costs() -> None:
    assert headline(POINTS) == (
        "Of 4 ways to protect one training, 2 leave the server at most 5\N{NO-BREAK SPACE}% of the examples "
        "to read, where the most open leaves it 86\N{NO-BREAK SPACE}%. The cheapest that keeps the accuracy "
        "is “ckks, keep”: 140 ms a round more."
    )
    assert "cheapest" not in headline((PLAIN, MASKING, NOISED))
    unread = msgspec.structs.replace(KEPT, why={}, values={**KEPT.values, "leakage": None})
    assert "1 leaves the server" in headline((PLAIN, NOISED, unread))
    assert headline((unread,)) == (
        "1 way to protect one training, side by side. What the server can read under each is not measured at "
        "full size yet."
    )
    assert headline(()).startswith("The protections have not been measured side by side")


def test_without_points_the_page_says_how_to_get_them() -> None:
    text = page(Report(Published())).words
    assert "There is no chart yet: secagg bench matrix --size full measures it." in text


def test_results_of_another_size_are_called_so_and_claim_nothing() -> None:
    unclaimed = msgspec.structs.replace(MATRIX, claim="")
    quick = msgspec.structs.replace(
        PUBLISHED, size="quick", of="5 rounds on digits, with 1 seed", matrices=(unclaimed,)
    )
    text = page(Report(quick)).words
    assert "--size quick that were measured here, 5 rounds on digits, with 1 seed, and not those" in text
    assert "What it shows" not in text
    assert "kept with the code" not in text
    none = page(Report(Published(size="quick", of="nothing"))).words
    assert "side by side at quick size yet" in none
    assert "There is no chart yet: secagg bench matrix --size quick measures it." in none


def test_a_cell_of_a_matrix_is_coloured_by_its_number() -> None:
    sheet = sheets.matrix(MATRIX)
    assert sheet.shades == ((10, 5), (7, None))
    assert sheet.rows == (("mean", "95", "48"), ("krum", "67", ""))
    assert sheet.caption == "Accuracy in percent. The stronger the colour, the better. Blank: not tried."


def test_no_cell_of_a_csv_is_a_formula() -> None:
    sheet = sheets.Sheet("s", "", ("a",), (("=1+1",), ("-0.5 ± 0.1",), ("+cmd",), ("@x",), ("-3",)))
    assert sheet.csv.splitlines() == ["a", "'=1+1", "-0.5 ± 0.1", "'+cmd", "'@x", "-3"]


@pytest.mark.parametrize(
    ("value", "text"), [(None, "n/a"), (0.0, "0"), (0.123456, "0.123"), (12345.6, "12,346"), (-70.04, "-70")]
)
def test_numbers_have_three_digits_that_count(value: float | None, text: str) -> None:
    assert sheets.number(value) == text


def test_a_run_says_how_far_it_is_and_what_it_told() -> None:
    parsed = Page(render_run(state()))
    text = parsed.words
    assert "rounds 2 of 3 accuracy 0.7500 epsilon 2.5" in text
    assert "Epsilon 2.5 at delta 1e-05 against the server while 3 clients are honest." in text
    assert "masked-input is open: 2 of 4 have answered. Answered: 0, 1. Awaited: 2, 4." in text
    assert "Epsilon against the server, by training round" in text
    assert "loss epsilon against the server clients" in text
    assert "uploads that did not come 1" in text
    assert "share-keys 4 3 12,345 1 7" in text
    assert [each["data-plot"] for each, _ in parsed.of("figure") if "data-plot" in each] == [
        "run-accuracy",
        "run-epsilon",
        "run-bytes",
    ]
    assert not parsed.of("html")


def test_of_a_training_in_one_process_it_says_who_has_trained() -> None:
    """In short, of many."""
    open_round = OpenRound(
        round="training", done=8, total=1000, answered=(0, *range(2, 9)), awaited=(1, *range(9, 1000))
    )
    text = Page(render_run(msgspec.structs.replace(state(), open=open_round))).words
    assert (
        "training is open: 8 of 1000 have trained. Trained: 0, 2\N{EN DASH}8. Awaited: 1, 9\N{EN DASH}999."
        in text
    )


def test_a_meter_says_what_came_out_and_what_was_not_tried() -> None:
    tried = Tried("peeling", "one sum", "12 of 20 images", "some of the 5", "leaks", "it leaks by peeling")
    meter = Meter("masking", (tried,), {"words": "reads texts"}, "that is what these attacks found")
    text = Page(render_run(msgspec.structs.replace(state(), meter=meter))).words
    assert "peeling one sum 12 of 20 images some of the 5 leaks" in text
    assert "peeling: it leaks by peeling" in text
    assert "1 attack not tried words: it reads texts" in text
    assert "The meter: that is what these attacks found." in text


def test_without_noise_no_epsilon_is_promised() -> None:
    quiet = msgspec.structs.replace(state(), epsilon=None, no_epsilon=None)
    assert "No noise, and so no epsilon." in render_run(quiet)
    why = msgspec.structs.replace(state(), epsilon=None, no_epsilon="too few honest clients")
    assert "No epsilon: too few honest clients." in render_run(why)


def test_a_slug_is_fit_for_a_file_and_an_anchor() -> None:
    assert slug("../Über/Run 1") == "ber-run-1"
    assert slug("\u202e../..") == ""
    assert len(slug("a" * 500)) == 40


def test_what_is_installed_can_be_read_and_has_its_pictures() -> None:
    published = read()
    assert published.matrices
    assert all((PICTURES / each.file).is_file() for each in published.pictures)


def test_the_package_brings_what_the_page_needs() -> None:
    """Every file that is no code stands in pyproject's list."""
    import tomllib

    from fl import page as package

    root, folder = Path(__file__).parents[3], Path(package.__file__).parent
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "fl.page"
    ]
    brought = {path for pattern in listed for path in folder.glob(pattern)}
    others = {path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert others == brought
