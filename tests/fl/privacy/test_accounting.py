"""Accounting: numbers that others computed, and what must hold of all numbers.

Sources of the tables: [A] attacks_defences.md of the project's reference, sections 5.2 to 5.4, computed with
the formulas that it states; [D] dp-accounting 0.6.0, run for it; [C] calibration.md, section C; [W] wave2.md.
delta is 1e-5 unless stated.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl.config.section import ConfigError
from fl.privacy.accounting import ORDERS, PRECISION, RenyiFilter, by_rdp, epsilon, multiplier_for, order_for
from fl.privacy.releases import DiscreteGaussians, Gaussian, Laplace, Release, Skellam, rdp

DELTA = 1e-5
INTEGERS = [*range(2, 129), 256]
TENTHS = [*(1 + n / 10 for n in range(1, 100)), *range(11, 64), 128, 256, 512, 1024]
"""The default orders of dp-accounting."""


def to_the_digits(value: float, written: str) -> bool:
    """Whether the value, rounded as the written one was, is that."""
    decimals = len(written.partition(".")[2])
    return abs(value - float(written)) <= 0.5001 * 10.0**-decimals


# What others computed


@pytest.mark.parametrize(
    ("rate", "multiplier", "steps", "old", "modern"),
    [
        (0.01, 6, 10_000, ".82273", ".6592"),  # [A] 5.2; Wei et al., Table 1, say .8227
        (0.1, 6, 101, ".85355", ".6819"),  # [A] 5.2; Wei et al. say .8536. Modern: [D], integer orders
        (0.1, 6, 100, ".8494", ".6783"),  # [A] 5.2
        (1, 6, 10, "2.67", "2.30"),  # [A] 5.2
        (1, 6, 100, "9.39", "8.64"),  # [A] 5.2
        (1, 6, 10, "2.668", "2.2967"),  # [D]
        (1, 6, 100, "9.393", "8.6434"),  # [A] 5.2, the order grid
        (1, 1, 1, "5.303", "4.7527"),  # [A] 5.2, the order grid
    ],
)
def test_renyi_at_integer_orders(rate: float, multiplier: float, steps: int, old: str, modern: str) -> None:
    releases = [Gaussian(multiplier, rate, steps)]
    assert to_the_digits(by_rdp(releases, DELTA, INTEGERS, old=True), old)
    assert to_the_digits(by_rdp(releases, DELTA, INTEGERS), modern)


@pytest.mark.parametrize(
    ("rate", "multiplier", "steps", "fine", "best"),
    [
        (0.01, 6, 10_000, ".6592", ".6009"),  # [D], which has .6010 with intervals of 1e-4; with 1e-5 .6009
        (0.1, 6, 101, ".6819", ".6190"),  # [D]
        (0.1, 6, 100, ".6783", ".6157"),  # [D]
        (1, 1, 1, "4.7285", "4.3772"),  # [D]
        (1, 6, 10, "2.2961", "2.1140"),  # [D]
        (1, 6, 100, "8.6033", "8.0037"),  # [D]
    ],
)
def test_renyi_at_tenths_and_what_is_best(
    rate: float, multiplier: float, steps: int, fine: str, best: str
) -> None:
    releases = [Gaussian(multiplier, rate, steps)]
    assert to_the_digits(by_rdp(releases, DELTA, TENTHS), fine)
    assert to_the_digits(epsilon(releases, DELTA), best)


@pytest.mark.parametrize(("multiplier", "steps", "fine"), [(1, 1, "4.7284"), (6, 100, "8.6032")])
def test_renyi_at_our_orders(multiplier: float, steps: int, fine: str) -> None:  # [A] 5.2, the order grid
    assert to_the_digits(by_rdp([Gaussian(multiplier, steps=steps)], DELTA), fine)


@pytest.mark.parametrize(
    ("multiplier", "rates"),
    [
        (1, {1: "91.8", 0.5: "39.98", 0.2: "14.53", 0.1: "7.05", 0.05: "3.50"}),
        (2, {1: "33.1", 0.5: "14.28", 0.2: "5.02", 0.1: "2.34", 0.05: "1.10"}),
        (0.5, {1: "284", 0.5: "137", 0.2: "57.2", 0.1: "31.4", 0.05: "18.2"}),
    ],
)
def test_a_hundred_sampled_gaussians(multiplier: float, rates: dict[float, str]) -> None:  # [W]
    for rate, written in rates.items():
        assert to_the_digits(epsilon([Gaussian(multiplier, rate, 100)], DELTA), written), rate


@pytest.mark.parametrize(
    ("multiplier", "written"),
    [(1, "46.2"), (2, "17.9"), (4, "7.5")],  # [C] 40 rounds
)
def test_exact_epsilon_of_forty_rounds(multiplier: float, written: str) -> None:
    assert to_the_digits(epsilon([Gaussian(multiplier, steps=40)], DELTA), written)


@pytest.mark.parametrize(
    ("survivors", "exact", "fine", "integers"),
    [
        (100, "91.82", "96.04", "110.1"),
        (90, "99.67", "104.14", "121.2"),
        (70, "121.55", "126.68", "153.0"),  # [A] has 126.69 with fewer orders
        (50, "159.44", "165.62", "210.1"),
        (34, "219.31", "226.95", "304.2"),
    ],
)
def test_noise_of_a_hundred_clients_of_which_some_vanish(
    survivors: int, exact: str, fine: str, integers: str
) -> None:  # [A] 5.4, 100 rounds
    releases = [Gaussian(math.sqrt(survivors / 100), steps=100)]
    assert to_the_digits(epsilon(releases, DELTA), exact)
    assert to_the_digits(by_rdp(releases, DELTA), fine)
    assert to_the_digits(by_rdp(releases, DELTA, INTEGERS), integers)


@pytest.mark.parametrize(
    ("group", "exact", "fine", "integers"),
    [
        (100, "4.377", "4.728", "4.753"),
        (20, "11.48", "12.30", "12.30"),
        (10, "17.86", "19.05", "19.80"),
        (5, "28.37", "30.11", "30.13"),
    ],
)
def test_noise_of_a_hundred_clients_in_groups(
    group: int, exact: str, fine: str, integers: str
) -> None:  # [A] 5.4, one round
    releases = [Gaussian(math.sqrt(group / 100))]
    assert to_the_digits(epsilon(releases, DELTA), exact)
    assert to_the_digits(by_rdp(releases, DELTA), fine)
    assert to_the_digits(by_rdp(releases, DELTA, INTEGERS), integers)


def ring(
    clients: int, length: int, bits: int, multiplier: float = 1.0
) -> tuple[Skellam, DiscreteGaussians, float]:
    """[A] 5.3, with clip 1, k = 4, beta = e^-1/2: a round with either noise, and the size of a step."""
    noise = multiplier**2  # of the sum; each client's share is noise / clients
    step = 8 * math.sqrt(clients**2 / length + noise) / math.sqrt(4.0**bits - 16 * clients)
    norm, root = 1 / step, math.sqrt(length)
    l2_squared = min(norm**2 + length / 4 + norm + root / 2, (norm + root) ** 2)
    l1 = min(root, math.sqrt(l2_squared)) * math.sqrt(l2_squared)
    share = noise / clients / step**2
    skellam = Skellam(l2_squared, l1, share * clients)
    return skellam, DiscreteGaussians(l2_squared, l1, length, share, clients), step


@pytest.mark.parametrize(
    ("clients", "length", "bits", "written"),
    [
        (10, 2**17, 12, "5.0721"),
        (10, 2**17, 16, "4.7543"),
        (10, 2**17, 20, "4.7528"),
        (10, 2**20, 12, "7.096"),
        (10, 2**20, 16, "4.7628"),
        (100, 2**17, 12, "5.0960"),
        (100, 2**17, 16, "4.7544"),
        (100, 2**20, 12, "7.115"),
        (100, 2**20, 16, "4.7629"),
    ],
)
def test_noise_in_the_ring(clients: int, length: int, bits: int, written: str) -> None:  # [A] 5.3, one round
    skellam, gaussians, _ = ring(clients, length, bits)
    assert to_the_digits(by_rdp([gaussians], DELTA, INTEGERS), written)
    assert to_the_digits(by_rdp([skellam], DELTA, INTEGERS), written)


def test_a_step_of_the_ring() -> None:  # [A] 5.3
    assert f"{ring(100, 2**17, 16)[2]:.3e}" == "1.266e-04"


# What must hold

MULTIPLIERS = st.floats(0.5, 20)
RATES = st.sampled_from([0.02, 0.2, 1.0])
STEPS = st.integers(1, 300)


@st.composite
def some_releases(draw: st.DrawFn) -> Release:
    scale = draw(MULTIPLIERS)
    kind = draw(st.sampled_from(["gaussian", "laplace", "skellam", "discrete"]))
    steps = draw(STEPS)
    match kind:
        case "gaussian":
            return Gaussian(scale, draw(RATES), steps)
        case "laplace":
            return Laplace(scale, steps)
        case "skellam":
            return Skellam(1e4, 1e4, 1e4 * scale**2, steps)
    return DiscreteGaussians(1e4, 1e4, 1000, 1e4 * scale**2 / 5, 5, steps)


def quieter(release: Release) -> Release:
    """With a tenth more noise."""
    if isinstance(release, Gaussian | Laplace):
        return replace(release, multiplier=release.multiplier * 1.1)
    return replace(release, variance=release.variance * 1.21)


@given(some_releases(), some_releases())
@settings(max_examples=5, deadline=None)
def test_more_steps_and_less_noise_never_cost_less(release: Release, other: Release) -> None:
    cost = epsilon([release, other], DELTA)
    assert epsilon([release], DELTA) <= cost * (1 + 1e-6) + 1e-9
    assert epsilon([quieter(release), other], DELTA) <= cost * (1 + 1e-3) + 1e-9
    assert epsilon([replace(release, steps=release.steps + 1), other], DELTA) >= cost * (1 - 1e-3)
    assert epsilon([release, other], DELTA / 10) >= cost


@given(MULTIPLIERS, st.sampled_from([(0.01, 0.02), (0.1, 0.5), (0.5, 1.0)]), STEPS)
@settings(max_examples=8, deadline=None)
def test_a_larger_sampling_rate_never_costs_less(z: float, rates: tuple[float, float], steps: int) -> None:
    few, many = (Gaussian(z, rate, steps) for rate in rates)
    assert epsilon([few], DELTA) <= epsilon([many], DELTA) * (1 + 1e-3)
    assert all(rdp(few, order) <= rdp(many, order) * (1 + 1e-9) for order in ORDERS[::20])


@given(some_releases(), st.integers(1, 5))
@settings(max_examples=8, deadline=None)
def test_steps_are_releases_alike(release: Release, parts: int) -> None:
    together = replace(release, steps=release.steps * parts)
    assert epsilon([release] * parts, DELTA) == pytest.approx(epsilon([together], DELTA))
    assert rdp(together, 3) == pytest.approx(parts * rdp(release, 3))


@given(some_releases())
@settings(max_examples=8, deadline=None)
def test_what_is_best_is_at_most_what_renyi_divergence_gives(release: Release) -> None:
    renyi = by_rdp([release], DELTA)
    assert epsilon([release], DELTA) <= renyi <= by_rdp([release], DELTA, old=True)
    assert epsilon([release], 1e-18) < math.inf


@given(some_releases())
@settings(max_examples=8, deadline=None)
def test_divergence_grows_with_the_order(release: Release) -> None:
    costs = [rdp(release, order) for order in ORDERS]
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(costs))


def test_rounds_each_with_a_noise_of_its_own_compose_in_any_number() -> None:
    releases: list[Release] = []
    spent = [0.0]
    for n in range(9):
        releases.append(Gaussian(4 - n / 10, 0.1, 10))
        spent.append(epsilon(releases, DELTA))
        assert spent[-1] > spent[-2]
    assert spent[-1] == pytest.approx(epsilon(releases[::-1], DELTA), rel=1e-3)
    less, more = (epsilon([Gaussian(z, 0.1, 90)], DELTA) for z in (4, 3.2))
    assert less < spent[-1] < more


def test_gaussians_are_one_gaussian() -> None:
    """[A] 5.1: a noised count beside the update, as with an adaptive clip, costs nothing more where the
    update's multiplier is (z^-2 - (2 b)^-2)^-1/2."""
    z, b = 1.0, 5.0
    update = (z**-2 - (2 * b) ** -2) ** -0.5
    assert epsilon([Gaussian(update), Gaussian(2 * b)], DELTA) == pytest.approx(epsilon([Gaussian(z)], DELTA))


