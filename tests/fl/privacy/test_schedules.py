"""The multiplier of each round."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.config.privacy import PrivacyConfig, Schedule
from fl.privacy.schedules import multiplier, multipliers

SCHEDULES = get_args(Schedule)
some = st.floats(0.01, 100)


def over(schedule: str, start: float, end: float | None, rounds: int) -> tuple[float, ...]:
    changing = schedule != "constant"
    privacy = PrivacyConfig(
        mechanism="example",
        clip=1.0,
        noise_multiplier=start,
        noise_schedule=schedule,
        noise_end=end if changing else None,
    )
    return multipliers(privacy, start, rounds)


@given(schedule=st.sampled_from(SCHEDULES), start=some, end=some, rounds=st.integers(1, 60))
def test_it_goes_from_start_to_end_and_never_back(
    schedule: str, start: float, end: float, rounds: int
) -> None:
    taken = over(schedule, start, end, rounds)
    assert len(taken) == rounds
    assert taken[0] == pytest.approx(start)
    end = start if schedule == "constant" else end
    if rounds > 1:
        assert taken[-1] == pytest.approx(end)
    rounding = 1e-12 * max(start, end)
    for one, other in pairwise(taken):
        assert (other - one) * math.copysign(1, end - start) >= -rounding
        assert min(start, end) - rounding <= other <= max(start, end) + rounding


@given(schedule=st.sampled_from(SCHEDULES), start=some, more=some, end=some, rounds=st.integers(1, 30))
def test_a_larger_start_is_more_noise_in_every_round(
    schedule: str, start: float, more: float, end: float, rounds: int
) -> None:
    """So that the start for an epsilon is found by halving, whether the end is given or half of it."""
    for at in (end, None):
        one, other = (over(schedule, z, at, rounds) for z in (start, start + more))
        assert all(a <= b * (1 + 1e-12) for a, b in zip(one, other, strict=True))


def test_without_an_end_it_ends_at_half() -> None:
    assert over("linear", 4.0, None, 3) == (4.0, 3.0, 2.0)


def test_a_staircase_has_ten_stairs_alike() -> None:
    taken = over("staircase", 19.0, 1.0, 40)
    assert [taken.count(level) for level in range(19, 0, -2)] == [4] * 10
    assert over("staircase", 3.0, 1.0, 3) == (3.0, 2.0, 1.0)


@pytest.mark.parametrize(
    ("schedule", "released"),
    [
        ("linear", lambda r: -10.15 * r / 100 + 15),
        ("exponential", lambda r: math.exp((100 - r) * 1.13 / 100 + 1.58)),
        ("cyclic", lambda r: 15 * math.cos(1.24 * r / 100)),
    ],
)
def test_they_are_those_of_the_released_code(schedule: Schedule, released: object) -> None:
    """git-disl/Fed-alphaCDP, whose rounds are 0 to 100, to the digits of its constants."""
    for r in range(101):
        assert multiplier(schedule, 15.0, 4.85, r + 1, 101) == pytest.approx(released(r), abs=0.04)  # type: ignore[operator]
