"""Noise in every step: the benchmark of Wei and Liu's Table 1, made small."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.privacy import wei
from tests.benchmarks.cases import few_examples, no_data, rows_of, shown


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from few_examples(monkeypatch, wei)


@pytest.mark.usefixtures("_small")
def test_noise_in_steps_with_its_norms_and_epsilons(monkeypatch: pytest.MonkeyPatch) -> None:
    every = wei.cells("full")
    monkeypatch.setattr(wei, "cells", lambda size: every[:4])
    rows = rows_of(wei)
    assert [(row["noise"], row["z"]) for row in rows] == [
        *(("none", 0.0), ("fixed", 6.0), ("dynamic", 6.0), ("Fed-SDP", 6.0))
    ]
    for row in rows:
        norms = [look[3] for look in row["curve"]]
        assert (None in norms) == (row["noise"] == "Fed-SDP")
    shown(wei, rows)


def test_their_epsilons_are_those_they_print_and_dynamic_noise_has_none() -> None:
    fixed, dynamic, of_clients = (wei.Cell("mnist", noise, 6.0) for noise in ("fixed", "dynamic", "Fed-SDP"))
    assert round(wei.epsilons(fixed)["theirs"], 4) == 0.8227
    assert round(wei.claimed(of_clients, 101), 4) == 0.8536
    assert wei.epsilons(dynamic)["holds"] is None
    assert wei.epsilons(dynamic)["theirs"] > 0
    assert wei.epsilons(fixed)["holds"] == pytest.approx(8.0037, abs=1e-4)


def test_where_data_are_absent_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    no_data(monkeypatch, lambda: wei.run_case(wei.Cell("mnist", "none", 0.0), 0, 1))
