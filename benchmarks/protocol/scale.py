"""Whole sessions of hundreds to thousands of clients in one process, with clients lost in every round."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.counted import Counted
from benchmarks.harness import Row, Step
from secagg import Counts, Masking, throwaway_identities
from secagg import run as run_session
from secagg.masking.choice import Adversary

CLAIM = "Thousands of clients on a sparse graph, 6 % of those left lost in every round, and the sum is exact."
LENGTH = 1000
LOST = 0.06
CASES: dict[str, list[tuple[int, Adversary]]] = {
    "quick": [(100, "active"), (200, "active"), (500, "semi-honest"), (1000, "semi-honest")],
    "full": [(1000, "active"), (1000, "semi-honest"), (5000, "semi-honest")],
}


def cases(size: str) -> int:
    return len(CASES[size])


def run_case(n: int, adversary: Adversary, seed: int) -> Row:
    """One session. Losses are drawn by chance, in every round from advertise-keys on."""
    roster, identities = throwaway_identities(range(n)) if adversary == "active" else (None, None)
    scheme = Masking.for_cohort(
        n, Counts(length=LENGTH, maximum=2**16 - 1), adversary=adversary, roster=roster, graph="sparse"
    )
    chance = np.random.default_rng([seed, n])
    left, drop = chance.permutation(n).tolist(), {}
    for name in scheme.rounds[1:]:
        lost = int(LOST * len(left))
        drop[name], left = set(left[:lost]), left[lost:]
    inputs = {u: chance.integers(0, 2**16, LENGTH) for u in range(n)}
    counted: list[Counted] = []

    def count(server: object) -> Counted:
        counted.append(Counted(server))  # type: ignore[arg-type]
        return counted[-1]

    begun = time.process_time()
    total = run_session(scheme, inputs, drop=drop, identities=identities, instrument=count)
    seconds = time.process_time() - begun
    expected = sum(inputs[u] for u in total.survivors)
    stayed = left[0]
    return {
        "clients": n,
        "adversary": adversary,
        "degree": scheme.degree,
        "threshold": scheme.threshold,
        "m_min": scheme.m_min,
        "lost": {name: len(ids) for name, ids in drop.items()},
        "survivors": len(total.survivors),
        "exact": bool(np.array_equal(total.codes[""], expected)),
        "milliseconds_a_client": 1000 * seconds / n,
        "bytes_up": counted[0].up[stayed],
        "bytes_down": counted[0].down[stayed],
    }


def run(size: str, seed: int, step: Step) -> Iterator[Row]:
    for n, adversary in CASES[size]:
        step(f"{n} clients, {adversary}")
        yield run_case(n, adversary, seed)


def table(rows: Sequence[Row]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    header = ("clients", "server", "k", "t", "lost", "summed", "exact", "ms a client", "up", "down")
    return header, [
        (
            str(row["clients"]),
            row["adversary"],
            str(row["degree"]),
            str(row["threshold"]),
            " ".join(str(count) for count in row["lost"].values()),
            str(row["survivors"]),
            "yes" if row["exact"] else "NO",
            f"{row['milliseconds_a_client']:.1f}",
            f"{row['bytes_up']} B",
            f"{row['bytes_down']} B",
        )
        for row in rows
    ]
