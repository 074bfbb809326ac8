"""Clients that add noise of their own, some much and some little, and say how much: weights by that."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import nn

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.poisoned import LAST, looking
from benchmarks.spread import by_seed, paired, seeds, spread
from fl.cohort.layout import lay_out
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.federation.sending import Results
from fl.federation.simulation import simulated
from fl.federation.task import Instructions
from fl.robust import RULES, Bench, Memory, Points, Verdict
from secagg.errors import ClientId

CLAIM = (
    "Twenty clients with digits, of whom every other one adds much noise of its own to its update and the "
    "others little, and all declare how much. Weighted by that, beside by examples: the error of the sum, "
    "against what it would have been without noise, is 11 to 104 times lower wherever the noise differs, and "
    "the same where it does not. Accuracy follows only where noise had cost some: of the largest it gives "
    "back 3 to 5 points. Below, it takes up to 3 where clients hold half of the classes each, since who adds "
    "much noise then has little say in what is learned."
)
CONTROL = Control("the mean of all", lambda row: row["rule"] == "mean", by=("dealt", "low", "high"))
ALONE = False
CLIENTS, ROUNDS = 20, 20
RULE, MEAN = "mmse", "mean"
MIXTURES = ((0.02, 0.02), (0.005, 0.05), (0.005, 0.2), (0.01, 0.6))
"""Deviations in a coordinate of an update: of every other client, and of those between."""
DEALT = ("iid", "shards")
SEEDS = {"quick": 1, "full": 5}


@dataclass(frozen=True)
class Cell:
    dealt: str
    low: float
    high: float
    rule: str


def cells() -> list[Cell]:
    """Every deal and mixture of noise, under the mean and under the rule."""
    return [Cell(dealt, *mixed, rule) for dealt in DEALT for mixed in MIXTURES for rule in (MEAN, RULE)]


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(
            f"{cell.dealt}, {cell.low:g} and {cell.high:g}, {cell.rule}, seed {each}",
            partial(run_case, cell, each),
        )
        for each in seeds(seed, SEEDS[size])
        for cell in cells()
    ]


def configuration(cell: Cell, seed: int) -> RunConfig:
    """The run of a cell, without its noise."""
    return RunConfig.of(
        clients=CLIENTS,
        partition=cell.dealt,
        classes_per_client=5,
        model="mlp",
        rounds=ROUNDS,
        local_epochs=2,
        scheme="plain",
        execution="sequential",
        metrics=False,
        seed=seed,
    )


class Noisy:
    """Clients of a run that add noise, and the rule between them and the server.

    errors: of each round, |what the rule made - the mean of the updates without noise|^2 over the square of
    that mean.
    """

    def __init__(self, cell: Cell, seed: int) -> None:
        self._rule, self._deviations = RULES[cell.rule], (cell.low, cell.high)
        self._rng = np.random.default_rng(seed)
        self._true = np.zeros(0)
        self.errors = list[float]()

    def deviation(self, u: ClientId) -> float:
        return self._deviations[u % 2]

    def sending(self, instructions: Instructions, model: nn.Module, results: Results) -> Results:
        examples = [results[u].examples for u in sorted(results)]
        uploads = np.stack([results[u].upload for u in sorted(results)]).astype(np.float64)
        self._true = np.average(uploads, axis=0, weights=examples)
        return {u: replace(results[u], upload=self._noised(u, results[u].upload)) for u in sorted(results)}

    def _noised(self, u: ClientId, upload: NDArray[np.floating]) -> NDArray[np.float32]:
        noise = self._rng.normal(0.0, self.deviation(u), len(upload))
        return (upload + noise).astype(np.float32)

    def rule(self, points: Points, bench: Bench, memory: Memory) -> Verdict:
        declared = np.array([self.deviation(next(iter(members))) for members in points.members])
        verdict = self._rule(points, replace(bench, noise=declared), memory)
        off = np.square(verdict.update - self._true).sum() / np.square(self._true).sum()
        self.errors.append(float(off))
        return verdict


def run_case(cell: Cell, seed: int) -> Row:
    """error: mean of `Noisy.errors`, over the rounds; accuracy: mean of the last rounds."""
    config = configuration(cell, seed)
    layout, noisy = lay_out(config), Noisy(cell, seed)
    look = looking(config, layout)
    rounds = simulated(
        config,
        layout,
        secrets=RunSecrets.of_seed(seed),
        sending=noisy.sending,
        rule=noisy.rule,
        evaluate_every=config.training.rounds,
    ).rounds()
    accuracies = [look(each) for each in rounds]
    return {
        **asdict(cell),
        "seed": seed,
        "error": statistics.fmean(noisy.errors),
        "errors": noisy.errors,
        "accuracy": statistics.fmean(accuracies[-LAST:]),
    }


def groups(rows: Sequence[Row]) -> dict[Cell, list[Row]]:
    """The seeds of each cell."""
    by: dict[Cell, list[Row]] = {}
    for row in rows:
        by.setdefault(Cell(row["dealt"], row["low"], row["high"], row["rule"]), []).append(row)
    return by


def error(some: Sequence[Row]) -> float:
    """The mean over the rows: squared, over the square of the update's length, as `Noisy.errors`."""
    return statistics.fmean(row["error"] for row in some)


def percent(some: Sequence[Row]) -> dict[int, float]:
    """Accuracy in percent, by seed."""
    return by_seed(some, lambda row: 100 * row["accuracy"])


def table(rows: Sequence[Row]) -> Table:
    """error: squared, of the mean of what clients would have sent without noise, in squares of that.
    accuracy: in percent, the mean of the last ten rounds, ± over seeds; gives: beside the mean, by pairs of
    seeds, ± its standard error.
    """
    by, lines = groups(rows), list[tuple[str, ...]]()
    for cell, some in by.items():
        beside = by[replace(cell, rule=MEAN)]
        gives = "" if cell.rule == MEAN else paired(percent(some), percent(beside), "+.1f")
        accuracy = spread(list(percent(some).values()), ".1f")
        mixture = f"{cell.low:g}, {cell.high:g}"
        lines.append((cell.dealt, mixture, cell.rule, f"{error(some):.3g}", accuracy, gives))
    return Table.of(("dealt", "noise", "rule", "error", "accuracy", "gives"), lines)
