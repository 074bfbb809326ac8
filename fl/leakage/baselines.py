"""What can be guessed of an image without any attack: whatever an attack finds is to be better than these."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
