"""The plots say what they are given, and where each thing lies."""

from __future__ import annotations

import io
import json
import math
import re
from itertools import permutations
from typing import Any

import msgspec
import pytest
from PIL import Image

from fl.page.chart import Chart, missing
from fl.page.curves import growth, over_rounds
from fl.page.plots import DARK, LIGHT, MARKS
from fl.page.published import AXES, Axis, Curve, Panel
from fl.page.vega import painted, png
from tests.fl.page.helpers import KEPT, MASKING, NOISED, PLAIN, POINTS

CHART = Chart(POINTS)
BY_NAME = {axis.name: axis for axis in AXES}
COST, LEAK, ACCURACY, EPSILON = (BY_NAME[name] for name in ("client_ms", "leakage", "accuracy", "epsilon"))


def test_a_point_is_drawn_at_its_values_and_one_without_is_not() -> None:
    rows = CHART.rows(COST, LEAK)
    assert [(row["name"], row["x"], row["y"]) for row in rows] == [
        (PLAIN.name, 0.0, 86.0),
        (MASKING.name, 9.0, 41.0),
        (NOISED.name, 12.0, 0.0),
    ]
    assert (rows[0]["y_low"], rows[0]["y_high"]) == (82.0, 90.0)
    assert (rows[1]["x_low"], rows[1]["x_high"]) == (8.0, 10.0)
    assert [missing(each, COST, LEAK) for each in POINTS] == [[], [], [], [LEAK]]


def test_only_axes_on_which_something_lies_can_be_chosen() -> None:
    assert [axis.name for axis in CHART.axes] == ["client_ms", "bytes_up", "leakage", "accuracy", "epsilon"]


@pytest.mark.parametrize(
    ("axis", "kind", "x", "y"),
    [(COST, "symlog", "← better", "↓ better"), (ACCURACY, "linear", "better →", "↑ better")],
)
def test_an_axis_has_its_scale_and_says_which_way_is_better(axis: Axis, kind: str, x: str, y: str) -> None:
    across, upwards = (CHART.encodings(axis)[side] for side in "xy")
    assert across["scale"]["type"] == upwards["scale"]["type"] == kind
    assert (across["title"].split("    ")[1], upwards["title"].split("    ")[1]) == (x, y)


def test_costs_are_logarithmic_where_none_is_0() -> None:
    scale = CHART.encodings(BY_NAME["bytes_up"])["x"]["scale"]
    assert scale["type"] == "log"
    low, high = scale["domain"]
    assert 0 < low < 0.66
    assert high > 8.3


@pytest.mark.parametrize(("x", "y"), [*permutations(CHART.axes, 2)])
def test_every_value_lies_within_its_axes(x: Axis, y: Axis) -> None:
    """Also those with a spread of no more than a margin, and where all have one value."""
    for axis in (x, y):
        low, high = CHART.encodings(axis)["x"]["scale"]["domain"]
        assert low < high
        for point in POINTS:
            value = point.values[axis.name]
            assert value is None or low < value < high
    json.dumps(CHART.spec(x, y), allow_nan=False)


def test_numbers_of_marks_that_lie_on_each_other_stand_together() -> None:
    near = msgspec.structs.replace(MASKING, values={**MASKING.values, "client_ms": 9.01})
    chart = Chart((PLAIN, MASKING, near, NOISED, KEPT))
    assert [row["label"] for row in chart.rows(COST, LEAK)] == ["1", "", "2, 3", "4"]
    assert chart.data()["labels"]["client_ms"]["leakage"] == [
        *(("1", ""), ("", ""), ("2, 3", ""), ("4", ""), ("", "")),
    ]
    many = Chart((PLAIN, MASKING, near, MASKING, NOISED, MASKING))
    assert [row["label"] for row in many.rows(COST, LEAK)] == ["1", "", "2\N{EN DASH}4, 6", "", "5", ""]