def test_laplace_noise_never_costs_more_than_its_pure_epsilon() -> None:
    assert epsilon([Laplace(10, 3)], 1e-12) == pytest.approx(0.3)
    assert epsilon([Laplace(1, 100)], DELTA) == pytest.approx(68.253, abs=1e-3)  # dp-accounting, PLD


def test_more_skellam_noise_than_was_counted_on_costs_less() -> None:
    assert epsilon([Skellam(100, 100, 200)], DELTA) < epsilon([Skellam(100, 100, 100)], DELTA)


# Nothing, and no noise

NOTHING: list[Release] = [
    Gaussian(math.inf),
    Gaussian(1, steps=0),
    Gaussian(0, steps=0),
    Laplace(math.inf),
    Skellam(0, 0, 1),
    Skellam(1, 1, math.inf),
    DiscreteGaussians(0, 0, 5, 1, 2),
]
EVERYTHING: list[Release] = [
    Gaussian(0),
    Gaussian(0, 0.1),
    Laplace(0),
    Skellam(1, 1, 0),
    DiscreteGaussians(1, 1, 5, 0, 2),
]


def test_nothing_costs_nothing_and_no_noise_everything() -> None:
    assert epsilon([], DELTA) == epsilon(NOTHING, DELTA) == 0
    assert epsilon([*NOTHING, Gaussian(1)], DELTA) == epsilon([Gaussian(1)], DELTA)
    for release in EVERYTHING:
        assert epsilon([Gaussian(1), release], DELTA) == math.inf
        assert rdp(release, 2) == math.inf


