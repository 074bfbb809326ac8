"""The page as one file without a network: text, plots, tables and pictures, and the script that draws them.

Security: what a run's folder says is anybody's text. It stands in the page as text alone: templates escape
all of it, data of plots are escaped JSON in elements that are no script, and the page's policy lets no script
run but its own and reaches no address.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fl.marks import marked
from fl.page import curves, plots, sheets
from fl.page.chart import Chart
from fl.page.plots import DARK, LIGHT, Spec
from fl.page.published import AXES, PICTURES, Axis, Point, Published
from fl.page.sheets import Sheet
from fl.page.state import RunState
from secagg.errors import counted

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES: Final = Path(__file__).parent / "templates"
PERCENT: Final = "\N{NO-BREAK SPACE}%"
FIRST: Final = ("client_ms", "leakage")
"""What the chart begins with, across and upwards, where it has them."""


@dataclass(frozen=True)
class Plot:
    """name: of its file. spec: as the page draws it; still: as the PNG does. data: what else the script
    needs.
    """

    name: str
    caption: str
    spec: Spec = field(repr=False)
    still: Spec = field(repr=False)
    data: Spec | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Run:
    """What the page shows of a run. prefix: of its anchors and files."""

    state: RunState
    prefix: str

    @cached_property
    def plots(self) -> list[Plot]:
        return list(self._plots())

    def _plots(self) -> Iterator[Plot]:
        rounds = self.state.rounds
        for name, what, values, how in (
            ("accuracy", "accuracy on the test set", [each.accuracy for each in rounds], {}),
            (
                "epsilon",
                sheets.epsilon_of(self.state),
                [each.epsilon for each in rounds],
                {"zero": True, "form": ".3~g"},
            ),
            (
                "bytes",
                "bytes sent by all clients",
                [each.bytes_up for each in rounds],
                {"zero": True, "form": ".3~s"},
            ),
        ):
            curve = [
                (each.round, float(value))
                for each, value in zip(rounds, values, strict=True)
                if value is not None
            ]
            if curve:
                what = marked(what, self.state.unsafe_groups)
                yield over_rounds(f"{self.prefix}-{name}", {self.state.name: curve}, what, how)

    @cached_property
    def sheets(self) -> list[Sheet]:
        return list(sheets.of_run(self.state, self.prefix))

    @property
    def facts(self) -> list[tuple[str, str]]:
        """(what, how much), of what matters most."""
        state, sent = self.state, [each.bytes_up / max(each.alive, 1) for each in self.state.rounds]
        if state.total is None:  # one sum
            return [("rounds of the session that are closed", str(len(state.protocol)))]
        facts = [("rounds", f"{len(state.rounds)} of {state.total}")]
        if state.accuracy is not None:
            facts.append(("accuracy", f"{state.accuracy:.4f}"))
        if state.epsilon is not None:
            facts.append(("epsilon", sheets.number(state.epsilon)))
        if sent:
            facts.append(("sent by a client in a round", f"{sum(sent) / len(sent) / 1000:,.1f} kB"))
        missed = sum(each.chosen - each.alive for each in state.rounds)
        return [*facts, ("uploads that did not come", str(missed))]

    @property
    def epsilon(self) -> str:
        """What the noise promises, and against whom; or why there is nothing to promise."""
        state = self.state
        if state.epsilon is None:
            return f"No epsilon: {state.no_epsilon}." if state.no_epsilon else "No noise, and so no epsilon."
        parts = [f"epsilon {sheets.number(state.epsilon)}"]
        parts += [f"at delta {state.delta:g}"] if state.delta is not None else []
        parts += [f"against {state.against}"] if state.against else []
        parts += [f"while {counted(state.honest, 'client')} are honest"] if state.honest else []
        return " ".join(parts).capitalize() + "."


def over_rounds(
    name: str, series: Mapping[str, Sequence[tuple[int, float]]], what: str, how: Mapping[str, Any]
) -> Plot:
    return Plot(
        name,
        f"{what[0].upper()}{what[1:]}, by training round",
        curves.over_rounds(series, what, **how),
        curves.over_rounds(series, what, width=plots.SIZE[0], **how),
    )


@dataclass(frozen=True)
class Report:
    """What `secagg report` shows: what is published, and the runs that were given."""

    published: Published
    states: tuple[RunState, ...] = ()

    @cached_property
    def runs(self) -> list[Run]:
        return [
            Run(state, f"run{i}-{slug(state.name)}".rstrip("-")) for i, state in enumerate(self.states, 1)
        ]

    @cached_property
    def chart(self) -> Chart | None:
        """None where nothing is measured that could be on it."""
        chart = Chart(self.published.points)
        return chart if len(chart.axes) > 1 else None

    @property
    def sides(self) -> tuple[Axis, Axis]:
        """What the chart begins with."""
        axes = self.chart.axes if self.chart else AXES
        x = next((axis for axis in axes if axis.name == FIRST[0]), axes[0])
        others = [axis for axis in axes if axis != x]
        return x, next((axis for axis in others if axis.name == FIRST[1]), others[0])

    @cached_property
    def plots(self) -> dict[str, Plot]:
        """By name, in the order of the page."""
        return {plot.name: plot for plot in self._plots()}

    def _plots(self) -> Iterator[Plot]:
        if self.chart is not None:
            x, y = self.sides
            caption = "Each mark is a protection; its number is that of the list"
            spec, still = self.chart.spec(x, y), self.chart.picture(x, y)
            yield Plot("chart", caption, spec, still, self.chart.data())
        if len(self.runs) > 1:
            series = {
                marked(f"{i}. {run.state.name}", run.state.unsafe_groups): [
                    (each.round, each.accuracy) for each in run.state.rounds if each.accuracy is not None
                ]
                for i, run in enumerate(self.runs, 1)
            }
            yield over_rounds("runs-accuracy", series, "accuracy on the test set", {})
        for run in self.runs:
            yield from run.plots
        for growth in self.published.growth:
            for panel in growth.panels:
                yield Plot(
                    panel.name, panel.title, curves.growth(panel), curves.growth(panel, plots.SIZE[0], 360)
                )

    @cached_property
    def sheets(self) -> dict[str, Sheet]:
        """By name, in the order of the page."""
        published = self.published
        every = [sheets.protections(published.points, self.chart.axes)] if self.chart else []
        every += [sheet for run in self.runs for sheet in run.sheets]
        every += [sheets.matrix(each) for each in published.matrices]
        every += [sheets.sources(published)] if published.sources else []
        return {sheet.name: sheet for sheet in every}

    @property
    def headline(self) -> str:
        return headline(self.published.points, self.published.size)


HIDDEN: Final = 5.0
"""Percent of the examples: who reads no more is said to read next to nothing."""
KEPT: Final = 2.0
"""Points of accuracy: what costs no more is said to keep it."""


def headline(points: Sequence[Point], size: str = "full") -> str:
    """What the chart says, in two sentences: how many hide the examples from the server, and which of these
    is the cheapest for a client that keeps the accuracy.
    """
    leaks = {each.name: leak for each in points if (leak := each.values.get("leakage")) is not None}
    if not points:
        return (
            f"The protections have not been measured side by side at {size} size yet: what has been measured "
            "of them stands below, each in its own setting."
        )
    ways = f"{counted(len(points), 'way')} to protect one training"
    if not leaks:
        return (
            f"{ways}, side by side. What the server can read under each is not measured at {size} size yet."
        )
    hiding = [each for each in points if _hides(each)]
    leave = "leaves" if len(hiding) == 1 else "leave"
    said = (
        f"Of {ways}, {len(hiding)} {leave} the server at most {HIDDEN:.0f}{PERCENT} of the examples to read, "
        f"where the most open leaves it {max(leaks.values()):.0f}{PERCENT}."
    )
    best = max((each.values.get("accuracy") or 0.0 for each in points), default=0.0)
    priced = [
        (ms, each.name)
        for each in hiding
        if (ms := each.values.get("client_ms")) is not None
        and (each.values.get("accuracy") or 0.0) >= best - KEPT
    ]
    if not priced:
        return said
    ms, cheapest = min(priced)
    costs = f"{sheets.number(ms)} ms a round more"
    return f"{said} The cheapest that keeps the accuracy is “{cheapest}”: {costs}."


def _hides(point: Point) -> bool:
    """Under which the server reads next to nothing; where it has nothing to read there is a reason, and no
    number.
    """
    leak = point.values.get("leakage")
    if leak is not None:
        return leak <= HIDDEN
    return point.why.get("leakage", sheets.UNMEASURED) != sheets.UNMEASURED


def slug(name: str) -> str:
    """Letters, digits and dashes of it, for an anchor or a file."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")


