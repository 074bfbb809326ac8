"""Which updates of two rounds are one client's: by how alike they are, whoever says to have sent them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Updates = Sequence[NDArray[np.float64]]
"""Of each client what was read in a round, (K, d): its update, or among K candidates."""


def likeness(some: Updates, others: Updates) -> NDArray[np.float64]:
    """(n, m): the cosine of what each update differs by from the mean of its round; of candidates, of the two
    that are likest. Nothing in it says whose an update is.

    Source: none, made for this project. What all clients of a round have in common tells them not apart.
    """
    first, second = _directions(some), _directions(others)
    return np.array([[float((one @ other.T).max()) for other in second] for one in first])


def _directions(updates: Updates) -> list[NDArray[np.float64]]:
    mean = np.mean([update.mean(axis=0) for update in updates], axis=0)
    apart = [update - mean for update in updates]
    return [each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-300) for each in apart]


def auc(score: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """How often a pair that belongs together has a higher score than one that does not; of equal ones half:
    0.5 by chance. score, same: of the same shape, with pairs of both kinds.
    """
    ranks, positive = rankdata(score.ravel()), int(same.sum())
    above = ranks[same.ravel()].sum() - positive * (positive + 1) / 2
    return float(above / (positive * (same.size - positive)))
