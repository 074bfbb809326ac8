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

CLAIM = (
    "Of 20, 40 and 100 clients, a tenth corrupt, 2,000 pairs of rounds in groups that are drawn anew, and "
    "five runs of up to 100 rounds; up to A_g of a group may be corrupt, and groups with a star are "
    "unsafe. The rule of a client for like vectors, two sets A_g + 2 clients apart, two such rounds of 40 "
    "clients break in 45 % of pairs in groups of 5, in 99 % in groups of 4, always in groups of 2, and "
    "hardly ever in groups of 8 and 10: in 0.25 % and in none. But these are no safer over a run: whatever"
    " is constant follows for all clients after 10 and 13 rounds, as after 6, 5 and 3 of the smaller "
    "groups: of n clients in G groups in the (n - 1) / (G - 1) rounds that it takes at least, or one or "
    "two more. That is why a client helps to one cut of like vectors and to no other, however far their "
    "sets are apart. While nobody is lost groups that stay break no rule and determine nothing in 100 "
    "rounds, nor ever, since each round gives the same sums. Lost clients undo some of that: where a tenth"
    " is lost in each round groups that stay, too, are too near in most pairs, and what is constant "
    "follows after 19 to 61 rounds, but where a group is opened only whole or nearly. Of like vectors a "
    "server leaves out others so that sums are far enough apart; that weights stay hidden is claimed of "
    "one session only."
)
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
    """clients: in how many groups. near: percent of pairs of rounds of which two sums differ by fewer than
    A_g + 2 clients. rounds: after which all weights follow. stay: of groups that stay.
    """
    by = cells_of(rows, "clients", "groups", "lost", "groups_are")
    header = ("clients", "of", "A_g", "lost", "near", "stay: near", "rounds", "stay: rounds")
    return Table.of(
        header,
        [
            (
                f"{clients} in {groups}",
                str(some[0]["size"]) + ("" if some[0]["safe"] else " *"),
                str(some[0]["A_g"]),
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
