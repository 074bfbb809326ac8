"""The benchmarks of privacy run, at a size at which they say little, and their claims can fail."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks import noised
from benchmarks.privacy import accountants, audit, cost, rounds, skew
from fl.privacy.accounting import epsilon
from fl.privacy.releases import Gaussian
from fl.training.local import Diverged
from tests.benchmarks.cases import few_examples, no_data, rows_of, shown


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from few_examples(monkeypatch, rounds, skew)


# Accountants


def test_every_number_is_the_one_given_to_a_unit_of_its_last_digit() -> None:
    rows = rows_of(accountants)
    assert len({row["what"] for row in rows}) == len(rows)
    assert max(off for row in rows for off in row["off"].values()) < 1
    shown(accountants, rows)


def test_another_number_is_off() -> None:
    row = accountants.run_case(accountants.gaussian(6, 1, 100, best="8.0047", old="9.3"))
    assert row["off"]["best"] == pytest.approx(10, abs=0.5)
    assert row["off"]["old"] == pytest.approx(0.93, abs=0.01)


@pytest.mark.parametrize(
    ("written", "worth"), [(".8227", 1e-4), ("9.39", 0.01), ("284", 1), ("1.266e-4", 1e-7)]
)
def test_the_last_digit_of_a_number(written: str, worth: float) -> None:
    assert accountants.last_digit(written) == pytest.approx(worth)


# Cost


def test_an_update_is_timed_beside_its_masks_and_draws_beside_the_keystream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(cost.LENGTH, "quick", 1000)
    monkeypatch.setattr(cost, "TABLES", (7, 10))
    rows = rows_of(cost)
    assert len(rows) == len(cost.cases("quick", 0)) == 2 * (len(cost.BITS) + 2)
    for row in rows:
        assert len(row["seconds"]) == len(row["alone"]) == cost.REPETITIONS["quick"]
    assert [row["entries"] for row in rows if "entries" in row] == pytest.approx([128, 1024] * 2, rel=0.05)
    shown(cost, rows)


@pytest.mark.parametrize("bits", cost.BITS)
def test_a_bounded_vector_in_the_same_ring_takes_as_many_bytes(bits: int) -> None:
    bounded, private = (
        cost.session(spec)
        for spec in (cost.bounded(1000, bits), cost.Private(length=1000, clip=1.0, bits=bits))
    )
    assert bounded.ring_bits() == private.ring_bits() == {"": bits}
    assert cost.upload(private) == cost.upload(bounded)


# Audit


def test_what_has_to_be_caught_is_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one mechanism of each kind."""
    for name in ("WITH_EPSILON", "AT_ONCE", "WITHOUT_EPSILON"):
        first, *_ = getattr(audit, name).items()
        monkeypatch.setattr(audit, name, dict([first]))
    rows = rows_of(audit)
    assert [row["noise"] for row in rows] == ["all", "1/2", "all", "1/5", "by the data"]
    for row in rows:
        assert (row["at_least"] > row["claim"]) == (row["noise"] != "all")
    assert [line[-1] for line in audit.table(rows).rows] == ["", "caught", "", "caught", "caught"]
    shown(audit, rows)


# Training under noise


@pytest.mark.usefixtures("_small")
def test_a_mean_that_is_not_finite_leaves_the_model_as_it_was() -> None:
    training = noised.Training(rounds.configuration(0, 2))
    before = training.parameters.copy()
    with pytest.raises(Diverged, match="the mean of round 1 is not finite"):
        next(training.rounds(lambda updates: np.full(len(before), np.inf)))
    assert np.array_equal(training.parameters, before)


# Rounds, and skew


@pytest.mark.usefixtures("_small")
def test_rounds_stop_at_the_goal_or_are_said_not_to_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rounds.MOST, "quick", 2)
    monkeypatch.setattr(rounds, "GOAL", 0.0)
    assert [row["rounds"] for row in rows_of(rounds)] == [1, 1]
    monkeypatch.setattr(rounds, "GOAL", 1.1)
    rows = rows_of(rounds)
    assert [row["rounds"] for row in rows] == [None, None]
    assert rows[1]["epsilon"] == epsilon([Gaussian(1.0, steps=2)], 1e-5)
    assert rounds.table(rows).rows[1][1] == "> 2"
    shown(rounds, rows)


@pytest.mark.usefixtures("_small")
def test_a_class_is_made_rare_and_balanced() -> None:
    rows = rows_of(skew)
    assert len(rows) == 6
    assert [row["epsilon"] is not None for row in rows] == [False, False, False, True, False, False]
    assert all(len(row["accuracies"]) == 10 for row in rows)
    shown(skew, rows)
    layout = noised.layout_of(skew.configuration("none", 0, 1))
    some = skew.skewed(layout, 0)
    before, after = (
        sum(int((each.y[own] == skew.RARE).sum()) for own in each.shares.values()) for each in (layout, some)
    )
    assert after < before / 4
    assert sum(map(len, layout.shares.values())) - sum(map(len, some.shares.values())) == before - after


@pytest.mark.parametrize(
    "case",
    [
        partial(rounds.run_case, 0.0, 0, 1),
        partial(skew.run_case, skew.Cell(0.0, "none"), 0, 1),
    ],
)
def test_where_data_are_absent_it_is_said(monkeypatch: pytest.MonkeyPatch, case: Any) -> None:
    no_data(monkeypatch, case)