# The page


def render(report: Report, bundle: str, pictures: Mapping[str, bytes]) -> str:
    """The whole page. bundle: of `vega.bundle`. pictures: name -> PNG, of each plot: what is seen until the
    script has drawn it, and where none runs.
    """
    return shell(
        "report.html",
        bundle,
        report=report,
        gallery=[(each, (PICTURES / each.file).read_bytes()) for each in report.published.pictures],
        pictures=pictures,
    )


def render_run(state: RunState, prefix: str = "run") -> str:
    """The section of one run alone; `secagg.draw` of the page's script draws its plots."""
    return _environment().get_template("one_run.html").render(run=Run(state, prefix), pictures={})


def shell(template: str, bundle: str, *, connect: str = "'none'", script: str = "", **what: Any) -> str:
    """A template that extends base.html, in the page's style and with its scripts. connect: where its script
    may ask for more, as a Content-Security-Policy says it; script: another one, after the page's own.
    """
    style = _style()
    scripts = [bundle, _file("page.js"), *([script] if script else [])]
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_digest, scripts))}; style-src {_digest(style)}; "
        f"img-src data:; connect-src {connect}; base-uri 'none'; form-action 'none'"
    )
    page = _environment().get_template(template)
    return page.render(policy=policy, style=style, scripts=scripts, **what)


def _digest(text: str) -> str:
    """As a policy names an element by what it holds."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _style() -> str:
    def colours(of: Mapping[str, str]) -> str:
        return " ".join(f"--{name}: {colour};" for name, colour in of.items())

    return _file("page.css").replace("/* light */", colours(LIGHT)).replace("/* dark */", colours(DARK))


def _file(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["base64"] = lambda some: base64.b64encode(
        some.encode() if isinstance(some, str) else some
    ).decode()
    made.globals |= {
        "counted": counted,
        "sheets": sheets,
        "shapes": dict(zip(plots.SCHEMES, plots.SHAPES, strict=True)),
    }
    return made
