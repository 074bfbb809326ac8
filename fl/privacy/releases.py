"""A noised release of each kind, and what it tells at most: its Rényi divergence between any two neighbours.

Two data sets are neighbours where one client's whole contribution is replaced by zero in every release; with
noise on every example, where one example's is. The set of clients is public. The most that such a
replacement changes is the sensitivity: the clip. This is "replace special" of dp-accounting, whose bounds of
sampled Gaussians and of Laplace noise are used here.

A sampling rate counts only where everybody takes part by a coin of its own (Poisson sampling), the sum is
divided by a fixed number, and whom the epsilon holds against does not learn how the coins fell. A server that
chose the clients, or that sees who sends, has learned it; against that server the rate is 1, but where
whoever sends may send nothing (secagg/blank.py).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fl.config.section import ConfigError
from fl.privacy.amplification import amplified

# dp-accounting takes a second to import, so it is imported where it is used.
if TYPE_CHECKING:
    from dp_accounting.dp_event import DpEvent

HOPELESS = 1000.0
"""A release that can lose more has no distribution made of it: there is no epsilon worth the time, and with
intervals above 700 dp-accounting overflows."""

NO_NOISE = 1e-100
"""Below this a multiplier is none: its square would be no float."""


@dataclass(frozen=True)
class Gaussian:
    """Gaussian noise on a sum. multiplier: its standard deviation, in L2 sensitivities; with 0 there is none.
    rate: of secret Poisson sampling, in (0, 1]; 1 where everybody takes part. steps: how many such releases,
    each with noise of its own.

    Raises: ConfigError, as all of them.
    """

    multiplier: float
    rate: float = 1.0
    steps: int = 1

    def __post_init__(self) -> None:
        not_negative("multiplier", self.multiplier)
        ConfigError.unless(0 < self.rate <= 1, f"rate = {self.rate}: give a number above 0, up to 1")
        _count("steps", self.steps, 0)


@dataclass(frozen=True)
class Laplace:
    """Laplace noise on each coordinate. multiplier: its scale, in L1 sensitivities, which is sqrt(d) times as
    large as a clip in L2.

    It is counted as a single coordinate that changes by the whole sensitivity. No other change tells more:
    where the coordinates change one after the other, each by v_i, the power of a test at level a grows from
    step to step by no more than g_i(a), and of Laplace noise g_d(... g_1(a)) is what a single change by
    |v_1| + ... + |v_d| gives (Dong, Roth, Su, 1905.02383, lemma A.5).
    """

    multiplier: float
    steps: int = 1

    def __post_init__(self) -> None:
        not_negative("multiplier", self.multiplier)
        _count("steps", self.steps, 0)


@dataclass(frozen=True)
class Skellam:
    """Skellam noise on a sum of integer vectors. l2_squared, l1: bounds of one client's vector after
    rounding, in steps^2 and in steps of the ring; variance: of the whole noise of those who are honest, in
    steps^2. More of them are more noise, and cost no more.
    """

    l2_squared: float
    l1: float
    variance: float
    steps: int = 1

    def __post_init__(self) -> None:
        not_negative("l2_squared", self.l2_squared)
        not_negative("l1", self.l1)
        not_negative("variance", self.variance)
        _count("steps", self.steps, 0)


@dataclass(frozen=True)
class DiscreteGaussians:
    """A sum of discrete Gaussians, which is not quite one. length: coordinates; variance: of ONE share, in
    steps^2; shares: how many honest ones the sum holds at least. The rest as of `Skellam`.
    """

    l2_squared: float
    l1: float
    length: int
    variance: float
    shares: int
    steps: int = 1

    def __post_init__(self) -> None:
        not_negative("l2_squared", self.l2_squared)
        not_negative("l1", self.l1)
        not_negative("variance", self.variance)
        _count("length", self.length, 1)
        _count("shares", self.shares, 1)
        _count("steps", self.steps, 0)


InRing = Skellam | DiscreteGaussians
"""Noise of integers, symmetric about zero."""


@dataclass(frozen=True)
class Sampled:
    """What the sums of one session tell together, where each client takes part by a secret coin: one coin for
    all of them. releases: of one step each, not sampled. rate: the coin's probability of taking part.
    """

    releases: tuple[InRing, ...]
    rate: float
    steps: int = 1

    def __post_init__(self) -> None:
        plain = all(isinstance(one, InRing) and one.steps == 1 for one in self.releases)
        ConfigError.unless(plain, "releases under one coin: give sums with noise in the ring, one step each")
        ConfigError.unless(0 < self.rate <= 1, f"rate = {self.rate}: give a number above 0, up to 1")
        _count("steps", self.steps, 0)


Release = Gaussian | Laplace | Skellam | DiscreteGaussians | Sampled


def not_negative(name: str, value: float) -> None:
    ConfigError.unless(value >= 0, f"{name} = {value}: give a number from 0 on")


def _count(name: str, value: int, least: int) -> None:
    whole = isinstance(value, int) and value >= least
    ConfigError.unless(whole, f"{name} = {value}: give a whole number from {least} on")


def check_order(order: float) -> None:
    ConfigError.unless(1 < order < math.inf, f"order = {order}: give a number above 1")


def rdp(release: Release, order: float) -> float:
    """The Rényi divergence of this order, above 1, between the releases of any two neighbours, at most;
    infinite where there is no bound.

    Raises: ConfigError.
    """
    check_order(order)
    return release.steps * _divergence(replace(release, steps=1), float(order)) if release.steps else 0.0


@functools.lru_cache(maxsize=1 << 16)
def _divergence(release: Release, order: float) -> float:
    """Of one step."""
    match release:
        case Gaussian(multiplier=z) | Laplace(multiplier=z) if z < NO_NOISE:
            return math.inf
        case Gaussian(multiplier=math.inf) | Laplace(multiplier=math.inf):
            return 0.0
        case Gaussian(rate=1):
            return order / 2 / release.multiplier / release.multiplier
        case Gaussian(rate=rate, multiplier=z) if not order.is_integer() and most_lost(release) < HOPELESS:
            return _sampled(rate, z, order)
        case Gaussian() | Skellam() | Sampled() if not order.is_integer():
            return _between(release, order)
        case Gaussian() | Laplace():
            return _by_library(release, order)
        case Skellam() | DiscreteGaussians():
            return _in_ring(release, order)
        case Sampled(releases=together, rate=rate):
            return amplified(lambda k: math.fsum(_in_ring(one, k) for one in together), rate, int(order))


def _in_ring(release: InRing, order: float) -> float:
    if release.l2_squared == 0 or release.variance == math.inf:
        return 0.0
    if release.variance == 0:
        return math.inf
    if isinstance(release, Skellam):
        return _skellam(release, order)
    return _discrete_gaussians(release, order)


def _between(release: Release, order: float) -> float:
    """At an order between two integers, from these: order -> (order - 1) D is convex, and 0 at 1 (Wang,
    Balle, Kasiviswanathan, 1808.00087, corollary 10).
    """
    low = math.floor(order)
    high = (order - low) * low * _divergence(release, float(low + 1))
    if low > 1:
        high += (low + 1 - order) * (low - 1) * _divergence(release, float(low))
    return high / (order - 1)


def _sampled(rate: float, z: float, order: float) -> float:
    """At orders between the integers, where the series of dp-accounting (0.6.0) comes to no end below 2.5,
    and above is too large, as it adds the terms that are to be subtracted: log E (1 - rate + rate
    exp((2 x - 1) / 2 z^2))^order over x of N(0, z^2) (Mironov, Talwar, Zhang, 1908.10530, section 3). The
    error of the trapezoidal rule falls exponentially, as of analytic functions: the nearest singularity is
    pi z^2 off the real line.
    """
    step = min(z / 8, z * z / 2)
    x = np.arange(-12 * z, order + 12 * z, step)
    ratio = np.logaddexp(math.log1p(-rate), math.log(rate) + (2 * x - 1) / (2 * z * z))
    terms = order * ratio - x * x / (2 * z * z)
    largest = terms.max()
    total = largest + math.log(np.exp(terms - largest).sum() * step / z / math.sqrt(2 * math.pi))
    return max(0.0, float(total)) / (order - 1)


def _by_library(release: Gaussian | Laplace, order: float) -> float:
    from dp_accounting import NeighboringRelation
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant([order], NeighboringRelation.REPLACE_SPECIAL)
    # Rounding can make almost nothing less than nothing, which the library takes for no cost at all.
    return max(0.0, float(accountant.compose(_event(release)).rdp[0]))


def _event(release: Gaussian | Laplace) -> DpEvent:
    from dp_accounting import GaussianDpEvent, LaplaceDpEvent, PoissonSampledDpEvent

    if isinstance(release, Laplace):
        return LaplaceDpEvent(release.multiplier)
    return PoissonSampledDpEvent(release.rate, GaussianDpEvent(release.multiplier))


def _skellam(release: Skellam, order: float) -> float:
    """Agarwal, Kairouz, Liu (2110.04995), theorem 3.5, which is for integer orders."""
    l2, l1, mu = release.l2_squared, release.l1, release.variance
    first = ((2 * order - 1) * l2 + 6 * l1) / 4 / mu / mu
    return order * l2 / 2 / mu + min(first, 1.5 * l1 / mu)


def _discrete_gaussians(release: DiscreteGaussians, order: float) -> float:
    """Kairouz, Liu, Steinke (2102.06387), proposition 13 and theorem 1."""
    deviation = math.sqrt(release.variance * release.shares)
    l2, l1 = math.sqrt(release.l2_squared) / deviation, release.l1 / deviation
    tau, d = _excess(release.variance, release.shares), release.length
    # The second is the third where l1 is all that the Cauchy-Schwarz inequality lets it be.
    return min(
        order / 2 * l2 * l2 + tau * d,
        order / 2 * (l2 * l2 + 2 * l1 * tau + tau * tau * d),
        order / 2 * (l2 + math.sqrt(d) * tau) ** 2,
    )


@functools.lru_cache
def _excess(variance: float, shares: int) -> float:
    """tau: how far, at most, the logarithm of the sum's probability is from a discrete Gaussian's."""
    exponents = (-2 * math.pi**2 * variance * k / (k + 1) for k in range(1, shares))
    return 10 * math.fsum(map(math.exp, exponents))


def most_lost(release: Release) -> float:
    """The largest privacy loss of one step; of Gaussians but for some 1e-15 of all cases. inf of noise in the
    ring, whose loss has no distribution here.
    """
    match release:
        case Gaussian(multiplier=z):
            return 1 / (2 * z * z) + 8 / z
        case Laplace(multiplier=b):
            return 1 / b
    return math.inf
