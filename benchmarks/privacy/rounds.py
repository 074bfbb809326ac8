"""How many rounds a model takes to 90 % under noise, and what they cost in epsilon."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.noised import DELTA, Training, central, clipped, mean_of
from benchmarks.spread import seeds
from fl.config.run import RunConfig
from fl.data import DataError
from fl.privacy.accounting import epsilon
from fl.privacy.releases import Gaussian

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "MNIST, 1000 clients of 60 examples, 100 a round, 5 epochs, fl's `mlp`, clip 1, the server's Gaussian "
    "noise on the mean: rounds to 90 % of the test set, at most 60, and the epsilon that these have cost "
    "(exact, delta 1e-5, as if every client were in every round). Up to multiplier 1 noise takes hardly a "
    "round more; at 2 it takes half as many again, and they cost half as much; from 3 on 60 rounds do not "
    "lead there, and more of them might not: the loss stays where noise and steps balance. How fast such "
    "training converges is known for convex losses (Bassily, Smith and Thakurta, FOCS 2014) and for local "
    "steps with noise on the update (Wei et al., IEEE TIFS 2020), whose bounds also have an optimal number "
    "of rounds for an epsilon."
)
CONTROL = Control("no noise", lambda row: row["z"] == 0)
ALONE = False
GOAL, MOST = 0.9, {"quick": 20, "full": 60}
CLIP = 1.0
MULTIPLIERS = {"quick": (0.0, 1.0), "full": (0.0, 0.5, 1.0, 2.0, 3.0, 4.0)}
SEEDS = {"quick": 1, "full": 3}


def cases(size: str, seed: int) -> list[Case]:
    """Every multiplier, seed by seed."""
    return [
        Case(f"z {z:g}, seed {each}", partial(run_case, z, each, MOST[size]))
        for each in seeds(seed, SEEDS[size])
        for z in MULTIPLIERS[size]
    ]


def configuration(seed: int, rounds: int) -> RunConfig:
    """Five epochs a round, so that few rounds, each of which costs epsilon, lead to the goal."""
    return RunConfig.of(
        clients=1000,
        sample=100,
        corrupt=10,
        dataset="mnist",
        partition="iid",
        examples_per_client=60,
        model="mlp",
        local_epochs=5,
        batch_size=10,
        lr=0.1,
        momentum=0.0,
        rounds=rounds,
        scheme="plain",
        execution="batched",
        seed=seed,
    )


def run_case(z: float, seed: int, most: int) -> Row:
    """rounds: to the goal, None where it was not reached in `most`. epsilon: of these, or of all. curve:
    [round, accuracy, loss].

    Raises: NotImplementedError where the data set is not to be had.
    """
    try:
        training = Training(configuration(seed, most))
    except DataError as error:
        raise NotImplementedError(str(error)) from error
    curve, reached = list[list[float]](), None
    for round in training.rounds(partial(central, CLIP, z) if z else lambda u: mean_of(clipped(CLIP, u))):
        curve.append([round, *training.evaluated()])
        if curve[-1][1] >= GOAL:
            reached = round
            break
    return {
        "z": z,
        "seed": seed,
        "rounds": reached,
        "most": most,
        "epsilon": epsilon([Gaussian(z, steps=len(curve))], DELTA) if z else None,
        "accuracy": curve[-1][1],
        "curve": curve,
    }


def groups(rows: Sequence[Row]) -> dict[float, list[Row]]:
    """By multiplier: the seeds of each."""
    by: dict[float, list[Row]] = {}
    for row in rows:
        by.setdefault(row["z"], []).append(row)
    return by


def table(rows: Sequence[Row]) -> Table:
    """Of each seed its rounds; epsilon is the mean over seeds."""
    header = ("z", "rounds to 90 %", "epsilon of them", "accuracy then", "loss then")
    return Table.of(header, [_cells(z, some) for z, some in groups(rows).items()])


def _cells(z: float, some: Sequence[Row]) -> tuple[str, ...]:
    reached = all(row["rounds"] is not None for row in some)
    rounds = ", ".join(f"> {row['most']}" if row["rounds"] is None else str(row["rounds"]) for row in some)
    spent = f"{statistics.mean(row['epsilon'] for row in some):.3g}" if z else "-"
    return (
        f"{z:g}" if z else "no noise",
        rounds,
        spent if reached else f"> {spent}",
        f"{statistics.mean(row['accuracy'] for row in some):.3f}",
        f"{statistics.mean(row['curve'][-1][2] for row in some):.3f}",
    )


def plot(rows: Sequence[Row]) -> Figure:
    """Epsilon of the rounds to the goal, where all seeds reached it; the test loss of the first seed."""
    from benchmarks.plots import lines

    reached = [
        (statistics.mean(row["rounds"] for row in some), statistics.mean(row["epsilon"] for row in some))
        for z, some in groups(rows).items()
        if z and all(row["rounds"] is not None for row in some)
    ]
    loss = {
        f"z {z:g}" if z else "no noise": [(look[0], look[2]) for look in some[0]["curve"]]
        for z, some in groups(rows).items()
    }
    panels = {
        f"rounds to {GOAL:.0%}": ("rounds", "epsilon", {"central noise": reached} if reached else {}),
        "test loss": ("round", "nats", loss),
    }
    return lines(panels, log=False)
