"""What a server learns where the groups of each round are drawn anew, beside groups that stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import cells_of
from benchmarks.spread import seeds
from secagg import Ledger
from secagg.alike import may_be_signed
from secagg.errors import ClientId
from secagg.masking.groups import corrupt_in_group, cut, default_of_group, largest_group

CLAIM = "Not measured yet."
REDRAWN, STAYS = "anew", "stay"
CONTROL = Control(
    "the groups of the first round, in every round",
    lambda row: row["groups_are"] == STAYS,
    by=("clients", "groups", "lost"),
)
ALONE = False
CLIENTS = {"quick": (40,), "full": (20, 40, 100)}
GROUPS = (4, 5, 8, 10, 20)
LOST = (0.0, 0.1)  # of a round's clients, whoever they are
CORRUPT = 0.1  # of the clients, as a run assumes unless it is told otherwise
PAIRS = {"quick": 100, "full": 2000}
RUNS = {"quick": 1, "full": 5}
MOST = 100  # rounds of a run, of which it is asked when they have given all weights away

Round = list[frozenset[ClientId]]
"""The sets whose sums are opened."""


@dataclass(frozen=True)
class Setup:
    """groups_are: drawn anew in every round, or as they were in the first. lost: of each round's clients the
    share that is gone before it can upload.
    """

    clients: int
    groups: int
    lost: float
    groups_are: str

    @property
    def corrupt(self) -> int:
        return round(CORRUPT * self.clients)

    @property
    def A_g(self) -> int:
        return corrupt_in_group(self.clients, self.corrupt, self.groups)

    @property
    def m_g(self) -> int:
        """Of fewer a group is not opened; of groups that are unsafe, most of one are enough."""
        return default_of_group(self.clients, self.corrupt, self.groups, "active", unsafe=True)

    @property
    def safe(self) -> bool:
        return self.m_g <= self.clients // self.groups and self.m_g >= self.A_g + 2

    def rounds(self, rng: np.random.Generator) -> Iterator[Round]:
        everybody, first = tuple(range(self.clients)), rng.bytes(32)
        while True:
            base = first if self.groups_are == STAYS else rng.bytes(32)
            gone = rng.choice(self.clients, round(self.lost * self.clients), replace=False)
            there = frozenset(everybody) - set(gone.tolist())
            groups = cut(everybody, self.clients, self.groups, base)
            yield [group & there for group in groups if len(group & there) >= self.m_g]


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(
            f"{clients} clients, {groups} groups, {lost:.0%} lost, seed {each}",
            partial(run_case, clients, groups, lost, each, PAIRS[size] // RUNS[size]),
        )
        for clients in CLIENTS[size]
        for groups in GROUPS
        if groups < clients
        for lost in LOST
        for each in seeds(seed, RUNS[size])
    ]


def run_case(clients: int, groups: int, lost: float, seed: int, pairs: int) -> Iterator[Row | str]:
    """near: of so many pairs of rounds, those of which two sums are too near. rounds: after which all weights
    that stay the same are determined; None: not in MOST.
    """
    for groups_are in (REDRAWN, STAYS):
        setup = Setup(clients, groups, lost, groups_are)
        yield groups_are
        rng = np.random.default_rng((seed, clients, groups))
        near = 0
        for _ in range(pairs):
            rounds = setup.rounds(rng)
            near += too_near(next(rounds), next(rounds), setup.A_g)
        yield {
            **vars(setup),
            "seed": seed,
            "size": largest_group(clients, groups),
            "A_g": setup.A_g,
            "m_g": setup.m_g,
            "safe": setup.safe,
            "pairs": pairs,
            "near": near,
            "rounds": determined(setup, rng),
        }


def too_near(first: Round, second: Round, A_g: int) -> bool:
    """Whether of two sums, one of each round, that share a client this one may not have signed both, by the
    rule for like vectors (`secagg.alike`): they are different, and differ by fewer than A_g + 2. By the rest
    of that rule, that a client helps to one cut alone, no two rounds that are cut otherwise may be.
    """
    return any(a & b and not may_be_signed([a], b, A_g + 2) for a in first for b in second)


def determined(setup: Setup, rng: np.random.Generator) -> int | None:
    """The round after which what is constant follows of every client from the sums, in exact arithmetic."""
    ledger = Ledger(window=1)
    for i, opened in zip(range(1, MOST + 1), setup.rounds(rng), strict=False):
        for group in opened:
            ledger.record(group)
        if len(ledger.report().weights) == setup.clients:
            return i
    return None


def table(rows: Sequence[Row]) -> Table:
    """near: percent of pairs of rounds of which two sums differ by fewer than A_g + 2 clients; stay: of
    groups that stay. rounds: after which all weights follow.
    """
    by = cells_of(rows, "clients", "groups", "lost", "groups_are")
    header = ("clients", "groups", "of", "A_g", "safe", "lost", "near", "stay", "rounds", "stay rounds")
    return Table.of(
        header,
        [
            (
                str(clients),
                str(groups),
                str(some[0]["size"]),
                str(some[0]["A_g"]),
                "yes" if some[0]["safe"] else "no",
                f"{lost:.0%}",
                *(near(each) for each in (some, by[clients, groups, lost, STAYS])),
                *(rounds(each) for each in (some, by[clients, groups, lost, STAYS])),
            )
            for (clients, groups, lost, groups_are), some in by.items()
            if groups_are == REDRAWN
        ],
    )


def near(some: Sequence[Row]) -> str:
    share = percent(some)
    return f"{share:.3g}" if share < 99.95 else "100"


def percent(some: Sequence[Row]) -> float:
    of, close = (sum(int(row[name]) for row in some) for name in ("pairs", "near"))
    return 100 * close / of


def rounds(some: Sequence[Row]) -> str:
    """The fewest and the most, of the runs."""
    known = [row["rounds"] for row in some if row["rounds"] is not None]
    if not known:
        return f"> {MOST}"
    least, most = min(known), f"> {MOST}" if len(known) < len(some) else max(known)
    return str(least) if least == most else f"{least} to {most}"
