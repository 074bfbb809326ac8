"""What answers are worth, beside numbers counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fl.scores import ByClass, Fairness, success

# Four of class 0, three of 1, two of 2, none of 3 and 4; nothing is taken for 4.
TRUTH = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
ANSWERS = np.array([0, 0, 0, 1, 1, 1, 2, 0, 3])
SCORES = ByClass.of(TRUTH, ANSWERS, 5)


def test_precision_recall_and_f1_are_of_each_class_against_all_others() -> None:
    np.testing.assert_array_equal(SCORES.held, [4, 3, 2, 0, 0])
    np.testing.assert_allclose(SCORES.precision, [3 / 4, 2 / 3, 0, 0, np.nan])
    np.testing.assert_allclose(SCORES.recall, [3 / 4, 2 / 3, 0, np.nan, np.nan])
    np.testing.assert_allclose(SCORES.f1, [3 / 4, 2 / 3, 0, 0, np.nan])


def test_the_rest_is_the_micro_f1_over_all_classes_but_the_victim() -> None:
    """Of 1, 2, 3: two right, of five that there are and five that were taken for one of them."""
    assert SCORES.rest(0) == 2 * 2 / (5 + 5)
    assert SCORES.rest(1) == 2 * 3 / (6 + 6)
    assert SCORES.rest(3) == 2 * 5 / (9 + 8)  # 3 was said once, of what is none: taken from nobody here
    assert np.isnan(ByClass.of(np.zeros(2, int), np.zeros(2, int), 2).rest(0))


def test_a_backdoor_succeeds_with_what_is_not_of_its_target_anyway() -> None:
    assert success(TRUTH, ANSWERS, 0) == 1 / 5  # three more are taken for 0, which they are
    assert success(TRUTH, np.full(9, 1), 1) == 1
    assert np.isnan(success(np.ones(3, int), np.ones(3, int), 1))


def test_fairness_counts_each_client_once() -> None:
    accuracies = [0.5] * 12 + [1.0] * 12
    fair = Fairness.of(accuracies)
    assert (fair.mean, fair.deviation) == (0.75, 0.25)
    assert fair.worst == 0.5
    assert fair.index == pytest.approx(18**2 / (24 * 15))
    assert Fairness.of([0.25, *[1.0] * 10]).worst == pytest.approx(1.25 / 2)  # two of eleven
    assert Fairness.of([0.4] * 7).index == pytest.approx(1)
    assert Fairness.of([0, 0, 0, 0.7]).index == pytest.approx(1 / 4)
    assert np.isnan(Fairness.of([0.0, 0.0]).index)
    with pytest.raises(ValueError, match="there are no clients to be fair to"):
        Fairness.of([])
