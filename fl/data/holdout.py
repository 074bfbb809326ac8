"""What the server keeps of the training set: whoever chooses by the test set has trained on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fl.data.examples import DataError, Dataset, Inputs, Labels
from secagg.errors import counted


@dataclass(frozen=True)
class Kept:
    """A training set, cut before it is dealt. dealt: the data set with what is left for clients. validation:
    what the server decides by; root: what it trains on itself. (x, y) each, None for nothing.
    """

    dealt: Dataset
    validation: tuple[Inputs, Labels] | None = None
    root: tuple[Inputs, Labels] | None = None


def keep_back(dataset: Dataset, validation: float, root: int, rng: np.random.Generator) -> Kept:
    """What the server keeps: this share of the training set, and of the rest so many examples.

    Raises: DataError as `hold_out`, and where the clients would be left nothing.
    """
    kept = Kept(dataset)
    if validation:
        dealt, x, y = hold_out(dataset, validation, rng)
        kept = Kept(dealt, (x, y))
    if root:
        there = len(kept.dealt.train_y)
        if root >= there:
            raise DataError(f"root = {root}: of {counted(there, 'training example')} that is all: give fewer")
        dealt, x, y = hold_out(kept.dealt, root / there, rng)
        kept = Kept(dealt, kept.validation, (x, y))
    return kept


def hold_out(dataset: Dataset, fraction: float, rng: np.random.Generator) -> tuple[Dataset, Inputs, Labels]:
    """(the data set with less to train on, x, y): a share of the training set, drawn without replacement.

    Classes are held out in proportion, to within one example, and each keeps at least one to train on: a
    class of a single example is not held out. The test set stays as it is.

    fraction: in (0, 1), of the training set; the number is rounded.
    Raises: DataError for another fraction, and where so little is there that nothing would be held out.
    """
    if not 0 < fraction < 1:
        raise DataError(f"a share of {fraction} cannot be held out: give one between 0 and 1")
    y = dataset.train_y
    labels, sizes = np.unique(y, return_counts=True)
    quotas = sizes * fraction
    counts = np.floor(quotas).astype(np.int64)
    # The rest goes to the largest remainders; equal ones in random order.
    order = rng.permutation(len(labels))
    order = order[np.argsort(counts[order] - quotas[order], kind="stable")]
    counts[order[: round(len(y) * fraction) - counts.sum()]] += 1
    counts = np.minimum(counts, sizes - 1)
    if counts.sum() == 0:
        raise DataError(
            f"{fraction} of {counted(len(y), 'training example')} of "
            f"{counted(len(labels), 'class', 'classes')} is none: "
            "hold out a larger share, or take a larger data set"
        )
    held = np.zeros(len(y), dtype=bool)
    for label, count in zip(labels, counts, strict=True):
        held[rng.choice(np.flatnonzero(y == label), count, replace=False)] = True
    less = replace(dataset, train_x=dataset.train_x[~held], train_y=y[~held])
    return less, dataset.train_x[held], y[held]
