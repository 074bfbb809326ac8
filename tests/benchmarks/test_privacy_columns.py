"""Accuracy by who adds the noise: the benchmark, made small; and its verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from benchmarks import harness, ring
from benchmarks.privacy import columns
from fl.privacy.accounting import by_rdp, epsilon
from fl.privacy.releases import Gaussian
from tests.benchmarks.cases import few_examples, no_data, rows_of, shown


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {"PER_ROUND": 6, "CORRUPT": 1, "LOST": 1, "LENGTH": 4810}.items():
        monkeypatch.setattr(columns, name, value)
    for kept in (columns.deployed, columns.multiplier):
        kept.cache_clear()
    yield from few_examples(monkeypatch, columns)
    for kept in (columns.deployed, columns.multiplier):
        kept.cache_clear()


@pytest.fixture
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in (columns.ROUNDS, columns.SESSION_ROUNDS):
        monkeypatch.setitem(setting, "quick", 2)


@pytest.mark.usefixtures("_small", "_few_rounds")
def test_every_column_is_trained_and_masked_sessions_give_the_rings_sums() -> None:
    rows = rows_of(columns)
    assert len(rows) == len(columns.cases("quick", 0))
    assert {row["mechanism"] for row in rows} == {
        *("none", "clip", "central", "central-renyi", "ring", "local", "sessions")
    }
    for row in rows:
        assert row["sums"] == (2 if row["mechanism"] == "sessions" else 0)
    shown(columns, rows)


@pytest.mark.usefixtures("_small")
def test_a_session_that_gives_another_sum_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = ring.Sessions(columns.masked(16, 1.0))
    updates = {u: np.full(columns.LENGTH, 1e-3) for u in range(6)}
    assert sessions(updates).shape == (columns.LENGTH,)
    assert sessions.sums == 1
    right = ring.added
    monkeypatch.setattr(ring, "added", lambda *given: right(*given) + 1)
    with pytest.raises(AssertionError, match="another sum than the ring"):
        sessions(updates)


def test_all_columns_of_one_epsilon_cost_no_more_by_their_own_accountants() -> None:
    spent = epsilon([Gaussian(4.0, steps=40)], columns.DELTA)
    assert columns.budget(4.0, 40) == spent
    column = columns.Column("ring", 4.0, 16, 100)
    z = columns.multiplier(column, 40)
    assert z is not None
    releases = ring.ring_releases(columns.calibration(column, z), 40)
    assert 0.99 * spent < epsilon(releases, columns.DELTA) <= spent
    z = columns.multiplier(columns.Column("central-renyi", 4.0), 40)
    assert by_rdp([Gaussian(z, steps=40)], columns.DELTA) == pytest.approx(spent)


def test_in_few_bits_no_noise_is_enough_for_a_small_epsilon() -> None:
    assert columns.multiplier(columns.Column("ring", None, 12, 100), 40) is None
    assert columns.multiplier(columns.Column("ring", None, 16, 100), 40) is not None


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ([0.800, 0.801, 0.799], "as central"),
        ([0.770, 0.771, 0.769], "as by Rényi"),
        ([0.740, 0.741, 0.739], "less"),
        ([0.600, 0.601, 0.599], "15 less and more"),
        ([0.900, 0.901, 0.899], "more"),
        ([0.60, 0.90, 0.96], "as central"),  # within two standard errors
        ([None], "no noise is enough"),
    ],
)
def test_what_a_column_is_beside_central_noise(accuracies: list[float | None], said: str) -> None:
    def rows(values: list[Any]) -> list[harness.Row]:
        return [{"seed": seed, "accuracy": value} for seed, value in enumerate(values)]

    by = {
        columns.Column("central", 1.0): rows([0.8, 0.8, 0.8]),
        columns.Column("central-renyi", 1.0): rows([0.77, 0.77, 0.77]),
    }
    column = columns.Column("ring", 1.0, 16, 100)
    assert columns.verdict(column, rows(accuracies), by) == said


def test_where_data_are_absent_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    no_data(monkeypatch, lambda: columns.run_case(columns.Column("none"), 0, 1, 1))
