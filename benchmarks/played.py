"""A whole session in this process, with what each party took for each round: processor time and bytes."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, TypeVar
from unittest.mock import patch

from secagg import Aggregate, Identity, Scheme
from secagg.errors import ClientId
from secagg.graph import graph_of
from secagg.in_process import Drops
from secagg.session import ClientSession, Contribute, relays_of
from secagg.wire import relay_of

T = TypeVar("T")
PerRound = dict[str, dict[ClientId, T]]
Calls = Mapping[str, tuple[object, str]]
"""Step -> the module or class, and the function of it that takes the step."""


Clock = Callable[[], float]
"""Seconds, of which differences count."""


def timed(seconds: list[float], work: Callable[[], T], clock: Clock | None = None) -> T:
    """What the work gives; its time by the clock is appended. By default that of the processor: of all
    threads of this process, and hardly touched by what else the machine does.
    """
    clock = clock or time.process_time
    begun = clock()
    result = work()
    seconds.append(clock() - begun)
    return result


def timed_with_peak(seconds: list[float], work: Callable[[], object]) -> int:
    """Bytes at most allocated meanwhile; its processor time, with what counting them takes, is appended."""
    tracemalloc.start()
    try:
        timed(seconds, work)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@contextmanager
def watched(calls: Calls, clock: Clock | None = None) -> Iterator[dict[str, list[float]]]:
    """Step -> seconds of each call that sessions make for it meanwhile, by the clock as `timed`."""
    spent: dict[str, list[float]] = {step: [] for step in calls}

    def timing(right: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
        return wraps(right)(lambda *args, **named: timed(seconds, lambda: right(*args, **named), clock))

    with ExitStack() as patches:
        for step, (owner, function) in calls.items():
            timing_it = timing(getattr(owner, function), spent[step])
            patches.enter_context(patch.object(owner, function, timing_it))
        yield spent


class Costs:
    """Processor seconds and bytes by round: of each client and relay, and of the server for all together.

    A round is what a client does on a request and the server with the answers, up to the next request. up:
    bytes of a client's message; down: of the request that opened the round. Relays stand among the clients,
    under the ids by which they take part.
    """

    def __init__(self) -> None:
        self.client: PerRound[float] = defaultdict(dict)
        self.server: dict[str, float] = defaultdict(float)
        self.up: PerRound[int] = defaultdict(dict)
        self.down: PerRound[int] = defaultdict(dict)

    def of_client(self, round: str, u: ClientId, work: Callable[[], T]) -> T:
        seconds = list[float]()
        result = timed(seconds, work)
        self.client[round][u] = sum(seconds)
        return result

    def of_server(self, round: str, work: Callable[[], T]) -> T:
        seconds = list[float]()
        result = timed(seconds, work)
        self.server[round] += sum(seconds)
        return result

    def stayed(self) -> list[ClientId]:
        """The clients that answered in the last round in which clients do."""
        *_, last = filter(None, (_clients(each) for each in self.client.values()))
        return last

    def client_ms(self) -> dict[str, float]:
        """Round -> milliseconds of the median client that stayed."""
        stayed = self.stayed()
        return {
            round: 1000 * statistics.median(each[u] for u in stayed)
            for round, each in self.client.items()
            if _clients(each)
        }

    def client_ms_all(self) -> float:
        """Milliseconds of the median client that stayed, in all its rounds."""
        return 1000 * statistics.median(
            sum(each.get(u, 0) for each in self.client.values()) for u in self.stayed()
        )

    def relays_s(self) -> list[float]:
        """Of each relay, in all its rounds."""
        relays = sorted({r for each in self.client.values() for r in each if relay_of(r) is not None})
        return [sum(each.get(r, 0) for each in self.client.values()) for r in relays]

    def server_s_all(self) -> float:
        return sum(self.server.values())


def _clients(parties: Iterable[ClientId]) -> list[ClientId]:
    return sorted(u for u in parties if relay_of(u) is None)


def play(
    scheme: Scheme,
    vectors: Callable[[ClientId], Contribute],
    *,
    task: bytes = b"",
    drop: Drops | None = None,
    identities: Mapping[ClientId, Identity] | None = None,
) -> tuple[Costs, Aggregate]:
    """drop: round -> clients that are lost before they work on it; the last round they are in is the one
    before. The sum: the server's, or where clients keep it one client's.
    """
    costs, lost = Costs(), set[ClientId]()
    roster = next((identity.roster for identity in (identities or {}).values()), None)
    server = scheme.server(range(scheme.clients), task, roster=roster)
    clients: dict[ClientId, ClientSession] = {
        u: scheme.client(u, vectors(u), identity=(identities or {}).get(u)) for u in range(scheme.clients)
    }
    for j, r in enumerate(relays_of(scheme)):
        clients[r] = scheme.relay(j, identity=(identities or {}).get(r))
    requests: dict[ClientId, bytes] = {}
    while server.result is None:
        round = server.round
        lost.update((drop or {}).get(round, ()))
        for u, client in clients.items():
            if u in lost or (requests and u not in requests):
                continue
            graph_of.cache_clear()  # each client draws the graph itself
            if round == "join":
                reply = costs.of_client(round, u, client.start)
            else:
                reply = costs.of_client(round, u, lambda: client.receive(requests[u]) or b"")  # noqa: B023
            costs.up[round][u], costs.down[round][u] = len(reply), len(requests.get(u, b""))
            costs.of_server(round, lambda: server.receive(u, reply))  # noqa: B023
        requests = costs.of_server(round, server.advance)
    return costs, next((client.result for client in clients.values() if client.result), server.result)
