"""`--dashboard PORT`: what a run under way shows of itself, on this machine alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import msgspec

from fl.cli.flags import in_flags
from fl.cli.output import Output
from fl.cli.report import round_fields
from fl.page.state import Lost, OpenRound, ProtocolRound, RunState, TrainingRound, round_of
from secagg.identity import party
from secagg.wire import relay_of
from transport import Cohort, RoundReport, Standing

if TYPE_CHECKING:
    from socket import socket

    from fl.cli.book import Book
    from fl.federation.server import Clients, Server
    from fl.page.live import Live

LOSSES = 1000  # the last of them are shown


def bound(port: int | None) -> socket | None:
    """Before a run begins, for its dashboard. Raises: ConfigError for a port that cannot be had;
    ModuleNotFoundError where there is nothing to draw a page with.
    """
    if port is None:
        return None
    from fl.page.following import check_installed
    from fl.page.live import listen

    check_installed()
    return listen(port)


@contextmanager
def dashboard(out: Output, listening: socket | None) -> Iterator[Live | None]:
    """Serve a page while the block runs, of whatever is put into what it yields; None without a socket."""
    if listening is None:
        yield None
        return
    from fl.page.following import contents
    from fl.page.live import Dashboard, Live

    live = Live(RunState(name="", title="The server is starting"))
    with Dashboard(listening, live, contents()) as board:
        out.say(f"dashboard: {board.url} (for this machine alone, and to be read only)")
        out.record({"dashboard": board.url})
        try:
            yield live
        except BaseException:
            live.end("before its time: its terminal says why")
            raise
        live.end("it came to its end")


class Watching:
    """Puts before whoever looks what a run has come to."""

    def __init__(self, live: Live | None, state: RunState, cohort: Clients | Cohort) -> None:
        """cohort: whose sessions they are."""
        self._live = live
        self._training_round: int | None = None
        self._begun: Callable[[], int] = lambda: 0
        if live is not None:
            live.state = state
            live.open_round = partial(_open, cohort.standing)

    @classmethod
    def training(
        cls, live: Live | None, server: Server, name: str, records: Sequence[Mapping[str, Any]], book: Book
    ) -> Self:
        """name: of the folder. records: of the rounds before, of a run that goes on."""
        state = RunState.of_config(server.config, name)
        watching = cls(
            live, state.after([_round(each) for each in records]) if live else state, server.cohort
        )
        watching._training_round = len(records) + 1
        if (spending := server.noising.spending) is not None:
            watching._begun = lambda: len(spending.charges)
        if live is not None:
            live.known = book.known
        return watching

    def protocol_round(self, report: RoundReport) -> None:
        if self._live is not None:
            self._live.change(partial(_closed, report, self._training_round, self._begun()))

    def training_round(self, record: Mapping[str, Any]) -> None:
        if self._live is not None:
            self._training_round = record["round"] + 1
            self._live.change(lambda state: state.after((*state.rounds, _round(record)), self._begun()))


def _round(record: Mapping[str, Any]) -> TrainingRound:
    return round_of(json.loads(json.dumps(record)))  # as it is read from the file


def _closed(report: RoundReport, training_round: int | None, begun: int, state: RunState) -> RunState:
    """With one more round of the session under way; that of a name which is there begins another."""
    fields = json.loads(json.dumps(round_fields(report)))
    before = () if any(one.round == report.round for one in state.protocol) else state.protocol
    lost = [
        Lost(who=party(u), round=report.round, why=in_flags(why), training_round=training_round)
        for u, why in sorted(report.lost.items())
    ]
    return msgspec.structs.replace(
        state.after(state.rounds, begun),
        protocol=(*before, msgspec.convert(fields, ProtocolRound)),
        lost=(*state.lost, *lost)[-LOSSES:],
    )


def _open(look: Callable[[], Standing | None]) -> OpenRound | None:
    if (standing := look()) is None:
        return None
    answered, awaited = (
        tuple(sorted(u for u in some if relay_of(u) is None))
        for some in (standing.answered, standing.awaited)
    )
    done = len(standing.answered)
    total = done + len(standing.awaited)
    return OpenRound(round=standing.round, done=done, total=total, answered=answered, awaited=awaited)
