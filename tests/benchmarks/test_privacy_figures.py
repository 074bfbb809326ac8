"""Noise of the same power on what clients send: the benchmark of Ma et al.'s figures, made small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from benchmarks.privacy import figures
from fl.training.local import Diverged
from tests.benchmarks.cases import few_examples, no_data, rows_of, shown


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from few_examples(monkeypatch, figures)


@pytest.mark.usefixtures("_small")
def test_noise_of_one_power_by_two_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(figures.ROUNDS, "quick", 5)
    rows = rows_of(figures)
    assert len(rows) == len(figures.cases("quick", 0)) == 5
    shown(figures, rows)
    updates = {u: np.zeros(100_000) for u in range(4)}
    for noise in figures.NOISES:
        mean = figures.noised_mean(noise, 0.1, updates)
        assert np.std(mean) == pytest.approx(0.1 * 2**0.5 / 2, rel=0.02)


@pytest.mark.usefixtures("_small")
def test_training_that_diverges_counts_as_its_last_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverging(*given: Any) -> Any:
        raise Diverged("no number")

    monkeypatch.setattr(figures, "noised_mean", diverging)
    row = figures.run_case(figures.Curve("mlp", "gaussian", 10.0), 0, 5)
    assert row["diverged"] == 1
    assert len(row["curve"]) == 1


def test_where_data_are_absent_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    no_data(monkeypatch, lambda: figures.run_case(figures.Curve("mlp", "none", 0.0), 0, 1))
