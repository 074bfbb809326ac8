"""What a session costs each party in processor time, with a part of the cohort lost before its upload."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from benchmarks.harness import Row, Step
from secagg import Bounded, Identity, Masking, throwaway_identities
from secagg.masking.choice import Adversary, GraphChoice

CLAIM = "At 1000 clients and 100,000 coordinates a client takes a fraction of a second, the server seconds."
LENGTH = 100_000
LOST = 0.3  # before masked-input, where it costs the server most
TASK = b"cost"
Case = tuple[int, GraphChoice, Adversary]
CASES: dict[str, list[Case]] = {
    "quick": [
        (n, graph, adversary)
        for n in (100, 200)
        for graph in ("sparse", "complete")
        for adversary in ("semi-honest", "active")
    ],
    "full": [
        (1000, graph, adversary)
        for graph in ("sparse", "complete")
        for adversary in ("semi-honest", "active")
    ],
}
T = TypeVar("T")


def cases(size: str) -> int:
    return len(CASES[size])


class Times:
    """Processor seconds by round and party."""

    def __init__(self) -> None:
        self.client: dict[str, list[float]] = defaultdict(list)
        self.server: dict[str, float] = defaultdict(float)

    def of_client(self, round: str, work: Callable[[], T]) -> T:
        begun = time.process_time()
        result = work()
        self.client[round].append(time.process_time() - begun)
        return result

    def of_server(self, round: str, work: Callable[[], T]) -> T:
        begun = time.process_time()
        result = work()
        self.server[round] += time.process_time() - begun
        return result


def play(scheme: Masking, identities: Mapping[int, Identity] | None, drop: set[int], seed: int) -> Times:
    """One session with all its clients; who is in `drop` never uploads. Checked to be exact."""
    n, times = scheme.clients, Times()
    x = np.random.default_rng(seed).uniform(-1, 1, LENGTH).astype(np.float32)
    roster = identities[0].roster if identities else None
    server = scheme.server(range(n), TASK, roster=roster)
    clients = {
        u: scheme.client(u, lambda task: x, identity=identities[u] if identities else None) for u in range(n)
    }
    outbox = {u: client.start() for u, client in clients.items()}
    while server.result is None:
        round = server.round
        for u, message in outbox.items():
            if round != "masked-input" or u not in drop:
                times.of_server(round, lambda: server.receive(u, message))  # noqa: B023
        requests = times.of_server(round, server.advance)
        outbox = {}
        for u, request in requests.items():
            if server.round == "masked-input" and u in drop:
                continue  # it is lost, and does not even mask
            reply = times.of_client(server.round, lambda: clients[u].receive(request))  # noqa: B023
            if reply is not None:
                outbox[u] = reply
    mean = server.result.mean[""]
    if np.abs(mean - x).max() > server.result.error_bound[""]:
        raise AssertionError("the mean of equal vectors is not that vector")
    return times


def run(size: str, seed: int, step: Step) -> Iterator[Row]:
    for n, graph, adversary in CASES[size]:
        step(f"{n} clients, {graph}, {adversary}")
        roster, identities = throwaway_identities(range(n)) if adversary == "active" else (None, None)
        scheme = Masking.for_cohort(
            n, Bounded(length=LENGTH, bound=1.0), adversary=adversary, roster=roster, graph=graph
        )
        drop = set(np.random.default_rng([seed, n]).permutation(n)[: int(LOST * n)].tolist())
        times = play(scheme, identities, drop, seed)
        client = {name: 1000 * statistics.median(each) for name, each in times.client.items()}
        yield {
            "clients": n,
            "graph": graph,
            "adversary": adversary,
            "degree": scheme.degree,
            "lost": len(drop),
            "client_ms": client,
            "client_ms_all": sum(client.values()),
            "server_s": dict(times.server),
            "server_s_all": sum(times.server.values()),
        }


def table(rows: Sequence[Row]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    header = ("clients", "graph", "neighbours", "server is", "a client", "the server", "lost")
    return header, [
        (
            str(row["clients"]),
            row["graph"],
            str(row["degree"]),
            row["adversary"],
            f"{row['client_ms_all']:.0f} ms",
            f"{row['server_s_all']:.2f} s",
            str(row["lost"]),
        )
        for row in rows
    ]
