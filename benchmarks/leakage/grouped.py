"""Whose the images are that come out of masked sums, by who was in which of them: a server knows that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import cells_of
from benchmarks.leakage.sums import BASE, FLOAT, RIGHT, TIGHT, Peeled, Setup, nearest, tightest
from benchmarks.spread import seeds, spread
from fl.leakage.grouping import grouped
from fl.leakage.views import View

CLAIM = (
    "Ten clients of 40 Fashion-MNIST images each, one step of four in each round, `mlp-1000`, masked sums "
    "of 16 bits at a tight bound, peeled as in `sums`. Where all ten are in every sum, 80 % of all "
    "examples have come out after 80 rounds, and nobody can be named for any. Where five of ten are in "
    "each, 78 % have, and for 2 % of the images that came out after ten rounds, and 13 % after 80, one "
    "client alone was in all sums that held them: those are all of that client. Masking keeps no image, "
    "and a sum of everybody keeps whose it is from this rule, which looks at nothing but who was in which "
    "sum: not at several steps of one client, nor at the factor by which it clips, which its images have "
    "in common."
)
CONTROL = Control(
    "everybody in every sum, where nothing can be told", lambda row: row["chosen"] is None, by=("seed",)
)
ALONE = False
SEEDS = {"quick": 1, "full": 3}
ROUNDS = {"quick": (10,), "full": (10, 20, 40, 80)}
TEN: Final = replace(BASE, clients=10, examples=40, batch=4, bounds=(FLOAT, TIGHT))
SETUPS = (TEN, replace(TEN, chosen=5))


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(f"{setup.chosen or 'all'} of 10, seed {each}", partial(run_case, setup, each, ROUNDS[size]))
        for setup in SETUPS
        for each in seeds(seed, SEEDS[size])
    ]


def run_case(setup: Setup, seed: int, rounds: Sequence[int]) -> Iterator[Row | str]:
    """images: how many came out, each counted once. named: of these, for how many one client is left.
    rightly: how many of these are that client's.

    Raises: NotImplementedError where the data set is not to be had.
    """
    yield f"{max(rounds)} rounds"
    run = Peeled.of(setup, TIGHT, tightest(setup, seed, max(rounds)), seed, max(rounds))
    for seen in rounds:
        groups = grouped(View(run.parts[:seen]), run.guess[:seen])
        images = np.array([group.image for group in groups]).reshape(-1, run.truth.shape[1])
        which, errors = nearest(images, run.truth)
        owners = np.where(errors <= RIGHT, run.owners[which], -1)
        one = [i for i, group in enumerate(groups) if len(group.clients) == 1]
        yield {
            "chosen": setup.chosen,
            "clients": setup.clients,
            "seed": seed,
            "rounds": seen,
            "images": len(groups),
            "share": len(np.unique(which[errors <= RIGHT])) / len(run.truth),
            "named": len(one),
            "rightly": sum(int(owners[i]) in groups[i].clients for i in one),
        }


def table(rows: Sequence[Row]) -> Table:
    """found: of all examples, the share that came out. named: of the images that came out, the share of which
    one client alone can be the owner, in runs in which any did. rightly: the share of these whose owner it
    is.
    """
    return Table.of(
        ("clients", "in a sum", "rounds", "images", "found", "named", "rightly"),
        [
            (
                str(some[0]["clients"]),
                str(chosen or some[0]["clients"]),
                str(rounds),
                f"{np.mean([row['images'] for row in some]):.0f}",
                spread([row["share"] for row in some]),
                _named(some),
                _rightly(some),
            )
            for (chosen, rounds), some in cells_of(rows, "chosen", "rounds").items()
        ],
    )


def _named(some: Sequence[Row]) -> str:
    each = [row["named"] / row["images"] for row in some if row["images"]]
    return spread(each) if each else "no image"


def _rightly(some: Sequence[Row]) -> str:
    named = sum(row["named"] for row in some)
    return f"{sum(row['rightly'] for row in some) / named:.3f}" if named else ""
