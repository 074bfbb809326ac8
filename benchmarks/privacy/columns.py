"""What noise costs in accuracy, by who adds it and in how many bits: at one epsilon for all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.noised import DELTA, Mean, Training, central, clipped, local, mean_of
from benchmarks.ring import Sessions, in_ring, ring_multiplier
from benchmarks.spread import by_seed, difference, paired, seeds, spread
from fl.config.run import RunConfig
from fl.data import DataError
from fl.privacy.accounting import ORDERS, by_rdp, epsilon, multiplier_for
from fl.privacy.releases import Gaussian
from secagg import Masking, throwaway_identities
from secagg.private import Calibration
from secagg.specs import Private

CLAIM = (
    "MNIST, 1000 clients of 60 examples, 100 a round, 40 rounds of 2 epochs, fl's `mlp` (50,890 "
    "parameters), clip 0.5. Central: Gaussian noise of the server on the mean. Distributed: each client's "
    "share of Skellam noise, in a ring of so many bits. Local: each client's whole noise on its own "
    "update. All keep within the same epsilon at delta 1e-5, each by its own accountant, as if every "
    "client were in every round; z is the multiplier that this takes. In 16 bits distributed noise is "
    "within half a point of central, or two standard errors, at the epsilons of z 1 and 2; at that of z 4 "
    "it is half a point below, a hair more than two standard errors, and at 4 two points: that is what "
    "central noise loses by the same accountant (by Rényi), which proves less than the exact one of "
    "Gaussians and asks for 6 to 7 % more noise. (20 bits end below 16 there, in these seeds; the noise of "
    "both has the same size to a thousandth.) 12 bits collapse at small epsilon: what rounding adds to a "
    "client's norm grows with the steps of the grid, which grow with the noise; at 7.5 that costs some "
    "forty points, and for 4 no noise is enough. Local noise costs more than 15 points at z 1 already. "
    "Shares are reckoned for all 100, as in the literature, or for the 57 who surely survive and are "
    "honest where 33 may be lost and 10 be corrupt: all survive, so there is more noise. The codes are "
    "added without masks; `sessions` are runs through masked sessions, each of whose sums is the same to "
    "the bit."
)
CONTROL = Control(
    "the server's noise on the mean, or none at all",
    lambda row: row["mechanism"] in ("central", "none"),
    by=("z",),
)
ALONE = False
CLIENTS, PER_ROUND, CLIP, LENGTH = 1000, 100, 0.5, 50_890
CORRUPT, LOST = 10, 33  # A, and how many a session may lose
ROUNDS = {"quick": 5, "full": 40}
SEEDS = {"quick": 1, "full": 8}
SESSION_ROUNDS = {"quick": 1, "full": 40}
MULTIPLIERS: dict[str, tuple[float, ...]] = {"quick": (1.0,), "full": (1.0, 2.0, 4.0)}
SMALL = 4.0  # an epsilon beside those of the multipliers
BITS = {"quick": (12, 16), "full": (12, 14, 16, 20)}
DEPLOYED_BITS = 16
HALF_A_POINT, FIFTEEN_POINTS = 0.005, 0.15


@dataclass(frozen=True)
class Column:
    """z: central noise of this multiplier costs the epsilon that all of it keep within; None for SMALL, and
    0 without noise. bits, honest: of a ring, and for how many honest clients its shares are reckoned.
    """

    mechanism: str
    z: float | None = 0.0
    bits: int | None = None
    honest: int | None = None

    @property
    def name(self) -> str:
        parts = [self.mechanism]
        if self.mechanism in ("ring", "sessions"):
            parts.append(f"{self.bits} bits, for {self.honest}")
        if self.z != 0:
            parts.append(f"epsilon {SMALL:g}" if self.z is None else f"z {self.z:g}")
        return ", ".join(parts)


@lru_cache
def deployed() -> int:
    """m_min - A of a session of a round's clients."""
    scheme = masked(DEPLOYED_BITS, 1.0)
    return scheme.m_min - scheme.corrupt


