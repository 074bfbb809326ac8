"""ByzFL's code is found and driven as it is meant to be, or its numbers are not taken."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import harness
from benchmarks.poisoning import byzfl
from tests.benchmarks.cases import shown

RULES = """
from byzfl.utils.misc import average


class Average:
    def __call__(self, vectors):
        return average(vectors) * {factor}
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that has the mean alone, and whose packages do not import."""
    for package in ("", "aggregators", "utils"):
        (tmp_path / "byzfl" / package).mkdir()
        (tmp_path / "byzfl" / package / "__init__.py").write_text("import no_such_module\n")
    (tmp_path / "byzfl/utils/misc.py").write_text("def average(x):\n    return x.mean(axis=0)\n")
    (tmp_path / "byzfl/aggregators/aggregators.py").write_text(RULES.format(factor=1))
    (tmp_path / "byzfl/aggregators/preaggregators.py").write_text("")
    monkeypatch.setenv(byzfl.CHECKOUT, str(tmp_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


@pytest.mark.usefixtures("checkout")
def test_both_are_timed_in_turns_on_the_same_input() -> None:
    rows = list(byzfl.run_case("Average", 20, 1000, 0))
    (row,) = rows
    assert [len(row[who]) for who in ("theirs_ms", "ours_ms")] == [byzfl.REPETITIONS] * 2
    assert row["attackers"] == 4
    assert row["off"] < 1e-12
    assert row["byzfl"] == "of no commit"
    shown(byzfl, rows)


def test_another_result_than_byzfls_is_not_timed(checkout: Path) -> None:
    (checkout / "byzfl/aggregators/aggregators.py").write_text(RULES.format(factor=1.00001))
    with pytest.raises(AssertionError, match=r"Average is not ByzFL's: off by 1\.0e-05"):
        list(byzfl.run_case("Average", 20, 1000, 0))


def test_without_a_checkout_nothing_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for where in ("", str(tmp_path)):
        monkeypatch.setenv(byzfl.CHECKOUT, where)
        with pytest.raises(
            NotImplementedError, match=r"no checkout of https://github\.com/LPD-EPFL/byzfl: say"
        ):
            list(byzfl.run_case("Average", 20, 10, 0))


def test_every_rule_is_measured_with_both_numbers_of_clients() -> None:
    names = [case.name for case in byzfl.cases("quick", 0)]
    assert len(names) == len(set(names)) == 2 * len(byzfl.PAIRS)
    x = np.random.default_rng(0).standard_normal((20, 10))
    assert all(np.isfinite(pair.ours(x, 4)).all() for pair in byzfl.PAIRS.values())


def test_the_committed_rows_show_what_is_claimed() -> None:
    rows = harness.read("poisoning", "byzfl")["rows"]
    assert {(row["rule"], row["clients"]) for row in rows} == {(r, n) for r in byzfl.PAIRS for n in (20, 50)}
    assert max(row["off"] for row in rows) <= 1e-15
    assert max(row["ratio"] for row in rows if row["rule"] != "Average") <= 1
    assert max(row["ratio"] for row in rows) <= 1.1
