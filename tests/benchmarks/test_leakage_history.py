"""The benchmark of a client's history, made small."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.leakage import history
from fl.data import DataError, Dataset
from fl.leakage import apart
from fl.leakage.attack import Budget, Guess, Knowledge
from fl.leakage.labels import labels
from fl.leakage.verdicts import ROUNDING
from fl.leakage.views import View
from tests.benchmarks.cases import rows_of, shown

rng = np.random.default_rng(0)
X, Y = rng.random((60, 1, 8, 8), dtype=np.float32), np.arange(60) % 10


@pytest.fixture
def attacked(monkeypatch: pytest.MonkeyPatch) -> list[View]:
    """What is attacked, of images of noise; what is found is grey."""
    seen = list[View]()

    def here(attack: str, view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
        assert attack == "history"
        seen.append(view)
        found = labels(view, knowledge, budget, seed)
        return tuple(replace(one, images=np.full((len(one.labels), 1, 8, 8), 0.5)) for one in found)

    monkeypatch.setattr(
        history, "load", lambda name: Dataset(name, X[20:], Y[20:], X[:20], Y[:20], classes=10)
    )
    monkeypatch.setattr(apart, "run", here)
    monkeypatch.setattr(history, "LAST", 3)
    monkeypatch.setattr(history, "FEW", tuple(replace(few, rounds=(1, 3)) for few in history.FEW))
    return seen


def test_a_row_for_each_number_of_rounds_and_the_last_alone_beside_them(attacked: list[View]) -> None:
    rows = rows_of(history)
    assert [(row["clients"], row["rounds"], len(row["psnr"])) for row in rows] == [
        (1, 1, 8),
        (1, 3, 8),
        (4, 1, 8),
        (4, 3, 8),
    ]
    # Single updates of eight clients, and two sums of four.
    assert [len(view.parts) for view in attacked] == [8, 8, 1, 1, 1, 1]
    assert [len(view.parts[0].earlier) for view in attacked] == [0, 2, 0, 0, 2, 2]
    shown(history, rows)


def test_a_tight_bound_is_that_of_the_largest_number_in_all_rounds(attacked: list[View]) -> None:
    setup = history.Setup("lenet-zhu", 4, history.TIGHT, (3,), 0.1)
    round = history.session(setup, 0, range(4))
    largest = max(np.abs(x).max() for one in (*round.earlier, round) for x in one.uploads.values())
    assert round.config.protection.bound == pytest.approx(1.01 * largest)
    off = np.abs(history.seen(setup, round).parts[0].updates[0] - round.sum_of(range(4)).updates[0]).max()
    assert 0 < off < 2 * largest / 2**15


@pytest.mark.parametrize(
    ("bare", "word"),
    [
        ([False, False], "nor found in a bare sum"),
        ([True, True], ROUNDING),
        ([True, False], "hidden from this attack"),
        ([], "hidden from this attack"),
    ],
)
def test_what_hid_a_sum_is_said_where_it_was_attacked_bare(bare: list[bool], word: str) -> None:
    sum = {"model": "lenet-zhu", "clients": 10, "sent": history.encoding(16), "rounds": 1, "found": False}
    by = {
        ("lenet-zhu", 10, history.EXACT, 1): [sum | {"sent": history.EXACT, "found": each} for each in bare]
    }
    assert history.hidden(by, [sum]) == word
    assert history.hidden(by, [sum | {"sent": history.EXACT}]) == "the sum is not found"


def test_where_data_are_absent_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> Dataset:
        raise DataError(f"no {name} here")

    monkeypatch.setattr(history, "load", load)
    with pytest.raises(NotImplementedError, match="no mnist here"):
        history.session(history.SETUPS[0], 0, range(8))
