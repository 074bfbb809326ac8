"""A round under SecureGrid beside a plain one: what is counted, and that a wrong mean is not measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import harness
from benchmarks.embedding import flower
from benchmarks.embedding.flower import PLAIN, SECURE, Taken
from benchmarks.training.steps import Workload
from fl.cli.output import Output
from tests.benchmarks.cases import rows_of

WORK = Workload("mlp-200", (1, 28, 28), 10, 3, examples=20, steps=2, batch_size=10, lr=0.05, rounds=1)
PLAINLY = Taken([1.0], [400], [400], 1)
SECURELY = Taken([1.4], [300], [410], 4, off=1e-6, bound=2e-6)


def test_both_are_counted_in_the_same_units(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flwr", reason="needs Flower: pip install 'secagg[flower]'")
    from tests.secagg_flower.loopback import Loopback

    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    nodes = (2**63, 5, 9)
    grid = Loopback(
        flower.client_app(WORK, 0), nodes, node_config=lambda node: {"partition-id": nodes.index(node)}
    )
    taken = flower.in_turns(grid, WORK, 0)
    assert [len(taken[who].seconds) for who in (PLAIN, SECURE)] == [1, 1]
    assert (taken[PLAIN].messages, taken[SECURE].messages) == (1, 4)
    assert 0 < taken[SECURE].off <= taken[SECURE].bound < 1e-4
    numbers = 199_210 * 3 * 4
    assert numbers < taken[PLAIN].up[0] < 1.01 * numbers
    assert 0.6 * numbers < taken[SECURE].up[0] < 0.8 * numbers
    assert taken[PLAIN].down[0] < taken[SECURE].down[0] < 1.01 * taken[PLAIN].down[0]


def test_ratios_are_of_flowers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower, "find_spec", lambda package: True)
    monkeypatch.setattr(flower, "taken_by", lambda work, seed: {PLAIN: PLAINLY, SECURE: SECURELY})
    rows = rows_of(flower)
    flower.CONTROL.check(rows)
    assert [(row["ratio"], row["up_ratio"]) for row in rows] == [(1, 1), (1.4, 0.75)]
    harness.show(flower.table(rows), Output(quiet=True))


def test_a_mean_beyond_its_bound_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(SECURELY, off=3e-6)
    monkeypatch.setattr(flower, "find_spec", lambda package: True)
    monkeypatch.setattr(flower, "taken_by", lambda work, seed: {PLAIN: PLAINLY, SECURE: wrong})
    with pytest.raises(AssertionError, match="3e-06 off, where 2e-06 is its bound"):
        rows_of(flower)


def test_without_flower_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower, "find_spec", lambda package: None)
    (row,) = rows_of(flower)
    assert row["skipped"] == "not installed: flwr, ray; pip install 'secagg[flower,ray]'"
