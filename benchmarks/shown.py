"""Clients that show what they have trained among decoys, and what a server sees of that."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import avg_pool2d

from benchmarks.guessed import Shown, Vector
from fl.config.plan import LocalPlan
from fl.data import DataError, load
from fl.federation.decoys import KINDS, Training, decoys, like
from fl.models.architectures import build
from fl.models.weights import from_vector, to_vector
from fl.training.local import train
from secagg import Among, Bounded, Decoys, run
from secagg.crypto import KEY_BYTES
from secagg.decoys.messages import Candidates
from secagg.errors import ClientId
from secagg.record import Recorder
from secagg.wire import decode

ALIKE, MATCHED, IN_TURN = "others' updates", "others', matched", "all in turn"
SENT: Final[Mapping[str, Sequence[str]]] = {
    **{kind: (kind,) for kind in KINDS},
    IN_TURN: tuple(KINDS),
    ALIKE: (),
    MATCHED: (),
}
"""Name -> the kinds of decoys that clients make; ALIKE and MATCHED of examples that no client has."""

PLAN: Final = LocalPlan(steps=10, batch_size=20, lr=0.05, momentum=0.0)
MODEL: Final = "mlp"
Examples = tuple[torch.Tensor, torch.Tensor]


class Images:
    """MNIST at 14 x 14 pixels, dealt out at random: nobody has an example of another's.

    Raises: NotImplementedError where the data set is not to be had.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        try:
            dataset = load("mnist")
        except DataError as error:
            raise NotImplementedError(str(error)) from error
        self._x, self._y, self.classes = dataset.train_x, dataset.train_y, dataset.classes
        self._left = rng.permutation(len(self._y))

    def take(self, *shape: int) -> Examples:
        """(*shape, ...), (*shape)."""
        count = int(np.prod(shape))
        some, self._left = self._left[:count].reshape(shape), self._left[count:]
        x = avg_pool2d(torch.tensor(self._x[some.ravel()]), 2)
        return x.reshape(*shape, *x.shape[1:]), torch.tensor(self._y[some])

    def model(self, seed: int) -> nn.Module:
        _, channels, height, width = self._x.shape
        return build(MODEL, (channels, height // 2, width // 2), self.classes, seed)


@dataclass
class Cohort:
    """Clients that train from one model, each of whom shows K candidates a round.

    examples: (clients, K, examples, ...), what they hold; all but the first of a client's are somebody
    else's, of which decoys are made where these are `ALIKE` or `MATCHED`.
    """

    examples: Examples
    kind: str
    model: nn.Module
    classes: int
    earlier: NDArray[np.float32] | None = None

    def trained(self) -> dict[ClientId, Among]:
        """What they have in this round: of each its update, and K - 1 decoys."""
        return {u: self._among(x, y) for u, (x, y) in enumerate(zip(*self.examples, strict=True))}

    def _among(self, x: torch.Tensor, y: torch.Tensor) -> Among:
        training = Training(self.model, x[0], y[0], self.classes, PLAN, self.earlier)
        true = training.of(self.model, y[0])
        if self.kind in (ALIKE, MATCHED):
            others = [update(self.model, *own) for own in zip(x[1:], y[1:], strict=True)]
            if self.kind == MATCHED:
                others = [like(other, true.upload, layers_of(self.model)) for other in others]
            return Among(true.upload, others)
        # As `fl` does: what cannot be made in the first round is of another kind there.
        kinds = SENT[self.kind] if self.earlier is not None else tuple(KINDS)
        made = decoys(training, true, len(x) - 1, kinds=kinds)
        return Among(true.upload, [decoy.upload for decoy in made])

    def move(self, by: Vector) -> None:
        """By the mean of all updates."""
        self.earlier = to_vector(self.model)
        from_vector(self.model, self.earlier + by.astype(np.float32))


def update(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Vector:
    """(d,): what a client sends that trains on these images once."""
    return train(model, x, y, PLAN, os.urandom(KEY_BYTES), counting=False).upload


def layers_of(model: nn.Module) -> list[int]:
    """Numbers in each of its tensors, in order."""
    return [parameter.numel() for parameter in model.parameters()]


def in_session(scheme: Decoys, sent: Mapping[ClientId, Among]) -> tuple[Shown, Vector]:
    """(what the server sees of a session: all candidates; the mean that a client keeps)."""
    recorder, (spec,) = Recorder({None}), scheme.vectors.values()
    total = run(scheme, dict(sent), instrument=partial(recorder.server, b""))
    assert isinstance(spec, Bounded)  # noqa: S101 - as it was made
    step = spec.bound / spec.levels
    uploads = {u: raw for round, u, raw in recorder.servers[0].received if round == scheme.upload_round}
    shown = {}
    for u, raw in uploads.items():
        candidates = scheme.plan.unpack(decode(Candidates, raw).vectors)
        shown[u] = step * np.array([x.ravel()[: spec.length] for x in candidates])
    return shown, total.mean[""]


def pretended(sent: Mapping[ClientId, Among], spec: Bounded, rng: np.random.Generator) -> Shown:
    """What the server would see of them, the true one first."""
    every = {u: np.array([among[""], *(decoy[""] for decoy in among.decoys)]) for u, among in sent.items()}
    step = spec.bound / spec.levels
    return {u: step * np.floor(x / step + rng.random(x.shape)) for u, x in every.items()}


def mean_update(model: nn.Module, own: Examples) -> Vector:
    """own: (trainings, examples, ...)."""
    mean: Vector = np.mean([update(model, x, y) for x, y in zip(*own, strict=True)], axis=0)
    return mean
