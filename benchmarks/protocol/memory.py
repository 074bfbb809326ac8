"""The most memory that a client and the server have had, of which the session itself is what is counted."""

from __future__ import annotations

import gc
import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.protocol.cost import lost_of
from secagg import Bounded, Identity, Masking, Roster
from secagg import run as run_session
from secagg.bits import packed_bytes
from secagg.crypto import SigningKey
from secagg.errors import ClientId
from secagg.policy import Adversary, GraphChoice
from secagg.session import ClientSession, Contribute
from secagg.wire import Raw
from transport.processes import LocalProcesses

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "The server stays within four accumulators, the upload it has at hand and 2 KB for each pair of "
    "neighbours, however many clients there are; a client within four vectors, its own among them, and 4 KB "
    "for each other client; each besides has 1 MB of blocks. What a process takes that has played a session "
    "of three is not counted."
)
CONTROL = Control("the accumulator, and the aim, in each row", lambda row: "server_allowed" in row)
ALONE = True  # a case is three processes
LOST = 0.3
Session = tuple[int, int, Adversary, GraphChoice]
CASES: dict[str, list[Session]] = {
    "quick": [
        (5, 10**6, "semi-honest", "complete"),
        (20, 10**6, "active", "complete"),
        (100, 10**5, "semi-honest", "complete"),
    ],
    "full": [
        (5, 10**6, "semi-honest", "complete"),
        (100, 10**6, "semi-honest", "complete"),
        (100, 10**6, "active", "complete"),
        (5, 10**8, "semi-honest", "complete"),
        (500, 10**4, "semi-honest", "complete"),
        (500, 10**4, "active", "complete"),
        (1000, 10**5, "semi-honest", "sparse"),
    ],
}
VALUE = np.float32(0.25)
PAIR_BYTES = 2048
FIXED_BYTES = 1 << 20  # blocks of keystream, zeros, codes and packed bytes, whatever the length
CLIENT_BYTES = 4096  # a client's: keys, shares and set entries of another client
_CLEAR_PEAK = "5"  # proc(5), clear_refs: the peak begins anew at what is resident now


def cases(size: str, seed: int) -> list[Case]:
    """Raises: NotImplementedError where the system does not say what a process had at most."""
    if not Path("/proc/self/clear_refs").exists():
        raise NotImplementedError("the most memory a process has had is measured on Linux alone")
    return [
        Case(
            f"{n} clients, {m:,} coordinates, {adversary}, {graph}",
            partial(run_case, (n, m, adversary, graph), seed),
        )
        for n, m, adversary, graph in CASES[size]
    ]


class Peak:
    """Bytes resident, from now on, above what is resident now. Linux alone says it."""

    def __init__(self) -> None:
        # What is imported or made once, at the first use, is here now: it is no session's.
        run_session(Masking.for_cohort(3, Bounded(length=10, bound=1.0)), {u: np.zeros(10) for u in range(3)})
        gc.collect()
        Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK, encoding="utf-8")
        self._before = _resident("VmRSS")

    def bytes(self) -> int:
        return _resident("VmHWM") - self._before


def _resident(what: str) -> int:
    (line,) = [
        line
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        if line.startswith(what + ":")
    ]
    return 1024 * int(line.split()[1])


def scheme_of(case: Session, roster: Roster | None) -> Masking:
    """The scheme of a case."""
    n, m, adversary, graph = case
    return Masking.for_cohort(
        n, Bounded(length=m, bound=1.0), adversary=adversary, roster=roster, graph=graph
    )


# A message through a pipe: its length first, so that nobody takes more memory than the message for it.


def send(pipe: Connection, message: Raw) -> None:
    """One message, after its length."""
    pipe.send(len(message))
    pipe.send_bytes(message)


def receive(pipe: Connection) -> Raw:
    """The message that `send` sent."""
    message = bytearray(pipe.recv())
    pipe.recv_bytes_into(message)
    return message


def server_process(case: Session, pipe: Connection) -> None:
    """The session with all its clients beyond the pipe. At the end the peak, with the mean decoded too."""
    roster = pipe.recv()
    executor = ThreadPoolExecutor(os.cpu_count())  # the aim holds with one: what it sums apart counts, too
    server = scheme_of(case, roster).server(range(case[0]), roster=roster, executor=executor)
    peak = Peak()
    while True:
        for u in iter(pipe.recv, None):
            server.receive(u, receive(pipe))
        requests = server.advance()
        if server.result is not None:
            break
        pipe.send((server.round, list(requests)))
        for request in requests.values():
            send(pipe, request)
        del requests
    mean, error = server.result.mean[""], server.result.error_bound[""]
    taken = peak.bytes()
    pipe.send(("done", (taken, bool(VALUE - error <= mean.min() and mean.max() <= VALUE + error))))


