"""Discrete noise, drawn exactly: a draw is k with probability p(k) and no other, for every integer k.

A uniform number of [0, 1) is looked up among the cumulative probabilities, of which a table has the leading
bits. The number is random bits, of which there are always more: where those that were drawn do not tell on
which side of a probability it lies (for one draw in 2^50 or fewer), as many again are drawn, and compared
with twice the bits of it. So no draw is ever decided by a rounding, and there is no largest one. What is
random is AES in counter mode under a secret of the operating system.

Security: which entry of a table is read, and how long a block of draws takes, depend on what is drawn. Who
sees the caches of this processor, or times single blocks on it, learns something about the noise, as from
most samplers but those in constant time, which this is not. Across a network only the time of a whole vector
is to be seen, in which every coordinate's is added up with the rest of the client's work.
"""

from __future__ import annotations

import decimal
import itertools
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.crypto import OwnTag, kdf
from secagg.errors import LocalProtocolError
from secagg.prg import keystream
from secagg.specs import Noise

MAX_DEVIATION: Final = 2**17  # steps: a table of 1.2 million entries, which takes 200 MB to make
_WORD: Final = np.dtype("<u8")
_MAX_CELLS_LOG2: Final = 20  # 4 MB, in the third-level cache


def add_noise(codes: NDArray[np.int64], noise: Noise, variance: float, seed: bytes) -> None:
    """Add to each code, in place, a draw of its own. codes: (m,).

    variance: in squared steps of the codes, taken as the exact number that the float is, in (0, 2^34].
    "skellam": mu, the difference of two Poisson(mu / 2), p(k) = e^-mu I_k(mu); draws of variances mu and nu
    add up to one of mu + nu. "discrete-gaussian": sigma^2 of p(k) proportional to e^(-k^2 / (2 sigma^2)).
    seed: 32 bytes.

    Raises: LocalProtocolError for another variance.

    Security: the seed is fresh from the operating system for every call, and kept by nobody: whoever has it
    can take the noise away.
    Source: Agarwal, Kairouz and Liu, NeurIPS 2021; Canonne, Kamath and Steinke, NeurIPS 2020.
    """
    if not 0 < variance <= MAX_DEVIATION**2:  # nor is NaN
        raise LocalProtocolError(f"noise of variance {variance}: give a number above 0, of at most 2^34")
    _add(codes, noise, float(variance), seed, _WORD)


def _add(codes: NDArray[np.int64], noise: Noise, variance: float, seed: bytes, word: np.dtype[Any]) -> None:
    """Of a word the lowest bit is the sign, and the rest a number that is looked up among P(|k| <= i)."""
    table = _table(noise, variance, 8 * word.itemsize - 1)
    start = 0
    for words in keystream(kdf(OwnTag.NOISE, seed, b"", 0, 0), len(codes), word):
        uniform = words >> 1
        draws, ties = table.look_up(uniform)
        if len(ties):
            draws[ties] = _decided(noise, variance, uniform[ties].tolist(), seed, start, word)
        draws *= 1 - 2 * (words & 1).astype(np.int32)
        codes[start : start + len(words)] += draws
        start += len(words)


def _decided(
    noise: Noise, variance: float, uniform: list[int], seed: bytes, start: int, word: np.dtype[Any]
) -> list[int]:
    """The draws of a block that one word each leaves open: by two words, by three, and so on."""
    width = 8 * word.itemsize
    draws = [0] * len(uniform)
    undecided = dict(enumerate(uniform))
    round = 0
    while undecided:
        round += 1
        thresholds = _thresholds(noise, variance, width * (round + 1) - 1)
        # A key of its own for each block and round: no stream is read in two places.
        further = keystream(kdf(OwnTag.NOISE, seed, b"", start, round), len(undecided), word)
        for i, more in zip(list(undecided), itertools.chain.from_iterable(further), strict=True):
            u = undecided.pop(i) << width | int(more)
            draws[i] = bisect_right(thresholds, u)
            if thresholds[draws[i] - 1] == u:
                undecided[i] = u
    return draws


