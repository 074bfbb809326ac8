"""The dial of groups measures what it says, at a small size, in masked sessions, marked where unsafe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks import backdoored, by_size, harness, matrices
from benchmarks.by_size import COST, DECLARED, EQUAL, IID, LEAK, MEDIAN, NOISE, RUN, TRIGGER, UNEVEN, WEIGHTED
from benchmarks.harness import NoControlError, Row
from benchmarks.in_groups import Cut, Watching, promised, weakened
from benchmarks.poisoning import groups
from benchmarks.poisoning.groups import Cell, Setting, cells, configuration
from fl.robust import RULES, Bench, Points
from tests.benchmarks.cases import rows_of, shown

SMALL = replace(
    groups.SIZES["quick"],
    alike=Setting("digits", 10, 40, 2, 1),
    uneven=Setting("digits", 10, None, 2, 1),
    sizes=(1, 5, 10),
    attacks=(("opposite", 2),),
    seconds=0.01,
)
POISONED = backdoored.Setting("digits", 10, 2, 20, 135, 50, 1347, 3, (), 1)
FULL = groups.SIZES["full"]


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    monkeypatch.setitem(groups.SIZES, "quick", SMALL)
    monkeypatch.setitem(backdoored.SETTINGS, "quick", POISONED)
    return rows_of(groups, seed=3)


def of(rows: Sequence[Row], **fields: Any) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in fields.items())]


def test_a_small_dial_trains_weighs_and_reads_groups_of_each_size_and_one_sum(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (RUN, COST, LEAK, NOISE):
        assert {row["size"] for row in of(rows, kind=kind)} >= {1, 5, 10}
    assert {(row["size"], row["groups"], row["unsafe"]) for row in rows} == {
        (1, 10, True),
        (2, 5, True),
        (5, 2, False),
        (10, 1, False),
    }
    for row in of(rows, kind=RUN):
        attacked = row["bad"] > 0
        assert (0 < row["dirty"] <= min(row["bad"], row["groups"])) == attacked
        assert row["half"] in (0.0, 1.0)
        assert 0 <= row["accuracy"] <= 1
    (one,) = of(rows, kind=RUN, setting=IID, attack="opposite", size=1)
    assert (one["dirty"], one["half"]) == (2, 0)
    (single, *_), (whole,) = (of(rows, kind=LEAK, size=size) for size in (1, 10))
    assert single["share"] > 0.9 > whole["share"]
    assert single["images"] == whole["images"] == 80
    costs = {row["size"]: row for row in of(rows, kind=COST)}
    assert costs[1]["up"] < costs[5]["up"] < costs[10]["up"]  # a smaller ring, whose numbers have fewer bits
    shown(groups, rows)
    table = groups.table(rows)
    lines = {line[0]: dict(zip(table.header, line, strict=True)) for line in table.rows}
    assert [*lines] == [
        "1, unsafe",
        "2, unsafe",
        "2, unsafe, declared",
        "2, unsafe, weighted-trimmed, declared",
        "5",
        "one sum",
    ]
    assert [lines["one sum"][name] for name in by_size.TIMES] == ["1.00"] * 4
    assert (lines["1, unsafe"]["calibrated"], lines["5"]["calibrated"]) == ("-", "4.38")
    assert lines["1, unsafe"]["bad 2, dirty"] == "2.0 of 10"
    monkeypatch.setattr(matrices, "measured", lambda folder, name, size="full": rows)
    monkeypatch.setattr(matrices, "source", lambda folder, name, size="full": None)
    (on_the_page,) = matrices.by_group()
    assert on_the_page.columns == ("none", "opposite 2")
    whole = {row["attack"]: 100 * row["accuracy"] for row in of(rows, kind=RUN, setting=IID, size=10)}
    told = dict(on_the_page.rows)
    assert [*told] == ["1, unsafe", "5", "one sum"]
    assert told["one sum"] == pytest.approx((whole["none"], whole["opposite"]))
    with pytest.raises(NoControlError, match="one masked sum of all"):
        groups.CONTROL.check([row for row in rows if row["size"] != 10])
    with pytest.raises(NoControlError):
        groups.CONTROL.check([row for row in rows if row["kind"] != LEAK or row["size"] != 1])


def test_an_attack_that_takes_nothing_of_one_sum_shows_nothing_of_groups() -> None:
    def row(size: int, attack: str, accuracy: float, success: float = 0.0, setting: str = IID) -> Row:
        rule, weights = ("mean", DECLARED) if size == 4 else (MEDIAN, EQUAL)
        cell = Cell(setting, attack, 0 if attack == "none" else 1, size, rule, weights)
        scores = {"accuracy": accuracy, "victim": accuracy, "success": success, "dirty": 1.0, "half": 0.5}
        return groups._head(RUN, Cut(4, size), 0, **vars(cell)) | scores

    some = [
        row(4, "none", 0.9),
        row(2, "none", 0.88),
        row(4, "opposite", 0.3),
        row(2, "opposite", 0.85),
        row(4, "uniform", 0.86),
        row(2, "uniform", 0.87),
        row(4, "flip", 0.8),
        row(2, "flip", 0.86),
        row(4, "none", 0.9, 0.1, TRIGGER),
        row(4, "backdoor", 0.9, 0.12, TRIGGER),
        row(2, "backdoor", 0.9, 0.02, TRIGGER),
    ]
    table = groups.table(some)
    two, one = (dict(zip(table.header, line, strict=True)) for line in table.rows)
    assert (one["opposite 1"], two["opposite 1"]) == ("30", "85")
    assert (one["uniform 1"], two["uniform 1"]) == ("(86)", "(87)")
    assert (two["flip 1"], two["F1, flip 1"]) == ("86", "86")
    assert (one["trigger, backdoor 1"], two["trigger, backdoor 1"]) == ("(12)", "(2)")
    assert (two["bad 1, dirty"], two["half"], one["half"]) == ("1.0 of 2", "50", "")


def test_the_full_dial_is_of_five_sizes_three_attacks_two_numbers_of_attackers_and_three_seeds() -> None:
    names = [case.name for case in groups.cases("full", 0)]
    assert len(set(names)) == len(names)
    every = cells(FULL)
    assert len(names) == 1 + 3 * (len(FULL.sizes) + 1 + len(every))
    alike = {(cell.attack, cell.bad, cell.size) for cell in every if cell.setting == IID}
    attacks = {("none", 0)} | {(name, bad) for name in ("flip", "opposite", "uniform") for bad in (4, 8)}
    assert alike == {(*attack, size) for attack in attacks for size in (1, 2, 5, 10, 40)}
    assert {cell.size for cell in every if cell.attack == "backdoor"} == {1, 2, 5, 10, 40}
    assert {(c.rule, c.weights) for c in every if c.setting == UNEVEN and c.size == 2} == {
        (MEDIAN, EQUAL),
        (MEDIAN, DECLARED),
        (WEIGHTED, DECLARED),
    }


@pytest.mark.parametrize("size", ["quick", "full"])
def test_everything_is_trained_under_masking_in_groups_that_are_marked_where_unsafe(
    size: str,
) -> None:
    how = groups.SIZES[size]
    for cell in cells(how):
        config = configuration(how, cell, 0)
        clients, protection = config.cohort.clients, config.protection
        whole = cell.size == clients
        assert protection.scheme == "masking"
        assert protection.groups == (0 if whole else clients // cell.size)
        assert config.robust.rule == ("mean" if whole else cell.rule)
        assert protection.unsafe_groups == (cell.size in (1, 2, 5) and not whole)
        assert config.attack.number_of(clients) == cell.bad
        assert config.weighted == (cell.weights == DECLARED)


def test_the_fewest_of_a_group_are_more_than_its_corrupt_ones_and_two_honest() -> None:
    """Of 40 clients, 4 corrupt: all 4 may be in one group, of whom an active server needs more than half of
    what they and it come to.
    """
    ten = Cut(40, 10)
    assert (ten.corrupt, ten.corrupt_in_group, ten.least, ten.unsafe) == (4, 4, 8, False)
    assert [Cut(40, size).unsafe for size in (1, 2, 5, 40)] == [True, True, True, False]


@pytest.mark.parametrize(("size", "epsilon"), [(100, 4.377), (20, 11.48), (10, 17.86), (5, 28.37)])
def test_under_the_noise_of_one_sum_of_100_a_group_has_the_epsilon_that_is_known(
    size: int, epsilon: float
) -> None:
    """Balle and Wang's exact epsilon at delta 1e-5, by dp-accounting 0.6.0."""
    assert weakened(Cut(100, size)) == pytest.approx(epsilon, abs=5e-3)


