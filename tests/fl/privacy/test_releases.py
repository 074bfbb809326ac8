"""What one release tells at most: the bounds of each kind of noise, and what is refused."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fl.config.section import ConfigError
from fl.privacy.accounting import ORDERS
from fl.privacy.releases import DiscreteGaussians, Gaussian, Laplace, Skellam, rdp


def test_a_laplace_vector_tells_no_more_than_one_coordinate() -> None:
    for order in (1.5, 4, 64):
        parts = sum(rdp(Laplace(1 / part), order) for part in (0.5, 0.3, 0.2))
        assert parts <= rdp(Laplace(1), order)


def test_fractional_orders_of_sampled_gaussians_are_the_integral() -> None:
    """Against the series at integer orders, and against a finer sum."""
    for rate, z in ((0.5, 30.0), (0.1, 1.0), (0.01, 0.3), (0.5, 1.0)):
        for order in (1.02, 1.5, 2.5, 7.95):
            x = np.linspace(-15 * z, order + 15 * z, 400_001)
            ratio = np.log(1 - rate + rate * np.exp(np.minimum((2 * x - 1) / (2 * z * z), 600)))
            log_terms = order * ratio - x * x / (2 * z * z) - math.log(z * math.sqrt(2 * math.pi))
            top = log_terms.max()
            log_sum = top + math.log(np.exp(log_terms - top).sum() * (x[1] - x[0]))
            assert rdp(Gaussian(z, rate), order) == pytest.approx(log_sum / (order - 1), rel=1e-5, abs=1e-12)
        for order in (2, 3, 12):
            around = [rdp(Gaussian(z, rate), order + by) for by in (-1e-9, 0, 1e-9)]
            assert around == pytest.approx([around[1]] * 3, rel=1e-6)


def test_no_order_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for rate in (0.001, 0.5, 0.99):
            for z in (0.01, 0.3, 1, 300):
                assert all(0 <= rdp(Gaussian(z, rate), order) < math.inf for order in ORDERS)
    assert not caplog.records


@pytest.mark.parametrize("order", [1.3, 2.25, 7.5])
def test_skellam_noise_between_integers_costs_no_more_than_above(order: float) -> None:
    release = Skellam(100, 100, 50)
    assert rdp(release, order) <= rdp(release, math.ceil(order))
    assert rdp(release, order) >= rdp(release, max(2, math.floor(order))) or order < 2


def test_one_discrete_gaussian_costs_what_a_gaussian_does() -> None:
    cost = rdp(DiscreteGaussians(100, 100, 1000, 50, 1), 3)
    assert cost == pytest.approx(rdp(Gaussian(math.sqrt(0.5)), 3))


def test_discrete_gaussians_of_less_than_a_step_are_far_from_one() -> None:
    gaussian = rdp(Gaussian(math.sqrt(0.2)), 2)
    assert rdp(DiscreteGaussians(1, 1, 1000, 0.05, 4), 2) > 100 * gaussian
    assert rdp(DiscreteGaussians(100, 100, 1000, 5, 4), 2) == pytest.approx(gaussian, rel=1e-6)


# What is refused


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: Gaussian(-1), "multiplier = -1: give a number from 0 on"),
        (lambda: Gaussian(math.nan), "multiplier = nan: give a number from 0 on"),
        (lambda: Laplace(-1), "multiplier = -1"),
        (lambda: Laplace(1, -1), "steps = -1: give a whole number from 0 on"),
        (lambda: Gaussian(1, 0), "rate = 0: give a number above 0, up to 1"),
        (lambda: Gaussian(1, 1.5), "rate = 1.5"),
        (lambda: Gaussian(1, steps=2.5), "steps = 2.5: give a whole number from 0 on"),  # type: ignore[arg-type]
        (lambda: Skellam(-1, 1, 1), "l2_squared = -1"),
        (lambda: Skellam(1, -1, 1), "l1 = -1"),
        (lambda: Skellam(1, 1, -1), "variance = -1"),
        (lambda: Skellam(1, 1, 1, -1), "steps = -1"),
        (lambda: DiscreteGaussians(-1, 1, 1, 1, 1), "l2_squared = -1"),
        (lambda: DiscreteGaussians(1, -1, 1, 1, 1), "l1 = -1"),
        (lambda: DiscreteGaussians(1, 1, 0, 1, 1), "length = 0: give a whole number from 1 on"),
        (lambda: DiscreteGaussians(1, 1, 1, -1, 1), "variance = -1"),
        (lambda: DiscreteGaussians(1, 1, 1, 1, 0), "shares = 0"),
        (lambda: DiscreteGaussians(1, 1, 1, 1, 1, -1), "steps = -1"),
        (lambda: rdp(Gaussian(1), 1), "order = 1: give a number above 1"),
    ],
)
def test_bad_numbers_are_refused(made: Callable[[], Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made()
