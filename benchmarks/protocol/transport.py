"""Uploads through the transport, beside bare ZeroMQ sockets that move as much between as many processes.

A repetition starts a server process and a few client processes, each with its share of the clients. Once
every client is connected and has its message, and its digest, all are let go at once; the time runs until the
server has the last message. Repetitions of the three kinds take turns, each in processes of its own:

bare       a ROUTER, and a DEALER for each client, under CURVE. The server lets as many clients send at a
           time as the transport does, each its whole message, and looks at nothing but lengths.
transport  `transport.serve` and `transport.join`; the session takes whole messages and does not add them.
plain      the same, and it does: the scheme's work, in the one thread that also receives.

On a machine of two cores all of this shares them, and what the transport does beside (a checksum, one copy,
Python) costs as much as if it were done in turn; on more it runs beside CURVE's thread.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import bare
from benchmarks.bare import TIMEOUT, Start, Taken, Uploads, Watch
from benchmarks.harness import Case, Control, Row, Table
from secagg import Aggregate, Bounded, Plain, Policy
from secagg.errors import ClientId
from secagg.record import Around, RecordedClient
from secagg.session import ServerSession
from secagg.wire import Raw
from transport import RoundReport, join, serve
from transport.processes import LocalProcesses, lay_out_keys
from transport.talk import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Uploads of 4 MB from 200 clients move at 70 % at least of the speed of bare ZeroMQ sockets under CURVE, "
    "and are within 1 % of their messages on the wire."
)
KINDS = ("bare", "transport", "plain")
CONTROL = Control("bare ZeroMQ sockets under CURVE", lambda row: row["kind"] == "bare", by=("clients",))
ALONE = True
CASES = {"quick": Uploads(20, 1_000_000, 2, 3), "full": Uploads(200, 1_000_000, 4, 7)}


# Through the transport


def vector(u: int, length: int) -> NDArray[np.float32]:
    """Client u's: 1024ths, so that every sum is exact."""
    return ((np.arange(length) + u) % 1024 / 1024).astype(np.float32)


def scheme_of(case: Uploads) -> Plain:
    """The scheme of a case."""
    return Plain.for_cohort(case.clients, Bounded(length=case.length, bound=1.0), small_cohort=True)


class Timed(Around):
    """A server session whose `receive` is timed in the upload round; the last message stops the watch."""

    def __init__(self, session: ServerSession, taken: Taken, watch: Callable[[], Watch]) -> None:
        super().__init__(session)
        self._taken, self._watch = taken, watch

    def advance(self) -> dict[ClientId, bytes]:
        return self._session.advance()

    def receive(self, sender: ClientId, message: Raw) -> None:
        if self.round == "join":
            return self._session.receive(sender, message)
        begun = time.monotonic()
        self._take(sender, message)
        self._taken.scheme += time.monotonic() - begun
        self._taken.messages += len(message)
        if not self.waiting_for:
            self._watch().stop(self._taken)
        return None

    def _take(self, sender: ClientId, message: Raw) -> None:
        self._session.receive(sender, message)


class NotAdding(Timed):
    """It counts who has sent a message, and has no sum."""

    def __init__(self, session: ServerSession, taken: Taken, watch: Callable[[], Watch]) -> None:
        super().__init__(session, taken, watch)
        self._here: set[ClientId] = set()
        self._result: Aggregate | None = None

    @property
    def waiting_for(self) -> frozenset[ClientId]:
        return super().waiting_for - self._here

    @property
    def result(self) -> Aggregate | None:
        return self._result

    def _take(self, sender: ClientId, message: Raw) -> None:
        self._here.add(sender)

    def advance(self) -> dict[ClientId, bytes]:
        if self.round == "join":
            return super().advance()
        self._result = Aggregate(frozenset(self._here), {}, {}, {}, {})
        return {}


class Instrumented:
    """A scheme whose server sessions are wrapped."""

    def __init__(self, scheme: Plain, wrap: Callable[[ServerSession], ServerSession]) -> None:
        self._scheme, self._wrap = scheme, wrap

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheme, name)

    def server(self, *args: Any, **named: Any) -> ServerSession:
        return self._wrap(self._scheme.server(*args, **named))


def server(case: Uploads, adds: bool, folder: Path, start: Start, pipe: Connection) -> None:
    """adds: whether the session does its own work."""
    taken, reports = Taken(), {}

    def remember(report: RoundReport) -> None:
        reports[report.round] = report

    with serve("tcp://127.0.0.1:*", folder / "server.key", folder / "roster") as cohort:
        pipe.send(cohort.endpoint)
        cohort.wait_for_clients(case.clients, TIMEOUT)
        with ThreadPoolExecutor(1) as starter:  # this thread is in `aggregate` when the clients are let go
            watch = starter.submit(start.give).result
            wrapped = Timed if adds else NotAdding
            scheme = Instrumented(scheme_of(case), lambda session: wrapped(session, taken, watch))
            total = cohort.aggregate(scheme, watch=remember)
    if adds:
        expected = sum((vector(u, case.length) for u in range(case.clients)), np.zeros(case.length))
        taken.exact = bool(np.array_equal(total.sum[""], expected))
    taken.exact &= len(total.survivors) == case.clients
    taken.frames = reports["input"].wire_up + reports["input"].wire_down
    pipe.send(taken)


