"""The table of inner products measures each rule with and without attackers."""

from __future__ import annotations

import pytest

from benchmarks.poisoning import inner_product
from tests.benchmarks.cases import no_data, rows_of, shown


def test_each_rule_is_measured_with_and_without_the_attack_beside_what_others_print(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = inner_product.Setting("digits", 10, None, 1, ("mean", "krum"), 1)
    monkeypatch.setitem(inner_product.SETTINGS, "quick", small)
    rows = rows_of(inner_product)
    assert [(row["attack"], row["rule"]) for row in rows] == inner_product.cells(small)
    shown(inner_product, rows)
    mean, _, attacked, krum = inner_product.table(rows).rows
    assert mean[3:] == ("", "", "", "0")
    taken = 100 * (rows[2]["accuracy"] - rows[0]["accuracy"])
    assert attacked[3:] == (f"{taken:+.1f}", "95.38", "0", "0")
    assert krum[4] == "94.04"


def test_a_fifth_of_a_hundred_attack() -> None:
    full = inner_product.SETTINGS["full"]
    config = full.configuration(inner_product.ATTACK, "krum", 0)
    assert (config.attack.number_of(full.clients), config.training.rounds) == (20, 50)
    assert full.configuration(inner_product.NOTHING, "krum", 0).attack.name is None


def test_where_data_are_absent_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    no_data(monkeypatch, lambda: rows_of(inner_product, size="full"))
