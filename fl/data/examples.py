"""Labelled images: what a data set and a client's shard are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]  # (N, C, H, W), finite; the data sets here in [0, 1]
Labels = NDArray[np.int64]  # (N,), in 0..classes-1
Shape = tuple[int, int, int]  # (C, H, W) of one image


class DataError(Exception):
    """Data are missing or are not what they should be. The message says which file and what to do."""


@dataclass(frozen=True)
class Dataset:
    """A training set, to be dealt out to clients, and a test set, which stays with the server."""

    name: str
    train_x: Images
    train_y: Labels
    test_x: Images
    test_y: Labels
    classes: int

    @property
    def shape(self) -> Shape:
        return shape_of(self.train_x)


def shape_of(x: Images) -> Shape:
    """(C, H, W) of one image of x: (N, C, H, W)."""
    _, channels, height, width = x.shape
    return channels, height, width


def check(x: NDArray[np.generic], y: NDArray[np.generic], classes: int, where: str) -> None:
    """Refuse anything but at least one finite float32 image each with an int64 label in 0..classes-1.

    Raises: DataError, beginning with `where`.
    """
    if x.dtype != np.float32 or x.ndim != 4 or x.size == 0:
        raise DataError(f"{where}: x must be float32 (N, C, H, W) and not empty, not {x.dtype} {x.shape}")
    if y.dtype != np.int64 or y.shape != x.shape[:1]:
        raise DataError(f"{where}: y must be int64 ({len(x)},), not {y.dtype} {y.shape}")
    if not np.isfinite(x).all():
        raise DataError(f"{where}: x holds NaN or infinity")
    if y.min() < 0 or y.max() >= classes:
        raise DataError(f"{where}: labels run from {y.min()} to {y.max()}, not within 0..{classes - 1}")
