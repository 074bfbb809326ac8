"""The matrix of attacks and rules measures what it says, at a small size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks import harness
from benchmarks.poisoning import matrix
from benchmarks.poisoning.matrix import Line
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


def test_the_committed_rows_show_what_is_claimed() -> None:
    rows = harness.read("poisoning", "matrix")["rows"]
    by = matrix.by_line(rows)
    ours, mean = {line.rule: of for line, of in by.items() if line.algorithm == "fedavg"}, by[Line("mean")]
    draco, gradients = by[Line("draco", "fedsgd")], by[Line("mean", "fedsgd")]

    def at(of: dict[str, harness.Row], attack: str, score: str = "accuracies") -> int:
        return round(matrix.percent(of[attack], score))

    hurt = {"opposite": 48, "uniform": 78, "scale": 66, "sign-flip": 89, "labels": 92}
    assert {attack: at(mean, attack) for attack in hurt} == hurt
    assert {at(mean, attack) for attack in mean.keys() - hurt} == {93, 94, 95}
    keeping = ["multi-krum", "nnm", "geometric-median", "centred-clipping", "reputation"]
    assert min(at(ours[rule], attack) for rule in keeping for attack in hurt) == 91
    for attack in ("opposite", "uniform", "scale"):
        assert ours["reputation"][attack]["out"] == {"attackers": 1, "honest": 0}
    assert at(ours["test-weighting"], "opposite") == 63
    assert ours["test-weighting"]["opposite"]["out"]["attackers"] == pytest.approx(0.01, abs=0.005)
    one_out = ours["leave-one-out"]["opposite"]
    assert at(ours["leave-one-out"], "opposite") == 85
    assert [round(100 * seed) for seed in (min(one_out["accuracies"]), max(one_out["accuracies"]))] == [
        71,
        92,
    ]

    turned = {"mean": 93, "median": 84, "bulyan": 53, "krum": 44, "rlr": 31}
    assert {rule: at(ours[rule], "inner-product") for rule in turned} == turned
    weak = {"krum": 67, "rlr": 74, "bulyan": 90, "fltrust": 90}
    assert {rule: at(ours[rule], "none") for rule in weak} == weak
    nobody = matrix.percent(mean["none"])
    assert all(matrix.percent(ours[rule]["none"]) > nobody - 1 for rule in ours.keys() - weak)

    taken = {rule: at(of, "backdoor", "successes") for rule, of in ours.items()}
    assert [at(mean, attack, "successes") for attack in ("none", "backdoor")] == [3, 82]
    low = {"bulyan": 28, "fltrust": 38, "weighted-trimmed": 38, "krum": 40, "median": 43, "rlr": 43}
    assert {rule: taken[rule] for rule in low} == low
    assert min(taken[rule] for rule in taken.keys() - low) == 49
    assert [at(of, "backdoor", "successes") for of in (draco, gradients)] == [4, 94]
    assert [round(100 * seed) for seed in draco["opposite"]["accuracies"]] == [92, 92, 10]

    flipped = [at(mean, attack, "victims") for attack in ("none", *matrix.OF_ONE_CLASS)]
    assert flipped == [97, 93, 97, 97]
    left = {rule: tuple(at(ours[rule], attack, "victims") for attack in ("none", "subset")) for rule in weak}
    assert {**left, "fltrust": ()} == {"krum": (58, 3), "rlr": (60, 38), "bulyan": (94, 72), "fltrust": ()}

    table = matrix.table(rows)
    cost = {line[0]: float(line[table.header.index("cost")]) for line in table.rows}
    assert {cost[rule] for rule in ("median", "trimmed-mean", "bucketing", "draco, fedsgd")} == {10, 11, 12}
    dear = {"fltrust": 150, "weighted-trimmed": 180, "test-weighting": 450, "leave-one-out": 570}
    assert {rule: cost[rule] for rule in dear} == dear
    between = ["krum", "multi-krum", "bulyan", "nnm", "geometric-median", "centred-clipping", "norm-bound"]
    assert sorted(cost[rule] for rule in [*between, "rlr", "reputation"])[:: len(between) + 1] == [17, 66]
