"""Examples made worse, as a client's sensor or its annotator would: how much does training bear?"""

from __future__ import annotations

import numpy as np

from fl.data.examples import DataError, Inputs, Labels, Poison


def noise(
    x: Inputs, y: Labels, _classes: int, level: float, rng: np.random.Generator
) -> tuple[Inputs, Labels]:
    """A noisy sensor: independent Gaussian noise on every value of an image, clipped to [0, 1].

    level: its standard deviation, 0..100;  x: (N, C, H, W), in [0, 1].
    Raises: DataError for another level, and for text.
    """
    if x.dtype != np.float32:
        raise DataError("sensor noise is for images: take missing or labels for text")
    if not 0 <= level <= 100:
        raise DataError(f"noise of {level}: give a standard deviation of 0 to 100, for pixels in [0, 1]")
    noisy = x + np.float32(level) * rng.standard_normal(x.shape, dtype=np.float32)
    return np.clip(noisy, 0, 1), y


def missing(
    x: Inputs, y: Labels, _classes: int, level: float, rng: np.random.Generator
) -> tuple[Inputs, Labels]:
    """Dead attributes, the same ones in all examples: pixels are 0 in every channel; of a text, the words at
    those places of its window are token 0, unknown.

    level: the share of pixels or of places, in [0, 1], rounded to a whole number of them.
    Raises: DataError for another level.
    """
    _share(level)
    attributes = x[0, 0].size if x.ndim == 4 else x.shape[1]
    dead = rng.permutation(attributes)[: round(level * attributes)]
    worse = x.copy()
    worse.reshape(len(x), -1, attributes)[:, :, dead] = 0
    return worse, y


def labels(
    x: Inputs, y: Labels, classes: int, level: float, rng: np.random.Generator
) -> tuple[Inputs, Labels]:
    """Wrong labels: random examples get one of the other classes, each as likely.

    level: the share of the examples, in [0, 1], rounded to a whole number of them;  classes >= 2.
    Raises: DataError for another level, and where there is no other class.
    """
    _share(level)
    if classes < 2:
        raise DataError("labels of a single class cannot be replaced by another")
    wrong = rng.permutation(len(y))[: round(level * len(y))]
    worse = y.copy()
    worse[wrong] = (y[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return x, worse


def _share(level: float) -> None:
    if not 0 <= level <= 1:
        raise DataError(f"a share of {level} cannot be made worse: give one from 0 to 1")


CORRUPTERS: dict[str, Poison] = {"noise": noise, "missing": missing, "labels": labels}
