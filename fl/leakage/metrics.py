"""How near guessed images come to the true ones. Whoever scores has the truth; no attack has.

Images are (N, C, H, W), the true ones in [0, 1]. Pixels are clipped to that range unless a name says else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from scipy.optimize import linear_sum_assignment

Images = NDArray[np.floating]
Labels = NDArray[np.int64]
PerImage = NDArray[np.float64]

WINDOW, SIGMA = 11, 1.5  # Wang et al., IEEE Transactions on Image Processing 13(4), 2004, section III-B
BEST_PSNR: Final = 120.0  # of images that are equal to the last bit of float32; no JSON holds infinity


def mse(truth: Images, guess: Images, *, clipped: bool = True) -> PerImage:
    """(N,): mean squared error over pixels and channels."""
    near = np.clip(guess, 0, 1) if clipped else guess
    squares = np.square(near.astype(np.float64) - truth)
    each: PerImage = squares.reshape(len(truth), -1).mean(axis=1)
    return each


def l2(truth: Images, guess: Images) -> PerImage:
    """(N,): Euclidean distance, the square root of pixels times MSE."""
    return np.sqrt(math.prod(truth.shape[1:]) * mse(truth, guess))


def psnr(truth: Images, guess: Images) -> PerImage:
    """(N,): 10 log10(1 / MSE), in dB, at most BEST_PSNR."""
    each: PerImage = -10 * np.log10(np.maximum(mse(truth, guess), 10 ** (-BEST_PSNR / 10)))
    return each


def ssim(truth: Images, guess: Images) -> PerImage:
    """(N,): mean structural similarity (Wang et al. 2004) under a Gaussian window of 11 x 11, sigma 1.5, for
    values in [0, 1]; the mean over channels. NaN where an image is smaller than the window.
    """
    if min(truth.shape[2:]) < WINDOW:
        return np.full(len(truth), np.nan)
    x, y = truth.astype(np.float64), np.clip(guess, 0, 1).astype(np.float64)
    mean_x, mean_y = _windowed(x), _windowed(y)
    var_x, var_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similar = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    each: PerImage = similar.reshape(len(truth), -1).mean(axis=1)
    return each


def _windowed(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted means of every whole window in an image."""
    half = WINDOW // 2
    weights = np.exp(-np.square(np.arange(-half, half + 1)) / (2 * SIGMA**2))
    weights /= weights.sum()
    for axis in (2, 3):
        x = correlate1d(x, weights, axis=axis, mode="constant")
    return x[:, :, half:-half, half:-half]


def matched(truth: Images, guess: Images) -> NDArray[np.int64]:
    """(N,): which of as many guesses, or more, belongs to each true image, by the least MSE in all.

    A sum has no order: none is to be held against a guess. Source: Kuhn, 1955 (the Hungarian method).
    """
    x, near = truth.reshape(len(truth), -1).astype(np.float64), np.clip(guess, 0, 1)
    y = near.reshape(len(guess), -1).astype(np.float64)
    cost = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2 * x @ y.T
    _, columns = linear_sum_assignment(cost)
    return np.asarray(columns, dtype=np.int64)


def identified(guess: Images, gallery: Images, true: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,): whether of all images of a gallery, the true one among them, that nearest to the guess is it.

    Its mean is IIP, the identifiability precision. true: (N,), where in the gallery each true image stands.
    Source: Yin et al., CVPR 2021, section 4.1, in pixels.
    """
    flat = np.clip(guess, 0, 1).reshape(len(guess), -1)
    others = gallery.reshape(len(gallery), -1)
    # Of squared distances, but for what is the same of all of a guess.
    nearest = (np.square(others.astype(np.float64)).sum(axis=1) - 2 * flat @ others.T).argmin(axis=1)
    found: NDArray[np.bool_] = nearest == true
    return found


@dataclass(frozen=True)
class Scores:
    """Of N guessed images, each beside its true one; all (N,).

    labels: whether the guessed label is right.
    """

    psnr: PerImage
    mse: PerImage
    mse_unclipped: PerImage
    l2: PerImage
    ssim: PerImage
    labels: NDArray[np.bool_]

    @classmethod
    def of(
        cls, truth: Images, labels: NDArray[np.int64], guess: Images, guessed: NDArray[np.int64]
    ) -> Scores:
        """guess, guessed: in the order of the true ones."""
        return cls(
            psnr(truth, guess),
            mse(truth, guess),
            mse(truth, guess, clipped=False),
            l2(truth, guess),
            ssim(truth, guess),
            labels == guessed,
        )

    def told(self) -> dict[str, Any]:
        """As JSON holds it."""
        numbers = {
            name: [None if math.isnan(x) else round(float(x), 6) for x in getattr(self, name)]
            for name in ("psnr", "mse", "mse_unclipped", "l2", "ssim")
        }
        return numbers | {"labels": self.labels.tolist()}
