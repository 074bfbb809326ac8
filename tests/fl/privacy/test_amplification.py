"""Participation by secret coins: what it makes of a release's cost, against exact divergences and published
bounds.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from fl.config.section import ConfigError
from fl.privacy.accounting import by_rdp, epsilon
from fl.privacy.amplification import amplified, in_general
from fl.privacy.releases import DiscreteGaussians, Gaussian, Sampled, Skellam, rdp
from fl.privacy.spending import Charge, discrete_release, in_session
from secagg import Private
from secagg.noise import _WEIGHTS
from secagg.private import Calibration
from secagg.specs import Noise

INTEGERS = [*range(2, 65), 80, 96, 128]
HUNDRED = discrete_release(Calibration(Private(length=2**17, clip=1.0, bits=16), 100, 100))
"""z = 1 in a ring of 16 bits."""


# The numbers that were agreed on: z = 1, q = .1, 100 rounds, Skellam of 16 bits, delta 1e-5


def test_a_hundred_rounds_in_which_one_client_of_ten_takes_part() -> None:
    assert epsilon([Sampled((HUNDRED,), 0.1, 100)], 1e-5) == pytest.approx(7.98, abs=0.005)
    assert by_rdp([Sampled((HUNDRED,), 0.1)] * 100, 1e-5, INTEGERS) == pytest.approx(7.98, abs=0.005)
    from dp_accounting.rdp import compute_epsilon

    general = [100 * in_general(lambda k: rdp(HUNDRED, k), 0.1, order) for order in INTEGERS]
    assert compute_epsilon(INTEGERS, general, 1e-5)[0] == pytest.approx(9.83, abs=0.005)
    # Without coins, of normal noise exactly and of this noise:
    assert epsilon([Gaussian(1.0, steps=100)], 1e-5) == pytest.approx(91.8, abs=0.05)
    assert by_rdp([HUNDRED] * 100, 1e-5, INTEGERS) == pytest.approx(110, abs=0.5)


# Against exact divergences in one dimension


def noises(noise: Noise, variance: float, shift: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The noise's own probabilities, and those with a client's code in it; as far as floats have any."""
    weights = _WEIGHTS[noise](Fraction(variance), 400)
    total = 2 * sum(weights) - weights[0]
    p = np.array([float(Fraction(w, total)) for w in weights[1:] if Fraction(w, total) > 1e-290])
    p = np.concatenate([p[::-1], [float(Fraction(weights[0], total))], p])
    padded = np.concatenate([p, np.zeros(abs(shift))])
    return padded, np.roll(padded, shift)


def divergence(p: NDArray[np.float64], q: NDArray[np.float64], order: float) -> float:
    """Of p from q; where both have next to nothing it is left out."""
    there = (p > 0) & (q > 0)
    terms = order * np.log(p[there]) + (1 - order) * np.log(q[there])
    return float(np.logaddexp.reduce(terms)) / (order - 1)


@pytest.mark.parametrize("noise", ["skellam", "discrete-gaussian"])
@pytest.mark.parametrize(("variance", "shift"), [(1.0, 1), (4.0, 1), (4.0, 3), (25.0, 5), (0.3, 1)])
@pytest.mark.parametrize("q", [0.01, 0.1, 0.5, 0.9])
def test_either_way_round_a_coin_makes_of_symmetric_noise_what_the_formula_says(
    noise: Noise, variance: float, shift: int, q: float
) -> None:
    """Exactly in the one direction, and no more in the other."""
    absent, present = noises(noise, variance, shift)
    mixed = (1 - q) * absent + q * present
    for order in (2, 3, 5, 8):
        said = amplified(lambda k: divergence(present, absent, k), q, order)
        assert divergence(mixed, absent, order) == pytest.approx(said, rel=1e-6, abs=1e-12)
        assert divergence(absent, mixed, order) <= said * (1 + 1e-9)