@dataclass(frozen=True, slots=True)
class _Table:
    """thresholds: floor(2^bits P(|k| <= i)) for i = 0, 1, ... as far as it is below 2^bits - 1, and once so.

    guide: of each cell of numbers with the same leading bits the draw, -1 where there is more than one, or a
    threshold, in it. shift: number -> cell.
    """

    thresholds: NDArray[Any]  # in the type of the words, ascending
    guide: NDArray[np.int32]
    shift: int

    @classmethod
    def of(cls, thresholds: list[int], bits: int, word: np.dtype[Any]) -> _Table:
        """Eight cells for each entry, so that few draws are searched for: 3 in 100 at deviation 1000."""
        cells_log2 = min(bits, _MAX_CELLS_LOG2, len(thresholds).bit_length() + 3)
        shift = bits - cells_log2
        table = np.array(thresholds, word)
        first = np.arange(2**cells_log2, dtype=word) << shift
        last = first + (2**shift - 1)
        low, high = np.searchsorted(table, first, "left"), np.searchsorted(table, last, "right")
        return cls(table, np.where(low == high, low, -1).astype(np.int32), shift)

    def look_up(self, uniform: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        """(|k| of each number u: how many thresholds are at most u; where that is not certain).

        (u, u + 1) 2^-bits lies between two probabilities if u is no threshold; else one may lie within.
        """
        draws = self.guide[uniform >> self.shift]
        searched = np.flatnonzero(draws < 0)
        numbers = uniform[searched]
        found = np.searchsorted(self.thresholds, numbers, "right")
        draws[searched] = found
        # Where none is found this looks at the last threshold, 2^bits - 1, which no such number is.
        return draws, searched[self.thresholds[found - 1] == numbers]


@lru_cache(maxsize=4)
def _table(noise: Noise, variance: float, bits: int) -> _Table:
    return _Table.of(_thresholds(noise, variance, bits), bits, np.dtype(f"<u{(bits + 1) // 8}"))


# The probabilities, in integers with a bound of their error


def _thresholds(noise: Noise, variance: float, bits: int) -> list[int]:
    """floor(2^bits P(|k| <= i)) for i = 0, 1, ... until it is 2^bits - 1."""
    weights = _WEIGHTS[noise]
    guard = 64
    # It ends: the probabilities are transcendental, and no multiples of 2^-bits.
    while (certain := _certain(weights(Fraction(variance), bits + guard), bits, guard)) is None:
        guard *= 2
    return certain


def _certain(weights: list[int], bits: int, guard: int) -> list[int] | None:
    """None where an error of 2^-(bits + guard) in a probability could change what is below the point."""
    head, total = -weights[0], 2 * sum(weights) - weights[0]
    slack, top = (total >> guard) + 1, 2**bits - 1
    thresholds = []
    for weight in weights:
        head += 2 * weight
        threshold, rest = divmod((head << bits) - slack, total)
        thresholds.append(threshold)
        if threshold == top:  # no probability is 1, though no guard may tell this one from it
            break
        if rest + 2 * slack >= total:
            return None
    return thresholds


def _last(variance: Fraction, bits: int) -> int:
    """N with P(|k| >= N) <= 2^(1 - bits), of either noise and below 2^28.

    Bernstein's inequality: P(k >= N) <= exp(-N^2 / (2 (v + N / 3))), as both have a moment generating
    function of at most exp(v (cosh t - 1)). bits ln 2 < L gives what is below.
    """
    L = 7 * bits // 10 + 1
    return 2 * L // 3 + math.isqrt(2 * L * math.ceil(variance)) + 2


def _skellam(mu: Fraction, bits: int) -> list[int]:
    """w_0 ... w_N, proportional to I_k(mu), so that every sum of them from the middle on, divided by the sum
    of all, is a probability to 2^-bits.

    Miller's algorithm (DLMF 3.6): I_(k-1) = I_(k+1) + (2k / mu) I_k downwards, from w_(N+1) = w_N. All terms
    are positive. The exact solution of these is c (I_k + r (-1)^k K_k), where |r| K_k <= I_N for k <= N: a
    term is off by p(N) at most, a quotient of sums by (2N + 2) P(|k| >= N) < 2^(-bits - 2). Cutting off
    fractions loses a share of at most N / w_N of any term, and no term is below w_N: 2^(-bits - 4).
    """
    N = _last(mu, bits + 33)
    n, d = mu.as_integer_ratio()
    above = weight = 1 << bits + 32
    weights = [weight]
    for factor in range(2 * d * N, 0, -2 * d):
        above, weight = weight, above + factor * weight // n
        weights.append(weight)
    weights.reverse()
    return weights


def _discrete_gaussian(variance: Fraction, bits: int) -> list[int]:
    """As `_skellam`: 2^P e^(-k^2 / (2 v)), of which each is e^(-(2k + 1) / (2 v)) times the one before.

    No factor is above 1, so that errors do no more than add up: in units of 2^-P a factor is off by 7k + 2 at
    most, a term by 4k^2, all 2N + 1 terms together by 8N^3 < 2^87, and a quotient by 2^88.
    """
    P = bits + 90
    factor = _exp_of_minus(1 / (2 * variance), P)
    ratio = factor * factor >> P
    weight = 1 << P
    weights = [weight]
    for _ in range(_last(variance, bits + 4)):
        weight = weight * factor >> P
        factor = factor * ratio >> P
        weights.append(weight)
    return weights


def _exp_of_minus(x: Fraction, P: int) -> int:
    """2^P e^-x, off by 2 at most. In the decimals of the standard library, whose exp is rounded correctly and
    whose precision is an argument: python-flint's would be the whole process's.
    """
    # The quotient is off by 10^-digits x, which changes e^-x by less than 10^-digits / e.
    context = decimal.Context(prec=P // 3 + 8, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)
    n, d = x.as_integer_ratio()
    value = context.exp(context.divide(decimal.Decimal(-n), decimal.Decimal(d)))
    return int(context.multiply(value, decimal.Decimal(1 << P)))


_WEIGHTS: Final[Mapping[Noise, Callable[[Fraction, int], list[int]]]] = {
    "skellam": _skellam,
    "discrete-gaussian": _discrete_gaussian,
}
