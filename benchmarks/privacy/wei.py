"""Noise in every step, as Wei and Liu set it up: accuracies beside their Table 1, their figures 7 and 8."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.noised import DELTA, Training, local, mean_of
from benchmarks.privacy.accountants import INTEGERS
from fl.config.presets import PRESETS
from fl.config.privacy import Perturbation
from fl.config.run import RunConfig
from fl.data import DataError
from fl.privacy.accounting import by_rdp, epsilon
from fl.privacy.exposure import exposure
from fl.privacy.releases import Gaussian
from fl.privacy.schedules import multiplier
from fl.privacy.step import per_example
from fl.training.local import Diverged
from fl.training.step import PerExample, Tensors, norms

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Wei and Liu's settings: 100 clients of 500 examples, 10 a round, 100 steps of 5, rate 0.05, clip 4, "
    "noise multiplier 6, and 0.5, which is that of the code released with Fed-CDP; examples are dealt at "
    "random. fixed: each example's gradient is clipped, and their sum noised, in every step. dynamic: "
    "noise by the largest norm in the batch instead of the clip, its multiplier falling exponentially from "
    "2.5 times to half of the fixed one (15 to 3). Fed-SDP: each client's update is clipped and noised. "
    "The accuracies without noise come out, in 30 rounds of their 100, the others do not: with multiplier "
    "6 ten rounds lead to 0.1 to 0.3, and to gradients that are hundreds of times as long; with 0.5, 30 "
    "rounds of dynamic noise end three to five points above fixed noise, both more than ten points below "
    "what they print, and Fed-SDP at chance. The epsilons are of their 100 rounds. theirs: by the old "
    "conversion, as if every batch were a secret Poisson sample at the rate 0.01, and every cohort at 0.1; "
    "today: by today's conversion; holds: against who knows the clients of each round, which may be all "
    "the same, where an example is in one batch of each pass. Dynamic noise has none: what their "
    "accountant gives for it bounds nothing. CIFAR-10 and LFW are left out: they take a GPU."
)
CONTROL = Control("no noise", lambda row: row["noise"] == "none", by=("dataset",))
ALONE = False
DATASETS = ("mnist", "fashion-mnist")
CLIP, SIGMA, RELEASED = 4.0, 6.0, 0.5
START, END = 2.5, 0.5  # of the fixed multiplier, in dynamic noise: 15 to 3
ROUNDS = {"quick": {SIGMA: 1, RELEASED: 2}, "full": {SIGMA: 10, RELEASED: 30}}  # by multiplier
PUBLISHED = {
    "mnist": {"none": 0.980, "fixed": 0.956, "dynamic": 0.977},
    "fashion-mnist": {"none": 0.861, "fixed": 0.826, "dynamic": 0.854},
}
PUBLISHED_ROUNDS = 100


@dataclass(frozen=True)
class Cell:
    dataset: str
    noise: str
    z: float


def cells(size: str) -> list[Cell]:
    """Every data set without noise, and with each kind of it."""
    datasets, kinds = (
        (DATASETS[:1], ("fixed",)) if size == "quick" else (DATASETS, ("fixed", "dynamic", "Fed-SDP"))
    )
    noised = [(kind, z) for z in (SIGMA, RELEASED) for kind in kinds]
    return [Cell(dataset, *each) for dataset in datasets for each in [("none", 0.0), *noised]]


def cases(size: str, seed: int) -> list[Case]:
    """Every cell with one seed, in as many rounds as its multiplier is given."""
    of_z = ROUNDS[size]
    return [
        Case(
            f"{cell.dataset}, {cell.noise}, z {cell.z:g}",
            partial(run_case, cell, seed, of_z[cell.z or RELEASED]),
        )
        for cell in cells(size)
    ]


def configuration(dataset: str, seed: int, rounds: int) -> RunConfig:
    """Their preset, but that examples are dealt at random."""
    settings = PRESETS[f"wei-{dataset}"].settings
    return RunConfig.of(**settings | {"seed": seed, "rounds": rounds, "partition": "iid", "scheme": "plain"})


@dataclass
class Norms:
    """Of every example's gradient, before it is clipped, in one round: their sum and number, and of each
    batch the largest."""

    total: float = 0.0
    number: int = 0
    largest: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float | None:
        return self.total / self.number if self.number else None

    @property
    def mean_largest(self) -> float | None:
        return statistics.mean(self.largest) if self.largest else None

    def noting(self, inner: PerExample) -> PerExample:
        def bounded(each: Tensors) -> Tensors:
            of_each = norms(each)
            self.total += float(of_each.sum())
            self.number += of_each.numel()
            self.largest += of_each.amax(dim=1).tolist()
            return inner.bounded(each)

        return PerExample(bounded, inner.released)


def _mean(total: Tensors, of: torch.Tensor, largest: torch.Tensor) -> Tensors:
    """Of a batch: no noise."""
    return [g / of.view(-1, *[1] * (g.ndim - 1)) for g in total]


WITHOUT = PerExample(lambda each: each, _mean)


def run_case(cell: Cell, seed: int, rounds: int) -> Row:
    """curve: of each round its number, accuracy and loss on the test set, the mean norm of an example's
    gradient, the mean of the largest in each batch, and epsilon as they reckon it. diverged: the round in
    which training left the finite numbers, if it did.

    Raises: NotImplementedError where the data set is not to be had.
    """
    try:
        training = Training(configuration(cell.dataset, seed, rounds))
    except DataError as error:
        raise NotImplementedError(str(error)) from error
    seen, curve, diverged, round = Norms(), list[list[float | None]](), None, 0

    def steps(round: int) -> PerExample | None:
        nonlocal seen
        seen = Norms()
        if cell.noise == "Fed-SDP":
            return None  # its steps are without noise: their norms take long, and are those of no noise
        asked = perturbation(cell, round, rounds)
        plan = training.config.training.plan
        return seen.noting(WITHOUT if asked is None else per_example(asked, plan))

    mean = partial(local, CLIP, cell.z) if cell.noise == "Fed-SDP" else mean_of
    try:
        for round in training.rounds(mean, steps):
            accuracy, loss = training.evaluated()
            curve.append([round, accuracy, loss, seen.mean, seen.mean_largest, claimed(cell, round)])
    except Diverged:
        diverged = round + 1
    return asdict(cell) | {
        "seed": seed,
        "rounds": rounds,
        "published": PUBLISHED[cell.dataset].get(cell.noise) if cell.z != RELEASED else None,
        "accuracy": training.accuracy(),
        "diverged": diverged,
        "curve": curve,
        "epsilon": epsilons(cell),
    }


def perturbation(cell: Cell, round: int, rounds: int) -> Perturbation | None:
    """Of the steps of a round."""
    if cell.noise == "fixed":
        return Perturbation("example", clip=CLIP, multiplier=cell.z)
    if cell.noise == "dynamic":
        return Perturbation(
            "example", clip=CLIP, multiplier=falling(cell.z, round, rounds), sensitivity="l2-max"
        )
    return None


def falling(z: float, round: int, rounds: int) -> float:
    """The noise multiplier of a round of dynamic noise, from START z to END z."""
    return multiplier("exponential", START * z, END * z, round, rounds)


def releases(cell: Cell, rounds: int) -> list[Gaussian]:
    """Of so many rounds, as they reckon: every step a Poisson sample at the rate 0.01 (5 examples of each of
    100 clients, of 50,000), every cohort one at 0.1; of dynamic noise as if its multiplier were of a clip.
    """
    if cell.noise == "dynamic":
        return [Gaussian(falling(cell.z, t, PUBLISHED_ROUNDS), 0.01, 100) for t in range(1, rounds + 1)]
    return [
        Gaussian(cell.z, 0.1, rounds) if cell.noise == "Fed-SDP" else Gaussian(cell.z, 0.01, 100 * rounds)
    ]


def claimed(cell: Cell, rounds: int) -> float | None:
    """By the old conversion."""
    return by_rdp(releases(cell, rounds), DELTA, INTEGERS, old=True) if cell.z else None


def epsilons(cell: Cell) -> dict[str, float | None] | None:
    """Of their rounds. holds: against who sees the clients of each round, each of which may be in all; an
    example of fixed noise is in one batch of a pass.
    """
    if not cell.z:
        return None
    today = by_rdp(releases(cell, PUBLISHED_ROUNDS), DELTA, INTEGERS)
    return {"theirs": claimed(cell, PUBLISHED_ROUNDS), "today": today, "holds": holds(cell, PUBLISHED_ROUNDS)}


def holds(cell: Cell, rounds: int) -> float | None:
    """The epsilon that there is for it, at DELTA; None where there is none."""
    if cell.noise == "dynamic":
        return None
    plan = configuration(cell.dataset, 0, 1).training.plan
    of_round = exposure(plan, 500)
    steps = 1 if cell.noise == "Fed-SDP" or of_round is None else of_round.steps
    return epsilon([Gaussian(cell.z, 1.0, rounds * steps)], DELTA)


def table(rows: Sequence[Row]) -> Table:
    """published: their accuracy after 100 rounds. norms: the mean norm of an example's gradient in the first
    and in the last round. theirs, today, holds: epsilon of 100 rounds.
    """
    header = ("data", "noise", "z", "rounds", "accuracy", "published", "norms", "theirs", "today", "holds")
    return Table.of(header, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    spent, curve = row["epsilon"] or {}, row["curve"]
    trained = f"diverged in {row['diverged']}" if row["diverged"] else str(row["rounds"])
    reckoned = [_number(spent.get(way)) for way in ("theirs", "today", "holds")]
    if row["noise"] == "dynamic":
        reckoned[2] = "none"
    return (
        row["dataset"],
        row["noise"],
        f"{row['z']:g}" if row["z"] else "",
        trained,
        f"{row['accuracy']:.3f}",
        "" if row["published"] is None else f"{row['published']:.3f}",
        f"{curve[0][3]:.3g}, {curve[-1][3]:.3g}" if curve and curve[0][3] else "",
        *reckoned,
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def plot(rows: Sequence[Row]) -> Figure:
    """Figure 7: the norms of gradients in training without noise, beside the clip; figure 8, on MNIST: loss
    with the released multiplier, and epsilon with the one that they print.
    """
    from benchmarks.plots import lines

    def along(
        rows: Sequence[Row], value: int, name: Callable[[Row], str]
    ) -> dict[str, list[tuple[float, float]]]:
        return {
            name(row): [(look[0], look[value]) for look in row["curve"]]
            for row in rows
            if row["curve"] and row["curve"][0][value] is not None
        }

    without = [row for row in rows if row["noise"] == "none"]
    first = [row for row in rows if row["dataset"] == DATASETS[0]]
    last = max(row["rounds"] for row in rows)
    clips = {f"~clip {clip:g}": [(1.0, clip), (float(last), clip)] for clip in (CLIP, 2 * CLIP)}

    def steady(row: Row) -> bool:
        """Whether its loss is on one scale with that without noise."""
        return bool(row["z"] != SIGMA and row["noise"] != "Fed-SDP")

    def named(row: Row) -> str:
        return f"{row['noise']} {row['z']:g}" if row["z"] else "none"

    looks = (1, *range(10, PUBLISHED_ROUNDS + 1, 10))
    fixed, dynamic = (Cell(DATASETS[0], noise, SIGMA) for noise in ("fixed", "dynamic"))
    reckoned = {
        "fixed, theirs": partial(claimed, fixed),
        "dynamic, theirs": partial(claimed, dynamic),
        "fixed, holds": partial(holds, fixed),
    }
    spent = {name: [(t, value(t) or 0.0) for t in looks] for name, value in reckoned.items()}
    panels = {
        "largest norm in a batch, without noise": (
            "round",
            "mean",
            along(without, 4, lambda row: row["dataset"]) | clips,
        ),
        "loss on MNIST": ("round", "nats", along([row for row in first if steady(row)], 2, named)),
        f"epsilon, z {SIGMA:g}": ("round", "epsilon", spent),
    }
    return lines(panels, log=False)
