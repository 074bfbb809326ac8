"""What each protection costs: time of a client and of the server, bytes, rounds, accuracy; and the epsilon
that it gives for that.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.cores import cores
from benchmarks.harness import Case, Control, Row, Table
from benchmarks.played import Calls, Clock, timed, watched
from benchmarks.poisoned import constant, laid_out, looking
from benchmarks.protected import LAST, SIZES, Size, by_protection, configuration, named, on_device, value
from benchmarks.protections import PLAIN, Protection
from benchmarks.spread import by_seed, paired, seeds, spread, times
from fl.config.run import RunConfig
from fl.federation import server as serving
from fl.federation.noising import Noising
from fl.federation.records import RoundRecord
from fl.federation.simulation import SimulatedCohort
from fl.training.clients import LocalClients
from fl.training.server import GlobalModel
from secagg import ClientSession, ServerSession
from secagg.errors import ClientId
from secagg.record import Around, AroundClient
from secagg.wire import Raw, relay_of
from transport import RoundReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Digits, a net of 4,810 parameters, 20 clients, 15 rounds; per client and round. A mask costs time and "
    "no bytes: 4 ms of a processor beside the 2 of training, so 3.1 times what an unprotected client takes, "
    "and .88 of its bytes (16 bits a number in the place of 32), .73 under distributed noise; in groups 2.9 "
    "times, and .82 and .76, since what sums fewer needs fewer bits. Sums split between two relays cost 1.2 "
    "times and .67, and each relay 3 ms. With CKKS it is 11 times, and 6.6 times the bytes where the server "
    "is told the sum, 3.6 where it is not; among three decoys 31 and 17 times. Noise in the steps of "
    "training costs 13 times, all of it training. The server takes 11 ms for a masked round, in groups as "
    "well, 5 for a split one, 8 to 10 with CKKS, 166 with decoys, where it takes 1.9 for an unprotected "
    "one. No scheme costs accuracy, nor do groups, noise does, of 95 %: distributed noise at an epsilon of "
    "50 leaves 91, at 8 60, at 1 10, as a constant answer; the server's noise at 8 leaves 77, noise in the "
    "steps 57, each client's own on its update 17. These epsilons are of the whole run at delta 1e-5, and "
    "not one promise: each holds against whom its row says, and that of the server's noise not against the "
    "server."
)
CONTROL = Control(
    "no protection, with the same seeds, in the same process",
    lambda row: row["protection"] == PLAIN.name,
    by=("seed",),
)
ALONE = True
ON_GPU = (
    "MNIST and `mlp-200`, 159,010 parameters, trained on a GPU by 20 clients in 15 rounds. Training, and "
    "what is done with updates, is timed by the clock on the wall once the GPU is through with it, sessions "
    "by the processor, as elsewhere."
)
Number = Callable[[Mapping[str, Any]], float]
"""Of a row."""

TRAINING, SENDING, DECOYS = "training", "sending", "decoys"
STEPPING = "stepping"
OF_CLIENTS: Calls = {
    TRAINING: (LocalClients, "train"),
    SENDING: (SimulatedCohort, "_sent"),  # clips, adds noise
    DECOYS: (SimulatedCohort, "_among"),
}
OF_SERVER: Calls = {
    "asking": (serving, "write_instructions"),
    "combining": (serving.Server, "_combined"),
    "noising": (Noising, "noised"),
}
WORK: Calls = {**OF_CLIENTS, **OF_SERVER, STEPPING: (GlobalModel, "apply")}
"""What is done in a round outside its session: of clients for all of them together."""


def cases(size: str, seed: int) -> list[Case]:
    """Seed by seed, so that what a stop leaves has its control, which comes first."""
    how = SIZES[size]
    return [
        Case(f"{protection.name}, seed {each}", partial(run_case, protection, how, each))
        for each in seeds(seed, how.seeds)
        for protection in how.protections
    ]


class Meter:
    """An instrument: processor seconds of the server's sessions, None, and of each client's and relay's,
    since they were last taken.
    """

    def __init__(self) -> None:
        self.seconds: dict[ClientId | None, list[float]] = defaultdict(list)

    def server(self, task: bytes, session: ServerSession) -> ServerSession:
        return _TimedServer(session, self.seconds[None])

    def client(self, u: ClientId, session: ClientSession) -> ClientSession:
        return _TimedClient(session, self.seconds[u])

    def taken(self) -> dict[ClientId | None, float]:
        total = {party: sum(seconds) for party, seconds in self.seconds.items()}
        self.seconds.clear()  # those of sessions that have ended: each round has others
        return total


class _TimedServer(Around):
    def __init__(self, session: ServerSession, seconds: list[float]) -> None:
        super().__init__(session)
        self._seconds = seconds

    def receive(self, sender: ClientId, message: Raw) -> None:
        timed(self._seconds, lambda: self._session.receive(sender, message))

    def advance(self) -> dict[ClientId, bytes]:
        return timed(self._seconds, self._session.advance)


class _TimedClient(AroundClient):
    def __init__(self, session: ClientSession, seconds: list[float]) -> None:
        super().__init__(session)
        self._seconds = seconds

    def start(self) -> bytes:
        return timed(self._seconds, self._session.start)

    def receive(self, message: Raw) -> bytes | None:
        return timed(self._seconds, lambda: self._session.receive(message))


@dataclass(frozen=True)
class Spent:
    """Processor seconds of a round: of the mean client, its training, with what it does to its update, and
    its session; of the server; of the mean relay, None without any.
    """

    training: float
    session: float
    server: float
    relay: float | None

    @classmethod
    def of(cls, work: Mapping[str, float], sessions: Mapping[ClientId | None, float], *, kept: bool) -> Spent:
        """work: as `WORK`, of all clients together. kept: whether clients step along the sum, and not the
        server; it was done once, and each of them does it.
        """
        clients = [sessions[u] for u in sessions if u is not None and relay_of(u) is None]
        relays = [sessions[u] for u in sessions if u is not None and relay_of(u) is not None]
        step = work[STEPPING]
        return cls(
            sum(work[name] for name in OF_CLIENTS) / len(clients) + (step if kept else 0.0),
            statistics.fmean(clients),
            sessions[None] + sum(work[name] for name in OF_SERVER) + (0.0 if kept else step),
            statistics.fmean(relays) if relays else None,
        )


@contextmanager
def on_one_core() -> Iterator[None]:
    """Meanwhile this thread, and those that it starts, have one core, and torch one thread: clients that are
    computed side by side on two halves of a core each take longer than one alone.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    before = cores()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, before[:1])
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, before)


