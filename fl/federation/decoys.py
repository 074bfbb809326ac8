"""Decoys: updates that a client might have sent, and did not, to hide its true one among (`secagg.decoys`).

Each comes of a training of its own, which begins like the true one and goes wrong somewhere, and is then
brought to the mean and the deviation that the true update has in every layer, so that no norm tells them
apart. What else does is for whoever measures it: docs/threats.md says what was found.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fl.config.plan import LocalPlan
from fl.config.secret import permutations
from fl.models.weights import from_vector
from fl.training.local import Diverged, LocalResult, train
from fl.training.step import PerExample
from secagg.crypto import KEY_BYTES


@dataclass(frozen=True)
class Training:
    """The training whose update is to be hidden.

    x: (n, ...), y: (n,), the client's examples, of so many classes. earlier: (d,), the model that it had
    received in the round before; None where it has none. per_example: as `fl.training.local.train`.
    """

    model: nn.Module
    x: torch.Tensor
    y: torch.Tensor
    classes: int
    plan: LocalPlan
    earlier: NDArray[np.float32] | None = None
    per_example: PerExample | None = None

    def of(self, model: nn.Module, y: torch.Tensor) -> LocalResult:
        """In an order of its own: two updates of one order would have more in common than others."""
        order, asked = os.urandom(KEY_BYTES), self.per_example
        return train(model, self.x, y, self.plan, order, per_example=asked, counting=False)


def other_labels(training: Training) -> LocalResult:
    """Every class is called by the name of another."""
    orders = permutations(os.urandom(KEY_BYTES), training.classes)
    other = next(order for order in orders if (order != np.arange(training.classes)).all())
    return training.of(training.model, torch.from_numpy(other).to(training.y)[training.y])


def shuffled_labels(training: Training) -> LocalResult:
    """There are as many labels of each class, and they are of other examples."""
    order = torch.from_numpy(_order(len(training.y))).to(training.y.device)
    return training.of(training.model, training.y[order])


def earlier_model(training: Training) -> LocalResult:
    """From the model of the round before. Not what was sent then, which the server would know by sight."""
    assert training.earlier is not None  # noqa: S101 - `decoys` has looked
    model = deepcopy(training.model)
    from_vector(model, training.earlier)
    return training.of(model, training.y)


Kind = Callable[[Training], LocalResult]
KINDS: Final[Mapping[str, Kind]] = {
    "other-labels": other_labels,
    "shuffled-labels": shuffled_labels,
    "earlier-model": earlier_model,
}


def decoys(
    training: Training,
    true: LocalResult,
    count: int,
    *,
    kinds: Sequence[str] = tuple(KINDS),
    matched: bool = True,
) -> list[LocalResult]:
    """So many updates to send beside the true one: of each kind in turn, as far as there can be one.

    matched: in every layer as long, and as far from zero in the mean, as the true one. What is told beside an
    update, the number of examples and the rest, is that of the true one in all: else it would tell which.
    """
    usable = [KINDS[kind] for kind in kinds if kind != "earlier-model" or training.earlier is not None]
    layers = [
        t.numel() for t in (*training.model.parameters(), *training.model.buffers()) if t.is_floating_point()
    ]
    uploads = [_trained(training, kind, true.upload, layers) for kind in islice(cycle(usable), count)]
    if matched:
        uploads = [like(upload, true.upload, layers) for upload in uploads]
    return [replace(true, upload=upload) for upload in uploads]


def _trained(
    training: Training, kind: Kind, true: NDArray[np.floating], layers: Sequence[int]
) -> NDArray[np.floating]:
    try:
        return kind(training).upload
    except Diverged:  # on labels that are wrong, which says nothing of the true training
        return np.concatenate([part[_order(len(part))] for part in _split(true, layers)])


def like(
    upload: NDArray[np.floating], true: NDArray[np.floating], layers: Sequence[int]
) -> NDArray[np.floating]:
    """The update with the mean and the standard deviation, and so the norm, of the true one in each layer.

    upload, true: (d,). layers: how many coordinates each has, d together.
    """
    parts = zip(_split(upload, layers), _split(true, layers), strict=True)
    matched = np.concatenate([_like(part.astype(np.float64), of.astype(np.float64)) for part, of in parts])
    return matched.astype(true.dtype)


def _like(part: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = part.std()
    if spread == 0:  # nothing of its own to be stretched
        return true[_order(len(true))]
    moved: NDArray[np.float64] = (part - part.mean()) * (true.std() / spread) + true.mean()
    return moved


def _split(vector: NDArray[np.floating], layers: Sequence[int]) -> list[NDArray[np.floating]]:
    return np.split(vector, np.cumsum(layers)[:-1])


def _order(n: int) -> NDArray[np.int64]:
    return next(permutations(os.urandom(KEY_BYTES), n))
