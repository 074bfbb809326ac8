"""The benchmarks of batches run, small, and measure what they say they do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks import batched
from benchmarks.batched import Batches, ended
from benchmarks.leakage import batches, batches_starts, cohorts
from fl.data import DataError, Dataset
from fl.leakage import apart
from fl.leakage.attack import Budget, Found, Guess, Knowledge
from fl.leakage.labels import labels
from fl.leakage.views import View
from fl.models.architectures import build
from tests.benchmarks.cases import rows_of, shown
from tests.fl.leakage.helpers import gradient

SEEN = list[tuple[View, Knowledge, Budget]]()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of 8 x 8 pixels of noise. What is attacked is kept; what is found is grey, with its labels."""
    rng = np.random.default_rng(0)
    x, y = rng.random((400, 1, 8, 8), dtype=np.float32), np.arange(400) % 10

    def here(attack: str, view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
        assert attack == "inversion"
        SEEN.append((view, knowledge, budget))
        told = labels(view, knowledge, budget, seed)
        return tuple(replace(one, images=np.full((len(one.labels), 1, 8, 8), 0.5)) for one in told)

    data = Dataset("noise", x[:200], y[:200], x[200:], y[200:], classes=10)
    monkeypatch.setattr(batched, "load", lambda name: data)
    monkeypatch.setattr(apart, "run", here)
    monkeypatch.setattr(cohorts, "SUMS", 2)
    SEEN.clear()


@pytest.mark.parametrize("benchmark_", [batches, batches_starts, cohorts])
def test_a_row_for_each_cell_and_a_control_beside_it(benchmark_: Any) -> None:
    shown(benchmark_, rows_of(benchmark_))


def test_batches_are_of_their_size_and_classes_and_hold_eight_images() -> None:
    rows = rows_of(batches)
    cells = [(row["size"], row["classes"], row["batches"]) for row in rows]
    assert cells == [(1, None, 8), (4, None, 2), (8, 1, 1)]
    assert [knowledge.examples for _, knowledge, _ in SEEN] == [1, 4, 8]
    assert rows[2]["labels"] == 1
    of_two = Batches.drawn("mnist", 4, 2, 0).target.y.reshape(2, 4)
    assert [np.unique(y, return_counts=True)[1].tolist() for y in of_two] == [[2, 2]] * 2


def test_what_is_seen_of_a_batch_is_the_gradient_of_its_mean_loss() -> None:
    some = Batches.drawn("mnist", 4, None, 0)
    knowledge = some.knowledge("lenet-zhu", 1)
    model = build("lenet-zhu", (1, 8, 8), 10, 1)
    for i, part in enumerate(some.view(knowledge).parts):
        mine = slice(4 * i, 4 * i + 4)
        np.testing.assert_allclose(
            part.updates[0], gradient(model, some.target.x[mine], some.target.y[mine]), atol=1e-5
        )


def test_images_and_labels_are_matched_within_their_batch_and_not_beyond() -> None:
    some = Batches.drawn("mnist", 4, None, 0)
    x, y = some.target.x.astype(np.float64).reshape(2, 4, 1, 8, 8), some.target.y.reshape(2, 4)

    def scored(first: int, second: int, wrong: int = 0) -> dict[str, Any]:
        return some.scored((Found(x[first, ::-1], y[first, ::-1]), Found(x[second], y[second] + wrong)))

    right = scored(0, 1)
    assert (right["psnr"], right["recognised"], right["identified"], right["labels"]) == (
        [120.0] * 8,
        8,
        8,
        2,
    )
    assert right["found"]
    assert scored(0, 1, wrong=1)["labels"] == 1
    swapped = scored(1, 0)
    assert (swapped["recognised"], swapped["identified"], swapped["found"]) == (0, 0, False)


@pytest.mark.parametrize(
    ("loss", "halfway", "how"),
    [
        (1e-11, 1e-3, "solved"),
        (0.5, 1.0, "budget-bound"),
        (0.95, 1.0, "stuck"),
        (0.95, float("nan"), "budget-bound"),
    ],
)
def test_an_attack_whose_loss_still_falls_has_not_ended(loss: float, halfway: float, how: str) -> None:
    assert ended(Found(None, np.array([0]), loss, halfway=halfway)) == how


def test_what_more_time_may_find_is_not_called_hidden() -> None:
    rows = rows_of(batches)
    assert batches.table(rows).rows[1][-1] == "attack failed on the control"
    with_control = [row | {"found": row["size"] == 1, "ended": ["budget-bound"]} for row in rows]
    assert [line[-1] for line in batches.table(with_control).rows] == [
        "leaks",
        *["not found in this time"] * 2,
    ]
    stuck = [row | {"ended": ["stuck"]} for row in with_control]
    assert batches.table(stuck).rows[1][-1] == "not found by this attack"


def test_one_image_is_looked_for_in_the_gradient_of_all() -> None:
    rows = rows_of(batches_starts)
    assert [row["looked"] for row in rows] == ["eight together"] * 2 + ["one alone"] * 2
    (together, eight, _), _, (alone, one, _), _ = SEEN
    np.testing.assert_array_equal(together.parts[0].updates, alone.parts[0].updates)
    assert (eight.images_of(together.parts[0]), one.images_of(alone.parts[0])) == (8, 1)
    for row in rows:
        assert len(row["psnr"]) == 8
        assert row["psnr"][row["best"]] == max(row["psnr"])


def test_sums_are_inverted_as_they_are_decoded_and_again_where_labels_were_counted_wrongly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = list[View]()

    def here(attack: str, view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
        seen.append(view)
        grey = np.full((5, 1, 8, 8), 0.5)
        told = [np.zeros(5, np.int64) if part.labels is None else part.labels for part in view.parts]
        return tuple(Found(grey, y, 1.0, halfway=1.0) for y in told)

    monkeypatch.setattr(apart, "run", here)
    inferred, given = (row for row in cohorts.run_case(5, 0, 1.0) if not isinstance(row, str))
    assert (inferred["told"], given["told"]) == ("inferred", "given")
    assert inferred["hits"] < given["hits"] == given["images"] == 10
    assert 0 < given["chance"] < 10
    counted, told = seen
    assert [sorted(part.members) for part in counted.parts] == [list(range(5))] * 2
    assert all(part.labels is None for part in counted.parts)
    assert len(told.parts) == 2
    # Of five clients' steps, and off by what rounding says; by less where numbers are 0.
    some = Batches.drawn("mnist", 5, None, 0)
    knowledge = replace(some.knowledge(cohorts.NET, 0), plan=cohorts.PLAN, examples=1)
    mean = np.mean(some.target.uploads(knowledge)[:5], axis=0)
    part = counted.parts[0]
    assert part.deviation / 2 < (part.updates[0] - mean).std() < 1.1 * part.deviation


def test_of_many_clients_labels_are_counted_and_no_image_is_looked_for() -> None:
    (row,) = (row for row in cohorts.run_case(50, 0, 1.0) if not isinstance(row, str))
    assert not SEEN
    assert (row["psnr"], row["images"]) == (None, 100)
    assert 0 < row["hits"] <= 100


def test_where_data_are_absent_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> Dataset:
        raise DataError(f"no {name} here")

    monkeypatch.setattr(batched, "load", load)
    with pytest.raises(NotImplementedError, match="no mnist here"):
        rows_of(batches)
