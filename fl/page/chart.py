"""The chart of protections: a mark for each, by any two of the axes on which they are measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fl.page.plots import MARKS, SCHEMES, SIZE, Spec, colour, plot
from fl.page.published import AXES, Axis, Point
from fl.page.sheets import spans

ENDS: Final = ("", "_low", "_high")
NEAR: Final = 14  # pixels between two marks whose numbers would lie on each other
ASIDE, ABOVE, LETTER, MARK = 10, 8, 7, 7
"""Pixels: from a mark to its number across and upwards, of a letter, and of half a mark."""
DOT: Final = {"type": "point", "filled": True, "opacity": 0.95, "strokeWidth": 1.5, "cursor": "pointer"}


def missing(point: Point, *axes: Axis) -> list[Axis]:
    """Those on which it has no value."""
    return [axis for axis in axes if point.values.get(axis.name) is None]


@dataclass(frozen=True)
class Chart:
    """The protections by two of the axes. points: all of them; those without a value there are not drawn."""

    points: tuple[Point, ...]

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Those on which any of them has a value."""
        return tuple(axis for axis in AXES if any(value is not None for value in self._values(axis)))

    def rows(self, x: Axis, y: Axis) -> list[Spec]:
        """What is drawn. low, high: a deviation to each side, of those that have one."""
        return [
            {
                "name": point.name,
                "scheme": point.scheme,
                "label": after,
                "before": before,
                **{f"x{end}": value for end, value in zip(ENDS, across, strict=True)},
                **{f"y{end}": value for end, value in zip(ENDS, upwards, strict=True)},
            }
            for point, (after, before) in zip(self.points, self._labels(x, y), strict=True)
            if (across := self._side(point, x)) and (upwards := self._side(point, y))
        ]

    def _side(self, point: Point, axis: Axis) -> tuple[float, float, float] | None:
        """Its value, and that less and plus its spread: not below what a logarithm has."""
        value, around = point.values.get(axis.name), point.spread.get(axis.name, 0.0)
        if value is None:
            return None
        low = value - around
        if self._scale(axis)["type"] == "log" and low <= 0:
            low = value
        return value, low, value + around

    def _scale(self, axis: Axis) -> Spec:
        """Costs in equal steps of equal factors; with a part in equal steps around 0 where one is there. The
        domain is that of the values and a margin.
        """
        values = [value for value in self._values(axis) if value is not None]
        if not axis.costs:
            scale: Spec = {"type": "linear"}
        elif min(values) > 0:
            scale = {"type": "log"}
        else:
            scale = {"type": "symlog", "constant": min((abs(each) for each in values if each), default=1.0)}
        along = [_along(scale, value) for value in values]
        margin = 0.06 * (max(along) - min(along) or 1.0)
        ends = min(along) - margin, max(along) + margin
        zero = {} if scale["type"] == "log" else {"zero": False}  # which has none, and says so
        return {**scale, **zero, "domain": [_back(scale, end) for end in ends], "nice": False}

    def encodings(self, axis: Axis) -> dict[str, Spec]:
        """Of either side: how it lies there, and which way is better."""
        scale = self._scale(axis)
        ticks: Spec = {"format": ",~r", "tickCount": 6}
        if scale["type"] == "symlog":
            ticks["values"] = _ticks(self._values(axis))
        arrows = {"low": ("← better", "↓ better"), "high": ("better →", "↑ better")}[axis.better]
        return {
            side: {
                "type": "quantitative",
                "title": f"{axis.label}    {arrow}",
                "scale": scale,
                "axis": ticks,
            }
            for side, arrow in zip("xy", arrows, strict=True)
        }

    def _labels(self, x: Axis, y: Axis) -> list[tuple[str, str]]:
        """What stands after each mark and before it, its number: of marks that lie on each other all, after
        the rightmost, or before the leftmost where another mark lies in the way; nothing at those that are
        not drawn.
        """
        width, height = SIZE[0] / 2, SIZE[1]  # as on a narrow page
        sides = zip(self._positions(x), self._positions(y), strict=True)
        places = {
            i: (across * width, up * height)
            for i, (across, up) in enumerate(sides)
            if across is not None and up is not None
        }
        groups = list[list[int]]()
        for i, place in places.items():
            near = [group for group in groups if math.dist(place, places[group[0]]) < NEAR]
            if near:
                near[0].append(i)
            else:
                groups.append([i])
        labels = [("", "")] * len(self.points)
        for group in groups:
            text = spans([i + 1 for i in group])
            first, last = (end(group, key=places.__getitem__) for end in (min, max))
            others = [place for i, place in places.items() if i not in group]
            after, before = (_in_the_way(others, places[at], text, to) for at, to in ((last, 1), (first, -1)))
            at, label = (first, ("", text)) if after and not before else (last, (text, ""))
            labels[at] = label
        return labels

    def _positions(self, axis: Axis) -> list[float | None]:
        """Between 0 and 1 along the axis, of each point that has a value there."""
        scale = self._scale(axis)
        low, high = (_along(scale, end) for end in scale["domain"])
        return [
            None if value is None else (_along(scale, value) - low) / (high - low)
            for value in self._values(axis)
        ]

    def _values(self, axis: Axis) -> list[float | None]:
        return [each.values.get(axis.name) for each in self.points]

    def spec(self, x: Axis, y: Axis, width: int | str = "container") -> Spec:
        """Every mark has a shape of its scheme, and a number that the list beside the chart explains."""
        bar = {"type": "rule", "color": colour("quiet"), "strokeWidth": 1, "opacity": 0.7, "aria": False}
        number = {"type": "text", "dy": -ABOVE, "fontSize": 12, "color": colour("ink"), "aria": False}
        at = {"x": {"field": "x"}, "y": {"field": "y"}}
        layers: list[Spec] = [
            {"mark": bar, "encoding": {**at, "x": {"field": "x_low"}, "x2": {"field": "x_high"}}},
            {"mark": bar, "encoding": {**at, "y": {"field": "y_low"}, "y2": {"field": "y_high"}}},
            {"mark": DOT, "encoding": {**at, **self._looks()}},
            *(
                {"mark": {**number, "align": align, "dx": dx}, "encoding": {**at, "text": {"field": field}}}
                for field, align, dx in (("label", "left", ASIDE), ("before", "right", -ASIDE))
            ),
        ]
        across, upwards = self.encodings(x)["x"], self.encodings(y)["y"]
        for layer in layers:
            how = layer["encoding"]
            layer["encoding"] = how | {"x": {**across, **how["x"]}, "y": {**upwards, **how["y"]}}
        return plot(
            width,
            SIZE[1],
            f"{y.label} against {x.label}, a mark for each protection",
            data={"values": self.rows(x, y)},
            params=[{"name": "chosen", "value": ""}],
            layer=layers,
        )

    def _looks(self) -> Spec:
        """Of a mark, by its scheme; of that which `chosen` names."""
        schemes = [scheme for scheme in SCHEMES if any(each.scheme == scheme for each in self.points)]
        chosen = "datum.name === chosen"
        looks = {"color": [colour(each) for each in schemes], "shape": [MARKS[each] for each in schemes]}
        return {
            **{
                channel: {
                    "field": "scheme",
                    "type": "nominal",
                    "scale": {"domain": schemes, "range": range},
                    "legend": {"symbolStrokeWidth": 0},
                }
                for channel, range in looks.items()
            },
            "size": {"condition": {"test": chosen, "value": 380}, "value": 150},
            "stroke": {"condition": {"test": chosen, "value": colour("ink")}, "value": colour("paper")},
            "description": {"field": "name"},
        }

    def data(self) -> Spec:
        """What makes of `spec`, in the page's script, that of any two axes. sides: axis -> of each point its
        `_side`; labels: axis across -> axis upwards -> of each point what stands after it, and before it.
        """
        axes = self.axes
        return {
            "points": [{"name": each.name, "scheme": each.scheme} for each in self.points],
            "axes": {axis.name: self.encodings(axis) for axis in axes},
            "sides": {axis.name: [self._side(each, axis) for each in self.points] for axis in axes},
            "labels": {x.name: {y.name: self._labels(x, y) for y in axes if y != x} for x in axes},
        }

    def picture(self, x: Axis, y: Axis) -> Spec:
        """The chart, with the names of the numbers beside it."""
        beside = {
            "data": {
                "values": [
                    {
                        "row": i,
                        "text": f"{i}  {each.name}" + ("" if not missing(each, x, y) else "  (not drawn)"),
                    }
                    for i, each in enumerate(self.points, 1)
                ]
            },
            "width": 300,
            "height": SIZE[1],
            "mark": {"type": "text", "align": "left", "fontSize": 12, "color": colour("ink"), "x": 0},
            "encoding": {
                "y": {"field": "row", "type": "ordinal", "axis": None},
                "text": {"field": "text"},
            },
        }
        whole = self.spec(x, y, SIZE[0])
        outer = {name: whole.pop(name) for name in ("$schema", "config", "autosize", "params")}
        return {**outer, "spacing": 28, "hconcat": [whole, beside]}


