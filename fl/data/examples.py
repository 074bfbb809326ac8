"""Labelled examples, images or text: what a data set and a client's shard are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]  # (N, C, H, W), finite; the data sets here in [0, 1]
Tokens = NDArray[np.int64]  # (N, T), words as numbers in 0..classes-1
Inputs = Images | Tokens  # of a task of one's own float32 or int64 of two to four dimensions
Labels = NDArray[np.int64]  # (N,), in 0..classes-1
Shape = tuple[int, ...]  # (C, H, W) of one image, (T,) of one text

OWN = "task:"
"""Before the digest of a task of one's own (fl/own.py), where a data set and a model have their names."""

Poison = Callable[[Inputs, Labels, int, float, np.random.Generator], tuple[Inputs, Labels]]
"""What is done to a client's examples before it trains on them, be it its sensor or an attacker who does it:
(x, y, classes, level, rng) -> (x, y) of the same kind and shape, as many as it likes but one at least. The
arrays that it is given are never changed, as others may hold the same examples. level: how much of it, in
whatever each measures it.

Raises: DataError for a level that it does not have, and for data to which it cannot be done.
"""

_KINDS: tuple[tuple[np.dtype[Any], int], ...] = ((np.dtype(np.float32), 4), (np.dtype(np.int64), 2))


class DataError(Exception):
    """Data are missing or are not what they should be. The message says which file and what to do."""


@dataclass(frozen=True)
class Dataset:
    """A training set, to be dealt out to clients, and a test set, which stays with the server.

    train_x, test_x: as `check` wants them;  words: what each token of a text means, (classes,); empty for
    images.
    """

    name: str
    train_x: Inputs
    train_y: Labels
    test_x: Inputs
    test_y: Labels
    classes: int
    words: tuple[str, ...] = ()

    @property
    def shape(self) -> Shape:
        return shape_of(self.train_x)


def shape_of(x: Inputs) -> Shape:
    """(C, H, W) of one image of x: (N, C, H, W);  (T,) of one text of x: (N, T)."""
    return tuple(x.shape[1:])


def check_own(x: NDArray[np.generic], y: NDArray[np.generic], where: str) -> None:
    """As `check`, of the examples of a task of one's own, which says itself what they mean: float32 or int64,
    of two to four dimensions, with an int64 label each.

    Raises: DataError, beginning with `where`.
    """
    if x.dtype not in (np.float32, np.int64) or not 2 <= x.ndim <= 4 or x.size == 0:
        raise DataError(
            f"{where}: x must be of real numbers or integers, of two to four dimensions and not empty, not "
            f"{x.dtype} {x.shape}"
        )
    _check_labels(x, y, where)


def _check_labels(x: NDArray[np.generic], y: NDArray[np.generic], where: str) -> None:
    if y.dtype != np.int64 or y.shape != x.shape[:1]:
        raise DataError(f"{where}: y must be int64 ({len(x)},), not {y.dtype} {y.shape}")
    if x.dtype == np.float32 and not np.isfinite(x).all():
        raise DataError(f"{where}: x holds NaN or infinity")


def check(x: NDArray[np.generic], y: NDArray[np.generic], classes: int, where: str) -> None:
    """Refuse anything but examples with an int64 label in 0..classes-1 each: finite float32 images
    (N, C, H, W), or texts of int64 tokens (N, T) in 0..classes-1; at least one, and of at least one value.

    Raises: DataError, beginning with `where`.
    """
    if (x.dtype, x.ndim) not in _KINDS or x.size == 0:
        raise DataError(
            f"{where}: x must be float32 (N, C, H, W) or int64 (N, T) and not empty, not {x.dtype} {x.shape}"
        )
    _check_labels(x, y, where)
    if x.dtype == np.int64 and (x.min() < 0 or x.max() >= classes):
        raise DataError(f"{where}: tokens run from {x.min()} to {x.max()}, not within 0..{classes - 1}")
    if y.min() < 0 or y.max() >= classes:
        raise DataError(f"{where}: labels run from {y.min()} to {y.max()}, not within 0..{classes - 1}")
