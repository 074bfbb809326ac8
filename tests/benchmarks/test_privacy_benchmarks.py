"""The benchmarks of privacy run, at a size at which they say little, and their claims can fail."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import harness
from benchmarks.privacy import accountants, audit, cost
from fl.cli.output import Output
from tests.benchmarks.cases import rows_of

QUIET = Output(quiet=True)


def shown(benchmark: Any, rows: list[harness.Row]) -> None:
    """The table has a cell for each column, and a picture, where there is one, can be drawn."""
    benchmark.CONTROL.check(rows)
    table = benchmark.table(rows)
    assert {len(line) for line in table.rows} == {len(table.header)}
    harness.show(table, QUIET)
    if hasattr(benchmark, "plot"):
        assert benchmark.plot(rows).axes


# Accountants


def test_every_number_is_the_one_given_to_a_unit_of_its_last_digit() -> None:
    rows = rows_of(accountants)
    assert len({row["what"] for row in rows}) == len(rows)
    assert max(off for row in rows for off in row["off"].values()) < 1
    shown(accountants, rows)


def test_another_number_is_off() -> None:
    row = accountants.run_case(accountants.gaussian(6, 1, 100, best="8.0047", old="9.3"))
    assert row["off"]["best"] == pytest.approx(10, abs=0.5)
    assert row["off"]["old"] == pytest.approx(0.93, abs=0.01)


@pytest.mark.parametrize(
    ("written", "worth"), [(".8227", 1e-4), ("9.39", 0.01), ("284", 1), ("1.266e-4", 1e-7)]
)
def test_the_last_digit_of_a_number(written: str, worth: float) -> None:
    assert accountants.last_digit(written) == pytest.approx(worth)


# Cost


def test_an_update_is_timed_beside_its_masks_and_draws_beside_the_keystream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(cost.LENGTH, "quick", 1000)
    monkeypatch.setattr(cost, "TABLES", (7, 10))
    rows = rows_of(cost)
    assert len(rows) == len(cost.cases("quick", 0)) == 2 * (len(cost.BITS) + 2)
    for row in rows:
        assert len(row["seconds"]) == len(row["alone"]) == cost.REPETITIONS["quick"]
    assert [row["entries"] for row in rows if "entries" in row] == pytest.approx([128, 1024] * 2, rel=0.05)
    shown(cost, rows)


@pytest.mark.parametrize("bits", cost.BITS)
def test_a_bounded_vector_in_the_same_ring_takes_as_many_bytes(bits: int) -> None:
    bounded, private = (
        cost.session(spec)
        for spec in (cost.bounded(1000, bits), cost.Private(length=1000, clip=1.0, bits=bits))
    )
    assert bounded.ring_bits() == private.ring_bits() == {"": bits}
    assert cost.upload(private) == cost.upload(bounded)


# Audit


def test_what_has_to_be_caught_is_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one mechanism of each kind."""
    for name in ("WITH_EPSILON", "AT_ONCE", "WITHOUT_EPSILON"):
        first, *_ = getattr(audit, name).items()
        monkeypatch.setattr(audit, name, dict([first]))
    rows = rows_of(audit)
    assert [row["noise"] for row in rows] == ["all", "1/2", "all", "1/5", "by the data"]
    for row in rows:
        assert (row["at_least"] > row["claim"]) == (row["noise"] != "all")
    assert [line[-1] for line in audit.table(rows).rows] == ["", "caught", "", "caught", "caught"]
    shown(audit, rows)
