"""Sites that count by their examples, one of which sends a thousand times its update: a small one, or one
that holds half of all examples.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.spread import seeds
from fl.robust import RULES, Bench, Points

Vector = NDArray[np.float64]

CLAIM = (
    "Of eight sites one with .6 % of all examples moves the weighted mean by six times its length when it "
    "sends a thousand times its update, one with 51.7 % by 520 times. The trimmed mean of shares, none of "
    "them above a quarter (weighted-trimmed), is then off by .02 for the small one, by .16 at most for "
    "the large one, whichever the sign, where sites differ by a fifth of what they have in common; "
    "without an attack by .02 and .06, since no site counts by all that it holds. On equal weights it is "
    "the trimmed mean, here to the bit and elsewhere but for rounding. Shortened to the median length, "
    "the update of who holds half and sends it backwards turns the mean around: off by 1.05, where "
    "sending nothing is off by 1."
)
OURS, UNWEIGHTED, NOTHING = "weighted-trimmed", "trimmed-mean", "zero vector"
CONTROL = Control("the weighted mean", lambda row: row["rule"] == "mean", by=("spread", "share", "factor"))
ALONE = False
SITES, LENGTH = 8, 1000
SHARES = (0.006, 0.517)  # of all examples, the attacker's; the others have as many each
SPREADS = (0.0, 0.2)  # of sites about what they have in common, beside its size, in a coordinate
FACTORS = (1, 1000, -1000)  # of the attacker's update; 1 is no attack
NAMES = ("mean", "norm-bound", "median", UNWEIGHTED, "krum", "geometric-median", OURS, NOTHING)
SEEDS = {"quick": 5, "full": 20}


@dataclass(frozen=True)
class Cell:
    spread: float
    share: float
    factor: int

    def points(self, seed: int) -> tuple[Points, Vector]:
        """What the sites send, the attacker first, and the weighted mean of what they trained."""
        rng = np.random.default_rng(seed)
        common = rng.standard_normal(LENGTH)
        updates = common + self.spread * rng.standard_normal((SITES, LENGTH))
        weights = np.full(SITES, (1 - self.share) / (SITES - 1))
        weights[0] = self.share
        trained = weights @ updates
        updates[0] *= self.factor
        members = tuple(frozenset({u}) for u in range(SITES))
        return Points(members, updates, 10_000 * weights), trained


def cells() -> list[Cell]:
    """Every spread, share of attackers and factor of what they declare."""
    return [Cell(spread, share, factor) for spread in SPREADS for share in SHARES for factor in FACTORS]


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(
            f"{cell.share:.1%} x {cell.factor}, spread {cell.spread:g}",
            partial(run_case, cell, seeds(seed, SEEDS[size])),
        )
        for cell in cells()
    ]


def run_case(cell: Cell, some: Sequence[int]) -> Iterator[Row]:
    """errors: of each seed |what the rule makes - the weighted mean of what was trained| over the length of
    that. equal: by how much weighted-trimmed is off the trimmed mean, on the same updates with equal weights,
    at most, beside their length.
    """
    drawn = [cell.points(seed) for seed in some]
    bench = Bench(1, np.zeros(LENGTH))

    def made(name: str, points: Points) -> Vector:
        return np.zeros(LENGTH) if name == NOTHING else RULES[name](points, bench, {}).update

    for name in NAMES:
        errors = [round(off(made(name, points), trained), 6) for points, trained in drawn]
        row = {**asdict(cell), "rule": name, "errors": errors}
        if name == OURS:
            alike = [replace(points, weights=np.ones(SITES)) for points, _ in drawn]
            row["equal"] = max(off(made(OURS, points), made(UNWEIGHTED, points)) for points in alike)
        yield row


def off(made: Vector, true: Vector) -> float:
    """In lengths of what is true."""
    return float(np.linalg.norm(made - true) / np.linalg.norm(true))


def error(row: Row) -> float:
    """The mean over the seeds, as `off`."""
    return statistics.fmean(row["errors"])


def table(rows: Sequence[Row]) -> Table:
    """error: of the update that a rule makes, beside the weighted mean of what the sites trained, in lengths
    of that; the mean over seeds, without an attack (x 1) and with one (x 1000, x -1000).
    """
    by = {(row["share"], row["spread"], row["rule"], row["factor"]): row for row in rows}
    lines = [
        (
            f"{share:.1%}",
            f"{spread:g}",
            name,
            *(f"{error(by[share, spread, name, factor]):.3f}" for factor in FACTORS),
        )
        for share in SHARES
        for spread in SPREADS
        for name in NAMES
    ]
    header = "attacker's share", "sites differ by", "rule", *(f"error x {factor}" for factor in FACTORS)
    return Table.of(header, lines)
