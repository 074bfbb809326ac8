"""Whether two models are near each other, by what a party keeps of one: nobody else can tell from it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.prg import keystream

NEAR: Final = 1e-2
"""Models whose difference is no longer than this share of the longer one are alike. Measured on digits: from
here on what two sessions' difference has in common with the victim's update falls (docs/threats.md)."""
SKETCH: Final = 1024
"""Numbers kept of a model: its distances to others come out within a few percent."""


def sketch(model: NDArray[np.floating], key: bytes) -> NDArray[np.float32]:
    """(SKETCH,) little-endian float32 of a (d,) model: each coordinate is added, with a sign, to one number
    (Charikar, Chen and Farach-Colton 2002). Which, only the holder of the key knows: nobody makes models
    whose difference it does not see.
    """
    made, at = np.zeros(SKETCH), 0
    for words in keystream(key, len(model), np.uint16):
        x = np.nan_to_num(model[at : at + len(words)].astype(np.float64), posinf=0, neginf=0)
        signs = 1.0 - 2.0 * (words >> 15)
        made += np.bincount(words % SKETCH, x * signs, SKETCH)
        at += len(words)
    most = np.finfo(np.float32).max  # else infinite, and near to nothing, not even to itself
    return np.clip(made, -most, most).astype("<f4")


def is_near(a: bytes, b: bytes) -> bool:
    """Whether two sketches are near; two empty ones, of no model, are."""
    if not a or not b:
        return not a and not b
    x, y = (np.frombuffer(raw, "<f4").astype(np.float64) for raw in (a, b))
    return bool(np.linalg.norm(x - y) <= NEAR * max(np.linalg.norm(x), np.linalg.norm(y)))
