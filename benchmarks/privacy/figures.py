"""Noise on what each client sends: Gaussian and Laplace of the same power (Ma et al., figures 2 and 3)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.noised import Training, Updates, Vector, local, mean_of
from benchmarks.spread import by_seed, paired, seeds, spread
from fl.config.run import RunConfig
from fl.data import DataError
from fl.privacy.noise import RealNoise
from fl.training.local import Diverged

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "MNIST, 30 clients with two classes each, 60 rounds of 20 steps of 20 examples (Ma et al.: 300 rounds "
    "of 120 steps of 1,200), fl's `cnn` and `mlp`: each client adds noise to every coordinate that it "
    "sends. Laplace's scale is lambda, and Gaussian noise has the same variance, 2 lambda^2. What counts "
    "is the power, not the distribution, as they say (the CNN has a single seed); lambda 0.1 costs 5 to 20 "
    "points, and 10 fails, at chance. That an MLP is hardly touched, as they say too, does not come out: "
    "at 0.1 it loses more than the CNN. They clip nothing, so that there is no epsilon; here the clip is "
    "100, which without noise no update comes near."
)
CONTROL = Control("no noise", lambda row: row["power"] == 0, by=("model",))
ALONE = False
POWERS = {"quick": (0.1, 10.0), "full": (0.03, 0.1, 0.3, 10.0)}  # lambda
NOISES: tuple[RealNoise, ...] = ("gaussian", "laplace")
SEEDS = {"quick": {"mlp": 1}, "full": {"mlp": 3, "cnn": 1}}
ROUNDS = {"quick": 20, "full": 60}
CLIP = 100.0
EVERY = 5  # rounds between two looks at the test set
LAST = 5  # looks whose mean is taken: by classes a client, one round is far from the next
CHANCE = 0.15  # of ten classes; a constant answer scores 0.09 to 0.114, and a model of noise goes up and down


@dataclass(frozen=True)
class Curve:
    model: str
    noise: RealNoise | Literal["none"]
    power: float


def curves(size: str, model: str) -> list[Curve]:
    """Those of a model: without noise, and each noise at each power."""
    noised = [Curve(model, noise, power) for power in POWERS[size] for noise in NOISES]
    return [Curve(model, "none", 0.0), *noised]


def cases(size: str, seed: int) -> list[Case]:
    """Every curve of a model, seed by seed."""
    return [
        Case(
            f"{curve.model}, {curve.noise}, lambda {curve.power:g}, seed {each}",
            partial(run_case, curve, each, ROUNDS[size]),
        )
        for model, count in SEEDS[size].items()
        for each in seeds(seed, count)
        for curve in curves(size, model)
    ]


def configuration(model: str, seed: int, rounds: int) -> RunConfig:
    """Ma et al.'s 30 clients of two classes each, with a sixth of their steps and batches of a sixtieth."""
    return RunConfig.of(
        clients=30,
        dataset="mnist",
        partition="shards",
        classes_per_client=2,
        model=model,
        local_steps=20,
        batch_size=20,
        lr=0.05,
        momentum=0.0,
        rounds=rounds,
        scheme="plain",
        execution="auto",
        seed=seed,
    )


def noised_mean(noise: RealNoise, power: float, updates: Updates) -> Vector:
    """(d,): the mean of clipped updates, each with noise of this power, lambda."""
    return local(CLIP, math.sqrt(2) * power / CLIP, updates, noise=noise)


def run_case(curve: Curve, seed: int, rounds: int) -> Row:
    """curve: [round, accuracy]. accuracy: the mean of the last looks. diverged: the round in which training
    left the finite numbers, if it did: the model before it is the last.

    Raises: NotImplementedError where the data set is not to be had.
    """
    row = asdict(curve) | {"seed": seed, "rounds": rounds, "curve": [], "diverged": None}
    try:
        training = Training(configuration(curve.model, seed, rounds))
    except DataError as error:
        raise NotImplementedError(str(error)) from error
    mean = mean_of if curve.noise == "none" else partial(noised_mean, curve.noise, curve.power)
    round = 0
    try:
        for round in training.rounds(mean):
            if round % EVERY == 0:
                row["curve"].append([round, training.accuracy()])
    except Diverged:
        row["diverged"] = round + 1
        row["curve"].append([round, training.accuracy()])
    return row | {"accuracy": statistics.mean(accuracy for _, accuracy in row["curve"][-LAST:])}


def groups(rows: Sequence[Row]) -> dict[Curve, list[Row]]:
    """The seeds of each curve."""
    by: dict[Curve, list[Row]] = {}
    for row in rows:
        by.setdefault(Curve(row["model"], row["noise"], row["power"]), []).append(row)
    return by


def points(some: Sequence[Row]) -> dict[int, float]:
    """Accuracy in percent, by seed."""
    return by_seed(some, lambda row: 100 * row["accuracy"])


def table(rows: Sequence[Row]) -> Table:
    """accuracy: the mean of the last five looks. costs: beside no noise; of Gaussian: Laplace's beside
    Gaussian noise of the same power. By pairs of seeds, in percentage points, ± standard error. fails: at
    chance; diverges: there after numbers that were not finite.
    """
    by, cells = groups(rows), []
    for curve, some in by.items():
        without = by[Curve(curve.model, "none", 0.0)]
        twin = by.get(Curve(curve.model, "gaussian", curve.power), [])
        cells.append(
            (
                curve.model,
                curve.noise,
                f"{curve.power:g}",
                str(len(some)),
                spread(list(points(some).values()), ".1f"),
                paired(points(some), points(without), "+.1f") if curve.power else "",
                paired(points(some), points(twin), "+.1f") if curve.noise == "laplace" else "",
                _failed(some),
            )
        )
    header = ("model", "noise", "lambda", "seeds", "accuracy", "costs", "of Gaussian", "")
    return Table.of(header, cells)


def _failed(some: Sequence[Row]) -> str:
    if statistics.mean(row["accuracy"] for row in some) > CHANCE:
        return ""
    return "diverges" if any(row["diverged"] for row in some) else "fails"


def plot(rows: Sequence[Row]) -> Figure:
    """Mean accuracy over seeds, by round; Laplace's noise as dashes."""
    from benchmarks.plots import lines

    panels: dict[str, tuple[str, str, dict[str, list[tuple[float, float]]]]] = {}
    for curve, some in groups(rows).items():
        panel = panels.setdefault(curve.model, ("round", "test accuracy", {}))
        begin = "~" if curve.noise == "laplace" else ""
        name = f"{curve.noise} {curve.power:g}" if curve.power else "no noise"
        length = min(len(row["curve"]) for row in some)
        looks = [[each[i] for each in (row["curve"] for row in some)] for i in range(length)]
        panel[2][begin + name] = [
            (look[0][0], statistics.mean(accuracy for _, accuracy in look)) for look in looks
        ]
    return lines(panels, log=False)
