"""Whole sessions of hundreds to thousands of clients in one process, with clients lost in every round."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.played import play
from secagg import Counts, Masking, throwaway_identities
from secagg.policy import Adversary

CLAIM = "Thousands of clients on a sparse graph, 6 % of those left lost in every round, and the sum is exact."
CONTROL = Control("the inputs of those that stayed, added up in the clear", lambda row: "exact" in row)
ALONE = True
LENGTH = 1000
LOST = 0.06
CASES: dict[str, list[tuple[int, Adversary]]] = {
    "quick": [(100, "active"), (200, "active"), (500, "semi-honest")],
    "full": [(1000, "active"), (1000, "semi-honest"), (5000, "semi-honest")],
}


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
    costs, total = play(scheme, lambda u: lambda task: inputs[u], drop=drop, identities=identities)
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
        "client_ms": costs.client_ms_all(),
        "server_s": costs.server_s_all(),
        "bytes_up": sum(each[stayed] for each in costs.up.values()),
        "bytes_down": sum(each[stayed] for each in costs.down.values()),
    }


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(f"{n} clients, {adversary}", partial(run_case, n, adversary, seed))
        for n, adversary in CASES[size]
    ]


def table(rows: Sequence[Row]) -> Table:
    header = (
        "clients",
        "server",
        "k",
        "t",
        "lost",
        "summed",
        "exact",
        "a client",
        "the server",
        "up",
        "down",
    )
    cells = [
        (
            str(row["clients"]),
            row["adversary"],
            str(row["degree"]),
            str(row["threshold"]),
            " ".join(str(count) for count in row["lost"].values()),
            str(row["survivors"]),
            "yes" if row["exact"] else "NO",
            f"{row['client_ms']:.1f} ms",
            f"{row['server_s']:.2f} s",
            f"{row['bytes_up']} B",
            f"{row['bytes_down']} B",
        )
        for row in rows
    ]
    return Table.of(header, cells)
