"""Sites of unlike weights, one of them an attacker: the rows say what is claimed of them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import harness
from benchmarks.poisoning import weighted
from benchmarks.poisoning.weighted import OURS, Cell, error
from tests.benchmarks.cases import rows_of, shown


@pytest.mark.parametrize("share", weighted.SHARES)
def test_the_mean_is_off_by_the_attackers_share_of_what_it_adds(share: float) -> None:
    points, trained = Cell(0.0, share, 1000).points(0)
    assert points.shares[0] == pytest.approx(share)
    np.testing.assert_allclose(points.shares @ points.updates, (1 + 999 * share) * trained)


def test_a_small_run_has_a_row_for_each_rule_and_is_shown() -> None:
    rows = rows_of(weighted)
    assert len(rows) == len(weighted.cells()) * len(weighted.NAMES)
    shown(weighted, rows)


def test_the_committed_rows_show_what_is_claimed() -> None:
    rows = harness.read("poisoning", "weighted")["rows"]
    worst = {
        (share, name, attacked): max(
            error(row)
            for row in rows
            if (row["share"], row["rule"], row["factor"] != 1) == (share, name, attacked)
        )
        for share in weighted.SHARES
        for name in weighted.NAMES
        for attacked in (False, True)
    }
    small, large = weighted.SHARES
    assert worst[small, "mean", True] > 5.9
    assert worst[large, "mean", True] > 516
    assert worst[small, OURS, True] <= 0.03
    assert worst[large, OURS, True] <= 0.16
    assert worst[small, OURS, False] <= 0.025
    assert worst[large, OURS, False] <= 0.06
    assert worst[large, "norm-bound", True] > 1.03 > worst[large, weighted.NOTHING, True]
    assert [row["equal"] for row in rows if row["rule"] == OURS] == [0.0] * len(weighted.cells())