def _in_the_way(others: Sequence[tuple[float, float]], at: tuple[float, float], text: str, to: int) -> bool:
    """Whether a mark lies where the text would stand. to: 1 for after its own mark, -1 for before it; places
    are in pixels to the right and upwards.
    """
    end = ASIDE + LETTER * len(text) + MARK
    return any(
        0 < to * (across - at[0]) < end and -MARK < up - at[1] < 2 * ABOVE + MARK for across, up in others
    )


def _along(scale: Spec, value: float) -> float:
    """Where a value lies on an axis of this scale, in a unit of the axis's own; `_back` is its inverse."""
    match scale["type"]:
        case "log":
            return math.log(value)
        case "symlog":
            return math.copysign(math.log1p(abs(value) / scale["constant"]), value)
    return value


def _back(scale: Spec, place: float) -> float:
    match scale["type"]:
        case "log":
            return math.exp(place)
        case "symlog":
            return math.copysign(math.expm1(abs(place)) * scale["constant"], place)
    return place


def _ticks(values: Sequence[float | None]) -> list[float]:
    """0 and powers of ten, to both sides as far as the values go."""
    there = [value for value in values if value is not None]
    least = min((abs(value) for value in there if value), default=1.0)
    powers = [
        10.0**k
        for k in range(math.floor(math.log10(least)), math.ceil(math.log10(max(map(abs, there)) or 1.0)) + 1)
    ]
    return [*(-power for power in reversed(powers) if -power >= min(there) * 1.5), 0.0, *powers]
