"""What shows that something goes on: a status at the foot of a terminal, elsewhere a line after a silence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fl.cli.output import Output
from fl.cli.report import duration, round_line, training_cells
from secagg.errors import counted
from transport import RoundReport

SILENCE_SECONDS = 30.0  # after which a line says that it still goes on
LAST_ROUNDS = 5  # by which the time left is reckoned: the first is often slower
IN_ONE_PROCESS = "training"  # the round that `fl.federation.simulation` says it is in
GAP, BAR = "  ", 10  # columns of the bar

Status = Callable[[], tuple[float | None, str]]
"""How much of it is done, if that can be said, and what it is at."""
InRound = tuple[str, int, int]
"""The round that is open, how many have answered, and of how many."""


@contextmanager
def shown(out: Output, status: Status, news: Callable[[], str] | None = None) -> Iterator[None]:
    """While the block runs, it is seen to run. news: where there is no terminal, after a line of it there is
    another only when it has changed; None for a line after each silence.
    """
    if out.terminal:
        with _foot(status):
            yield
        return
    if not out.for_people:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_break_silences, args=(out, status, news, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()  # or a line of it could come after all is said


def _break_silences(
    out: Output, status: Status, news: Callable[[], str] | None, over: threading.Event
) -> None:
    said, told = out.said, None
    while not over.wait(SILENCE_SECONDS):
        if out.said == said and (news is None or news() != told):
            told = None if news is None else news()
            out.progress_line(out.marked(status()[1]))
        said = out.said


@contextmanager
def _foot(status: Status) -> Iterator[None]:
    """rich sends what is printed meanwhile above it."""
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.spinner import Spinner
    from rich.table import Column, Table
    from rich.text import Text

    spinner = Spinner("line")

    def drawn() -> Table:
        done, text = status()
        bars = [] if done is None else [ProgressBar(1.0, done, width=BAR)]
        fixed = [Column(min_width=1), *(Column(min_width=BAR) for _ in bars)]
        table = Table.grid(*fixed, Column(no_wrap=True, overflow="ellipsis"), padding=(0, 1))
        table.add_row(spinner, *bars, Text(text))
        return table

    with Live(get_renderable=drawn, console=Console(), refresh_per_second=4, transient=True):
        yield


def since(at: Callable[[], str]) -> Status:
    """What it is at, and for how long it has been running."""
    begun = time.monotonic()
    return lambda: (None, f"{at()}, {duration(time.monotonic() - begun)} so far")


def session_status(in_round: Callable[[], InRound | None]) -> Status:
    """How far one session is, as `transport.Cohort.in_round` has it."""

    def at() -> str:
        now = in_round()
        return f"{now[0]}: {now[1]} of {now[2]} answered" if now else "beginning"

    return since(at)


class TrainingDisplay:
    """A run as it goes: a line a training round, with the time that is left; with --verbose one a protocol
    round, too. in_round: of the cohort. training_round: of the scheme.
    """

    def __init__(
        self,
        out: Output,
        total: int,
        done: int = 0,
        in_round: Callable[[], InRound | None] = lambda: None,
        training_round: str = IN_ONE_PROCESS,
    ) -> None:
        self._out, self._total, self._done, self._in_round = out, total, done, in_round
        self._training = training_round, IN_ONE_PROCESS
        self._begun = time.monotonic()
        self._seconds: list[float] = []  # of the last rounds

    @contextmanager
    def running(self) -> Iterator[None]:
        with shown(self._out, self.status):
            yield

    def protocol_round(self, report: RoundReport) -> None:
        self._out.detail(round_line(report))

    def training_round(self, record: Mapping[str, Any]) -> None:
        now = time.monotonic()
        self._seconds = [*self._seconds, now - self._begun][-LAST_ROUNDS:]
        self._begun, self._done = now, record["round"]
        cells = [*training_cells(record, self._total), *self._left()]
        room = self._out.width - len(self._out.marked(" ")) + 1
        while self._out.terminal and len(GAP.join(cells)) > room and len(cells) > 3:
            del cells[-2 if self._left() else -1]  # the least that is asked for stands there
        self._out.say(GAP.join(cells))

    def status(self) -> tuple[float | None, str]:
        at, rest = self._in_round(), ""
        if at is not None and at[0] == "join":
            rest = "clients join"
        elif at is not None and at[0] in self._training:
            rest = f"{at[1]} of {counted(at[2], 'client')} trained"
        elif at is not None:
            rest = f"{at[0]}: {at[1]} of {at[2]} answered"  # clients, or relays
        since = duration(time.monotonic() - self._begun)
        parts = [f"round {min(self._done + 1, self._total)}/{self._total}", *self._left(), rest, since]
        return self._done / self._total, GAP.join(part for part in parts if part)

    def _left(self) -> list[str]:
        """The time that is left, once a round has shown how long one takes."""
        rounds = self._total - self._done
        if not self._seconds or not rounds:
            return []
        return [f"{duration(rounds * sum(self._seconds) / len(self._seconds))} left"]
