"""What a client sends in all rounds, per coordinate, beside what its words alone take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from benchmarks.harness import Case, Control, Row, Table
from secagg import Bounded, Masking, throwaway_identities
from secagg.masking.messages import traffic
from secagg.policy import Adversary

CLAIM = (
    "A client sends little more than ceil(log2(n (2^16 - 1) + 1)) bits a coordinate, in all rounds together."
)
CONTROL = Control("the words alone, in each row", lambda row: "floor" in row)
ALONE = False
LENGTH = 1_000_000
_CASES: list[tuple[int, Adversary, float]] = [
    (n, adversary, dropout)
    for n in (100, 1000, 10_000)
    for adversary in ("semi-honest", "active")
    for dropout in (0.1, 0.3)
]


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(f"{n} clients, {adversary}, up to {dropout:.0%} lost", partial(run_case, n, adversary, dropout))
        for n, adversary, dropout in _CASES
    ]


def run_case(n: int, adversary: Adversary, dropout: float) -> Row:
    """By the formula, which tests/secagg/test_traffic.py holds against messages to the byte.

    The client with the longest id; nobody is lost, which is when it sends most.
    """
    roster, _ = throwaway_identities(range(1)) if adversary == "active" else (None, None)
    scheme = Masking.for_cohort(
        n,
        Bounded(length=LENGTH, bound=1.0, bits=16),
        adversary=adversary,
        roster=roster,
        corrupt=n // 10,
        dropout=dropout,
    )
    everyone = range(n)
    holders = None if scheme.complete else range(n - 1 - scheme.degree, n - 1)
    signed = everyone if adversary == "active" else None
    rounds = traffic(scheme, 0, n - 1, everyone, everyone, everyone, signed, holders)
    bits = 8 * sum(up for up, _ in rounds.values()) / LENGTH
    floor = math.ceil(math.log2(n * (2**16 - 1) + 1))
    return {
        "clients": n,
        "adversary": adversary,
        "dropout": dropout,
        "degree": scheme.degree,
        "floor": floor,
        "bits": bits,
        "above": bits / floor - 1,
    }


def table(rows: Sequence[Row]) -> Table:
    header = ("clients", "server", "lost up to", "k", "words", "sent", "above")
    cells = [
        (
            str(row["clients"]),
            row["adversary"],
            f"{row['dropout']:.0%}",
            str(row["degree"]),
            f"{row['floor']} bits",
            f"{row['bits']:.2f} bits",
            f"{row['above']:.2%}",
        )
        for row in rows
    ]
    return Table.of(header, cells)
