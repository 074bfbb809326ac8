"""What a model's answers are worth: by class, to a victim and the rest, under a trigger, and to each client.

Answers are classes in 0..classes-1, beside the true ones; no model is run here. A number that is of nothing,
such as the precision of a class that no answer names, is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Classes = NDArray[np.int64]
"""(N,), of examples."""


@dataclass(frozen=True)
class ByClass:
    """How many examples there are of each class, were taken for it, and both: (classes,) int64 each."""

    held: Classes
    taken: Classes
    right: Classes

    @classmethod
    def of(cls, truth: Classes, answers: Classes, classes: int) -> ByClass:
        held, taken, right = (
            np.bincount(each, minlength=classes) for each in (truth, answers, truth[truth == answers])
        )
        return cls(held, taken, right)

    @property
    def precision(self) -> NDArray[np.float64]:
        """(classes,), in [0, 1]: of the examples that were taken for a class, the share that are of it."""
        return _share(self.right, self.taken)

    @property
    def recall(self) -> NDArray[np.float64]:
        """(classes,), in [0, 1]: of the examples of a class, the share that were taken for it."""
        return _share(self.right, self.held)

    @property
    def f1(self) -> NDArray[np.float64]:
        """(classes,), in [0, 1]: of each class against all others, the harmonic mean of precision and recall,
        2 TP / (2 TP + FP + FN). A victim's F1 is its own.
        """
        return _share(2 * self.right, self.held + self.taken)

    def rest(self, victim: int) -> float:
        """The micro-F1 over all classes but the victim: of their TP, FP and FN together, in [0, 1].

        Taking an example of the victim for another class counts as an FP there, so that the rest pays too.
        """
        others = np.arange(len(self.held)) != victim
        return float(_share(2 * self.right[others].sum(), (self.held + self.taken)[others].sum()))


def success(truth: Classes, answers: Classes, target: int) -> float:
    """The success rate of a backdoor, in [0, 1]: of the examples that are not of the class `target`, the
    share that are taken for it. answers: to the examples with the trigger in them.
    """
    others = truth != target
    return float(_share((answers[others] == target).sum(), others.sum()))


@dataclass(frozen=True)
class Fairness:
    """How evenly a model serves its clients, each of whom counts once, whatever it holds.

    mean, deviation: of the clients' accuracies, each in [0, 1]; as of all clients there are, not of a sample.
    worst: the mean of the worst tenth, of one client at least (Li et al., q-FFL, ICLR 2020, table 1).
    index: Jain's (Jain, Chiu and Hawe, DEC-TR-301, 1984), (sum x)^2 / (n sum x^2): from 1/n, where one client
    has everything, to 1, where all have the same.
    """

    mean: float
    deviation: float
    worst: float
    index: float

    @classmethod
    def of(cls, accuracies: Collection[float]) -> Fairness:
        """Raises: ValueError for no clients."""
        if not accuracies:
            raise ValueError("there are no clients to be fair to")
        x = np.sort(np.asarray(list(accuracies), dtype=float))
        worst = x[: math.ceil(len(x) / 10)]
        index = float(_share(x.sum() ** 2, len(x) * (x**2).sum()))
        return cls(float(x.mean()), float(x.std()), float(worst.mean()), index)


def _share(part: ArrayLike, of: ArrayLike) -> NDArray[np.float64]:
    """part / of; NaN of nothing."""
    some, whole = np.asarray(part, dtype=float), np.asarray(of, dtype=float)
    shares: NDArray[np.float64] = np.divide(some, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return shares
