"""Products of polynomials modulo X^N + 1, number by number: the number-theoretic transform, in numpy.

A polynomial is evaluated at the N roots of X^N + 1 modulo a prime. The prime is 1 modulo 2N and below 2^30,
so that a product of two residues, and of a residue and a difference, fits a word.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAX_PRIME_BITS: Final = 30

_AT_ONCE: Final = 8  # polynomials: their columns stay in the second-level cache


class Transform:
    """Of polynomials of degree below N, modulo one prime q.

    Values stand in their natural order: number k is that at psi^(2k + 1), psi the least primitive 2N-th root
    of unity, the one that SEAL takes.
    """

    def __init__(self, degree: int, q: int) -> None:
        self._degree, self._q = degree, np.uint64(q)
        psi = _least_root(degree, q)
        inverse = pow(psi, -1, q)
        self._twist = _powers(psi, degree, q)
        self._untwist = _powers(inverse, degree, q, pow(degree, -1, q))
        self._stages, self._back = (_twiddles(root * root % q, degree, q) for root in (psi, inverse))

    def forward(self, coefficients: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """(..., N) residues of coefficients -> (..., N) values."""
        return self._by_columns(coefficients, self._twist, self._stages, None)

    def back(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """(..., N) values -> (..., N) residues of coefficients."""
        return self._by_columns(values, None, self._back, self._untwist)

    def _by_columns(
        self,
        x: NDArray[np.uint64],
        before: NDArray[np.uint64] | None,
        stages: list[NDArray[np.uint64]],
        after: NDArray[np.uint64] | None,
    ) -> NDArray[np.uint64]:
        rows = x.reshape(-1, self._degree)
        result = np.empty_like(rows)
        for start in range(0, len(rows), _AT_ONCE):
            # Polynomials as columns: numpy wants long rows, and the first stages have short ones.
            y = np.ascontiguousarray(rows[start : start + _AT_ONCE].T)
            if before is not None:
                y = y * before[:, None] % self._q
            y = self._cyclic(y, stages)
            if after is not None:
                y = y * after[:, None] % self._q
            result[start : start + _AT_ONCE] = y.T
        return result.reshape(x.shape)

    def _cyclic(self, x: NDArray[np.uint64], stages: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
        """(N, c) -> sum over i of x_i omega^(ik), (N, c): Stockham's transform, which sorts as it goes."""
        shape = x.shape
        for powers in stages:
            low, high = x.reshape(2, len(powers), -1)
            y = np.empty((len(powers), 2, low.shape[1]), np.uint64)
            total = low + high
            # What is below q wraps around to more than q: the smaller of the two is the residue.
            np.minimum(total, total - self._q, out=y[:, 0])
            y[:, 1] = (low + (self._q - high)) * powers[:, None] % self._q
            x = y
        return x.reshape(shape)


@lru_cache(maxsize=32)
def transform(degree: int, q: int) -> Transform:
    return Transform(degree, q)


def slot_order(degree: int) -> NDArray[np.intp]:
    """(N,): where the value of SEAL's slot i stands in the natural order.

    SEAL's slot i of N/2 is the value at psi^(3^i), and slot N/2 + i the one at psi^(-3^i) (its BatchEncoder).
    """
    exponents = np.array(
        list(accumulate(range(degree // 2 - 1), lambda e, _: e * 3 % (2 * degree), initial=1))
    )
    return (np.concatenate([exponents, 2 * degree - exponents]) - 1) // 2


def _least_root(degree: int, q: int) -> int:
    root = next(r for g in range(2, q) if pow(r := pow(g, (q - 1) // (2 * degree), q), degree, q) == q - 1)
    square = root * root % q
    return min(accumulate(range(degree - 1), lambda power, _: power * square % q, initial=root))


def _powers(root: int, count: int, q: int, first: int = 1) -> NDArray[np.uint64]:
    powers: Any = accumulate(range(count - 1), lambda power, _: power * root % q, initial=first)
    return np.fromiter(powers, np.uint64, count)


def _twiddles(omega: int, degree: int, q: int) -> list[NDArray[np.uint64]]:
    """Of each stage in turn: powers of the root of unity of n values, for n = N, N/2, ... 2."""
    stages, half = [], degree // 2
    while half:
        stages.append(_powers(omega, half, q))
        omega, half = omega * omega % q, half // 2
    return stages
