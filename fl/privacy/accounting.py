"""What a sequence of noised releases costs: epsilon at a delta, each mechanism by an accountant that fits it.

Two data sets are neighbours where one client's whole contribution is replaced by zero in every release; with
noise on every example, where one example's is. The set of clients is public. The most that such a
replacement changes is the sensitivity: the clip. This is "replace special" of dp-accounting, whose RDP and
PLD accountants, and whose exact epsilon of one Gaussian, are used here.

A sampling rate counts only where everybody takes part by a coin of its own (Poisson sampling), the sum is
divided by a fixed number, and whom the epsilon holds against does not learn how the coins fell. A server that
chose the clients, or that sees who sends, has learned it; against that server the rate is 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fl.config.section import ConfigError

# dp-accounting takes a second to import, so it is imported where it is used.
if TYPE_CHECKING:
    from dp_accounting.dp_event import DpEvent
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

ORDERS: tuple[float, ...] = (
    *(1 + n / 200 for n in range(4, 100)),
    *(1 + n / 100 for n in range(50, 100)),
    *(n / 100 for n in range(200, 400)),
    *(n / 20 for n in range(80, 240)),
    *range(12, 65),
    *(80, 96, 128, 192, 256, 384, 512, 768, 1024),
)
"""Of Rényi divergences. Where epsilon is large the best lies below 2: for 100 Gaussians of multiplier 1 at
delta 1e-5 the integers give 110, these give 96."""

HOPELESS = 1000.0
"""A release that can lose more has no distribution made of it: there is no epsilon worth the time, and with
intervals above 700 dp-accounting overflows."""

NO_NOISE = 1e-100
"""Below this a multiplier is none: its square would be no float."""

MOST = 1e6
"""The largest multiplier that is tried, and one over the smallest."""

PRECISION = 1e-4
"""By which share a multiplier that was searched for may be larger than the least."""


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
        _not_negative("multiplier", self.multiplier)
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
        _not_negative("multiplier", self.multiplier)
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
        _not_negative("l2_squared", self.l2_squared)
        _not_negative("l1", self.l1)
        _not_negative("variance", self.variance)
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
        _not_negative("l2_squared", self.l2_squared)
        _not_negative("l1", self.l1)
        _not_negative("variance", self.variance)
        _count("length", self.length, 1)
        _count("shares", self.shares, 1)
        _count("steps", self.steps, 0)


Release = Gaussian | Laplace | Skellam | DiscreteGaussians


def _not_negative(name: str, value: float) -> None:
    ConfigError.unless(value >= 0, f"{name} = {value}: give a number from 0 on")


def _count(name: str, value: int, least: int) -> None:
    whole = isinstance(value, int) and value >= least
    ConfigError.unless(whole, f"{name} = {value}: give a whole number from {least} on")


def _check_delta(delta: float) -> None:
    ConfigError.unless(0 < delta < 1, f"delta = {delta}: give a number above 0 and below 1")


def _check_epsilon(epsilon: float) -> None:
    ConfigError.unless(0 < epsilon < math.inf, f"epsilon = {epsilon}: give a number above 0")


def _check_order(order: float) -> None:
    ConfigError.unless(1 < order < math.inf, f"order = {order}: give a number above 1")


# Rényi divergence


def rdp(release: Release, order: float) -> float:
    """The Rényi divergence of this order, above 1, between the releases of any two neighbours, at most;
    infinite where there is no bound.

    Raises: ConfigError.
    """
    _check_order(order)
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
        case Gaussian(rate=rate, multiplier=z) if not order.is_integer() and _most_lost(release) < HOPELESS:
            return _sampled(rate, z, order)
        case Gaussian() | Skellam() if not order.is_integer():
            return _between(release, order)
        case Gaussian() | Laplace():
            return _by_library(release, order)
        case Skellam():
            return _skellam(release, order)
        case DiscreteGaussians():
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
    if release.l2_squared == 0 or release.variance == math.inf:
        return 0.0
    if release.variance == 0:
        return math.inf
    l2, l1, mu = release.l2_squared, release.l1, release.variance
    first = ((2 * order - 1) * l2 + 6 * l1) / 4 / mu / mu
    return order * l2 / 2 / mu + min(first, 1.5 * l1 / mu)


def _discrete_gaussians(release: DiscreteGaussians, order: float) -> float:
    """Kairouz, Liu, Steinke (2102.06387), proposition 13 and theorem 1."""
    if release.l2_squared == 0 or release.variance == math.inf:
        return 0.0
    if release.variance == 0:
        return math.inf
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


# Epsilon


def epsilon(releases: Sequence[Release], delta: float) -> float:
    """The least epsilon that is proven for these releases together, of whichever mechanisms; inf where none
    is.

    Gaussians that are not sampled: exact (Balle, Wang, 1805.06530). Gaussians and Laplace noise: privacy loss
    distributions, rounded up. All others, and what stands beside them: Rényi divergence. The releases are
    settled beforehand: where noise or sensitivity of one follow from what an earlier one gave, take a
    `RenyiFilter`.

    Raises: ConfigError.
    """
    _check_delta(delta)
    kinds = _kinds(releases)
    if not kinds:
        return 0.0
    if any(_divergence(one, 2.0) == math.inf for one, _ in kinds):
        return math.inf
    match kinds:
        case [(Gaussian(rate=1) as one, 1)]:
            from dp_accounting.gaussian_mechanism import get_epsilon_gaussian

            return float(get_epsilon_gaussian(one.multiplier, delta))
    if all(isinstance(one, Laplace) for one, _ in kinds):
        pure = math.fsum(steps * _most_lost(one) for one, steps in kinds)
        return min(pure, _by_losses(kinds, delta))
    if all(isinstance(one, Gaussian | Laplace) for one, _ in kinds):
        best = _by_losses(kinds, delta)
        if best < math.inf:  # a delta below about 1e-14 is lost among what was rounded up
            return best
    return by_rdp(releases, delta)


def by_rdp(
    releases: Sequence[Release], delta: float, orders: Sequence[float] = ORDERS, *, old: bool = False
) -> float:
    """Epsilon by Rényi divergence alone, at the best of these orders: for comparisons.

    old: by the conversion of 2017 (Mironov, 1702.07476, proposition 3), as in Wei et al.; otherwise by that
    of Canonne, Kamath and Steinke (2004.00010, proposition 12).

    Raises: ConfigError.
    """
    _check_delta(delta)
    kinds = _kinds(releases)
    spent = [math.fsum(steps * rdp(one, order) for one, steps in kinds) for order in orders]
    if old:
        return min(cost - math.log(delta) / (order - 1) for cost, order in zip(spent, orders, strict=True))
    from dp_accounting.rdp import compute_epsilon

    return float(compute_epsilon(orders, spent, delta)[0])


def _kinds(releases: Sequence[Release]) -> tuple[tuple[Release, int], ...]:
    """(one step, how many): what is alike together, in the order in which it first came; without what reveals
    nothing. Gaussians that are not sampled are a single one, and the last.
    """
    counts: dict[Release, int] = {}
    full = []
    for release in releases:
        one = replace(release, steps=1)
        if not release.steps or not _divergence(one, 2.0):
            continue
        if isinstance(one, Gaussian) and one.rate == 1:
            full.append(math.sqrt(release.steps) / one.multiplier if one.multiplier else math.inf)
        else:
            counts[one] = counts.get(one, 0) + release.steps
    together = [(Gaussian(1 / math.hypot(*full)), 1)] if full else []
    return (*counts.items(), *together)


def _by_losses(kinds: tuple[tuple[Release, int], ...], delta: float) -> float:
    """By the distribution of the privacy loss. Of Gaussians and Laplace noise alone."""
    most = max(_most_lost(one) for one, _ in kinds)
    if most > HOPELESS:
        return math.inf
    # What is lost is rounded up to an interval: with these the vectors of the tests are right to four digits.
    # A power of two, so that what was composed for one round can be used in the next.
    fine = min(min(_most_lost(one) / 2500, _usually_lost(one) / 16) for one, _ in kinds)
    interval = 2.0 ** math.floor(math.log2(max(fine, most / 100_000)))
    return float(_composed(kinds, interval).get_epsilon_for_delta(delta))


def _most_lost(release: Release) -> float:
    """By one step: of Gaussians but for some 1e-15 of all cases."""
    match release:
        case Gaussian(multiplier=z):
            return 1 / (2 * z * z) + 8 / z
        case Laplace(multiplier=b):
            return 1 / b
    return math.inf


def _usually_lost(release: Release) -> float:
    match release:
        case Gaussian(multiplier=z, rate=rate):
            return rate / z
    return _most_lost(release)


# By powers of two, so that what was composed for a round is most of what the next one needs.
@functools.lru_cache(maxsize=32)
def _composed(kinds: tuple[tuple[Release, int], ...], interval: float) -> PrivacyLossDistribution:
    if len(kinds) > 1:
        half = 1 << (len(kinds) - 1).bit_length() - 1
        return _composed(kinds[:half], interval).compose(_composed(kinds[half:], interval))
    ((one, steps),) = kinds
    return _losses(one, interval).self_compose(steps)


@functools.lru_cache(maxsize=8)
def _losses(release: Release, interval: float) -> PrivacyLossDistribution:
    """Of one step."""
    from dp_accounting.pld import privacy_loss_distribution as losses

    match release:
        case Gaussian(multiplier=z, rate=rate):
            return losses.from_gaussian_mechanism(
                z, sampling_prob=rate, value_discretization_interval=interval
            )
        case Laplace(multiplier=b):
            return losses.from_laplace_mechanism(b, value_discretization_interval=interval)
    raise AssertionError


def multiplier_for(budget: float, delta: float, releases: Callable[[float], Sequence[Release]]) -> float:
    """The least multiplier, but for PRECISION, with which all releases together stay within the budget.

    budget: an epsilon. releases: of a multiplier, all that a run makes; more noise must not cost more.

    Raises: ConfigError, also where no multiplier will do, as where rounding alone costs too much.
    """
    _check_epsilon(budget)

    def cost(multiplier: float) -> float:
        return epsilon(releases(multiplier), delta)

    low, high = 0.5, 1.0
    while (cheap := cost(high)) > budget:
        low, high = high, 2 * high
        enough = f"epsilon = {budget}: no noise keeps within it: give a larger one, or fewer rounds"
        ConfigError.unless(high < MOST, enough)
    while (dear := cost(low)) <= budget:
        if low < 1 / MOST:
            return low
        low, high, cheap = low / 2, low, dear
    while high > low * (1 + PRECISION):
        # The logarithm of epsilon is nearly linear in that of the multiplier.
        share = math.log(dear / budget) / math.log(dear / cheap) if cheap > 0 and dear < math.inf else 0.5
        middle = low * (high / low) ** min(max(share, 0.02), 0.98)
        if (between := cost(middle)) <= budget:
            high, cheap = middle, between
        else:
            low, dear = middle, between
    return high


# Spending by what came before


class RenyiFilter:
    """How much may still be released, where the next release may depend on what the earlier ones gave: as
    where a server chooses, or a clip adapts. Whatever is chosen, all that it allowed has epsilon `budget` at
    `delta` together (Feldman, Zrnic, 2008.11193), since the order is fixed beforehand.

    It is the budget that is promised. What was spent until now promises no smaller epsilon: when to stop may
    follow from what was seen.

    budget: an epsilon. order: above 1; `order_for(budget, delta)` if left out. spent: by earlier uses of this
    very filter, in Rényi divergence at the order.

    Raises: ConfigError.
    """

    def __init__(
        self, budget: float, delta: float, *, order: float | None = None, spent: float = 0.0
    ) -> None:
        self._budget, self._delta = budget, delta
        self._order = order_for(budget, delta) if order is None else order
        self._limit = _limit(budget, delta, self._order)
        nothing = f"epsilon = {budget}, delta = {delta}: they leave nothing to spend at order {self._order}"
        ConfigError.unless(self._limit > 0, nothing)
        _not_negative("spent", spent)
        self._spent = spent

    def __repr__(self) -> str:
        return f"RenyiFilter({self._budget}, {self._delta}, order={self._order}, spent={self._spent})"

    @property
    def budget(self) -> float:
        return self._budget

    @property
    def delta(self) -> float:
        return self._delta

    @property
    def order(self) -> float:
        return self._order

    @property
    def spent(self) -> float:
        """In Rényi divergence at the order: what has to be kept where the filter is to go on later."""
        return self._spent

    @property
    def left(self) -> float:
        """In Rényi divergence at the order; 0 where more was spent than there is."""
        return max(0.0, self._limit - self._spent)

    def allows(self, release: Release) -> bool:
        return self._spent + rdp(release, self._order) <= self._limit

    def spend(self, release: Release) -> None:
        """Count a release, before anything of it is sent.

        Raises: ConfigError where it is not allowed; then nothing is counted.
        """
        cost = rdp(release, self._order)
        over = (
            f"this costs {cost:.4g} of Rényi divergence, {self.left:.4g} is left: the privacy budget is spent"
        )
        ConfigError.unless(self.allows(release), over)
        self._spent += cost


def order_for(budget: float, delta: float, release: Release = Gaussian(1.0)) -> float:
    """The order at which a filter allows the most such releases. Of Gaussians that are not sampled it is the
    same for every multiplier.

    Raises: ConfigError.
    """
    return max(ORDERS, key=lambda order: _limit(budget, delta, order) / (rdp(release, order) or 1.0))


def _limit(budget: float, delta: float, order: float) -> float:
    """The most Rényi divergence that converts to the budget; below 0 where none does."""
    _check_epsilon(budget)
    _check_delta(delta)
    _check_order(order)
    return budget - math.log1p(-1 / order) + math.log(delta * order) / (order - 1)