def test_a_number_stands_before_its_mark_where_another_mark_lies_after_it() -> None:
    """Unless one lies there, too."""

    def at(*places: float) -> list[tuple[str, str]]:
        points = [
            msgspec.structs.replace(PLAIN, values={"accuracy": place, "leakage": 0.0, "client_ms": 1.0})
            for place in (0.0, *places, 100.0)
        ]
        return [(row["label"], row["before"]) for row in Chart(tuple(points)).rows(ACCURACY, LEAK)]

    assert at(50.0, 70.0) == [("1", ""), ("2", ""), ("3", ""), ("4", "")]
    assert at(50.0, 56.0) == [("1", ""), ("", "2"), ("3", ""), ("4", "")]
    assert at(44.0, 50.0, 56.0) == [("1", ""), ("", "2"), ("3", ""), ("4", ""), ("5", "")]


def test_what_the_script_gets_is_what_the_plot_is_made_of() -> None:
    data = CHART.data()
    rows = CHART.rows(COST, ACCURACY)
    for row, point, x, y in zip(
        rows, data["points"], data["sides"]["client_ms"], data["sides"]["accuracy"], strict=True
    ):
        assert (row["name"], row["scheme"]) == (point["name"], point["scheme"])
        assert (row["x"], row["x_low"], row["x_high"]) == tuple(x)
        assert (row["y"], row["y_low"], row["y_high"]) == tuple(y)
    assert data["sides"]["leakage"][3] is None


def test_schemes_differ_by_shape_and_not_by_colour_alone() -> None:
    assert len(set(MARKS.values())) == len(MARKS)
    encoding = CHART.spec(COST, LEAK)["layer"][2]["encoding"]
    assert encoding["shape"]["scale"]["range"] == ["circle", "square", "triangle-up"]
    assert encoding["color"]["scale"]["domain"] == encoding["shape"]["scale"]["domain"]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's ratio."""

    def luminance(colour: str) -> float:
        parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_marks_can_be_told_from_the_paper(colours: dict[str, str]) -> None:
    """WCAG 2.2 asks for 4.5 of text, and for 3 of marks."""
    for paper in ("paper", "card"):
        assert min(contrast(colours[name], colours[paper]) for name in ("ink", "quiet", "accent")) >= 4.5
        assert min(contrast(colours[scheme], colours[paper]) for scheme in MARKS) >= 3
    assert list(LIGHT) == list(DARK)


def test_a_number_that_is_none_is_no_dot() -> None:
    spec = over_rounds({"a": [(1, 0.5), (2, math.nan), (3, math.inf), (4, 0.75)]}, "loss")
    assert [(row["round"], row["y"]) for row in spec["data"]["values"]] == [(1, 0.5), (4, 0.75)]


def test_growth_has_a_dot_for_what_is_measured_and_a_line_for_what_is_predicted() -> None:
    panel = Panel(
        "p", "t", "clients", "s", (Curve("a", ((10, 0.1), (100, 1.0))), Curve("a", ((10, 0.2),), True))
    )
    spec = growth(panel)
    assert [(row["x"], row["y"], row["kind"]) for row in spec["data"]["values"]] == [
        (10, 0.1, "measured"),
        (100, 1.0, "measured"),
        (10, 0.2, "predicted"),
    ]
    assert spec["encoding"]["y"]["axis"]["values"] == [0.1, 1.0]


@pytest.mark.parametrize(
    "spec",
    [CHART.picture(COST, LEAK), over_rounds({"a": [(1, 0.5), (2, 0.6)], "b": [(1, 0.1)]}, "accuracy", 300)],
    ids=["chart", "rounds"],
)
def test_a_plot_is_drawn_as_png_on_the_light_paper(spec: dict[str, Any]) -> None:
    assert "var(--" in json.dumps(spec)
    assert not re.search(r"var\(--", json.dumps(painted(spec)))
    picture = Image.open(io.BytesIO(png(spec))).convert("RGB")
    assert picture.width > 500
    assert "#{:02x}{:02x}{:02x}".format(*picture.getpixel((0, 0))) == LIGHT["paper"]
    assert len(picture.getcolors(2**16) or ()) > 10