@pytest.mark.parametrize(("variance", "shift"), [(4.0, 1), (4.0, 3), (25.0, 5)])
@pytest.mark.parametrize("q", [0.01, 0.1, 0.5])
def test_what_is_charged_is_no_less_than_the_exact_divergence(variance: float, shift: int, q: float) -> None:
    """By the published bounds of the noise, at integer orders and between them."""
    charged = {
        "skellam": Sampled((Skellam(shift**2, shift, variance),), q),
        "discrete-gaussian": Sampled((DiscreteGaussians(shift**2, shift, 1, variance, 1),), q),
    }
    for noise, release in charged.items():
        absent, present = noises(noise, variance, shift)  # type: ignore[arg-type]
        mixed = (1 - q) * absent + q * present
        for order in (2, 2.5, 3, 4.2, 8):
            exact = max(
                divergence(mixed, absent, order),
                divergence(absent, mixed, order),
            )
            assert exact <= rdp(release, order) * (1 + 1e-9) + 1e-14


def test_without_symmetry_the_other_direction_may_cost_more_than_the_formula_says() -> None:
    """Which is why it is for symmetric noise alone."""
    absent, present, q = np.array([0.9, 0.1]), np.array([1.0, 0.0]), 0.9
    mixed = (1 - q) * absent + q * present
    said = amplified(lambda k: divergence(present, absent, k), q, 2)
    assert divergence(mixed, absent, 2) == pytest.approx(said)
    assert divergence(absent, mixed, 2) > 4 * said


# How it counts


def test_a_coin_for_all_is_no_coin_and_a_small_one_costs_as_its_square() -> None:
    assert rdp(Sampled((HUNDRED,), 1.0), 4) == rdp(HUNDRED, 4)
    one, tenth = (rdp(Sampled((HUNDRED,), rate), 2) for rate in (1e-6, 1e-7))
    assert one / tenth == pytest.approx(100, rel=1e-4)
    assert one == pytest.approx(1e-12 * math.expm1(rdp(HUNDRED, 2)), rel=1e-4)
    for rate in (1e-6, 0.1, 0.9):
        assert rdp(Sampled((HUNDRED,), rate), 1024) <= rdp(HUNDRED, 1024)
        general = in_general(lambda k: rdp(HUNDRED, k), rate, 12)
        assert rdp(Sampled((HUNDRED,), rate), 12) <= general


def test_sums_under_one_coin_cost_more_than_each_under_its_own() -> None:
    other = Skellam(1, 1, 4.0)
    together = rdp(Sampled((HUNDRED, other), 0.1), 4)
    assert together > rdp(Sampled((HUNDRED,), 0.1), 4) + rdp(Sampled((other,), 0.1), 4)


def test_nothing_and_no_noise_stay_what_they_are() -> None:
    assert rdp(Sampled((Skellam(0, 0, 1.0),), 0.5), 3) == 0.0
    assert rdp(Sampled((Skellam(1, 1, math.inf),), 0.5), 3) == 0.0
    assert rdp(Sampled((Skellam(1, 1, 0.0),), 0.5), 3) == math.inf
    assert epsilon([Sampled((Skellam(1, 1, 0.0),), 0.5)], 1e-5) == math.inf
    assert rdp(Sampled((HUNDRED,), 0.5, steps=7), 3) == 7 * rdp(Sampled((HUNDRED,), 0.5), 3)


@pytest.mark.parametrize(
    ("releases", "rate", "words"),
    [
        ((Gaussian(1.0),), 0.5, "releases under one coin: give sums with noise in the ring"),
        ((Skellam(1, 1, 1.0, steps=2),), 0.5, "releases under one coin: .* one step each"),
        ((HUNDRED,), 0.0, r"rate = 0\.0: give a number above 0, up to 1"),
        ((HUNDRED,), 1.5, r"rate = 1\.5: give a number above 0, up to 1"),
    ],
)
def test_a_coin_is_of_sums_with_symmetric_noise(
    releases: tuple[Skellam, ...], rate: float, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        Sampled(releases, rate)


def test_a_session_with_blanks_is_one_release_and_is_read_as_it_was_written() -> None:
    parts = HUNDRED, DiscreteGaussians(1, 1, 1, 4.0, 3)
    (release,) = in_session(parts, 0.75)
    assert release == Sampled(parts, 0.25)
    assert in_session(parts, 0.0) == parts
    charge = Charge(3, (release, Gaussian(2.0)))
    assert Charge.of(charge.line()) == charge
