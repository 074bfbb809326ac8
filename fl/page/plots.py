"""How the plots of the page look: Vega-Lite specifications, drawn in the page and as PNG alike.

Colours are the style sheet's (`var(--ink)`), so that a plot in the page follows it into the dark and onto
paper; a PNG has those of the light page.
"""

from __future__ import annotations

from typing import Any, Final

Spec = dict[str, Any]

MARKS: Final = {
    "plain": "circle",
    "masking": "square",
    "ckks": "triangle-up",
    "split": "diamond",
    "decoys": "cross",
}
"""Scheme -> the shape of its marks; its colour has its name."""
SCHEMES, SHAPES = tuple(MARKS), tuple(MARKS.values())
LIGHT: Final = {
    "paper": "#fdfcfa",
    "card": "#f5f3ee",
    "ink": "#1f2328",
    "quiet": "#5b6068",
    "rule": "#e2dfd7",
    "accent": "#0a5c91",
    "heat": "#3f8fc4",
    "plain": "#0072b2",
    "masking": "#b8500a",
    "ckks": "#00795a",
    "split": "#a8487f",
    "decoys": "#6b5b00",
}
"""Name -> colour, after Okabe and Ito (2008), darkened to three times the paper's luminance and more."""
DARK: Final = {
    "paper": "#16181c",
    "card": "#1f2227",
    "ink": "#e8e6e1",
    "quiet": "#a3a7ae",
    "rule": "#34383f",
    "accent": "#7cc0ee",
    "heat": "#3f8fc4",
    "plain": "#56b4e9",
    "masking": "#f0954f",
    "ckks": "#2fc79b",
    "split": "#e69ac6",
    "decoys": "#e5d352",
}
SIZE: Final = (660, 420)
"""Width and height of a PNG, and what is taken for that of the chart in the page, in pixels."""


def config() -> Spec:
    """How all plots look."""
    quiet, ink = colour("quiet"), colour("ink")
    return {
        "background": None,
        "font": "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif",
        "view": {"stroke": None},
        "axis": {
            "domainColor": quiet,
            "gridColor": colour("rule"),
            "tickColor": quiet,
            "labelColor": quiet,
            "titleColor": ink,
            "labelFontSize": 12,
            "titleFontSize": 13,
            "titleFontWeight": "normal",
            "labelOverlap": True,
        },
        "axisX": {"titlePadding": 10},
        "axisY": {
            "titleAngle": 0,
            "titleAlign": "left",
            "titleAnchor": "end",
            "titleBaseline": "bottom",
            "titleX": 0,
            "titleY": -12,
            "domain": False,
            "ticks": False,
        },
        "legend": {
            "labelColor": ink,
            "labelFontSize": 12,
            "orient": "bottom",
            "columns": 3,
            "title": None,
            "symbolSize": 90,
        },
    }


def colour(name: str) -> str:
    return f"var(--{name})"


def plot(width: int | str, height: int, says: str, **rest: Any) -> Spec:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": says,
        "width": width,
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"} if width == "container" else "pad",
        "config": config(),
        **rest,
    }
