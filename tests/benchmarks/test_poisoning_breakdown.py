"""Growing shares of attackers: each rule has its line, and what it is told changes what it says it does."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import harness
from benchmarks.poisoning import breakdown
from benchmarks.poisoning.breakdown import ASKING, ASSUMED, LINES, Line, Size, borne
from fl.cohort.layout import lay_out
from fl.robust import RULES, Bench, Points
from tests.benchmarks.cases import rows_of, shown

TOLD = [Line("mean"), Line("bulyan"), Line("bulyan", true=True), Line("mmse"), Line("mean", "fedsgd")]


def test_each_rule_has_a_line_and_those_that_ask_for_the_share_a_second() -> None:
    assert {line.rule for line in LINES} == {*RULES}
    assert {line.rule for line in LINES if line.true} == {*ASKING}
    assert len({line.name for line in LINES}) == len(LINES) == len(RULES) + len(ASKING) + 1


@pytest.mark.parametrize("rule", sorted({*RULES} - {"mmse", "draco"}))
def test_only_the_answer_of_rules_that_ask_depends_on_the_share_they_are_told(rule: str) -> None:
    """Of twenty rounds one at least: Krum may take the same update whatever it assumes."""

    def told(seed: int, assumed: float) -> NDArray[np.float64]:
        x = np.random.default_rng(seed).standard_normal((30, 40))
        points = Points(tuple(frozenset({u}) for u in range(30)), x, np.ones(30))
        bench = Bench(1, np.zeros(40), lambda model: float(model[0] > 0), assumed, lambda: np.ones(40))
        return RULES[rule](points, bench, {}).update

    differ = [not np.array_equal(told(seed, ASSUMED), told(seed, 0.0)) for seed in range(20)]
    assert any(differ) == (rule in ASKING)


def test_of_a_seed_all_lines_have_the_same_examples_kept_back_and_the_same_attackers() -> None:
    layouts = [
        lay_out(breakdown.configuration(line, "little", share, 20, 3))
        for line, share in ((Line("mean"), 0.2), (Line("krum", true=True), 0.5))
    ]
    few, many = (layout.attackers for layout in layouts)
    assert (len(few), len(many)) == (6, 15)
    assert few < many
    for u in range(breakdown.CLIENTS):
        np.testing.assert_array_equal(*(layout.shares[u] for layout in layouts))


def test_a_small_run_has_a_row_for_each_share_and_says_where_a_rule_is_unfit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(breakdown, "LINES", TOLD)
    monkeypatch.setitem(breakdown.SIZES, "quick", Size(("opposite",), (0.2, 0.4), 2, 2))
    rows = rows_of(breakdown)
    assert len(rows) == len(TOLD) * 3
    assert {(row["rule"], row["true"], row["share"]) for row in rows if "unfit" in row} == {
        ("bulyan", True, 0.4),
        *(("mmse", False, share) for share in (0.0, 0.2, 0.4)),
    }
    for row in rows:
        if "unfit" not in row:
            assert len(row["accuracies"]) == (1 if row["true"] else 2)
            assert (row["out"]["attackers"] is None) == (row["share"] == 0)
    (attacked,) = (row for row in rows if (row["rule"], row["share"]) == ("bulyan", 0.2) and not row["true"])
    assert attacked["out"]["attackers"] > attacked["out"]["honest"]
    shown(breakdown, rows)


def test_a_share_is_borne_where_no_smaller_one_already_costs_too_much() -> None:
    path = {share: {"accuracies": [a]} for share, a in ((0.0, 0.95), (0.2, 0.9), (0.4, 0.7), (0.6, 0.9))}
    assert borne(path, 85) == 0.2
    assert borne(path, 60) == 0.6
    assert borne(path, 96) is None
    assert borne({**path, 0.2: {"unfit": "too few"}}, 60) == 0


def test_the_committed_rows_show_what_is_claimed() -> None:
    rows = harness.read("poisoning", "breakdown")["rows"]
    by = {attack: breakdown.paths(rows, attack) for attack in breakdown.attacks_in(rows)}

    def at(attack: str, line: Line, share: float) -> int:
        return round(breakdown.percent(by[attack][line][share]))

    opposite = {share: at("opposite", Line("mean"), share) for share in (0.0, 0.2, 0.5)}
    assert opposite == {0.0: 95, 0.2: 48, 0.5: 10}
    holding = ["median", "trimmed-mean", "weighted-trimmed", "multi-krum", "bulyan", "nnm", "bucketing"]
    holding += ["geometric-median", "centred-clipping", "norm-bound"]
    assert min(at("opposite", Line(rule), 0.2) for rule in holding) == 91
    assert [at("opposite", Line(rule), 0.3) for rule in ("trimmed-mean", "bucketing")] == [15, 11]
    assert [at("opposite", Line(rule, true=True), 0.4) for rule in ("multi-krum", "nnm")] == [94, 94]
    assert [at("opposite", Line("fltrust"), share) for share in (0.0, 0.6)] == [90, 87]
    assert [at("opposite", Line(rule), 0.0) for rule in ("krum", "rlr")] == [67, 74]
    assert [at("opposite", Line("draco", "fedsgd"), share) for share in (0.1, 0.2)] == [92, 65]
    assert at("opposite", Line("mean", "fedsgd"), 0.1) == 12
    tested = ["geometric-median", "fltrust", "test-weighting"]
    assert [at("uniform", Line(rule), 0.6) for rule in tested] == [91, 86, 91]
    assert [at(attack, Line("mean"), 0.6) for attack in ("little", "min-max")] == [92, 91]
    assert [at(attack, Line("median"), 0.6) for attack in ("little", "min-max")] == [65, 70]