def client_process(case: Session, pipe: Connection) -> None:
    """Client 0 alone, whose vector is made in here. A key of its own: none crosses the pipe."""
    key = SigningKey(os.urandom(32))
    pipe.send(key.public)
    roster = pipe.recv()
    identity = Identity(0, roster, key) if roster else None
    client = scheme_of(case, roster).client(0, vector_of(case[1]), identity=identity)
    peak = Peak()
    send(pipe, client.start())
    while not client.done:
        send(pipe, client.receive(receive(pipe)) or b"")
    pipe.send(peak.bytes())


def vector_of(m: int) -> Contribute:
    """What every client contributes: (m,) of one value."""
    return lambda task: np.full(m, VALUE, np.float32)


def run_case(case: Session, seed: int) -> Row:
    """Three processes: the server, client 0, and this one, in which all the other clients are."""
    n, m, adversary, graph = case
    (to_server, server_end), (to_client, client_end) = Pipe(), Pipe()
    with LocalProcesses() as processes:
        processes.start("server", server_process, case, server_end)
        processes.start("client 0", client_process, case, client_end)
        server_end.close()
        client_end.close()
        public = to_client.recv()
        roster, identities = (None, {}) if adversary == "semi-honest" else cohort_keys(n, public)
        for pipe in (to_server, to_client):
            pipe.send(roster)
        scheme = scheme_of(case, roster)
        others = {u: scheme.client(u, vector_of(m), identity=identities.get(u)) for u in range(1, n)}
        server_peak, right = relay(others, lost_of(n - 1, LOST, seed), to_server, to_client)
        client_peak = to_client.recv()
    if not right:
        raise AssertionError("the mean of equal vectors is not that vector")
    word = 4 * m
    upload = packed_bytes(m, scheme.ring_bits()[""])
    pairs = n * scheme.degree // 2
    return {
        "clients": n,
        "coordinates": m,
        "adversary": adversary,
        "graph": graph,
        "pairs": pairs,
        "accumulator_bytes": word,
        "upload_bytes": upload,
        "server_bytes": server_peak,
        "server_allowed": 4 * word + upload + PAIR_BYTES * pairs + FIXED_BYTES,
        "client_bytes": client_peak,
        "client_allowed": 4 * word + CLIENT_BYTES * n + FIXED_BYTES,
    }


def cohort_keys(n: int, public: bytes) -> tuple[Roster, dict[ClientId, Identity]]:
    """A roster of client 0, with that key, and of others with keys made here."""
    keys = {u: SigningKey(os.urandom(32)) for u in range(1, n)}
    roster = Roster(os.urandom(32), {0: public} | {u: key.public for u, key in keys.items()})
    return roster, {u: Identity(u, roster, key) for u, key in keys.items()}


def relay(
    others: Mapping[ClientId, ClientSession],
    lost: Collection[ClientId],
    to_server: Connection,
    to_client: Connection,
) -> tuple[int, bool]:
    """Messages to and fro. lost: one less than the ids of those that never upload."""
    to_server.send(0)
    send(to_server, receive(to_client))
    for u, client in others.items():
        to_server.send(u)
        send(to_server, client.start())
    while True:
        to_server.send(None)
        round, what = to_server.recv()
        if round == "done":
            peak, right = what
            return peak, right
        requests = {u: receive(to_server) for u in what}
        for u in what:
            reply: Raw
            if u == 0:
                send(to_client, requests.pop(u))
                reply = receive(to_client)
            elif round == "masked-input" and u - 1 in lost:
                continue
            else:
                reply = others[u].receive(requests.pop(u)) or b""
            to_server.send(u)
            send(to_server, reply)


def table(rows: Sequence[Row]) -> Table:
    header = (
        "clients",
        "coordinates",
        "server is",
        "graph",
        "accumulator",
        "the server",
        "aim",
        "a client",
        "aim",
    )
    cells = [
        (
            str(row["clients"]),
            f"{row['coordinates']:,}",
            row["adversary"],
            row["graph"],
            *(
                f"{row[name] / 1e6:,.1f} MB"
                for name in (
                    "accumulator_bytes",
                    "server_bytes",
                    "server_allowed",
                    "client_bytes",
                    "client_allowed",
                )
            ),
        )
        for row in rows
    ]
    return Table.of(header, cells)


def plot(rows: Sequence[Row]) -> Figure:
    """In accumulators, or vectors, of 4 bytes a coordinate; only where these are what takes memory."""
    from benchmarks.plots import bars

    long = [row for row in rows if row["coordinates"] >= 10**6]
    names = [f"{row['clients']} clients, {row['coordinates']:,}, {row['adversary']}" for row in long]
    panels = {
        title: [{"measured": row[name] / row["accumulator_bytes"]} for row in long]
        for title, name in (
            ("the server, accumulators", "server_bytes"),
            ("a client, vectors", "client_bytes"),
        )
    }
    return bars(names, panels)
