"""How rounds look: sizes in words, one protocol round, one training round, the curve of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fl.cli.output import Output
from fl.protection import Protection
from secagg.ckks import WARNING
from transport import RoundReport

_MASKING = "Correct for honest clients only: masking gives no integrity."
_CKKS = "Correct for honest clients only: CKKS gives no integrity."
THREAT_MODEL = {
    "active": "active server: whatever it does, it learns sums over a quorum and no single vector. "
    + _MASKING,
    "semi-honest": "honest-but-curious server: it learns the sum and no single vector. " + _MASKING,
    "release": "honest-but-curious server: it learns the sum and no single vector. " + _CKKS,
    "keep": "honest-but-curious server: it learns no vector and no sum; its clients learn the sum. " + _CKKS,
    "plain": "NOTHING IS PROTECTED: the server reads every client's vector.",
}


def threat_model(protection: Protection) -> str:
    """In one line, against whom."""
    match protection.scheme:
        case "plain":
            return THREAT_MODEL["plain"]
        case "ckks":
            return THREAT_MODEL["keep" if protection.kept else "release"]
        case _:
            return THREAT_MODEL[protection.against]


def warn(out: Output, protection: Protection) -> None:
    """What whoever asks for this scheme may not know."""
    if protection.scheme == "ckks":
        out.warn(WARNING)


def size(count: float) -> str:
    """Bytes for people, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError


def round_cells(report: RoundReport) -> tuple[str, ...]:
    """round, alive, lost, bytes up, bytes down, milliseconds."""
    lost = ", ".join(f"{u} {why}" for u, why in sorted(report.lost.items()))
    return (
        report.round,
        str(len(report.alive)),
        lost,
        size(sum(report.up.values())),
        size(sum(report.down.values())),
        f"{report.seconds * 1000:.0f}",
    )


def round_line(report: RoundReport) -> str:
    name, alive, lost, up, down, ms = round_cells(report)
    return (
        f"  {name:<17} {alive:>4} alive {up:>8} up {down:>8} down {ms:>6} ms"
        + (f"  lost: {lost}" if lost else "")
        + "".join(f"  share of {dealer} unusable at {holder}" for holder, dealer in sorted(report.unopened))
    )


def round_fields(report: RoundReport) -> dict[str, Any]:
    return {
        "round": report.round,
        "alive": sorted(report.alive),
        "lost": {str(u): why for u, why in report.lost.items()},
        "unopened": sorted(report.unopened),
        "bytes_up": sum(report.up.values()),
        "bytes_down": sum(report.down.values()),
        "wire_up": report.wire_up,
        "wire_down": report.wire_down,
        "milliseconds": round(report.seconds * 1000, 1),
    }


@dataclass
class TrainingDisplay:
    """A run as it goes: a bar over training rounds and the current session's rounds; or plain lines."""

    out: Output
    total: int
    done: int = 0  # training rounds, before a run was stopped
    _finished: list[str] = field(default_factory=list)
    _rounds: list[RoundReport] = field(default_factory=list)
    _live: Any = None
    _bar: Any = None
    _task: Any = None

    @contextmanager
    def running(self) -> Iterator[TrainingDisplay]:
        if not self.out.terminal:
            yield self
            return
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), auto_refresh=False
        )
        self._task = self._bar.add_task("", total=self.total, completed=self.done)
        with Live(get_renderable=self._render, refresh_per_second=4) as self._live:
            yield self

    def say(self, text: str) -> None:
        """Lines that stay above the rounds."""
        if self._live is None:
            self.out.say(text)
        else:
            self._live.console.print(text, highlight=False, markup=False)

    def protocol_round(self, report: RoundReport) -> None:
        if report.round == "join":
            self._rounds = []
        self._rounds.append(report)
        if self._live is None:
            self.out.say(round_line(report))

    def training_round(self, line: str) -> None:
        if self._live is None:
            self.out.say(line)
        else:
            self._finished.append(line)
            self._bar.advance(self._task)

    def _render(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        lines = [*self._finished[-12:], "", *(round_line(report) for report in self._rounds)]
        return Group(Text("\n".join(lines)), self._bar)


def training_line(record: Mapping[str, Any], total: int) -> str:
    learned = f"abandoned: {record['abandoned']}" if record["abandoned"] else "the clients keep the model"
    if record["accuracy"] is not None:
        learned = f"accuracy {record['accuracy']:.4f}  loss {record['loss']:.3f}"
    if record["validation"] is not None:
        learned += f"  on validation data {record['validation']:.4f}"
    sums = f"{record['sums']} of {record['sums_asked']} sums  " if record["sums_asked"] > 1 else ""
    return (
        f"round {record['round']:>{len(str(total))}}/{total}  {learned}  {record['alive']} alive  {sums}"
        f"{size(record['bytes_up'])} up  {size(record['bytes_down'])} down  {record['seconds']:.2f} s"
    )


def draw_accuracy(path: Path, curves: Mapping[str, Sequence[float | None]], title: str) -> None:
    """accuracy.png: one curve a scheme over training rounds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for (name, values), style in zip(curves.items(), ("o-", "x--"), strict=False):
        known = [(round, value) for round, value in enumerate(values, 1) if value is not None]
        axes.plot(*zip(*known, strict=True), style, label=name, markersize=4)
    axes.set(xlabel="training round", ylabel="test accuracy", title=title, ylim=(None, 1.0))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
