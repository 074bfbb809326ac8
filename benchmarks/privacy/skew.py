"""Whom noise hits: accuracy of a class that there is little of, and what balanced training gives back."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.noised import DELTA, Training, layout_of, mean_of
from benchmarks.spread import by_seed, paired, seeds, spread
from fl.cohort.layout import Layout
from fl.config.privacy import Perturbation
from fl.config.run import RunConfig
from fl.data import DataError
from fl.privacy.accounting import epsilon
from fl.privacy.exposure import exposure
from fl.privacy.releases import Gaussian
from fl.privacy.step import per_example

CLAIM = (
    "MNIST with one in twelve of its eights (as Bagdasaryan, Poursaeed and Shmatikov, NeurIPS 2019), dealt "
    "at random to ten clients, fl's `mlp`, 12 rounds of 20 steps on Poisson batches of 50; with noise, "
    "each example's gradient is clipped to 4. Noise costs the rare class more than the others. Taking its "
    "examples more often gives much of it back, with noise and without. A loss that weighs classes alike "
    "does so without noise alone: clipping takes the weight away again, for most gradients are longer than "
    "the clip. Where an example counts by its class there is no epsilon of one example, since what it adds "
    "depends on the others. epsilon: of a client's example, by secret Poisson samples, at delta 1e-5."
)
CONTROL = Control("no noise, nothing balanced", lambda row: row["z"] == 0 and row["balance"] == "none")
ALONE = False
RARE, KEPT = 8, 1 / 12
CLIENTS, CLIP = 10, 4.0
ROUNDS = {"quick": 2, "full": 12}
SEEDS = {"quick": 1, "full": 3}
MULTIPLIERS = (0.0, 1.0)  # without noise nothing is clipped
BALANCES = ("none", "sampling", "loss")


@dataclass(frozen=True)
class Cell:
    z: float
    balance: str


def cases(size: str, seed: int) -> list[Case]:
    """Noise and balance in every combination, seed by seed."""
    return [
        Case(
            f"z {z:g}, balance {balance}, seed {each}",
            partial(run_case, Cell(z, balance), each, ROUNDS[size]),
        )
        for each in seeds(seed, SEEDS[size])
        for z in MULTIPLIERS
        for balance in BALANCES
    ]


def configuration(balance: str, seed: int, rounds: int) -> RunConfig:
    """Poisson batches, in which a step's noise hides an example the better, the more rarely it is taken."""
    return RunConfig.of(
        clients=CLIENTS,
        dataset="mnist",
        partition="iid",
        model="mlp",
        local_steps=20,
        batch_size=50,
        local_batches="poisson",
        balance=balance,
        lr=0.1,
        momentum=0.0,
        rounds=rounds,
        scheme="plain",
        execution="sequential",
        seed=seed,
    )


def skewed(layout: Layout, seed: int) -> Layout:
    """Most of the rare class's examples left out, of each client."""
    rng = np.random.default_rng(seed)

    def kept(own: Any) -> Any:
        return own[(layout.y[own] != RARE) | (rng.random(len(own)) < KEPT)]

    return replace(layout, shares={u: kept(own) for u, own in layout.shares.items()})


def run_case(cell: Cell, seed: int, rounds: int) -> Row:
    """accuracies: of each class. epsilon: None without noise, and where examples count by their class.

    Raises: NotImplementedError where the data set is not to be had.
    """
    config = configuration(cell.balance, seed, rounds)
    try:
        layout = skewed(layout_of(config), seed)
    except DataError as error:
        raise NotImplementedError(str(error)) from error
    training, plan = Training(config, layout), config.training.plan
    steps = per_example(Perturbation("example", clip=CLIP, multiplier=cell.z), plan) if cell.z else None
    for _ in training.rounds(mean_of, lambda round: steps):
        pass
    fewest = min(len(own) for own in layout.shares.values())
    return asdict(cell) | {
        "seed": seed,
        "rounds": rounds,
        "examples": fewest,
        "accuracies": training.by_class(),
        "epsilon": spent(config, cell, fewest),
    }


def spent(config: RunConfig, cell: Cell, fewest: int) -> float | None:
    """Of an example of the client with the fewest."""
    taken = exposure(config.training.plan, fewest)
    if not cell.z or cell.balance != "none" or taken is None:
        return None
    return epsilon([Gaussian(cell.z, taken.rate, taken.steps * config.training.rounds)], DELTA)


def groups(rows: Sequence[Row]) -> dict[Cell, list[Row]]:
    """The seeds of each cell."""
    by: dict[Cell, list[Row]] = {}
    for row in rows:
        by.setdefault(Cell(row["z"], row["balance"]), []).append(row)
    return by


def rare(some: Sequence[Row]) -> dict[int, float]:
    """Accuracy on the rare class in percent, by seed."""
    return by_seed(some, lambda row: 100 * row["accuracies"][RARE])


def others(some: Sequence[Row]) -> dict[int, float]:
    """The mean of all other classes."""
    return by_seed(some, lambda row: 100 * statistics.mean(_but_rare(row)))


def _but_rare(row: Mapping[str, Any]) -> list[float]:
    return [accuracy for each, accuracy in enumerate(row["accuracies"]) if each != RARE]


def table(rows: Sequence[Row]) -> Table:
    """gives: to the rare class and to the others, beside nothing balanced under the same noise. By pairs of
    seeds, in percentage points, ± standard error.
    """
    by, cells = groups(rows), []
    for cell, some in by.items():
        unbalanced = by[Cell(cell.z, "none")]
        gives = "" if cell.balance == "none" else paired(rare(some), rare(unbalanced), "+.1f")
        takes = "" if cell.balance == "none" else paired(others(some), others(unbalanced), "+.1f")
        epsilon = some[0]["epsilon"]
        cells.append(
            (
                f"{cell.z:g}" if cell.z else "none",
                cell.balance,
                "" if not cell.z else "none" if epsilon is None else f"{epsilon:.2f}",
                spread(list(rare(some).values()), ".1f"),
                spread(list(others(some).values()), ".1f"),
                gives,
                takes,
            )
        )
    header = ("noise z", "balance", "epsilon", "the rare class", "the others", "gives", "to others")
    return Table.of(header, cells)
