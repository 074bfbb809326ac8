"""The tables of the page, each of which is a CSV too."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fl import marks
from fl.page.published import AXES, Axis, Matrix, Point, Published
from fl.page.state import RunState, TrainingRound
from secagg.errors import counted

SHADES: Final = 10
NONE: Final = "n/a"
UNMEASURED: Final = "not measured"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_NUMBER: Final = re.compile(r"[+-]?[\d,]*\.?\d+(e[+-]?\d+)?( ±.*)?|n/a|", re.ASCII)


@dataclass(frozen=True)
class Sheet:
    """name: of its file. rows: a cell for each name of the header, the first of which says what the row is.
    shades: of each row, of each cell after its first, how dark it is, 0 to SHADES; None for not at all.
    across: what all columns after the first are.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    shades: tuple[tuple[int | None, ...], ...] = ()
    across: str = ""

    @property
    def numbers(self) -> list[bool]:
        """Of each column, whether it holds numbers alone."""
        return [all(_NUMBER.fullmatch(cell) for cell in column) for column in zip(*self.rows, strict=True)]

    @property
    def csv(self) -> str:
        """For programs, and for people's spreadsheets, which take no cell for a formula."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([[_harmless(cell) for cell in row] for row in (self.header, *self.rows)])
        return text.getvalue()


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell) else cell


def number(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def spans(some: Sequence[int]) -> str:
    """Numbers, in order, as people write them: 4-9, 13."""
    runs = list[list[int]]()
    for each in some:
        if runs and each == runs[-1][-1] + 1:
            runs[-1].append(each)
        else:
            runs.append([each])
    return ", ".join(
        f"{run[0]}\N{EN DASH}{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
    )


def valued(point: Point, axis: Axis) -> str:
    """What the protection comes to on this axis, with its spread."""
    around = point.spread.get(axis.name)
    return number(point.values.get(axis.name)) + (f" ± {number(around)}" if around else "")


def why_not(point: Point, axis: Axis) -> str:
    """Why it has no value there."""
    return point.why.get(axis.name, UNMEASURED)


def remarks(point: Point, axes: Sequence[Axis]) -> str:
    """What there is to say beside its numbers, and why it has some not."""
    said = {axis: point.why.get(axis.name) for axis in axes}
    said |= {axis: why_not(point, axis) for axis in axes if point.values.get(axis.name) is None}
    return "; ".join(f"{axis.title}: {words}" for axis, words in said.items() if words)


# What is published


def protections(points: Sequence[Point], axes: Sequence[Axis] = AXES) -> Sheet:
    return Sheet(
        "protections",
        "Every protection on every axis, with the sample standard deviation over seeds",
        ("protection", *(axis.label for axis in axes), "remarks", "command"),
        tuple(
            (each.name, *(valued(each, axis) for axis in axes), remarks(each, axes), each.command)
            for each in points
        ),
    )


def matrix(of: Matrix) -> Sheet:
    """The stronger a cell is coloured, the more is in it, in the dark too."""

    def shade(value: float | None) -> int | None:
        if value is None:
            return None
        part = (value - of.low) / (of.high - of.low)
        return round(SHADES * min(1.0, max(0.0, part)))

    return Sheet(
        of.name,
        f"{of.says}. The stronger the colour, the {'better' if of.better == 'high' else 'worse'}."
        + (f" Blank: {of.empty}." if of.empty else ""),
        (of.corner, *of.columns),
        tuple(
            (name, *("" if value is None else f"{value:.{of.digits}f}" for value in values))
            for name, values in of.rows
        ),
        tuple(tuple(map(shade, values)) for _, values in of.rows),
        of.across,
    )


def sources(published: Published) -> Sheet:
    return Sheet(
        "sources",
        "What each number was measured by",
        ("measurement", "command", "commit", "date", "machine"),
        tuple((each.of, each.command, each.commit, each.date, each.machine) for each in published.sources),
    )


# What a run says


def epsilon_of(state: RunState) -> str:
    """What its epsilon is called: never without whom it holds against."""
    return f"epsilon against {state.against}" if state.against else "epsilon"


def of_run(state: RunState, prefix: str) -> Iterator[Sheet]:
    """Its tables, those that have a row. prefix: of their files. Of a run with unsafe groups each row says
    so: a file is taken away from the page, and rows out of a file.
    """
    for sheet in (
        _session(state, f"{prefix}-session"),
        _lost(state, f"{prefix}-lost"),
        _attacks(state, f"{prefix}-meter"),
        _rounds(state, f"{prefix}-rounds"),
        _settings(state, f"{prefix}-settings"),
    ):
        if sheet.rows:
            yield _of_unsafe(sheet) if state.unsafe_groups else sheet


def _of_unsafe(sheet: Sheet) -> Sheet:
    return replace(
        sheet,
        caption=marks.marked(sheet.caption, True),
        header=(*sheet.header, "groups"),
        rows=tuple((*row, marks.UNSAFE) for row in sheet.rows),
    )


def _session(state: RunState, name: str) -> Sheet:
    rows = [
        (
            each.round,
            str(len(each.alive) or len(each.relays)),
            ", ".join([*each.lost, *(f"relay {j}" for j in each.relays_lost)]),
            number(each.bytes_up + each.relay_bytes_up),
            number(each.bytes_down + each.relay_bytes_down),
            number(each.milliseconds),
        )
        for each in state.protocol
    ]
    header = ("round", "alive", "lost", "bytes up", "bytes down", "ms")
    return Sheet(name, "The last session, round by round of its protocol", header, tuple(rows))


def _lost(state: RunState, name: str) -> Sheet:
    rows = [
        ("" if each.training_round is None else str(each.training_round), each.who, each.round, each.why)
        for each in state.lost
    ]
    header = ("training round", "who", "in", "why")
    return Sheet(name, "Who was lost, in which round of the protocol, and why", header, tuple(rows))


def _attacks(state: RunState, name: str) -> Sheet:
    tried = state.meter.attacks if state.meter is not None else ()
    rows = [(each.attack, each.read, each.beside, each.of_whom, each.verdict) for each in tried]
    header = ("attack", "it read", "came out, beside chance", "of whom", "verdict")
    return Sheet(name, "What came out of the server's own record", header, tuple(rows))


def _rounds(state: RunState, name: str) -> Sheet:
    rows = [
        (
            str(each.round),
            NONE if each.accuracy is None else f"{each.accuracy:.4f}",
            NONE if each.loss is None else f"{each.loss:.3f}",
            number(each.epsilon),
            f"{each.alive} of {each.chosen}",
            f"{each.sums} of {each.sums_asked}",
            number(each.bytes_up),
            number(each.bytes_down),
            f"{each.seconds:.1f}",
            each.abandoned or _too_long(each),
        )
        for each in state.rounds
    ]
    header = (
        *("round", "accuracy", "loss", epsilon_of(state), "clients", "sums", "bytes up", "bytes down", "s"),
        "abandoned, or left out",
    )
    return Sheet(name, "The training, round by round", header, tuple(rows))


def _too_long(round: TrainingRound) -> str:
    return f"{counted(len(round.too_long), 'group')} left out: too long" if round.too_long else ""


def _settings(state: RunState, name: str) -> Sheet:
    return Sheet(name, "The settings of the run", ("setting", "value"), state.settings)
