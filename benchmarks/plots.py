"""Pictures of results: every benchmark's, in one hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

# The last two, and no date (`report.write`): the same rows give the same file, and a diff of it can be read.
matplotlib.rcParams.update(
    {
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "secagg",
    }
)

Stacks = Sequence[Mapping[str, float]]
Line = Sequence[tuple[float, float]]

COLUMNS = 6  # of a legend below all panels
MARKERS = "osv"
WORD = 4  # letters of a column that still stand side by side


def bars(names: Sequence[str], panels: Mapping[str, Stacks], *, log: bool = False) -> Figure:
    """A panel each, side by side: for every name a horizontal bar, stacked of its parts (part -> length)."""
    figure = Figure(figsize=(9.0, 0.7 + 0.34 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    parts = list(dict.fromkeys(part for stacks in panels.values() for stack in stacks for part in stack))
    for ax, (title, stacks) in zip(axes, panels.items(), strict=True):
        ends = [0.0] * len(names)
        for i, part in enumerate(parts):
            lengths = [stack.get(part, 0.0) for stack in stacks]
            ax.barh(range(len(names)), lengths, left=ends, color=f"C{i}", label=part, height=0.7)
            ends = [end + length for end, length in zip(ends, lengths, strict=True)]
        ax.set_title(title)
        if log:
            ax.set_xscale("log")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(7, len(parts)))
    return figure


def beside(names: Sequence[str], panels: Mapping[str, Sequence[float | None]]) -> Figure:
    """A panel each, side by side: for every name a horizontal bar and its number; a dash where there is none.
    The names of a group, up to their first comma, are of one colour.
    """
    figure = Figure(figsize=(11.0, 0.6 + 0.25 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    groups = list(dict.fromkeys(name.partition(",")[0] for name in names))
    colours = [f"C{groups.index(name.partition(',')[0])}" for name in names]
    for ax, (title, numbers) in zip(axes, panels.items(), strict=True):
        lengths = [max(0.0, number or 0.0) for number in numbers]
        ax.barh(range(len(names)), lengths, color=colours, height=0.66)
        for i, (number, length) in enumerate(zip(numbers, lengths, strict=True)):
            text = "\N{EN DASH}" if number is None else f"{number:.0f}" if number > 9.5 else f"{number:.2g}"
            ax.annotate(text, (length, i), (3, 0), textcoords="offset points", va="center", fontsize=7)
        ax.set_title(title, fontsize=8, loc="left")
        ax.set_xlim(0, 1.25 * max(lengths))
        ax.set_xticks([])
        ax.spines["bottom"].set_visible(False)
        ax.tick_params(left=False)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    return figure


def lines(
    panels: Mapping[str, tuple[str, str, Mapping[str, Line]]], *, log: bool = True, below: bool = False
) -> Figure:
    """A panel each, on two logarithmic axes, or two linear ones. title -> (what is on x, what is on y,
    label -> points); a label that begins with "~" is a prediction, or what others published, drawn as dashes
    in the colour of the line before it, grey where none is; a second round of colours has other markers.
    below: one legend, of the first panel, under all.
    """
    further = max(0, (len(next(iter(panels.values()))[2]) - 1) // COLUMNS - 1)  # lines of a legend, after two
    figure = Figure(figsize=(9.0, 3.7 + 0.2 * further if below else 3.2), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    scale = "log" if log else "linear"
    for ax, (title, (x, y, curves)) in zip(axes, panels.items(), strict=True):
        colour = -1
        for label, points in curves.items():
            predicted = label.startswith("~")
            colour += not predicted
            marker = MARKERS[max(colour, 0) // 10 % len(MARKERS)]
            style = {"linestyle": "--", "alpha": 0.6} if predicted else {"marker": marker, "markersize": 3}
            drawn = f"C{colour}" if colour >= 0 else "grey"
            ax.plot(*zip(*points, strict=True), color=drawn, label=label.lstrip("~"), **style)
        ax.set(title=title, xlabel=x, ylabel=y, xscale=scale, yscale=scale)
        if log:
            ax.xaxis.set_minor_formatter(NullFormatter())
        if curves and not below:
            ax.legend(fontsize=7)
    if below:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=COLUMNS)
    return figure


def grids(
    panels: Mapping[str, tuple[Sequence[str], Sequence[str], Sequence[Sequence[float]]]], x: str, what: str
) -> Figure:
    """A panel each, in one scale of colours. title -> (rows, columns, a number for each, NaN for a field that
    is left white); x: what the columns are, written upwards where they are words; what: the numbers.
    """
    most = max(len(names) for names, _, _ in panels.values())
    figure = Figure(figsize=(9.0, 1.4 + 0.3 * most), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    every = [each for _, _, numbers in panels.values() for row in numbers for each in row]
    every = [each for each in every if not math.isnan(each)]
    for ax, (title, (names, columns, numbers)) in zip(axes, panels.items(), strict=True):
        image = ax.imshow(numbers, vmin=min(every), vmax=max(every), aspect="auto")
        ax.set_yticks(range(len(names)), names)
        ax.set_xticks(range(len(columns)), columns, rotation=90 if max(map(len, columns)) > WORD else 0)
        ax.set(title=title, xlabel=x)
    figure.colorbar(image, ax=list(axes), label=what)
    return figure
