"""A random rotation of vectors that anybody can undo: it spreads a vector evenly over its coordinates, so
that each of them takes few bits (Suresh et al., ICML 2017; Kairouz et al., ICML 2021, section 5).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.prg import keystream
from secagg.specs import BLOCK

_ROWS: Final = 64
"""Below so many coordinates apart, butterflies are taken on a transposed block: numpy wants long rows."""


class Rotation:
    """Random signs, then the Walsh-Hadamard transform, of vectors of one length.

    Where the length is no power of two it is done twice, with fresh signs each: of the first 2^k coordinates
    and then of the last 2^k, 2^k the largest power of two within the length. So no coordinate is added: a
    padded vector of 2^k + 1 coordinates would take twice the bytes.

    seed: 32 public bytes. Every float operation is a sum, a difference, or a product with one number, in a
    fixed order: all machines come to the same bits.
    """

    def __init__(self, seed: bytes, length: int) -> None:
        size = size_of(length)
        starts = (0,) if size == length else (0, length - size)
        flips = np.unpackbits(_bytes(seed, len(starts) * -(-size // 8)), bitorder="little")
        rows = flips.reshape(len(starts), -1)[:, :size]
        self._parts = [(start, flip.view(bool)) for start, flip in zip(starts, rows, strict=True)]
        self._size, self._scale = size, 1 / math.sqrt(size)

    def forward(self, x: NDArray[np.float64]) -> None:
        """Rotate (m,) in place."""
        for start, flip in self._parts:
            part = x[start : start + self._size]
            np.negative(part, out=part, where=flip)
            hadamard(part)
            part *= self._scale

    def back(self, x: NDArray[np.float64]) -> None:
        """Undo `forward`, in place: each part is its own inverse but for the order of signs and sums."""
        for start, flip in reversed(self._parts):
            part = x[start : start + self._size]
            hadamard(part)
            part *= self._scale
            np.negative(part, out=part, where=flip)


def size_of(length: int) -> int:
    """2^k: the largest power of two within the length, over which one transform spreads."""
    return 1 << (length.bit_length() - 1)


def hadamard(x: NDArray[np.float64]) -> None:
    """x := H x, in place, of a length that is a power of two: H_1 = (1), H_2m = (H_m H_m; H_m -H_m).

    The sums are taken from coordinates that are half the vector apart down to neighbours.
    """
    apart = len(x) // 2
    while apart >= BLOCK:
        _butterflies(x, apart)
        apart //= 2
    # What is left stays within blocks, each of which is finished while it is in the cache.
    for start in range(0, len(x), 2 * apart) if apart else ():
        _within(x[start : start + 2 * apart])


def _within(block: NDArray[np.float64]) -> None:
    apart = len(block) // 2
    while apart >= _ROWS:
        _butterflies(block, apart)
        apart //= 2
    across = np.ascontiguousarray(block.reshape(-1, 2 * apart).T)
    while apart:
        _butterflies(across, apart)
        apart //= 2
    block.reshape(across.shape[::-1])[:] = across.T


def _butterflies(x: NDArray[np.float64], apart: int) -> None:
    """(a, b) := (a + b, a - b) of all a and b that stand `apart` from each other along the first axis."""
    pairs = x.reshape(-1, 2, apart, *x.shape[1:])
    a, b = pairs[:, 0], pairs[:, 1]
    difference = a - b
    a += b
    b[:] = difference


def _bytes(seed: bytes, count: int) -> NDArray[np.uint8]:
    return np.concatenate([block.copy() for block in keystream(seed, count, np.uint8)])
