"""Curves: how a cost grows, and what a run came to, round by round."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fl.page.plots import SCHEMES, SHAPES, Spec, colour, plot
from fl.page.published import Panel

FEW, MOST_DOTS = 15, 60
"""Rounds of which each gets a number on the axis; of which each gets a dot."""


def growth(panel: Panel, width: int | str = "container", height: int = 300) -> Spec:
    """Dots are measured, dashes are what the formula says."""
    rows = [
        {"x": x, "y": y, "of": curve.name, "kind": "predicted" if curve.predicted else "measured"}
        for curve in panel.curves
        for x, y in curve.points
    ]
    series = _series([curve.name for curve in panel.curves])
    return plot(
        width,
        height,
        f"{panel.title}: {panel.y} by {panel.x}",
        data={"values": rows},
        encoding={
            "x": {"field": "x", "type": "quantitative", "title": panel.x, **_factors(rows, "x", ",~s")},
            "y": {"field": "y", "type": "quantitative", "title": panel.y, **_factors(rows, "y", ",~r")},
            "color": series["color"],
            "tooltip": [
                {"field": "of", "title": "of"},
                {"field": "x", "title": panel.x, "format": ","},
                {"field": "y", "title": panel.y, "format": ",.3~g"},
                {"field": "kind", "title": "how"},
            ],
        },
        layer=[
            {
                "transform": [{"filter": "datum.kind === 'predicted'"}],
                "mark": {"type": "line", "strokeDash": [5, 4], "strokeWidth": 1.5},
            },
            {
                "transform": [{"filter": "datum.kind === 'measured'"}],
                "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
                "encoding": {"shape": series["shape"]},
            },
        ],
    )


def _factors(rows: Sequence[Spec], side: str, form: str) -> Spec:
    """A logarithmic axis, with lines at the powers of ten alone."""
    low, high = min(row[side] for row in rows), max(row[side] for row in rows)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return {
        "scale": {"type": "log", "domain": [low / 1.5, high * 1.5], "nice": False},
        "axis": {"format": form, "values": [10.0**power for power in powers]},
    }


def _series(names: Sequence[str]) -> Spec:
    """A colour and a shape each, no more than there are of them."""
    names = list(dict.fromkeys(names))
    colours = [colour(SCHEMES[i % len(SCHEMES)]) for i in range(len(names))]
    shapes = [SHAPES[i % len(SHAPES)] for i in range(len(names))]
    return {
        "color": {"field": "of", "type": "nominal", "scale": {"domain": names, "range": colours}},
        "shape": {"field": "of", "type": "nominal", "scale": {"domain": names, "range": shapes}},
    }


def over_rounds(
    curves: Mapping[str, Sequence[tuple[int, float]]],
    what: str,
    width: int | str = "container",
    height: int = 260,
    *,
    zero: bool = False,
    form: str = ".3~f",
) -> Spec:
    """A number of each training round. curves: name -> (round, number)."""
    known = {
        name: [(round, value) for round, value in values if math.isfinite(value)]
        for name, values in curves.items()
    }
    last = max((round for values in known.values() for round, _ in values), default=1)
    numbers = {"values": [*range(1, last + 1)]} if last <= FEW else {}
    series = _series([*curves])
    if len(curves) == 1:
        series = {channel: {**how, "legend": None} for channel, how in series.items()}
    dots = {"mark": {"type": "point", "filled": True, "size": 50, "opacity": 1}, "encoding": series}
    line = {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"color": series["color"]}}
    rows = [
        {"round": round, "y": value, "of": name} for name, values in known.items() for round, value in values
    ]
    return plot(
        width,
        height,
        f"{what} by training round",
        data={"values": rows},
        encoding={
            "x": {
                "field": "round",
                "type": "quantitative",
                "title": "training round",
                "axis": {"format": "d", "grid": False, **numbers},
                "scale": {"domain": [1, max(last, 2)], "nice": False, "padding": 8},
            },
            "y": {
                "field": "y",
                "type": "quantitative",
                "title": what,
                "scale": {"zero": zero},
                "axis": {"format": form},
            },
            "tooltip": [
                *([{"field": "of", "title": "run"}] if len(curves) > 1 else []),
                {"field": "round", "title": "round"},
                {"field": "y", "title": what, "format": form},
            ],
        },
        layer=[line, dots] if last <= MOST_DOTS else [line],
    )
