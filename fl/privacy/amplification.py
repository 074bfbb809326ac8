"""What a release tells where each client takes part by a coin that nobody else sees (Poisson sampling)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Cost = Callable[[int], float]
"""Integer order, from 2 on -> Rényi divergence, either way round, where everybody takes part."""


def amplified(cost: Cost, rate: float, order: int) -> float:
    """Rényi divergence of integer order a, either way round, between a release that a client is in with
    probability q and one that it is not in, where the noise is symmetric about zero:

    ln(sum_k C(a, k) (1 - q)^(a - k) q^k exp((k - 1) D_k)) / (a - 1).

    cost: D_k, or a bound of it. rate: q, in (0, 1]. Why, and what it takes: docs/privacy.md.
    Source: Mironov, Talwar, Zhang (1908.10530), theorem 5 and section 3.3.
    """
    full = cost(order)
    if rate == 1 or full == 0:
        return full
    growth, chance = _growth(cost, order), _chance(rate, order)
    # All chances are 1 together: taken off term by term, or a small divergence were lost in rounding.
    return _joined(chance + growth + np.log(-np.expm1(-growth)), order)


def in_general(cost: Cost, rate: float, order: int) -> float:
    """The same of any release whatever, by Zhu and Wang (ICML 2019, theorem 6), for comparisons: the terms
    from k = 3 on count three times.
    """
    if rate == 1:
        return cost(order)
    growth, chance = _growth(cost, order), _chance(rate, order)
    times = np.where(np.arange(2, order + 1) > 2, 3.0, 1.0)
    return _joined(chance + growth + np.log(times - np.exp(-growth)), order)


def _growth(cost: Cost, order: int) -> NDArray[np.float64]:
    """(k - 1) D_k of k = 2 ... a, and no less than next to nothing, of which there is a logarithm."""
    return np.maximum([(k - 1) * cost(k) for k in range(2, order + 1)], 1e-15)


@functools.lru_cache(maxsize=256)
def _chance(rate: float, order: int) -> NDArray[np.float64]:
    """ln(C(a, k) (1 - q)^(a - k) q^k) of k = 2 ... a."""
    ways = [math.log(math.comb(order, k)) for k in range(2, order + 1)]
    k = np.arange(2.0, order + 1)
    return np.array(ways) + (order - k) * math.log1p(-rate) + k * math.log(rate)


def _joined(terms: NDArray[np.float64], order: int) -> float:
    """ln(1 + the sum of what these are logarithms of) / (a - 1)."""
    return float(np.logaddexp(0.0, np.logaddexp.reduce(terms))) / (order - 1)
