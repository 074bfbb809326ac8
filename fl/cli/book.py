"""The ledger of a run that is under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import msgspec

from fl.cli.asked import Asked
from fl.cli.output import Output
from fl.data.files import write_atomically
from fl.page.state import LEDGER, Sums, Told
from secagg.ledger import Ledger
from transport import RoundReport


class Book:
    """The ledger of one run: what its sums reveal together, also if it ends before its time.

    opening, upload: the scheme's rounds of these names, the first None where the server has nothing from its
    sums. apart: clients by which two sets should differ. weighed: whether weights are summed beside the
    updates. unsafe_groups: whether they may be of such. groups: of the clients that a session has asked,
    those that have a sum by themselves, as far as that is known. rounds: the scheme's, in order. record: of
    what is asked for, put down before that is.
    """

    def __init__(
        self,
        opening: str | None,
        upload: str = "",
        *,
        apart: int = 2,
        weighed: bool = True,
        unsafe_groups: bool = False,
        groups: Callable[[frozenset[int]], Iterable[frozenset[int]]] = lambda asked: (asked,),
        rounds: Sequence[str] = (),
        record: Asked | None = None,
    ) -> None:
        self._groups, self._rounds, self._on_record = groups, rounds, record
        self._ledger, self._opening, self._upload = Ledger(), opening, upload
        self._sums = Sums(apart=apart, weighed=weighed, unsafe_groups=unsafe_groups)
        self._told: Told | None = None
        self._uploaded = frozenset[int]()
        self._asked: list[frozenset[int]] = []  # for sums that have not come yet

    def watch(self, report: RoundReport) -> None:
        clients = report.of_clients
        uploaded = clients.alive if report.round == self._upload else self._uploaded
        self._uploaded = uploaded - clients.lost.keys()
        self._put_down(clients)
        if report.round == self._opening and report.up:  # nobody has answered: no sum
            # Where relays open the sum it is of whoever they still have the vectors of.
            self._asked.append(frozenset(clients.down) or self._uploaded)

    def _put_down(self, clients: RoundReport) -> None:
        """A round's report comes before the requests of the next one leave: what these ask for is on record
        by then. Raises: OSError where it cannot be kept.
        """
        if self._on_record is None or self._opening is None:
            return
        # The vectors are asked for together with their sum, or are there before it.
        together = self._upload == self._opening
        asked = frozenset(clients.down) or self._uploaded
        match self._rounds.index(clients.round) - self._rounds.index(self._opening):
            case -1:
                first = clients.alive - clients.lost.keys() if together else self._uploaded
                self._on_record.begin(self._groups(first))
            case 0 if together:  # without an answer there is no sum
                self._on_record.change(self._groups(clients.alive) if clients.alive else ())
            case after if after >= 0:
                self._on_record.change(self._groups(asked))

    def opened(self, sets: Iterable[frozenset[int]]) -> list[frozenset[int]]:
        """The sums of a training round, a row each. Where nothing was hidden nothing was asked for; a session
        that failed from here on counts as opened, and so do all its groups: the rows of these are returned.
        """
        known, failed = list(sets), list[frozenset[int]]()
        for asked in self._asked:
            rows = [some for some in known if some <= asked]
            if not rows:
                rows = list(self._groups(asked))
                failed += rows
            for row in rows:
                self._record(row)
        self._asked = []
        return failed

    def opened_before(self, sets: Iterable[Iterable[int]]) -> None:
        """The sums of the rounds before, of a run that goes on."""
        if self._opening is not None:
            for survivors in sets:
                self._record(frozenset(survivors))

    def _record(self, survivors: frozenset[int]) -> None:
        self._ledger.record(survivors)
        self._sums = self._sums.and_of(survivors)

    def known(self) -> Sums | Told:
        """What they reveal together, once it is told; until then what that follows from. Any thread may
        ask.
        """
        return self._told or self._sums

    @contextmanager
    def told(self, out: Output, folder: Path) -> Iterator[None]:
        """Say it at the end, also if that comes too early, and leave it in the folder."""
        (folder / LEDGER).unlink(missing_ok=True)  # of a run that goes on it would be of fewer sums
        try:
            yield
        finally:
            self.opened(())
            if self._ledger.sessions:
                report = self._ledger.report(apart=self._sums.apart)
                self._told = self._sums.said(report)
                out.say("what the sums of this run reveal together to the server alone:")
                for line in self._told.lines:
                    out.say(f"  {line}")
                out.record({"ledger": asdict(report)})
                with suppress(OSError):  # of a full disk it is said where a model or a round is not written
                    written = msgspec.json.format(msgspec.json.encode(self._told), indent=1) + b"\n"
                    write_atomically(folder / LEDGER, written)
