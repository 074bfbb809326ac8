"""Validation data come from the training set, in proportion, and nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.data import DataError, Dataset, hold_out, keep_back


def numbered(labels: list[int]) -> Dataset:
    """Every example another image, so that each can be told."""
    y = np.array(labels, dtype=np.int64)
    x = np.arange(len(y), dtype=np.float32)[:, None, None, None]
    return Dataset("numbered", x, y, -x[:3], y[:3], classes=10)


@given(
    labels=st.lists(st.integers(0, 9), min_size=2, max_size=200),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
def test_every_training_example_is_on_one_side_and_classes_stay_in_proportion(
    labels: list[int], fraction: float, seed: int
) -> None:
    dataset = numbered(labels)
    try:
        less, x, y = hold_out(dataset, fraction, np.random.default_rng(seed))
    except DataError:
        assert round(len(labels) * fraction) == 0 or len(labels) < 20 or max(np.bincount(labels)) == 1
        return
    numbers = np.concatenate([less.train_x, x]).ravel().astype(np.int64)
    assert np.array_equal(np.sort(numbers), np.arange(len(labels)))
    assert np.array_equal(np.concatenate([less.train_y, y]), dataset.train_y[numbers])
    sizes, held = (np.bincount(of, minlength=10) for of in (dataset.train_y, y))
    assert (held <= np.maximum(sizes - 1, 0)).all()
    assert (np.abs(held - sizes * fraction) <= 1).all()
    assert less.test_x is dataset.test_x
    assert (less.classes, less.name) == (10, "numbered")


def test_the_share_is_exact_where_classes_are_large_enough() -> None:
    less, x, y = hold_out(numbered([0] * 33 + [1] * 33 + [2] * 34), 0.15, np.random.default_rng(0))
    assert (len(less.train_y), len(x), len(y)) == (85, 15, 15)


def test_another_seed_holds_out_others_and_the_same_the_same() -> None:
    dataset = numbered([0] * 50)
    one, again, other = (hold_out(dataset, 0.2, np.random.default_rng(seed))[1] for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_what_the_server_keeps_is_dealt_to_nobody_and_kept_once() -> None:
    dataset = numbered([0] * 50 + [1] * 50)
    kept = keep_back(dataset, 0.2, 15, np.random.default_rng(0))
    assert kept.validation is not None
    assert kept.root is not None
    assert (len(kept.validation[1]), len(kept.root[1])) == (20, 15)
    numbers = np.concatenate([kept.dealt.train_x, kept.validation[0], kept.root[0]]).ravel()
    assert np.array_equal(np.sort(numbers), np.arange(100))
    assert kept.dealt.test_x is dataset.test_x
    # Who wants root data too decides by the same validation data.
    alone = keep_back(dataset, 0.2, 0, np.random.default_rng(0))
    assert alone.validation is not None
    assert np.array_equal(alone.validation[0], kept.validation[0])
    assert alone.root is None
    nothing = keep_back(dataset, 0.0, 0, np.random.default_rng(0))
    assert (nothing.dealt, nothing.validation) == (dataset, None)


def test_the_server_does_not_keep_all() -> None:
    with pytest.raises(DataError, match="root = 80: of 80 training examples that is all: give fewer"):
        keep_back(numbered([0] * 50 + [1] * 50), 0.2, 80, np.random.default_rng(0))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_a_share_outside_of_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(DataError, match="cannot be held out: give one between 0 and 1"):
        hold_out(numbered([0, 0, 1, 1]), fraction, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("labels", "fraction", "says"),
    [
        ([0] * 9, 0.01, "0.01 of 9 training examples of 1 class is none: hold out a larger share"),
        ([0, 1, 2, 3], 0.9, "0.9 of 4 training examples of 4 classes is none: hold out a larger share"),
    ],
)
def test_nothing_to_hold_out_is_refused(labels: list[int], fraction: float, says: str) -> None:
    with pytest.raises(DataError, match=says):
        hold_out(numbered(labels), fraction, np.random.default_rng(0))
