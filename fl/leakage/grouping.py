"""Whose an image is that came out of sums: nobody but who was in all the sums that it came out of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fl.leakage.attack import Guess
from fl.leakage.views import View
from secagg.errors import ClientId

ALIKE: Final = 2e-3  # mean squared difference of what is read twice of one image, each within 30 dB of it


@dataclass(frozen=True)
class Group:
    """What was read of one image. image: (C, H, W), their mean. sums: the parts of the view that it came out
    of. clients: those who were in all of them, of whom one has it.
    """

    image: NDArray[np.float64] = field(repr=False)
    label: int
    sums: tuple[int, ...]
    clients: frozenset[ClientId]


def grouped(view: View, guess: Guess) -> tuple[Group, ...]:
    """The images that an attack says to have found in sums of several rounds, each once, with whose they can
    be. Every server knows who is in a sum, and an example is one client's.

    Source: none, made for this project; Marchand et al., SRATTA, ICML 2023, group by the steps in between.
    """
    if not any(one.claimed.any() for one in guess if one.claimed is not None):
        return ()
    images, labels, sums = _claims(guess)
    flat = images.reshape(len(images), -1)
    squares = np.square(flat).sum(axis=1)
    left, groups = np.ones(len(flat), dtype=bool), []
    for i in range(len(flat)):
        if left[i]:
            apart = (squares + squares[i] - 2 * flat @ flat[i]) / flat.shape[1]
            same = np.flatnonzero(left & (apart < ALIKE) & (labels == labels[i]))
            left[same] = False
            of = tuple(sorted({int(sums[j]) for j in same}))
            members = frozenset.intersection(*(view.parts[j].members for j in of))
            groups.append(Group(images[same].mean(axis=0), int(labels[i]), of, members))
    return tuple(groups)


def _claims(guess: Guess) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """(images, labels, which part) of all that an attack says to be images."""
    images: Sequence[NDArray[np.float64]] = [
        one.images[one.claimed] for one in guess if one.images is not None and one.claimed is not None
    ]
    labels = [one.labels[one.claimed] for one in guess if one.claimed is not None]
    sums = [np.full(len(each), i) for i, each in enumerate(labels)]
    return np.concatenate(images), np.concatenate(labels), np.concatenate(sums)