def clock_of(device: str) -> Clock | None:
    """Of training on this device. On a GPU a processor only says what is to be done: there it is the clock on
    the wall, once that is done.
    """
    if device == "cpu":
        return None

    def done() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return done


def run_case(protection: Protection, how: Size, seed: int) -> Row:
    """A row. accuracy: on the test set, in [0, 1], the mean of the last rounds, of the clients' model where
    they keep it; constant: of the best constant answer. Of a round, the median: training_ms, session_ms,
    server_ms, relay_ms as `Spent`, in milliseconds. Of a round, the mean: bytes_up, bytes_down of the
    protocol's messages, of a client; relay_bytes: of a relay, both ways. rounds: of the protocol in one of
    training. epsilon, delta, against, honest: as the run's record says of all its rounds; server_epsilon: the
    epsilon where it holds against the server. dataset, device: what was trained, and on what.

    Raises: NotImplementedError where the data set or the device is not to be had.
    """
    on = on_device(how)
    config = configuration(protection, how, seed, execution="sequential")
    meter, reports = Meter(), list[RoundReport]()
    spent, records, exchanges, accuracies = list[Spent](), list[RoundRecord](), list[int](), list[float]()
    with on_one_core(), watched(WORK, clock_of(how.device)) as seconds:
        layout, server = laid_out(config, instrument=meter)
        look = looking(config, layout)
        for trained in server.rounds(watch=reports.append):
            work = {name: sum(each) for name, each in seconds.items()}
            spent.append(Spent.of(work, meter.taken(), kept=protection.kept))
            records.append(trained.record)
            exchanges.append(len(reports))
            if trained.record.round > how.rounds - LAST:
                accuracies.append(look(trained))
            reports.clear()
            for each in seconds.values():
                each.clear()
    return {
        **named(protection),
        **on,
        "seed": seed,
        "accuracy": round(statistics.fmean(accuracies), 5),
        "constant": round(constant(layout), 5),
        **{
            f"{what}_ms": _median_ms([getattr(each, what) for each in spent])
            for what in ("training", "session", "server")
        },
        "bytes_up": _of_each(records, lambda record: record.bytes_up / record.alive),
        "bytes_down": _of_each(records, lambda record: record.bytes_down / record.alive),
        **of_relays(config, spent, records),
        "rounds": statistics.median(exchanges),
        **promised(config, records[-1]),
    }


def _median_ms(seconds: Sequence[float]) -> float:
    return round(1000 * statistics.median(seconds), 4)


def _of_each(records: Sequence[RoundRecord], number: Callable[[RoundRecord], float]) -> float:
    return round(statistics.fmean(map(number, records)), 1)