def masked(bits: int, multiplier: float) -> Masking:
    """The session of a round, of private vectors."""
    roster, _ = throwaway_identities(range(PER_ROUND))
    return Masking.for_cohort(
        PER_ROUND, private(bits, multiplier), corrupt=CORRUPT, dropout=LOST, roster=roster
    )


def private(bits: int, multiplier: float) -> Private:
    """The vector of a client."""
    return Private(length=LENGTH, clip=CLIP, bits=bits, multiplier=multiplier)


def columns(size: str) -> list[Column]:
    """All that are compared: no noise, clipping alone, and each kind of noise at each multiplier."""
    levels: tuple[float | None, ...] = (*MULTIPLIERS[size], None)
    of_level = [
        [
            Column("central", z),
            Column("central-renyi", z),
            *(Column("ring", z, bits, PER_ROUND) for bits in BITS[size]),
            Column("ring", z, DEPLOYED_BITS, deployed()),
            Column("local", z),
        ]
        for z in levels
    ]
    return [Column("none"), Column("clip"), *(each for some in of_level for each in some)]


def through_sessions(size: str) -> list[Column]:
    """A run for each number of bits."""
    return [Column("sessions", MULTIPLIERS[size][0], bits, deployed()) for bits in BITS[size]]


def cases(size: str, seed: int) -> list[Case]:
    """Every column, seed by seed; then the first seed through masked sessions."""
    rounds, few = ROUNDS[size], SESSION_ROUNDS[size]
    of_seeds = [(column, each, rounds) for each in seeds(seed, SEEDS[size]) for column in columns(size)]
    every = [*of_seeds, *((column, seed, few) for column in through_sessions(size))]
    return [
        Case(f"{column.name}, seed {each}", partial(run_case, column, each, trained, rounds))
        for column, each, trained in every
    ]


def budget(z: float | None, rounds: int) -> float:
    """Epsilon of so many rounds with noise multiplier z; next to nothing without noise."""
    return SMALL if z is None else epsilon([Gaussian(z, steps=rounds)], DELTA)


@lru_cache
def multiplier(column: Column, rounds: int) -> float | None:
    """What keeps within the column's epsilon; None where nothing does, or there is no noise."""
    if column.mechanism in ("none", "clip"):
        return None
    if column.mechanism == "central-renyi":
        return renyi_multiplier(budget(column.z, rounds), rounds)
    if column.bits is None:
        if column.z is not None:
            return column.z
        return multiplier_for(SMALL, DELTA, lambda z: [Gaussian(z, steps=rounds)])
    return ring_multiplier(budget(column.z, rounds), rounds, partial(calibration, column))


def renyi_multiplier(budget: float, rounds: int) -> float:
    """Of Gaussian noise, by the accountant of Skellam noise: of the order that serves it best."""
    costs = ((order, by_rdp([Gaussian(1.0, steps=rounds)], DELTA, [order])) for order in ORDERS)
    converted = [(order, cost - order * rounds / 2) for order, cost in costs]
    return min(
        math.sqrt(order * rounds / 2 / (budget - fixed)) for order, fixed in converted if fixed < budget
    )


def calibration(column: Column, multiplier: float) -> Calibration:
    """What clients of this column reckon for the multiplier."""
    assert column.bits is not None  # noqa: S101
    assert column.honest is not None  # noqa: S101
    return Calibration(private(column.bits, multiplier), PER_ROUND, column.honest)


def configuration(seed: int, rounds: int) -> RunConfig:
    """Of clients whose updates a column sums: clip and noise are its own. Many small steps, as of clients
    that hold little: without noise 40 rounds end at 91 %.
    """
    return RunConfig.of(
        clients=CLIENTS,
        sample=PER_ROUND,
        corrupt=CORRUPT,
        dataset="mnist",
        partition="iid",
        examples_per_client=60,
        model="mlp",
        local_epochs=2,
        batch_size=10,
        lr=0.1,
        momentum=0.0,
        rounds=rounds,
        scheme="plain",
        execution="batched",
        seed=seed,
    )


