"""Noise in the real numbers, from a cipher: of a client's update, of its steps, and of the server's mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from secagg.prg import keystream

Reals = NDArray[np.float64]
RealNoise = Literal["gaussian", "laplace"]


def real_noise(kind: RealNoise, deviation: float, shape: int | tuple[int, ...], seed: bytes) -> Reals:
    """Independent draws of mean 0 and this standard deviation: N(0, deviation^2), or Laplace of the same
    power, whose scale is deviation / sqrt(2).

    seed: 32 bytes of `os.urandom`, for one call, of which nothing is kept.

    Security: made of AES-CTR's keystream. torch's generator on a CPU takes 32 bits of a seed, on a GPU 64,
    and numpy's is no cipher: who sees some of their noise can find the rest. A draw is one of 2^53
    magnitudes: at most 8.6 deviations of a Gaussian, 26 of Laplace (rarer than 10^-16). And a float that was
    added to one tells in its last bits which sums are possible (Mironov, CCS 2012), so an epsilon of this
    noise is of the distribution, not of the bits; noise inside a masked sum is of integers.
    """
    of_kind, a_number = _OF_KIND[kind]
    drawn = np.empty(shape)
    out, start = drawn.reshape(-1), 0
    for words in keystream(seed, a_number * -(-out.size // a_number), np.uint64):
        block = of_kind(words)[: out.size - start]
        np.multiply(block, deviation, out=out[start : start + len(block)])
        start += len(block)
    return drawn


def _uniform(words: NDArray[np.uint64]) -> Reals:
    """In (0, 1]: of the upper 53 bits of each word."""
    return ((words >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53


def _gaussians(words: NDArray[np.uint64]) -> Reals:
    """Box and Muller 1958: two of two, of deviation 1."""
    first, second = np.split(words, 2)
    radius, angle = np.sqrt(-2.0 * np.log(_uniform(first))), 2.0 * math.pi * _uniform(second)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])


def _laplaces(words: NDArray[np.uint64]) -> Reals:
    """An exponential with a sign, which is a bit that the magnitude does not use; of deviation 1."""
    return np.log(_uniform(words)) * np.where(words & np.uint64(1), math.sqrt(0.5), -math.sqrt(0.5))


_OF_KIND: Final[dict[RealNoise, tuple[Callable[[NDArray[np.uint64]], Reals], int]]] = {
    "gaussian": (_gaussians, 2),
    "laplace": (_laplaces, 1),
}
"""Kind -> words to as many draws of deviation 1, and how many are made together."""
