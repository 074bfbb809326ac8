"""Flower's own secure aggregation is driven as it is meant to be, or its numbers are not taken."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import harness
from benchmarks.protocol import cost, flower
from fl.cli.output import Output
from secagg import Bounded, Masking
from tests.benchmarks.cases import rows_of

CLIENTS, LENGTH = 5, 50


@pytest.fixture
def _with_flower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "0")
    pytest.importorskip("flwr")
    monkeypatch.setattr(cost, "LENGTH", LENGTH)


@pytest.fixture
def scheme(_with_flower: None) -> Masking:
    return Masking.for_cohort(CLIENTS, Bounded(length=LENGTH, bound=8.0, bits=22), graph="complete")


@pytest.mark.usefixtures("_with_flower")
def test_both_sides_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(flower.CLIENTS, "quick", (CLIENTS,))
    rows = rows_of(flower)
    assert len(rows) == 8
    flower.CONTROL.check(rows)
    harness.show(flower.table(rows), Output(quiet=True))
    taken = [row for row in rows if "skipped" not in row]
    assert [(row["who"] == flower.US, row["adversary"], row["bits"]) for row in taken] == [
        (False, "semi-honest", 22),
        (True, "semi-honest", 22),
        (True, "semi-honest", 16),
        (True, "active", 16),
    ]
    assert [len(row["client_ms"]) for row in taken] == [1, 3, 3, 3]
    assert [len(row["server_s"]) for row in taken] == [1, 3, 3, 3]
    assert all(min(row["client_ms"]) > 0 and min(row["server_s"]) > 0 for row in taken)
    assert [taken[0][name] for name in ("client_ratio", "server_ratio", "upload_ratio")] == [1, 1, 1]
    assert all(row["upload_ratio"] == row["upload_bytes"] / taken[0]["upload_bytes"] for row in taken)
    assert all("no sparse graph" in row["skipped"] for row in rows if row["graph"] == "sparse")


@pytest.mark.usefixtures("_with_flower")
@pytest.mark.parametrize("graph", ["complete", "sparse"])
def test_what_flower_sums_is_the_survivors_vectors(graph: str) -> None:
    from flwr.server.workflow import SecAggPlusWorkflow, SecAggWorkflow

    x = np.random.default_rng(1).uniform(-1, 1, (9, LENGTH)).astype(np.float32)
    grid = flower.Clients([flower.client_app(each, 1000) for each in x], {2})
    workflow = SecAggWorkflow(5) if graph == "complete" else SecAggPlusWorkflow(5, 3)
    mean = flower.flower_mean(workflow, grid)
    assert mean.shape == (LENGTH,)
    assert np.abs(mean - np.delete(x, 2, axis=0).mean(axis=0, dtype=np.float64)).max() < 5e-6
    assert [len(ms) for ms in grid.costs.client.values()] == [9, 9, 8, 8]
    assert list(grid.costs.client) == list(grid.costs.server)
    assert grid.sent[0]["collect_masked_vectors"] > 8 * LENGTH
    assert "collect_masked_vectors" not in grid.sent[2]


def test_a_wrong_mean_of_flowers_is_not_measured(scheme: Masking, monkeypatch: pytest.MonkeyPatch) -> None:
    right = flower.flower_mean
    monkeypatch.setattr(flower, "flower_mean", lambda workflow, grid: right(workflow, grid) + 1e-5)
    with pytest.raises(AssertionError, match="not that of the survivors"):
        flower.play_flower(scheme, {1}, seed=0)


def test_a_session_that_flower_halts_is_not_measured(scheme: Masking) -> None:
    with pytest.raises(RuntimeError, match="halted"):
        flower.play_flower(scheme, {0, 1, 2}, seed=0)
