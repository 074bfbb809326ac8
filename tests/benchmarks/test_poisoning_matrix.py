"""The matrix of attacks and rules measures what it says, at a small size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.poisoning import matrix
from fl.poisoning import DATA, UPDATES
from fl.robust import RULES, Bench, Memory, Points, Verdict
from tests.benchmarks.cases import rows_of, shown

SMALL = matrix.Size(("mean", "draco"), ("none", "flip", "backdoor", "scale"), 1, 2)


def test_a_row_has_of_each_seed_what_its_runs_were_worth_and_whom_the_rule_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(matrix.SIZES, "quick", SMALL)
    monkeypatch.setattr(matrix, "CLIENTS", 10)
    rows = rows_of(matrix, seed=3)
    lines = matrix.lines_of(SMALL.rules)
    assert [(row["attack"], matrix.Line.of(row)) for row in rows] == [
        (attack, line) for attack in SMALL.attacks for line in lines
    ]
    for row in rows:
        for score in ("accuracies", "victims", "rests", "successes"):
            assert len(row[score]) == 2
            assert all(0 <= each <= 1 for each in row[score])
        assert (row["out"]["attackers"] is None) == (row["attack"] == "none")
    by = matrix.by_line(rows)
    assert by[matrix.Line("mean")]["flip"]["out"] == {"attackers": 0, "honest": 0}
    assert by[matrix.Line("draco", "fedsgd")]["scale"]["out"]["attackers"] == 1
    assert by[matrix.Line("draco", "fedsgd")]["none"]["out"]["honest"] == 0
    shown(matrix, rows)
    table = matrix.table(rows)
    (mean, *_) = table.rows
    assert mean[:2] == ("mean", f"{50 * sum(by[matrix.Line('mean')]['none']['accuracies']):.0f}")
    assert table.header[1:5] == SMALL.attacks
    assert table.header[5:9] == ("F1, none", "F1, flip", "success, none", "success, backdoor")


def test_a_full_matrix_is_of_every_attack_under_every_rule_but_what_is_said_to_be_elsewhere() -> None:
    full = matrix.SIZES["full"]
    assert {*full.attacks} == {"none", *DATA, *UPDATES}
    assert {line.rule for line in matrix.lines_of(full.rules)} == RULES.keys() - matrix.ELSEWHERE.keys()
    for line in matrix.lines_of(full.rules):
        config = matrix.configuration(line, "flip", full.rounds, 0)
        assert (config.robust.rule, config.robust.assumed) == (line.rule, config.attack.attackers)
    for attack in full.attacks:
        config = matrix.configuration(matrix.Line("krum"), attack, full.rounds, 0)
        assert config.attack.number_of(matrix.CLIENTS) == (0 if attack == "none" else 6)


def test_a_rule_costs_its_time_beside_that_of_the_mean_of_the_same_updates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticks: Iterator[int] = iter([0, 2_000_000, 8_000_000, 10_000_000, 14_000_000, 30_000_000])
    monkeypatch.setattr(matrix.time, "process_time_ns", lambda: next(ticks))

    def rule(points: Points, bench: Bench, memory: Memory) -> Verdict:
        return Verdict(points.updates[1])

    timed = matrix.Timed(rule)
    points = Points((frozenset({0}), frozenset({1})), np.eye(2), np.ones(2))
    for _ in range(2):
        verdict = timed(points, Bench(1, np.zeros(2)), {})
        assert verdict.update.tolist() == [0, 1]
    assert timed.took == [(6.0, 2.0), (16.0, 4.0)]
    assert timed.times_the_mean == pytest.approx(11 / 3)
