"""What can be guessed without any attack: whatever an attack finds is to be better than these."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

Images = NDArray[np.floating]
Labels = NDArray[np.int64]

GREY, MEAN, CLASS_MEAN, CONSTANT = "grey", "mean image", "class mean", "best constant"
TO_BEAT = (GREY, MEAN, CLASS_MEAN)
"""The best constant is told besides: nobody could know it, as it is chosen by the truth."""


def baselines(truth: Images, labels: Labels, public: Images, of: Labels) -> dict[str, NDArray[np.float64]]:
    """Name -> as many images as there are true ones.

    truth: (N, C, H, W) with their labels; the class mean is given the true ones, the best that can be guessed
    from labels alone. public, of: images of the same kind that are no secret, with theirs.
    """
    mean = public.mean(axis=0, dtype=np.float64)
    classes = {int(c): public[of == c].mean(axis=0, dtype=np.float64) for c in np.unique(labels) if c in of}
    constant = truth.mean(axis=(1, 2, 3), dtype=np.float64)[:, None, None, None]
    return {
        GREY: np.full(truth.shape, 0.5),
        MEAN: np.broadcast_to(mean, truth.shape).astype(np.float64),
        CLASS_MEAN: np.stack([classes.get(int(c), mean) for c in labels]),
        CONSTANT: np.broadcast_to(constant, truth.shape).astype(np.float64),
    }


def likely_counts(shares: NDArray[np.float64], labels: int) -> tuple[NDArray[np.int64], float]:
    """The best guess without any attack of so many labels, drawn by public shares: how many of each class,
    (classes,), and how many it hits in the mean, where a class of k guessed and K true ones has min(k, K).

    The mean of min(k, K) is the sum over j < k of P(K > j), with K ~ Bin(labels, share). Each further guess
    of a class adds less than the one before: the best is to take those that add most, one by one.

    shares: (classes,), 1 together.
    """
    counts, expected = np.zeros(len(shares), dtype=np.int64), 0.0
    for _ in range(labels):
        gain = binom.sf(counts, labels, shares)
        best = int(gain.argmax())
        counts[best] += 1
        expected += float(gain[best])
    return counts, expected
