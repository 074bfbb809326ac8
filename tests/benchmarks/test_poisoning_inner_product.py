"""The table of inner products measures each rule with and without attackers."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import harness
from benchmarks.poisoning import inner_product
from benchmarks.spread import by_seed
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


def test_the_committed_rows_show_what_is_claimed() -> None:
    rows = inner_product.groups(harness.read("poisoning", "inner_product")["rows"])
    seeds = {cell: by_seed(some, lambda row: 100 * row["accuracy"]) for cell, some in rows.items()}
    mean = {cell: float(np.mean([*some.values()])) for cell, some in seeds.items()}
    nothing, attack = inner_product.NOTHING, inner_product.ATTACK

    def taken(rule: str) -> list[float]:
        """By seed, from the least on."""
        return sorted(round(seeds[nothing, rule][i] - seeds[attack, rule][i], 1) for i in range(3))

    assert (round(mean[nothing, "mean"]), round(mean[attack, "mean"])) == (94, 93)
    assert [taken(rule)[:: len(taken(rule)) - 1] for rule in ("mean", "median", "geometric-median")] == [
        [1.2, 1.7],
        [1.8, 3.1],
        [2.6, 4.1],
    ]
    assert mean[attack, "mean"] == max(mean[attack, rule] for rule in inner_product.SETTINGS["full"].rules)
    for rule in ("multi-krum", "nnm"):
        assert abs(np.mean(taken(rule)) - np.mean(taken("mean"))) < 0.2
    assert (round(mean[nothing, "krum"]), round(mean[attack, "krum"])) == (89, 87)
    assert min(row["left_out"]["attackers"] for row in rows[attack, "krum"]) > 0.98
