"""Backdoors and hidden poison: the tables measure what they say, at a small size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks import aimed, backdoored, harness
from benchmarks.harness import Case
from benchmarks.poisoning import backdoor, backdoor_boosted, backdoor_clean, clean
from fl.data import DataError
from fl.robust import RULES
from tests.benchmarks.cases import rows_of, shown

BACKDOORS = (backdoor, backdoor_boosted, backdoor_clean)
SMALL = backdoored.Setting("digits", 10, 2, 20, 135, 50, 1347, 4, ("mean", "median"), 1)


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backdoored.SETTINGS, "quick", SMALL)
    hidden = replace(clean.SETTINGS["quick"], examples=20, root=50, rounds=3)
    monkeypatch.setitem(clean.SETTINGS, "quick", hidden)
    monkeypatch.setattr(clean, "LAST", 2)


def test_scores_are_of_the_victim_of_all_others_and_of_what_bears_the_trigger() -> None:
    """Victim 0, target 1; one of the victim is taken for the target, and of three that are not of the target
    two are with the trigger.
    """
    truth, answers, triggered = (np.array(each) for each in ([0, 0, 1, 2], [0, 1, 1, 2], [1, 0, 0, 1]))
    scores = aimed.scored(truth, answers, triggered, 3, victim=0, target=1)
    assert scores == aimed.Scores(
        accuracy=3 / 4, victim=2 / 3, rest=4 / 5, taken=1 / 2, success=pytest.approx(2 / 3)
    )


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("benchmark", BACKDOORS)
def test_a_backdoor_is_measured_under_each_rule_over_the_last_rounds(benchmark: Any) -> None:
    rows = rows_of(benchmark, seed=3)
    assert [(row["rule"], row["boost"], row["seed"]) for row in rows] == [
        (rule, benchmark.BOOST, 3) for rule in SMALL.rules
    ]
    for row in rows:
        assert len(row["rounds"]) == backdoored.LAST
        for score in ("accuracy", "success"):
            assert row[score] == pytest.approx(np.mean([each[score] for each in row["rounds"]]), abs=1e-4)
    assert {row["bad"] for row in rows} == {2 if benchmark.BOOST else 0}
    shown(benchmark, rows)


def test_attackers_send_so_many_times_what_poisoned_data_give_and_0_is_nobody() -> None:
    once, boosted, clean = (SMALL.configuration(each.BOOST, "mean", 0).attack for each in BACKDOORS)
    assert (once.name, once.boost) == ("backdoor", 1)
    assert (boosted.name, boosted.boost) == ("backdoor", 4)
    assert clean.name is None


def test_every_rule_has_its_row_or_says_why_not() -> None:
    assert {*backdoored.NAMES} | {*backdoored.ELSEWHERE} == {*RULES}
    assert not {*backdoored.NAMES} & {*backdoored.ELSEWHERE}
    for rule in backdoored.NAMES:
        config = backdoored.SETTINGS["full"].configuration(1.0, rule, 0)
        assert round(config.held_out * 60_000) == 500
        assert config.attack.number_of(40) == 4


def names(cases: Sequence[Case]) -> list[str]:
    return [case.name for case in cases]


@pytest.mark.parametrize("benchmark", [*BACKDOORS, clean])
def test_three_seeds_one_after_the_other(benchmark: Any) -> None:
    full = names(benchmark.cases("full", 0))
    assert len(set(full)) == len(full)
    assert [int(name.rpartition(" ")[2]) for name in full] == sorted([0, 1, 2] * (len(full) // 3))


@pytest.mark.slow
@pytest.mark.usefixtures("_small")
def test_hidden_poison_stands_beside_the_same_rule_on_the_same_data_without_it() -> None:
    rows = rows_of(clean, seed=2)
    assert {(row["attack"], row["damage"]) for row in rows} == {
        *((attack, "none") for attack in ("none", "clean-label", "subset", "opposite")),
        *((attack, "missing") for attack in ("none", "opposite")),
    }
    assert {row["attack"]: row["bad"] for row in rows} == {
        "none": 0,
        "clean-label": 4,
        "subset": 4,
        "opposite": 2,
    }
    assert all(len(row["rounds"]) == 2 for row in rows)
    of_mean = [row for row in rows if row["rule"] == "mean" and row["attack"] == "none"]
    assert of_mean[0]["accuracy"] != of_mean[1]["accuracy"]  # one is of damaged data
    shown(clean, rows)


@pytest.mark.parametrize("benchmark", [backdoor, clean])
def test_where_data_are_absent_nothing_is_measured(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, data_dir: object = None) -> object:
        raise DataError(f"no {name} here")

    monkeypatch.setattr("fl.cohort.layout.load", load)
    with pytest.raises(NotImplementedError, match="no fashion-mnist here"):
        rows_of(benchmark, size="full")


def measured(name: str, score: str) -> dict[str, list[float]]:
    """Rule -> the score of each seed, in percent."""
    groups = backdoored.groups(harness.read("poisoning", name)["rows"])
    return {rule: [*aimed.percents(some, score).values()] for rule, some in groups.items()}


def mean_of(seeds: Sequence[float]) -> int:
    return round(float(np.mean(seeds)))


def test_the_committed_rows_of_a_backdoor_show_what_is_claimed() -> None:
    accuracy, success = measured("backdoor", "accuracy"), measured("backdoor", "success")
    costs = {rule: float(np.mean(seeds) - np.mean(accuracy["mean"])) for rule, seeds in accuracy.items()}
    left = {rule: mean_of(seeds) for rule, seeds in success.items()}
    assert (mean_of(accuracy["mean"]), left["mean"]) == (87, 86)
    assert {left[rule] for rule in ("multi-krum", "nnm", "bulyan")} == {1}
    assert min(costs[rule] for rule in ("multi-krum", "nnm")) >= 0
    low = ("median", "trimmed-mean", "weighted-trimmed", "bucketing")
    assert {left[rule] for rule in low} == {2, 3}
    assert min(costs[rule] for rule in ("bulyan", *low)) >= -0.5
    assert [(left[rule], round(costs[rule])) for rule in ("krum", "rlr")] == [(0, -9), (12, -5)]
    assert sorted(map(round, success["fltrust"])) == [1, 7, 28]
    assert round(costs["fltrust"]) == -2
    shortened = sorted(left[rule] for rule in ("geometric-median", "norm-bound", "centred-clipping"))
    assert (shortened[0], shortened[-1]) == (70, 78)
    assert [left[rule] for rule in ("leave-one-out", "test-weighting")] == [84, 86]
    assert sorted(map(round, success["reputation"])) == [16, 82, 83]


def test_the_committed_rows_of_a_boosted_backdoor_show_what_is_claimed() -> None:
    accuracy, success = measured("backdoor_boosted", "accuracy"), measured("backdoor_boosted", "success")
    costs = {rule: float(np.mean(seeds) - np.mean(accuracy["mean"])) for rule, seeds in accuracy.items()}
    left = {rule: mean_of(seeds) for rule, seeds in success.items()}
    assert (mean_of(accuracy["mean"]), left["mean"]) == (87, 97)
    free = ("multi-krum", "nnm", "reputation")
    assert {left[rule] for rule in (*free, "bulyan")} == {1}
    assert min(costs[rule] for rule in free) >= 0
    low = ("median", "trimmed-mean", "weighted-trimmed", "bucketing")
    assert {left[rule] for rule in low} == {2, 3}
    assert min(costs[rule] for rule in ("bulyan", *low)) >= -1 / 3
    assert [(left[rule], round(costs[rule])) for rule in ("krum", "rlr")] == [(0, -9), (3, -7)]
    assert sorted(map(round, success["fltrust"])) == [1, 2, 22]
    assert round(costs["fltrust"]) == -2
    shortened = sorted(left[rule] for rule in ("geometric-median", "norm-bound", "centred-clipping"))
    assert (shortened[0], shortened[-1]) == (73, 80)
    assert [left[rule] for rule in ("test-weighting", "leave-one-out")] == [88, 96]


def test_the_committed_rows_of_hidden_poison_show_what_is_claimed() -> None:
    rows = harness.read("poisoning", "clean")["rows"]
    by = clean.groups(rows)

    def score(attack: str, damage: str, rule: str, name: str) -> float:
        return float(np.mean([*aimed.percents(by[clean.Cell(attack, damage, rule)], name).values()]))

    def taken(attack: str, damage: str, rule: str, name: str) -> float:
        return score(clean.NONE, damage, rule, name) - score(attack, damage, rule, name)

    def left_out(attack: str, damage: str, rule: str, whom: str) -> float:
        cell = by[clean.Cell(attack, damage, rule)]
        return float(np.mean([row["left_out"][whom] for row in cell]))

    damages = ("noise", "missing", "labels")
    for rule in clean.RULES:
        assert all(abs(taken("clean-label", "none", rule, name)) < 1 for name in ("victim", "accuracy"))
        out = (left_out("subset", "none", rule, whom) for whom in ("attackers", "honest"))
        assert abs(next(out) - next(out)) < 0.03
        assert taken("subset", "none", rule, "victim") > 22
    assert round(score("none", "none", "mean", "victim")) == 73
    assert round(taken("subset", "none", "mean", "victim")) == 24
    assert round(taken("subset", "none", "mean", "accuracy")) == 2
    assert round(score("subset", "none", "mean", "taken")) == 22
    assert round(taken("subset", "none", "median", "victim")) == 37
    assert [round(taken("opposite", each, "mean", "accuracy")) for each in ("none", *damages)] == [
        17,
        18,
        18,
        22,
    ]
    assert all(34 < taken("opposite", each, "mean", "victim") < 39 for each in ("none", *damages))
    for damage in ("none", *damages):
        assert 1.5 < taken("opposite", damage, "median", "accuracy") < 3
        for rule in ("multi-krum", "test-weighting"):
            assert left_out("opposite", damage, rule, "attackers") > 0.93
            assert left_out("opposite", damage, rule, "honest") < 0.005
            assert taken("opposite", damage, rule, "accuracy") < 1.35
    for damage in damages:
        assert 1.8 < score("none", "none", "mean", "accuracy") - score("none", damage, "mean", "accuracy") < 3


def test_the_committed_rows_without_an_attack_show_what_rules_cost() -> None:
    accuracy, success = measured("backdoor_clean", "accuracy"), measured("backdoor_clean", "success")
    natural = {rule: float(np.mean(seeds)) for rule, seeds in success.items()}
    assert f"{natural['mean']:.1f}" == "0.7"
    assert 0.65 < min(natural.values()) < max(natural.values()) < 1.15
    best = float(np.mean(accuracy["mean"]))
    costs = {rule: best - float(np.mean(seeds)) for rule, seeds in accuracy.items()}
    dear = {rule: f"{costs[rule]:.1f}" for rule in ("bulyan", "fltrust", "rlr", "krum")}
    assert (f"{best:.1f}", dear) == ("87.0", {"bulyan": "0.7", "fltrust": "2.4", "rlr": "5.0", "krum": "8.9"})
    assert sorted(costs.values())[12] < 0.25
    assert len(costs) == 17
    groups = backdoored.groups(harness.read("poisoning", "backdoor_clean")["rows"])
    out = {
        rule: round(100 * float(np.mean([row["left_out"]["honest"] for row in some])))
        for rule, some in groups.items()
    }
    assert {rule: n for rule, n in out.items() if n} == {
        "krum": 98,
        "multi-krum": 20,
        "bulyan": 40,
        "fltrust": 41,
        "leave-one-out": 30,
    }