class InTurn(RecordedClient):
    """A client session that makes its message when no other of its process does: it takes several copies."""

    _turn = threading.Lock()

    def receive(self, message: Raw) -> bytes | None:
        with self._turn:
            return self._session.receive(message)


def clients(case: Uploads, folders: Sequence[Path], ids: Sequence[int], start: Start, endpoint: str) -> None:
    """A thread for each; none announces its vector before all have theirs."""
    ready = threading.Barrier(len(ids), action=start.wait)
    policy = Policy(schemes=frozenset({"plain"}), adversary="semi-honest", smallest_cohort=1)

    def hold() -> Progress:
        held = False

        def progress(round: str, sent: int, size: int) -> None:
            nonlocal held
            if round == "input" and not held:
                held = True
                ready.wait(TIMEOUT)

        return progress

    def contribute(u: int) -> None:
        try:
            session(u)
        except BaseException as error:
            ready.abort()  # nobody waits for one that failed
            if not isinstance(error, threading.BrokenBarrierError):
                print(f"client {u}: {error!r}", file=sys.stderr, flush=True)
            raise

    def session(u: int) -> None:
        key, known, roster = (folders[u] / name for name in FILES)
        with join(endpoint, key, known, roster, policy=policy, patience=TIMEOUT) as peer:
            done = peer.contribute(lambda task: vector(u, case.length), progress=hold(), instrument=InTurn)
            if done is None or not done.summed:
                raise RuntimeError(f"client {u} was not summed: {done and done.reason}")

    with ThreadPoolExecutor(len(ids)) as threads:
        list(threads.map(contribute, ids))


FILES = ("client.key", "server.pub", "roster")


# What is measured


def repetition(kind: str, case: Uploads) -> Taken:
    """One of one kind, in processes of its own."""
    size = 4 * case.length
    start, (here, there) = Start(case.processes), Pipe()
    with TemporaryDirectory() as folder, LocalProcesses() as processes:
        of_server, of_clients = lay_out_keys(Path(folder), case.clients)
        if kind == "bare":
            processes.start("server", bare.serve, case, size, of_server, start, there)
        else:
            processes.start("server", server, case, kind == "plain", of_server, start, there)
        there.close()
        endpoint = _received(here, processes)
        for i in range(case.processes):
            ids = range(i, case.clients, case.processes)
            if kind == "bare":
                processes.start(f"{i}", bare.join, case, size, of_clients, ids, start, endpoint)
            else:
                processes.start(f"{i}", clients, case, of_clients, ids, start, endpoint)
        taken: Taken = _received(here, processes)
        codes = processes.wait(TIMEOUT)
    if any(codes.values()) or not taken.exact:
        raise AssertionError(f"not all was summed: {codes}, {taken}")
    return taken


def _received(pipe: Connection, processes: LocalProcesses) -> Any:
    """What the server's process says next. Raises: RuntimeError once any process has failed."""
    while not pipe.poll(0.1):
        codes = processes.exit_codes
        if any(codes.values()):
            raise RuntimeError(f"the server's process says nothing; exit codes: {codes}")
    return pipe.recv()


def cases(size: str, seed: int) -> list[Case]:
    case = CASES[size]
    return [Case(f"{case.clients} clients", partial(run_case, case))]


def run_case(case: Uploads) -> Iterator[Row | str]:
    """A row a kind. of_bare: the median of bare's seconds over this kind's, by repetition."""
    taken: dict[str, list[Taken]] = {kind: [] for kind in KINDS}
    for i in range(case.repetitions):
        for kind in KINDS:
            yield f"{kind}, {i + 1} of {case.repetitions}"
            taken[kind].append(repetition(kind, case))
    for kind in KINDS:
        pairs = zip(taken["bare"], taken[kind], strict=True)
        yield {
            "kind": kind,
            **asdict(case),
            "MB_per_s": statistics.median(each.messages / each.seconds for each in taken[kind]) / 1e6,
            "of_bare": statistics.median(one.seconds / each.seconds for one, each in pairs),
            "repetitions": [asdict(each) for each in taken[kind]],
        }


def table(rows: Sequence[Row]) -> Table:
    """TCP above: bytes on the wire, above those of messages. in the scheme: of the time."""
    header = ("kind", "clients", "moved", "of bare", "TCP above", "in the scheme", "server's cores")

    def cells(row: Row) -> Sequence[str]:
        each = row["repetitions"]
        above = [one["tcp"] / one["messages"] - 1 for one in each if one["tcp"] is not None]
        share, processor = (
            statistics.median(one[name] / one["seconds"] for one in each) for name in ("scheme", "processor")
        )
        return (
            row["kind"],
            str(row["clients"]),
            f"{row['MB_per_s']:.0f} MB/s",
            f"{row['of_bare']:.0%}",
            f"{max(above):.2%}" if above else "not known",
            f"{share:.0%}",
            f"{processor:.2f}",
        )

    return Table.of(header, [cells(row) for row in rows])


def plot(rows: Sequence[Row]) -> Figure:
    from benchmarks.plots import bars

    return bars([row["kind"] for row in rows], {"MB a second": [{"median": row["MB_per_s"]} for row in rows]})