def test_noise_that_is_enough_for_a_group_is_more_and_of_unsafe_groups_none_is() -> None:
    """By its session's numbers: 5 honest ones of 10 are sure, of one sum 12."""
    told = promised(Cut(20, 10))
    assert told["calibrated"] == pytest.approx(4.377, abs=5e-3)
    assert told["noise"] == pytest.approx((12 / 5) ** 0.5, rel=1e-3)
    unsafe = promised(Cut(20, 2))
    assert (unsafe["calibrated"], unsafe["noise"]) == (None, None)
    assert "2 of a group of 2" in unsafe["noise_why"]


def test_who_is_in_which_sum_is_noted_beside_what_the_rule_makes_of_them() -> None:
    watching = Watching(RULES[MEDIAN])
    points = Points((frozenset({0, 1}), frozenset({2})), np.array([[1.0], [3.0]]), np.ones(2))
    verdict = watching(points, Bench(1, np.zeros(1)), {})
    assert verdict.update.tolist() == [2.0]
    assert watching.members == [points.members]


def test_the_committed_rows_show_what_is_claimed() -> None:
    rows = harness.read("poisoning", "groups")["rows"]
    of = by_size.runs(rows)

    def left(size: int, at: tuple[str, str, int], rule: str = "median", by: str = "equal") -> int:
        line = (size, "mean", "declared") if size == 40 else (size, rule, by)
        return round(by_size.percent(of[line][at], by_size.aims_at(at[1])))

    def each(attack: str, bad: int, setting: str = "alike") -> list[int]:
        return [left(size, (setting, attack, bad)) for size in (40, 10, 5, 2, 1)]

    assert set(each("none", 0)) == {90}
    assert each("opposite", 4) == [84, 84, 84, 90, 90]
    assert each("opposite", 8) == [77, 77, 76, 88, 89]
    assert each("uniform", 4) == [84, 82, 90, 90, 90]
    assert each("uniform", 8) == [71, 69, 80, 90, 90]
    assert each("backdoor", 4, "trigger") == [86, 86, 4, 3, 2]
    assert [round(by_size.takes(rows, ("alike", "flip", bad))) for bad in (4, 8)] == [0, 2]

    def dirty(attack: str, setting: str = "alike") -> list[float]:
        return sorted(row["dirty"] for row in of[5, "median", "equal"][setting, attack, 4])

    assert dirty("opposite") == [4, 4, 4]
    assert dirty("uniform") == [3, 3, 4]
    assert dirty("backdoor", "trigger") == [2, 3, 3]
    told = [[round(by_size.leaked(rows, size, at) or 0) for size in (1, 2, 5, 10, 40)] for at in (1, 20)]
    assert told == [[100, 90, 12, 2, 0], [95, 69, 16, 6, 1]]
    noise = {row["size"]: row for row in by_size.of_kind(rows, by_size.NOISE)}
    assert [f"{noise[size]['same']:.2g}" for size in (40, 10, 5, 2, 1)] == ["4.4", "10", "15", "28", "46"]
    assert (f"{noise[10]['calibrated']:.2g}", f"{noise[10]['noise']:.2g}") == ("4.4", "2.4")
    assert [size for size in (1, 2, 5, 10) if not noise[size]["unsafe"]] == [10]
    costs = {
        name: [by_size._costs(rows, size)[i] for size in (1, 2, 5, 10)]
        for i, name in ((0, "up"), (2, "client"))
    }
    assert (min(costs["up"]), max(costs["up"])) == ("0.74", "0.91")
    assert (min(costs["client"]), max(costs["client"])) == ("0.83", "0.86")
    unequal = [("uneven", "none", 0), ("uneven", "opposite", 4)]
    assert [left(40, at) for at in unequal] == [95, 87]
    assert [left(2, at) for at in unequal] == [93, 92]
    assert [left(2, at, by="declared") for at in unequal] == [94, 93]
    assert [left(2, at, "weighted-trimmed", "declared") for at in unequal] == [94, 94]
