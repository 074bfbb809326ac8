"""Who holds the same classes: told by single updates, by no single sum, and by sums by who was in them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.leakage import linked
from benchmarks.leakage.linked import CHOSEN, CLIENTS, SINGLE, SUM, Heard, run_case, table

rng = np.random.default_rng(20)


def test_two_classes_a_client_are_told_by_single_updates_and_not_by_one_sum() -> None:
    rows = [row for row in run_case(0, (2,), "digits") if not isinstance(row, str)]
    auc = {row["read"]: row["auc"] for row in rows}
    assert auc[SINGLE] > 0.85
    assert auc[SUM] == 0.5
    assert len(table(rows).rows) == 3


def test_sums_give_each_client_where_updates_stay_alike_and_enough_are_there() -> None:
    """As they do not in training, but by what is new in every round."""
    alike = rng.normal(size=(CLIENTS, 30))
    chosen = [rng.choice(CLIENTS, CHOSEN, replace=False) for _ in range(60)]
    heard = Heard()
    for some in chosen:
        heard.mean({int(u): alike[u] for u in some})
    known = heard.of_sums()
    np.testing.assert_allclose(known - known.mean(axis=0), alike - alike.mean(axis=0), atol=1e-5)


def test_auc_is_of_pairs_that_have_a_class_in_common() -> None:
    held = [frozenset({0, 1}), frozenset({1, 2}), frozenset({3, 4}), frozenset({4, 5})]
    apart = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    assert linked.linked(apart, held) == 1
    assert linked.linked(apart[[0, 2, 1, 3]], held) == pytest.approx(0.25)
    assert linked.linked(None, held) == 0.5
