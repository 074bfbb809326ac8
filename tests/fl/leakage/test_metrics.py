"""How near a guess is: each metric against a number worked out another way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multinomial

from fl.leakage.baselines import CLASS_MEAN, CONSTANT, GREY, MEAN, baselines, likely_counts
from fl.leakage.metrics import BEST_PSNR, Scores, identified, l2, matched, mse, psnr, ssim

rng = np.random.default_rng(19)
IMAGES = rng.random((5, 3, 11, 11)).astype(np.float32)


def test_mse_is_of_pixels_in_range_unless_it_is_asked_for_unclipped() -> None:
    truth, guess = np.zeros((2, 1, 2, 2)), np.full((2, 1, 2, 2), 0.5)
    guess[1] = 3.0
    assert mse(truth, guess).tolist() == [0.25, 1.0]
    assert mse(truth, guess, clipped=False).tolist() == [0.25, 9.0]
    assert l2(truth, guess).tolist() == [1.0, 2.0]  # 4 pixels


def test_psnr_is_in_decibels_of_the_whole_range_and_ends_somewhere() -> None:
    truth = np.zeros((2, 1, 2, 2))
    assert psnr(truth, np.stack([truth[0] + 0.1, truth[0]])) == pytest.approx([20.0, BEST_PSNR])


def test_ssim_of_one_window_is_the_published_formula() -> None:
    x, y = IMAGES[0, 0].astype(np.float64), IMAGES[1, 0].astype(np.float64)
    at = np.arange(11) - 5
    w = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * 1.5**2))
    w /= w.sum()
    mean_x, mean_y = (w * x).sum(), (w * y).sum()
    var_x, var_y = (w * (x - mean_x) ** 2).sum(), (w * (y - mean_y) ** 2).sum()
    together = (w * (x - mean_x) * (y - mean_y)).sum()
    expected = ((2 * mean_x * mean_y + 1e-4) * (2 * together + 9e-4)) / (
        (mean_x**2 + mean_y**2 + 1e-4) * (var_x + var_y + 9e-4)
    )
    assert ssim(IMAGES[:1, :1], IMAGES[1:2, :1])[0] == pytest.approx(expected)
    assert ssim(IMAGES, IMAGES) == pytest.approx(np.ones(5))
    assert np.isnan(ssim(np.zeros((1, 1, 8, 8)), np.zeros((1, 1, 8, 8)))).all()  # smaller than the window


def test_guesses_of_a_sum_are_matched_whatever_their_order() -> None:
    order = np.array([3, 0, 4, 1, 2])
    noisy = IMAGES[order] + 0.05 * rng.standard_normal(IMAGES.shape)
    assert order[matched(IMAGES, noisy)].tolist() == [0, 1, 2, 3, 4]


def test_the_matching_is_the_best_of_all_together_not_of_each_in_turn() -> None:
    truth = np.array([0.0, 0.4]).reshape(2, 1, 1, 1)
    guess = np.array([0.3, 0.9]).reshape(2, 1, 1, 1)
    # Image 1 is nearest to guess 0; image 0, whose best it is too, loses less by far as its owner.
    assert matched(truth, guess).tolist() == [0, 1]


def test_an_image_is_identified_where_it_is_the_nearest_of_a_gallery() -> None:
    guess = IMAGES[[1, 2]].copy()
    guess[1] = IMAGES[4]
    assert identified(guess, IMAGES, np.array([1, 2])).tolist() == [True, False]


def test_scores_hold_no_number_that_json_does_not() -> None:
    small = np.zeros((1, 1, 8, 8))
    told = Scores.of(small, np.array([3]), small, np.array([4])).told()
    assert told["ssim"] == [None]
    assert (told["psnr"], told["labels"]) == ([BEST_PSNR], [False])


def test_baselines_are_grey_what_is_public_and_the_best_constant() -> None:
    public, of = np.stack([np.full((1, 2, 2), v) for v in (0.0, 0.2, 1.0)]), np.array([0, 0, 1])
    truth, labels = np.stack([np.full((1, 2, 2), 0.1), np.full((1, 2, 2), 0.7)]), np.array([0, 2])
    found = {name: each[:, 0, 0, 0] for name, each in baselines(truth, labels, public, of).items()}
    assert found[GREY] == pytest.approx([0.5, 0.5])
    assert found[MEAN] == pytest.approx([0.4, 0.4])
    assert found[CLASS_MEAN] == pytest.approx([0.1, 0.4])  # of a class nobody has seen, the mean
    assert found[CONSTANT] == pytest.approx([0.1, 0.7])


def test_no_guess_of_labels_hits_more_than_the_likely_counts() -> None:
    """Against every guess there is, over every multiset that there is."""
    shares, n = np.array([0.6, 0.3, 0.1]), 4
    every = [np.array([i, j, n - i - j]) for i in range(n + 1) for j in range(n + 1 - i)]
    chances = [multinomial.pmf(true, n, shares) for true in every]
    hits = [np.dot(chances, [np.minimum(true, guess).sum() for true in every]) for guess in every]
    counts, expected = likely_counts(shares, n)
    assert (expected, counts.sum()) == (pytest.approx(max(hits)), n)
    assert counts.tolist() == every[int(np.argmax(hits))].tolist()
