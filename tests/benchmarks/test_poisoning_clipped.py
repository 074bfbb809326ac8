"""What a clip is worth that attackers skip is measured as it says, at a small size, in masked sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import harness
from benchmarks.harness import NoControlError, Row
from benchmarks.poisoning import clipped
from benchmarks.poisoning.clipped import KEPT, NONE, SKIPPED, cells, configuration
from benchmarks.poisoning.groups import Setting
from tests.benchmarks.cases import rows_of, shown

SMALL = replace(clipped.SIZES["quick"], setting=Setting("digits", 10, 40, 2, 1), sizes=(2, 5, 10), bad=1)
FULL = clipped.SIZES["full"]


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    monkeypatch.setitem(clipped.SIZES, "quick", SMALL)
    return rows_of(clipped, seed=3)


def of(rows: Sequence[Row], **fields: Any) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in fields.items())]


def test_groups_are_left_out_where_attackers_skip_the_clip_and_one_sum_is_checked_by_nobody(
    rows: list[Row],
) -> None:
    shown(clipped, rows)
    assert len(rows) == len(cells(SMALL))
    for row in rows:
        whole, attacked = row["size"] == 10, row["attack"] != "none"
        assert row["sums"] == (2 if whole else 2 * 10 // row["size"])
        assert row["dirty"] == (2 if attacked else 0)
        caught = attacked and not whole and row["clip"] == SKIPPED
        # Of the two rounds the first is of a model that has a length; the check needs that.
        assert (row["out"] == row["caught"] >= 1) if caught else row["out"] == 0
        assert row["abandoned"] == 0
    table = clipped.table(rows)
    lines = {line[:3]: dict(zip(table.header, line, strict=True)) for line in table.rows}
    assert [*lines][:5] == [
        (NONE, "one sum", "mean"),
        (NONE, "5", "mean"),
        (NONE, "5", "median"),
        (NONE, "2, unsafe", "mean"),
        (NONE, "2, unsafe", "median"),
    ]
    assert lines[SKIPPED, "one sum", "mean"]["found"] == ""
    assert (lines[KEPT, "5", "mean"]["found"], lines[KEPT, "5", "mean"]["right"]) == ("0", "-")
    assert lines[SKIPPED, "5", "mean"]["right"] == "100"
    assert lines[SKIPPED, "5", "mean"]["none"] == lines[KEPT, "5", "mean"]["none"]
    with pytest.raises(NoControlError, match="which nothing checks"):
        clipped.CONTROL.check([row for row in rows if row["size"] != 10])


def test_shares_are_of_all_seeds_together() -> None:
    some: list[Row] = [
        {"dirty": 4, "out": 0, "caught": 0, "accuracy": 0.5},
        {"dirty": 4, "out": 3, "caught": 2, "accuracy": 0.6},
    ]
    assert clipped.share(some, "caught", "dirty") == 25
    assert clipped.share(some, "caught", "out") == pytest.approx(200 / 3)
    assert clipped.share(some[:1], "caught", "out") is None
    assert clipped.percent(some) == pytest.approx(55)


def test_the_full_size_has_each_attack_with_each_clip_in_four_sizes_and_three_seeds() -> None:
    names = [case.name for case in clipped.cases("full", 0)]
    every = cells(FULL)
    assert len(set(names)) == len(names) == 3 * len(every)
    assert {(cell.attack, cell.clip) for cell in every} == {
        ("none", KEPT),
        *((attack, clip) for attack in clipped.LEVELS for clip in (NONE, KEPT, SKIPPED)),
    }
    assert {(cell.size, cell.rule) for cell in every} == {
        (40, "mean"),
        *((size, rule) for size in (2, 5, 10) for rule in ("mean", "median")),
    }


@pytest.mark.parametrize("size", ["quick", "full"])
def test_everything_is_trained_under_masking_with_the_clip_that_its_row_says(size: str) -> None:
    how = clipped.SIZES[size]
    for cell in cells(how):
        config = configuration(how, cell, 0)
        clients, protection = config.cohort.clients, config.protection
        assert protection.scheme == "masking"
        assert protection.groups == (0 if cell.size == clients else clients // cell.size)
        assert config.robust.rule == cell.rule
        assert config.privacy.clip == (None if cell.clip == NONE else clipped.CLIP)
        assert config.attack.skip_clip == (cell.clip == SKIPPED)
        assert config.attack.number_of(clients) == (0 if cell.attack == "none" else how.bad)


def test_the_committed_rows_show_what_is_claimed() -> None:
    rows = harness.read("poisoning", "clipped")["rows"]
    by = clipped.lines_of(rows)

    def left(attack: str, clip: str, size: int, rule: str = "mean") -> int:
        return round(clipped.percent(by[clip, size, rule][attack]))

    def groups(attack: str, clip: str, *sizes: int) -> tuple[int, int]:
        every = [left(attack, clip, size, rule) for size in sizes for rule in ("mean", "median")]
        return min(every), max(every)

    def found(attack: str, *sizes: int) -> tuple[int, int]:
        some = [by[SKIPPED, size, rule][attack] for size in sizes for rule in ("mean", "median")]
        shares = [round(clipped.share(each, "caught", "dirty") or 0) for each in some]
        return min(shares), max(shares)

    assert left("none", KEPT, 40) == 91
    one = {attack: [left(attack, clip, 40) for clip in (NONE, KEPT, SKIPPED)] for attack in clipped.LEVELS}
    assert one == {"opposite": [10, 89, 10], "uniform": [84, 90, 84], "sign-flip": [12, 87, 10]}
    assert groups("opposite", SKIPPED, 10, 5, 2) == (88, 90)
    assert groups("uniform", SKIPPED, 10, 5, 2) == (89, 91)
    assert found("opposite", 10, 5, 2) == found("uniform", 10, 5, 2) == (100, 100)
    assert [groups("sign-flip", SKIPPED, size) for size in (10, 5, 2)] == [(35, 37), (87, 89), (90, 90)]
    assert [found("sign-flip", size) for size in (10, 5, 2)] == [(33, 36), (83, 90), (100, 100)]
    assert all(row["out"] == row["caught"] for row in rows)
    assert {row["clip"] for row in rows if row["out"]} == {SKIPPED}
    gone = {
        row["out"] / row["sums"] for row in of(rows, size=10, clip=SKIPPED) if row["attack"] != "sign-flip"
    }
    assert gone == {0.5, 0.75}
    assert not any(row["abandoned"] for row in rows)
