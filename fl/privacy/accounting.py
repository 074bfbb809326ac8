"""What a sequence of noised releases costs: epsilon at a delta, each mechanism by an accountant that fits it;
the noise that keeps within an epsilon; and how much may still be released where releases follow from earlier
ones. Neighbours, and when a sampling rate counts: `fl.privacy.releases`.

Of dp-accounting: privacy loss distributions, the exact epsilon of one Gaussian, and how a Rényi divergence
converts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fl.config.section import ConfigError
from fl.privacy.releases import (
    HOPELESS,
    Gaussian,
    Laplace,
    Release,
    check_order,
    most_lost,
    not_negative,
    rdp,
)

# dp-accounting takes a second to import, so it is imported where it is used.
if TYPE_CHECKING:
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

MOST = 4e5
"""The largest multiplier that is tried, and one over the smallest: the count of an adaptive clip, which has
twice as much, is then within the 10^6 that a vector's specification takes."""

PRECISION = 1e-4
"""By which share a multiplier that was searched for may be larger than the least."""


def _check_delta(delta: float) -> None:
    ConfigError.unless(0 < delta < 1, f"delta = {delta}: give a number above 0 and below 1")


def _check_epsilon(epsilon: float) -> None:
    ConfigError.unless(0 < epsilon < math.inf, f"epsilon = {epsilon}: give a number above 0")


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
    if any(rdp(one, 2.0) == math.inf for one, _ in kinds):
        return math.inf
    match kinds:
        case [(Gaussian(rate=1) as one, 1)]:
            from dp_accounting.gaussian_mechanism import get_epsilon_gaussian

            return float(get_epsilon_gaussian(one.multiplier, delta))
    if all(isinstance(one, Laplace) for one, _ in kinds):
        pure = math.fsum(steps * most_lost(one) for one, steps in kinds)
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
        if not release.steps or not rdp(one, 2.0):
            continue
        if isinstance(one, Gaussian) and one.rate == 1:
            full.append(math.sqrt(release.steps) / one.multiplier if one.multiplier else math.inf)
        else:
            counts[one] = counts.get(one, 0) + release.steps
    together = [(Gaussian(1 / math.hypot(*full)), 1)] if full else []
    return (*counts.items(), *together)


def _by_losses(kinds: tuple[tuple[Release, int], ...], delta: float) -> float:
    """By the distribution of the privacy loss. Of Gaussians and Laplace noise alone."""
    most = max(most_lost(one) for one, _ in kinds)
    if most > HOPELESS:
        return math.inf
    # What is lost is rounded up to an interval: with these the vectors of the tests are right to four digits.
    # A power of two, so that what was composed for one round can be used in the next.
    fine = min(min(most_lost(one) / 2500, _usually_lost(one) / 16) for one, _ in kinds)
    interval = 2.0 ** math.floor(math.log2(max(fine, most / 100_000)))
    return float(_composed(kinds, interval).get_epsilon_for_delta(delta))


def _usually_lost(release: Release) -> float:
    match release:
        case Gaussian(multiplier=z, rate=rate):
            return rate / z
    return most_lost(release)


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


def multiplier_for(
    budget: float,
    delta: float,
    releases: Callable[[float], Sequence[Release]],
    *,
    instead: str = "give a larger one, or fewer rounds",
) -> float:
    """The least multiplier, but for PRECISION, with which all releases together stay within the budget.

    budget: an epsilon. releases: of a multiplier, all that a run makes; more noise must not cost more.
    instead: what to do where no multiplier will do.

    Raises: ConfigError, also where no multiplier will do, as where rounding alone costs too much.
    """
    _check_epsilon(budget)

    def cost(multiplier: float) -> float:
        return epsilon(releases(multiplier), delta)

    low, high = 0.5, 1.0
    while (cheap := cost(high)) > budget:
        low, high = high, 2 * high
        ConfigError.unless(high < MOST, f"epsilon = {budget}: no noise keeps within it: {instead}")
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
        not_negative("spent", spent)
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


def order_for(budget: float, delta: float, release: Release = Gaussian(1.0)) -> float:  # noqa: B008
    """The order at which a filter allows the most such releases. Of Gaussians that are not sampled it is the
    same for every multiplier.

    Raises: ConfigError.
    """
    return max(ORDERS, key=lambda order: _limit(budget, delta, order) / (rdp(release, order) or 1.0))


def _limit(budget: float, delta: float, order: float) -> float:
    """The most Rényi divergence that converts to the budget; below 0 where none does."""
    _check_epsilon(budget)
    _check_delta(delta)
    check_order(order)
    return budget - math.log1p(-1 / order) + math.log(delta * order) / (order - 1)
