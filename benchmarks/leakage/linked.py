"""Clients linked by the likeness of their updates: who holds the same classes, of two each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import cells_of
from benchmarks.noised import Training, Updates, Vector, layout_of, mean_of
from benchmarks.spread import seeds, spread
from fl.config.run import RunConfig
from fl.data import DataError
from fl.leakage.linkage import auc

CLAIM = (
    "Twenty clients of 100 MNIST images of two classes each, ten in each round, one pass, `mlp-200`: of "
    "all pairs, those with a class in common are to be told from those with none, by how alike what is "
    "known of their updates is. Single updates tell it with an AUC of .71 after one round and 1.00 "
    "after ten. In one masked sum there is nothing of a pair, which is .5 by what a sum is. But a "
    "server knows who was in which sum: by the least squares of all rounds masked sums give .56 after "
    "ten, .81 after forty and .98 after 160. Masking within a round does not hide what clients have in "
    "common over many; what does is a cohort that stays together, or noise."
)
SINGLE, SUM, SUMS = "single updates", "one masked sum", "masked sums"
CONTROL = Control("every client's single updates", lambda row: row["read"] == SINGLE, by=("rounds", "seed"))
ALONE = False
SEEDS = {"quick": 1, "full": 3}
ROUNDS = {"quick": (10,), "full": (1, 10, 40, 160)}
CLIENTS, CHOSEN, EXAMPLES = 20, 10, 100


def cases(size: str, seed: int) -> list[Case]:
    return [Case(f"seed {each}", partial(run_case, each, ROUNDS[size])) for each in seeds(seed, SEEDS[size])]


def run_case(seed: int, looks: Sequence[int], dataset: str = "mnist") -> Iterator[Row | str]:
    """auc: of all pairs of clients, by the cosine of what is known of their updates, where those that have a
    class in common are to be told from those that have none.

    Raises: NotImplementedError where the data set is not to be had.
    """
    config = RunConfig.of(
        dataset=dataset,
        model="mlp-200",
        clients=CLIENTS,
        sample=CHOSEN,
        partition="shards",
        classes_per_client=2,
        examples_per_client=EXAMPLES,
        rounds=max(looks),
        local_epochs=1,
        batch_size=10,
        lr=0.05,
        momentum=0.0,
        seed=seed,
        scheme="plain",
        execution="sequential",
    )
    try:
        layout = layout_of(config)
    except DataError as error:
        raise NotImplementedError(str(error)) from error
    held = [frozenset(layout.examples(u)[1].tolist()) for u in range(CLIENTS)]
    heard, training = Heard(), Training(config, layout)
    for round in training.rounds(heard.mean):
        if round in looks:
            yield f"{round} rounds"
            read = {SINGLE: heard.of_single(), SUM: None, SUMS: heard.of_sums()}
            for name, known in read.items():
                yield {"read": name, "rounds": round, "seed": seed, "auc": linked(known, held)}


@dataclass
class Heard:
    """What was sent in some rounds, and no more of it than is read. total: (n, d), of each client's updates,
    beside the mean of their round; there: who was in each sum.
    """

    total: Vector | None = None
    there: list[list[int]] = field(default_factory=list)
    sums: list[NDArray[np.float32]] = field(default_factory=list)

    def mean(self, updates: Updates) -> Vector:
        mean, who = mean_of(updates), list(updates)
        if self.total is None:
            self.total = np.zeros((CLIENTS, len(mean)))
        self.total[who] += np.stack(list(updates.values())) - mean
        self.there.append(who)
        self.sums.append((len(who) * mean).astype(np.float32))
        return mean

    def of_single(self) -> Vector:
        """(n, d): the mean of each client's updates, as who reads them has it."""
        assert self.total is not None  # noqa: S101 - there was a round
        times = np.bincount(np.concatenate(self.there), minlength=CLIENTS)
        mean: Vector = self.total / np.maximum(times, 1)[:, None]
        return mean

    def of_sums(self) -> Vector:
        """(n, d): what sums alone tell of each client, by who was in which: the least squares of all rounds,
        in which a client that is in a sum adds the same to it each time.
        """
        there = np.zeros((len(self.sums), CLIENTS))
        for i, who in enumerate(self.there):
            there[i, who] = 1
        inverse = np.linalg.pinv(
            there - there.mean(axis=0)
        )  # its rows add up to 0: no mean is to be taken off
        known: Vector = (inverse.astype(np.float32) @ np.stack(self.sums)).astype(np.float64)
        return known


def linked(known: Vector | None, held: Sequence[frozenset[int]]) -> float:
    """The AUC. known: None of who has nothing of single clients, and so of all pairs the same: 0.5."""
    first, second = np.triu_indices(len(held), 1)
    same = np.array([bool(one & other) for one, other in combinations(held, 2)])
    likeness: NDArray[np.float64] = np.zeros(len(first))
    if known is not None:
        lengths = np.linalg.norm(known, axis=1, keepdims=True)
        unit = known / np.where(lengths > 0, lengths, 1)
        likeness = np.round((unit @ unit.T)[first, second], 12)
    return auc(likeness, same)


def table(rows: Sequence[Row]) -> Table:
    """auc: chance is .5, and of one sum it is that by what a sum is: there is nothing of a pair in it."""
    by = cells_of(rows, "rounds", "read")
    return Table.of(
        ("rounds", "what is read", "AUC"),
        [
            (str(rounds), read, spread([row["auc"] for row in some], ".2f"))
            for (rounds, read), some in by.items()
        ],
    )
