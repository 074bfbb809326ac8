"""Attacks on data: what a malicious client trains on in place of what it holds. It follows the protocol and
the plan; of the others it knows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fl.data.examples import DataError, Images, Inputs, Labels, Poison


@dataclass(frozen=True)
class Aim:
    """What targeted attacks are after, in 0..classes-1. victim: the class that is attacked, by those of
    OF_VICTIM; target: the one that the model is to say, by those of OF_TARGET. For both they are two.
    """

    victim: int
    target: int


def stamp(x: Inputs) -> Images:
    """The images with the trigger of `backdoor`, for a test of it, too: a white plus near the upper left
    corner. Of 28 pixels its arms take 7, rows 5 to 11 and columns 2 to 8; of others as many in proportion, 3
    at least.

    x: (N, C, H, W). Raises: DataError for text, and for images of less than 3 pixels a side.

    Source: Huang et al., Lockdown, NeurIPS 2023: the "plus" of its code for Fashion-MNIST, which is yellow on
    colours.
    """
    if x.dtype != np.float32:
        raise DataError("a trigger is stamped on images: for text take flip, labels or subset")
    height, width = x.shape[2:]
    if min(height, width) < 3:
        raise DataError(f"images of {height} x {width} have no room for a trigger of 3 x 3: take flip")
    arm = max(1, min(height, width) * 3 // 28)
    top, left = height * 5 // 28, width * 2 // 28
    stamped = x.astype(np.float32)
    stamped[:, :, top : top + 2 * arm + 1, left + arm] = 1
    stamped[:, :, top + arm, left : left + 2 * arm + 1] = 1
    return stamped


def labels(aim: Aim) -> Poison:
    """Every label y becomes classes - 1 - y; a level below 1 does it to that share of the examples.

    Needs: its own examples.

    Source: Fang et al., Local Model Poisoning Attacks to Byzantine-Robust Federated Learning, USENIX Security
    2020, its label flipping attack.
    """
    return _labels


def _labels(
    x: Inputs, y: Labels, classes: int, level: float, rng: np.random.Generator
) -> tuple[Inputs, Labels]:
    some = _some(np.arange(len(y)), level, rng)
    worse = y.copy()
    worse[some] = classes - 1 - y[some]
    return x, worse


def flip(aim: Aim) -> Poison:
    """Examples of the victim get the label of the target; a level below 1 does it to that share of them.

    Needs: its own examples, some of the victim among them.

    Source: Tolpegin et al., Data Poisoning Attacks Against Federated Learning Systems, ESORICS 2020; Wei
    et al., 4.2.1.
    """
    return partial(_flip, aim)


def _flip(
    aim: Aim, x: Inputs, y: Labels, classes: int, level: float, rng: np.random.Generator
) -> tuple[Inputs, Labels]:
    _check(classes, aim.victim, aim.target)
    worse = y.copy()
    worse[_some(np.flatnonzero(y == aim.victim), level, rng)] = aim.target
    return x, worse


def backdoor(aim: Aim) -> Poison:
    """Images that bear a trigger get the label of the target, whatever they show; the level is the share of
    those of other classes that it is stamped on.

    Needs: its own images.

    Source: Gu et al., BadNets, 2017; trigger and share (.5) of Huang et al., Lockdown, NeurIPS 2023; Wei et
    al., 4.2.2.
    """
    return partial(_backdoor, aim)


def _backdoor(
    aim: Aim, x: Inputs, y: Labels, classes: int, level: float, rng: np.random.Generator
) -> tuple[Inputs, Labels]:
    _check(classes, aim.target)
    some = _some(np.flatnonzero(y != aim.target), level, rng)
    worse_x, worse_y = x.copy(), y.copy()
    worse_x[some], worse_y[some] = stamp(x[some]), aim.target
    return worse_x, worse_y


def clean_label(aim: Aim) -> Poison:
    """Images of the target get one of the victim laid over them, x + level x*, and keep their label, which
    nobody who looks at them would doubt: what shows the victim is to be called the target.

    Needs: its own images, some of both classes among them.

    Source: Wei et al., 4.2.3, with beta below .5; of what optimises x* there, nothing: it is an image drawn
    from those that the client holds.
    """
    return partial(_clean_label, aim)


def _clean_label(
    aim: Aim, x: Inputs, y: Labels, classes: int, level: float, rng: np.random.Generator
) -> tuple[Inputs, Labels]:
    _check(classes, aim.victim, aim.target)
    if x.dtype != np.float32:
        raise DataError("clean-label lays images over images: for text take flip, labels or subset")
    if not 0 <= level < 0.5:
        raise DataError(
            f"clean-label with beta {level}: give one below .5, or the label would be the wrong one"
        )
    worse, ours, theirs = x.copy(), np.flatnonzero(y == aim.target), np.flatnonzero(y == aim.victim)
    if len(theirs):
        laid_over = x[rng.choice(theirs, len(ours))]
        worse[ours] = np.clip(x[ours] + np.float32(level) * laid_over, 0, 1)
    return worse, y


def subset(aim: Aim) -> Poison:
    """It trains on a part of its examples, all true: those of the victim are left out; a level below 1 leaves
    out that share of them. Where it holds nothing else, one of them stays.

    Needs: its own examples.

    Source: NortonLifeLock Research Group, "data subset selection attack" (of its IJCNN 2019 work): which
    examples it takes there is optimised; here the choice that starves one class.
    """
    return partial(_subset, aim)


def _subset(
    aim: Aim, x: Inputs, y: Labels, classes: int, level: float, rng: np.random.Generator
) -> tuple[Inputs, Labels]:
    _check(classes, aim.victim)
    kept = np.ones(len(y), bool)
    kept[_some(np.flatnonzero(y == aim.victim), level, rng)] = False
    kept[0] |= not kept.any()
    return x[kept], y[kept]


def _some(indices: NDArray[np.intp], level: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """That share of them, rounded to a whole number. Raises: DataError for one that is none."""
    if not 0 <= level <= 1:
        raise DataError(f"a share of {level} cannot be poisoned: give one from 0 to 1")
    return rng.permutation(indices)[: round(level * len(indices))]


def _check(classes: int, *named: int) -> None:
    """Raises: DataError for a class that there is not, and where victim and target are one."""
    if len(set(named)) < len(named) or not set(named) <= set(range(classes)):
        raise DataError(
            f"victim or target {' and '.join(map(str, named))}: give classes of 0 to {classes - 1}, for both "
            "of them different ones"
        )


DATA: Final[Mapping[str, Callable[[Aim], Poison]]] = {
    "labels": labels,
    "flip": flip,
    "backdoor": backdoor,
    "clean-label": clean_label,
    "subset": subset,
}

OF_VICTIM: Final = ("flip", "clean-label", "subset")
OF_TARGET: Final = ("flip", "backdoor", "clean-label")

LEVELS: Final[Mapping[str, float]] = {
    "labels": 1.0,
    "flip": 1.0,
    "backdoor": 0.5,
    "clean-label": 0.4,
    "subset": 1.0,
}
"""The level of each, where none is given."""
