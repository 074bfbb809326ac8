"""The benchmark of starts, of an attack that is told how fast it is to be."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import inverted
from benchmarks.harness import Row
from benchmarks.leakage import starts
from fl.data import Dataset
from fl.leakage import apart
from fl.leakage.attack import Budget, Found, Guess, Knowledge
from fl.leakage.starts import NAMES
from fl.leakage.views import View
from tests.benchmarks.cases import rows_of, shown

rng = np.random.default_rng(0)
X, Y = rng.random((40, 1, 12, 12), dtype=np.float32), np.arange(40) % 10


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """From every start the first two images are found after the third iteration, the others never; from
    normal noise none is.
    """
    target: list[inverted.Target] = []
    drawn = inverted.Target.drawn

    def keep(dataset: str, seed: int) -> inverted.Target:
        target.append(drawn(dataset, seed))
        return target[-1]

    def run(attack: str, view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
        assert (attack, budget.starts, len(view.parts)) == ("inversion", 1, 8)
        assert knowledge.public is not None
        np.testing.assert_array_equal(knowledge.public.x, X[:20])
        grey, found = np.full((1, 1, 12, 12), 0.5), list[Found]()
        for u, (x, y) in enumerate(zip(target[-1].x, target[-1].y, strict=True)):
            last = x[None] if u < 2 and budget.start != "normal" else grey
            found.append(Found(last, np.array([y]), path=np.stack([grey, grey, last])))
        return tuple(found)

    monkeypatch.setattr(
        inverted, "load", lambda name: Dataset(name, X[:20], Y[:20], X[20:], Y[20:], classes=10)
    )
    monkeypatch.setattr(starts.Target, "drawn", keep)
    monkeypatch.setattr(apart, "run", run)
    return rows_of(starts)


def test_of_every_start_it_is_told_after_which_iteration_an_image_is_there(rows: list[Row]) -> None:
    assert [row["start"] for row in rows] == list(NAMES)
    for row in rows:
        never = row["start"] == "normal"
        assert row["after"] == [None] * 8 if never else [3, 3, *[None] * 6]
        # What ended early stays as it ended.
        assert [len(row[by]) for by in ("by_ssim", "by_mse")] == [starts.LOOKS] * 2
        assert row["by_mse"][2:] == [row["by_mse"][2]] * (starts.LOOKS - 2)
        assert (row["by_ssim"][2] > row["by_ssim"][1] + 0.2) is not never
        assert (row["by_mse"][2] < row["by_mse"][1]) is not never


def test_those_that_are_never_there_are_the_last_in_the_median(rows: list[Row]) -> None:
    shown(starts, rows)
    header, lines = starts.table(rows).header, starts.table(rows).rows
    cells = [dict(zip(header, line, strict=True)) for line in lines]
    assert {(cell["20 dB after"], cell["reached"]) for cell in cells} == {
        ("never", "2 of 8"),
        ("never", "0 of 8"),
    }
    more = [row | {"after": [1, 2, 3, 4, 5, None, None, None]} for row in rows]
    assert starts.table(more).rows[0][2] == "4"