def of_relays(config: RunConfig, spent: Sequence[Spent], records: Sequence[RoundRecord]) -> Row:
    """relay_ms: processor milliseconds of the mean relay in the median round; relay_bytes: of one in the mean
    round, both ways. None of both, and why, without relays.
    """
    none, relays = "there are no relays", config.protection.relay_count
    if not relays:
        return {**value("relay_ms", None, none), **value("relay_bytes", None, none)}
    through = [(record.relay_bytes_up or 0) + (record.relay_bytes_down or 0) for record in records]
    return {
        "relay_ms": _median_ms([each.relay for each in spent if each.relay is not None]),
        "relay_bytes": round(statistics.fmean(through) / relays, 1),
    }


def promised(config: RunConfig, record: RoundRecord) -> Row:
    """record: of the last round, which counts all."""
    none = record.no_epsilon or "no noise is added"
    central = config.privacy.mechanism == "central"
    at_server = "unnoised: the server sees the sum before it adds noise" if central else none
    return {
        **value("epsilon", record.epsilon, none),
        **value("delta", record.delta, none),
        **value("against", record.against, none),
        **value("honest", record.honest, none if record.epsilon is None else "no other has to be honest"),
        **value("server_epsilon", None if central else record.epsilon, at_server),
    }


def client_ms(row: Mapping[str, Any]) -> float:
    """Milliseconds of a client in a round, its training and its session."""
    return float(row["training_ms"] + row["session_ms"])


def table(rows: Sequence[Row]) -> Table:
    """accuracy: in percent, the mean of the last three rounds, ± over seeds; off: beside plain, by pairs of
    seeds, ± its standard error. Per client and round, in processor time: training, with clipping, noise and
    decoys; session; times: both together, in those of plain, by pairs of seeds. server, relay: theirs, a
    round. up, down: bytes of a client a round, in thousands; times: up, in those of plain. rounds: of the
    protocol. epsilon: of the whole run at delta 1e-5; honest: clients of a sum that have to be.
    """
    by = by_protection(rows)
    plain = by[PLAIN.name]
    lines = [
        (
            name,
            spread([100 * row["accuracy"] for row in some], ".1f"),
            "" if name == PLAIN.name else off(some, plain, lambda row: 100 * row["accuracy"], "+.1f"),
            *(middle(some, f"{what}_ms", ".2f") for what in ("training", "session")),
            over(some, plain, client_ms),
            *(middle(some, f"{what}_ms", ".2f") for what in ("server", "relay")),
            middle(some, "bytes_up", ",.1f", 1e-3),
            over(some, plain, lambda row: row["bytes_up"]),
            middle(some, "bytes_down", ",.1f", 1e-3),
            f"{some[0]['rounds']:g}",
            middle(some, "epsilon", ".3g"),
            some[0]["against"] or "",
            str(some[0]["honest"] or ""),
        )
        for name, some in by.items()
    ]
    header = ("protection", "accuracy", "off", "training, ms", "session", "times", "server, ms", "relay")
    traffic = ("up, kB", "times", "down", "rounds", "epsilon", "holds against", "honest")
    return Table.of(header + traffic, lines)


def off(some: Sequence[Row], plain: Sequence[Row], number: Number, form: str) -> str:
    """The number beside that of plain, by pairs of seeds, ± its standard error."""
    return paired(by_seed(some, number), by_seed(plain, number), form)


def over(some: Sequence[Row], plain: Sequence[Row], number: Number) -> str:
    """The number in those of plain, by pairs of seeds."""
    return f"{times(by_seed(some, number), by_seed(plain, number)):.2f}"


def middle(some: Sequence[Row], name: str, form: str, unit: float = 1.0) -> str:
    """The median over seeds; nothing where it does not apply."""
    there = [unit * row[name] for row in some if row[name] is not None]
    return format(statistics.median(there), form) if there else ""


def plot(rows: Sequence[Row]) -> Figure:
    """What a client computes and sends, and what the server computes, protection by protection."""
    from benchmarks.plots import bars

    by = by_protection(rows)

    def medians(names: Mapping[str, str], unit: float = 1.0) -> list[dict[str, float]]:
        return [
            {part: unit * statistics.median(row[name] for row in some) for part, name in names.items()}
            for some in by.values()
        ]

    panels = {
        "accuracy, %": medians({"accuracy": "accuracy"}, 100),
        "a client, ms a round": medians({"its training": "training_ms", "its session": "session_ms"}),
        "the server, ms a round": medians({"the server": "server_ms"}),
        "bytes up, kB a round": medians({"bytes": "bytes_up"}, 1e-3),
    }
    return bars(list(by), panels)