@pytest.mark.parametrize("rate", [1, 0.5, 0.01])
@pytest.mark.parametrize("multiplier", [1e-200, 1e-6, 0.02, 0.05, 1e3, 1e9])
def test_extremes_have_an_epsilon(multiplier: float, rate: float) -> None:
    assert epsilon([Gaussian(multiplier, rate, 100)], DELTA) >= 0


@pytest.mark.parametrize("delta", [1e-12, 1e-18, 0.5, 0.99])
def test_delta_may_be_small_or_large(delta: float) -> None:
    exact = epsilon([Gaussian(1)], delta)
    assert epsilon([Gaussian(1, 0.999999)], delta) == pytest.approx(exact, rel=0.1, abs=1e-3)


# What is refused


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: epsilon([], 0), "delta = 0: give a number above 0 and below 1"),
        (lambda: by_rdp([], 1), "delta = 1: give a number above 0 and below 1"),
        (lambda: multiplier_for(0, DELTA, lambda z: [Gaussian(z)]), "epsilon = 0: give a number above 0"),
        (lambda: multiplier_for(1, 2, lambda z: [Gaussian(z)]), "delta = 2"),
        (
            lambda: multiplier_for(1, DELTA, lambda z: [Gaussian(1)]),
            "no noise keeps within it: give a larger one, or fewer",
        ),
        (lambda: RenyiFilter(math.inf, DELTA), "epsilon = inf: give a number above 0"),
        (lambda: RenyiFilter(1, 0), "delta = 0"),
        (lambda: RenyiFilter(1, DELTA, order=1), "order = 1: give a number above 1"),
        (lambda: RenyiFilter(1, DELTA, order=2), "they leave nothing to spend at order 2"),
        (lambda: RenyiFilter(1, DELTA, spent=math.nan), "spent = nan"),
    ],
)
def test_bad_numbers_are_refused(made: Callable[[], Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made()


# The multiplier of a budget

RUNS: list[Callable[[float], Sequence[Release]]] = [
    lambda z: [Gaussian(z, steps=30)],
    lambda z: [Gaussian(z, 0.1, 100)],
    lambda z: [Gaussian(z, 0.1, 10), Gaussian(2 * z, 0.1, 10)],
    lambda z: [Laplace(z, 30)],
    lambda z: [ring(20, 30_000, 16, z)[0]] * 15,
    lambda z: [ring(20, 30_000, 16, z)[1]] * 15,
]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("budget", [0.5, 8])
def test_the_multiplier_is_the_least_that_keeps_within_the_budget(
    run: Callable[[float], Sequence[Release]], budget: float
) -> None:
    multiplier = multiplier_for(budget, DELTA, run)
    assert epsilon(run(multiplier), DELTA) <= budget < epsilon(run(multiplier / (1 + PRECISION)), DELTA)


def test_where_noise_is_not_needed_there_is_next_to_none() -> None:
    assert multiplier_for(1, DELTA, lambda z: []) < 1e-5


# The filter


@given(st.lists(some_releases(), max_size=30), st.sampled_from([0.5, 3, 20]))
@settings(max_examples=50, deadline=None)
def test_a_filter_never_allows_more_than_its_budget(chosen: list[Release], budget: float) -> None:
    filter = RenyiFilter(budget, DELTA)
    order, allowed = filter.order, []
    for release in chosen:
        if filter.allows(release):
            filter.spend(release)
            allowed.append(release)
        else:
            left = filter.left
            with pytest.raises(
                ConfigError, match=r"of Rényi divergence, .* is left: the privacy budget is spent"
            ):
                filter.spend(release)
            assert filter.left == left
    assert filter.order == order
    assert by_rdp(allowed, DELTA, [order]) <= budget * (1 + 1e-12)
    assert filter.spent == pytest.approx(sum(rdp(release, order) for release in allowed))


def test_a_filter_spends_its_budget_to_the_end() -> None:
    filter = RenyiFilter(8, DELTA)
    release = Gaussian(10)
    many = int(filter.left / rdp(release, filter.order))
    filter.spend(replace(release, steps=many))
    assert not filter.allows(release)
    assert by_rdp([replace(release, steps=many + 1)], DELTA, [filter.order]) > 8


def test_a_filter_goes_on_where_it_was_left() -> None:
    filter = RenyiFilter(8, DELTA)
    filter.spend(Gaussian(2))
    again = RenyiFilter(8, DELTA, order=filter.order, spent=filter.spent)
    assert (again.left, again.budget, again.delta) == (filter.left, filter.budget, filter.delta)
    assert RenyiFilter(8, DELTA, spent=1e9).left == 0


def test_the_order_and_the_budget_of_a_filter_do_not_change() -> None:
    filter = RenyiFilter(8, DELTA)
    for name in ("order", "budget", "delta", "spent"):
        with pytest.raises(AttributeError):
            setattr(filter, name, 3.0)


@pytest.mark.parametrize("release", [Gaussian(0.7), Gaussian(1, 0.01), ring(20, 30_000, 12)[0], Laplace(3)])
@pytest.mark.parametrize("budget", [1, 8, 50])
def test_no_other_order_allows_more(release: Release, budget: float) -> None:
    chosen = order_for(budget, DELTA, release)
    many = RenyiFilter(budget, DELTA, order=chosen).left / rdp(release, chosen)
    for order in (1.5, 4, 12, 64, chosen * 0.9, chosen * 1.1):
        with suppress(ConfigError):  # nothing at all can be spent
            assert RenyiFilter(budget, DELTA, order=order).left / rdp(release, order) <= many * (1 + 1e-3)


def test_nothing_slow_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, fl.privacy.accounting as a, fl.privacy.releases as r;"
        "a.RenyiFilter(8, 1e-5).spend(r.Skellam(100, 100, 500));"
        "print({'torch', 'scipy', 'dp_accounting'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
