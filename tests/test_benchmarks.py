"""The benchmarks run, at a size at which they say nothing; what is committed of them says what it should."""

from __future__ import annotations

import pytest
from rich.console import Console

from benchmarks import harness
from benchmarks.protocol import cost, masks, scale, upload


def test_a_session_with_losses_in_every_round_is_exact() -> None:
    row = scale.run_case(60, "active", seed=0)
    assert row["exact"]
    assert all(row["lost"].values())
    assert len(scale.table([row])[1][0]) == len(scale.table([row])[0])


def test_the_committed_sessions_were_exact_and_as_large_as_is_said() -> None:
    rows = harness.read("protocol", "scale")["rows"]
    assert all(row["exact"] for row in rows)
    assert {(1000, "active"), (5000, "semi-honest")} <= {(row["clients"], row["adversary"]) for row in rows}


def test_the_committed_uploads_are_those_of_the_formula() -> None:
    rows = list(upload.run("quick", 0, lambda what: None))
    assert harness.read("protocol", "upload")["rows"] == rows
    within = {(r["clients"], r["adversary"], r["dropout"]) for r in rows if r["above"] <= 0.01}
    assert {(100, "active", 0.3), (1000, "semi-honest", 0.3), (1000, "active", 0.1)} <= within


def test_cost_and_masks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "LENGTH", 100)
    monkeypatch.setitem(cost.CASES, "quick", [(12, "complete", "active")])
    monkeypatch.setattr(masks, "LENGTHS", (1000,))
    monkeypatch.setattr(masks, "BYTES", 1 << 14)
    monkeypatch.setitem(masks.REPETITIONS, "quick", 1)
    for benchmark in (cost, masks):
        rows = list(benchmark.run("quick", 0, lambda what: None))
        assert len(rows) == benchmark.cases("quick")
        harness.show(benchmark, rows, Console(quiet=True))
