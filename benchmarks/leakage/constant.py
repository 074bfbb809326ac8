"""What noise of one size hides, round by round, while gradients get smaller."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import HEADER, Summary, Target, cells_of, over_rounds
from benchmarks.leakage.perturbed import (
    ATTACKERS,
    LEARNED,
    NONE,
    PLAIN,
    Cell,
    attacked,
    gaussian,
    others,
    said,
)
from benchmarks.spread import seeds

CLAIM = (
    "Gradients of one MNIST image each, of `lenet-4conv` at its first weights and after two and six "
    "rounds of training as in `trained`, under noise of one deviation in all rounds; plain: L-BFGS, 1.5 "
    "s of a processor an image; learned: as in `perturbed`, 12 s for eight. The mean number of a "
    "gradient falls from 0.096 to 0.061 and 0.027 as the net learns, and so the same noise hides more "
    "in later rounds: 0.01 hides nothing at first and after two rounds, and after six stops L-BFGS; "
    "0.03 stops it from the first on, and after six rounds who has learned, too, which finds images "
    "before. Noise that is just enough in a late round leaves the first rounds open, and what is enough "
    "for these is more than later ones need: constant noise is wrong in some rounds, as Wei and Liu "
    "say."
)
CONTROL = Control(
    "the gradient as it is, in the same round", lambda row: row["what"] == NONE, by=("seed", "round")
)
ALONE = False
SECONDS = {"quick": 0.3, "full": 1.5}  # of a processor, an image
SEEDS = {"quick": 1, "full": 3}
ROUNDS = {"quick": (0, 1), "full": (0, 2, 6)}
CELLS = tuple(Cell(f"sd {sd:g}" if sd else NONE, gaussian(sd) if sd else None) for sd in (0.0, 0.01, 0.03))
FEW = CELLS[:2]


def cases(size: str, seed: int) -> list[Case]:
    cells = FEW if size == "quick" else CELLS
    return [
        Case(f"seed {each}", partial(run_case, cells, each, ROUNDS[size], SECONDS[size]))
        for each in seeds(seed, SEEDS[size])
    ]


def run_case(cells: Sequence[Cell], seed: int, rounds: Sequence[int], seconds: float) -> Iterator[Row | str]:
    """size: the mean absolute number of a gradient. Raises: NotImplementedError where the data set is not to
    be had.
    """
    target = Target.drawn("mnist", seed)
    for trained in over_rounds(target.knowledge("lenet-4conv", seed), seed, rounds):
        gradients = target.uploads(trained.knowledge)
        head = {"seed": seed, "round": trained.round, "accuracy": trained.accuracy}
        head |= {"size": float(np.mean(np.abs(gradients)))}
        for cell in cells:
            for attack in (PLAIN, LEARNED):
                yield f"round {trained.round}, {cell.what}, {ATTACKERS[attack]}"
                found = attacked(cell, target, trained.knowledge, gradients, seed, attack, seconds)
                yield head | {"what": cell.what, "attack": attack} | found


def table(rows: Sequence[Row]) -> Table:
    """accuracy: of the model that the client received. size: the mean absolute number of a gradient, beside
    which the noise has its deviation.
    """
    by = cells_of(rows, "round", "what", "attack")
    return Table.of(
        ("round", "accuracy", "size", "noise", "attacker", *HEADER, "so"),
        [
            (
                "before any" if key[0] == 0 else f"after {key[0]}",
                f"{np.mean([row['accuracy'] for row in some]):.2f}",
                f"{np.mean([row['size'] for row in some]):.2g}",
                key[1],
                ATTACKERS[key[2]],
                *Summary.of(some).cells,
                said(some, by[key[0], NONE, key[2]], others(by, key)),
            )
            for key, some in by.items()
        ],
    )