def mean(column: Column, z: float) -> Mean:
    """How a column's updates are summed."""
    match column.mechanism:
        case "none":
            return mean_of
        case "clip":
            return lambda updates: mean_of(clipped(CLIP, updates))
        case "central" | "central-renyi":
            return partial(central, CLIP, z)
        case "local":
            return partial(local, CLIP, z)
        case "sessions":
            assert column.bits is not None  # noqa: S101
            return Sessions(masked(column.bits, z))
    return partial(in_ring, calibration(column, z))


def run_case(column: Column, seed: int, rounds: int, accounted: int) -> Row:
    """rounds: that are trained; accounted: for which epsilon is reckoned. accuracy: of the last model; None
    where no noise keeps within epsilon. sums: through masked sessions, that were compared.

    Raises: NotImplementedError where the data set is not to be had.
    """
    noise = multiplier(column, accounted)
    row = asdict(column) | {"seed": seed, "rounds": rounds, "multiplier": noise, "accuracy": None, "sums": 0}
    noised = column.mechanism not in ("none", "clip")
    row["epsilon"] = budget(column.z, accounted) if noised else None
    if noised and noise is None:
        return row
    try:
        training = Training(configuration(seed, rounds))
    except DataError as error:
        raise NotImplementedError(str(error)) from error
    summed = mean(column, noise or 0.0)
    for _ in training.rounds(summed):
        pass
    return row | {"accuracy": training.accuracy(), "sums": getattr(summed, "sums", 0)}


def groups(rows: Sequence[Row]) -> dict[Column, list[Row]]:
    """The seeds of each column."""
    by: dict[Column, list[Row]] = {}
    for row in rows:
        by.setdefault(Column(row["mechanism"], row["z"], row["bits"], row["honest"]), []).append(row)
    return by


def accuracies(some: Sequence[Row]) -> dict[int, float]:
    """In [0, 1], by seed."""
    return by_seed(some, lambda row: float(row["accuracy"]))


def verdict(column: Column, some: Sequence[Row], by: Mapping[Column, Sequence[Row]]) -> str:
    """What a column is beside central noise of the same epsilon."""
    if column.mechanism == "sessions":
        return f"{some[0]['sums']} of {some[0]['rounds']} sums equal"
    if column.mechanism not in ("ring", "local"):
        return ""
    if some[0]["accuracy"] is None:
        return "no noise is enough"
    for beside, words in (("central", "as central"), ("central-renyi", "as by Rényi")):
        less, error = difference(accuracies(some), accuracies(by[Column(beside, column.z)]))
        if abs(less) <= max(HALF_A_POINT, 2 * (error or 0.0)):
            return words
    if less > 0:
        return "more"
    return "15 less and more" if less <= -FIFTEEN_POINTS else "less"


def table(rows: Sequence[Row]) -> Table:
    """from central: by pairs of seeds, ± its standard error. for: how many honest clients, whose shares
    make up the noise.
    """
    by = groups(rows)
    header = ("epsilon", "noise", "bits", "for", "z", "seeds", "accuracy", "from central", "that is")
    cells = []
    for column, some in by.items():
        first = some[0]
        known, beside = first["accuracy"] is not None, column.mechanism in ("ring", "local", "central-renyi")
        reference = by.get(Column("central", column.z))
        cells.append(
            (
                "-" if first["epsilon"] is None else f"{first['epsilon']:.2f}",
                {"ring": "distributed", "central-renyi": "by Rényi"}.get(column.mechanism, column.mechanism),
                str(column.bits or ""),
                str(column.honest or ""),
                f"{first['multiplier']:.3f}" if first["multiplier"] else "",
                str(len(some)),
                spread([100 * row["accuracy"] for row in some], ".2f") if known else "",
                points(some, reference) if known and beside and reference else "",
                verdict(column, some, by),
            )
        )
    return Table.of(header, cells)


def points(some: Sequence[Row], reference: Sequence[Row]) -> str:
    """Percentage points."""
    one, other = (
        {seed: 100 * accuracy for seed, accuracy in accuracies(each).items()} for each in (some, reference)
    )
    return paired(one, other, "+.2f")
