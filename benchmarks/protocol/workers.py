"""Unmasking on an executor: how much sooner it is done with more workers."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.protocol.cost import lost_of
from secagg import Bounded, Masking
from secagg.session import ServerSession

CLAIM = (
    "Unmasking on an executor: two processes divide it almost evenly, but one already takes longer than no "
    "executor, since masks are summed apart and handed back. Threads gain nothing: `cryptography` (43 to "
    "50) holds Python's lock while a cipher or a key agreement runs."
)
CONTROL = Control("no executor", lambda row: row["executor"] == "none", by=("clients", "coordinates"))
ALONE = True
LOST = 0.3
CASES = {"quick": [(100, 100_000), (10, 3_000_000)], "full": [(200, 100_000), (20, 10_000_000)]}
REPETITIONS = {"quick": 3, "full": 3}
POOLS: dict[str, Callable[[int], Executor]] = {
    "threads": ThreadPoolExecutor,
    "processes": lambda workers: ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")),
}


def worker_counts() -> list[int]:
    """1, 2, 4, ... up to the cores."""
    cores = os.cpu_count() or 1
    return [count for count in (1, 2, 4, 8, 16, 32) if count <= cores]


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(f"{n} clients, {m:,} coordinates", partial(run_case, n, m, REPETITIONS[size], seed))
        for n, m in CASES[size]
    ]


class Later:
    """The executor of a session, chosen when its unmasking begins."""

    chosen: Executor

    def submit(self, work: Callable[..., Any], /, *args: Any) -> Any:
        return self.chosen.submit(work, *args)


def until_unmasking(scheme: Masking, seed: int, executor: Any) -> ServerSession:
    """A server that has everything, and has only to be told to unmask."""
    x = np.full(scheme.vectors[""].length, 0.5, np.float32)
    lost = lost_of(scheme.clients, LOST, seed)
    server = scheme.server(range(scheme.clients), executor=executor)
    clients = {u: scheme.client(u, lambda task: x) for u in range(scheme.clients)}
    outbox = {u: client.start() for u, client in clients.items()}
    while True:
        for u in list(outbox):
            if server.round != "masked-input" or u not in lost:
                server.receive(u, outbox.pop(u))
        if server.round == "unmasking":
            return server
        requests = server.advance()
        outbox = {
            u: clients[u].receive(request) or b""
            for u, request in requests.items()
            if server.round != "masked-input" or u not in lost
        }


def run_case(n: int, m: int, repetitions: int, seed: int) -> Iterator[Row | str]:
    """Wall time of the server's last step, and of what it takes without an executor in the same turn."""
    scheme = Masking.for_cohort(n, Bounded(length=m, bound=1.0), graph="complete")
    kinds = [("none", 0), *((kind, workers) for kind in POOLS for workers in worker_counts())]
    seconds: dict[tuple[str, int], list[float]] = {kind: [] for kind in kinds}
    for repetition in range(repetitions):
        for kind, workers in kinds:
            yield f"{kind} {workers or ''}, repetition {repetition + 1}"
            seconds[kind, workers].append(unmasking_seconds(scheme, seed, kind, workers))
    for (kind, workers), taken in seconds.items():
        yield {
            "clients": n,
            "coordinates": m,
            "executor": kind,
            "workers": workers,
            "seconds": taken,
            "speedup": statistics.median(a / b for a, b in zip(seconds["none", 0], taken, strict=True)),
        }


def unmasking_seconds(scheme: Masking, seed: int, kind: str, workers: int) -> float:
    """Seconds by the wall in which the server unmasks, with so many workers of this kind."""
    later = Later()
    server = until_unmasking(scheme, seed, None if kind == "none" else later)
    if kind == "none":
        return timed(server)
    with POOLS[kind](workers) as later.chosen:
        list(later.chosen.map(warm, range(2 * workers)))
        return timed(server)


def warm(task: int) -> int:
    """A task that lets a worker import what it needs, before the clock runs."""
    time.sleep(0.2)  # or the first worker would take all of them, and the others be started on the clock
    return task


def timed(server: ServerSession) -> float:
    """Seconds by the wall of the server's last step. Raises: AssertionError where the sum is not right."""
    begun = time.perf_counter()
    server.advance()
    taken = time.perf_counter() - begun
    if server.result is None or np.abs(server.result.mean[""] - 0.5).max() > server.result.error_bound[""]:
        raise AssertionError("the mean of equal vectors is not that vector")
    return taken


def table(rows: Sequence[Row]) -> Table:
    header = ("clients", "coordinates", "executor", "workers", "unmasking", "speed-up")
    cells = [
        (
            str(row["clients"]),
            f"{row['coordinates']:,}",
            row["executor"],
            str(row["workers"] or ""),
            f"{statistics.median(row['seconds']):.3f} s",
            f"{row['speedup']:.2f}",
        )
        for row in rows
    ]
    return Table.of(header, cells)
