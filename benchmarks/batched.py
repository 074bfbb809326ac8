"""Batches of images whose one mean gradient is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from benchmarks.begun import Row
from benchmarks.inverted import PUBLIC, Target
from fl.data import DataError, load
from fl.leakage.attack import Found, Guess, Knowledge, Public
from fl.leakage.baselines import TO_BEAT, baselines
from fl.leakage.inversion import SOLVED
from fl.leakage.metrics import identified, matched, psnr
from fl.leakage.verdicts import FAILED, FEWEST, reconstructed
from fl.leakage.views import Part, View
from fl.models.architectures import build
from fl.models.weights import from_vector

GALLERY: Final = 1_000  # public images among which a guess is to be told
RECOGNISED: Final = 20.0  # dB
FALLING: Final = 0.9  # of the loss at half of the time: an attack that ends below this has not ended


@dataclass(frozen=True)
class Batches:
    """Some batches of as many images, each with a gradient of its own.

    target: the images of one batch after another.
    """

    target: Target = field(repr=False)
    size: int

    @classmethod
    def drawn(
        cls, dataset: str, size: int, classes: int | None, seed: int, count: int | None = None
    ) -> Batches:
        """So many batches, or as few as hold 8 images, of the test set. classes: of each batch, as many
        images of one as of another; None for images of any.

        Raises: NotImplementedError where the data set is not to be had.
        """
        try:
            data = load(dataset)
        except DataError as error:
            raise NotImplementedError(str(error)) from error
        rng = np.random.default_rng(seed)
        count = count or -(-FEWEST // size)
        if classes is None:
            some = rng.choice(len(data.test_y), count * size, replace=False)
        else:
            some = np.concatenate([_of_classes(data.test_y, size, classes, rng) for _ in range(count)])
        x, public = cast(NDArray[np.float32], data.test_x), cast(NDArray[np.float32], data.train_x)
        target = Target(x[some], data.test_y[some], public[:PUBLIC], data.train_y[:PUBLIC], data.classes)
        return cls(target, size)

    def knowledge(self, model: str, seed: int) -> Knowledge:
        """Of first weights, drawn from the seed, by an attacker with images of its own, none of them true."""
        own = Public(self.target.public[:GALLERY], self.target.of[:GALLERY])
        return replace(self.target.knowledge(model, seed), examples=self.size, public=own)

    def view(self, knowledge: Knowledge) -> View:
        """Of each batch its gradient, in float32 as it would be sent."""
        described = knowledge.model
        model = build(described.model, described.shape, described.classes, 0)
        from_vector(model, knowledge.parameters)
        x, y = torch.tensor(self.target.x), torch.tensor(self.target.y)
        parts = []
        each = zip(torch.split(x, self.size), torch.split(y, self.size), strict=True)
        for i, (images, labels) in enumerate(each):
            loss = cross_entropy(model.eval()(images), labels)
            gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
            parts.append(Part(frozenset({i}), gradient.double().numpy()[None], self.size))
        return View(tuple(parts))

    def labels(self) -> NDArray[np.int64]:
        """(batches, size): of each, ascending, as a gradient says nothing of their order."""
        return np.sort(self.target.y.reshape(-1, self.size))

    def whole(self, guess: Guess) -> int:
        """In how many batches every label is right."""
        pairs = zip(self.labels(), guess, strict=True)
        return sum(np.array_equal(y, np.sort(one.labels)) for y, one in pairs)

    def hits(self, guess: Guess) -> int:
        """Of all images, how many labels are right: of k guessed of a class and K true ones min(k, K)."""
        classes = self.target.classes
        pairs = zip(self.labels(), guess, strict=True)
        both = (
            np.minimum(np.bincount(y, minlength=classes), np.bincount(one.labels, minlength=classes))
            for y, one in pairs
        )
        return sum(int(each.sum()) for each in both)

    def scored(self, guess: Guess) -> Row:
        """Guessed images beside the true ones of their batch, in the order that fits best. recognised,
        identified: how many of all; labels: in how many batches they are right.
        """
        true, images = self.target, []
        for i, one in enumerate(guess):
            found = cast(NDArray[np.float64], one.images)
            images.append(found[matched(true.x[i * self.size : (i + 1) * self.size], found)])
        made = np.concatenate(images)
        near = psnr(true.x, made)
        without = baselines(true.x, true.y, true.public, true.of)
        to_beat = {name: psnr(true.x, without[name]) for name in TO_BEAT}
        gallery = np.concatenate([true.public[:GALLERY], true.x])
        told = identified(made, gallery, len(gallery) - len(made) + np.arange(len(made)))
        return {
            "psnr": np.round(near, 2).tolist(),
            "recognised": int((near > RECOGNISED).sum()),
            "identified": int(told.sum()),
            "labels": self.whole(guess),
            "baselines": {name: round(float(each.mean()), 2) for name, each in to_beat.items()},
            "found": reconstructed(near, to_beat) if len(near) >= FEWEST else None,
            "losses": [float(f"{one.loss:.3g}") for one in guess],
            "ended": [ended(one) for one in guess],
            "seconds": round(sum(one.seconds for one in guess), 1),
        }


def ended(one: Found) -> str:
    """How: with nothing left to explain; while the loss still fell, so that more time would give more; or at
    a loss that more of the same does not lower.
    """
    if one.loss < SOLVED:
        return "solved"
    # Where half of the time was over before there was any loss it is not a number.
    return "stuck" if one.loss >= FALLING * one.halfway else "budget-bound"


def ends(all_: Sequence[str]) -> str:
    """How many attacks ended how."""
    return ", ".join(f"{all_.count(how)} {how}" for how in sorted(set(all_)))


def so(some: Sequence[Row], control: Sequence[Row]) -> str:
    """What may be said: nothing is said to be hidden that more time may find."""
    if any(row["found"] for row in some):
        return "leaks"
    if not all(row["found"] for row in control):
        return FAILED
    bound = any(end == "budget-bound" for row in some for end in row["ended"])
    return "not found in this time" if bound else "not found by this attack"


def _of_classes(
    labels: NDArray[np.int64], size: int, classes: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Which images: of so many classes, each of which has enough."""
    known, counts = np.unique(labels, return_counts=True)
    each = size // classes
    which = rng.choice(known[counts >= each], classes, replace=False)
    return np.concatenate([rng.choice(np.flatnonzero(labels == c), each, replace=False) for c in which])
