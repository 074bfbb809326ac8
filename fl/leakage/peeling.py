"""Images read out of a sum one after another, through a first linear layer: no optimiser, no single update.

A neuron that one image alone fires holds it: its weight gradient over its bias gradient. Who has the model
can tell whether what it reads there is an image, with nothing of the truth: it works out what that image, of
each label, would have added to the neuron, and no mixture adds just that. A true image is taken off the whole
sum, with all that it added to it, and of neurons that two had fired one is left: the sum is peeled, as an
erasure code is decoded.

Where clients clip, each scales all that it sends by a factor of its own. Several neurons that hold one image
tell that, too, as what they say of it must agree, and all images of that client are then taken off with it.

Of several local steps it is known but roughly what an image added, since the model moved in between: then an
image is what several neurons agree on, and nothing is taken off.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from fl.config.section import ConfigError
from fl.leakage.attack import Budget, Found, Guess, Knowledge
from fl.leakage.gradients import Matching
from fl.leakage.views import Part, View
from fl.models.architectures import Centred

Vector = NDArray[np.float64]

BLURRED: Final = 0.04  # standard deviation of a pixel, from rounding: above it nothing is read off a neuron
FLOAT: Final = 1e-7  # of the largest number: what an update in float32 does not know
LATITUDE: Final = 4.0  # standard deviations, and
LOOSE: Final = 2e-3  # a share, by which a neuron may differ from what an image would have added in one step,
LOOSER: Final = 0.1  # and in one of several
TELLING: Final = 3  # neurons that hold one image, to learn a client's factor by
RANGE: Final = 5.0  # standard deviations that a pixel may leave [0, 1] by


def peeling(view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
    """Images out of sums, each taken off the sum before the next is read off a neuron of its own.

    Source: Marchand et al., SRATTA, ICML 2023, reads the neurons; the check and the peeling: this project.
    """
    return tuple(_of_part(part, knowledge, budget) for part in view.parts)


def _of_part(part: Part, knowledge: Knowledge, budget: Budget) -> Found:
    since, images = time.process_time(), knowledge.images_of(part)
    matching = Matching(knowledge.at(part), part.updates[0], len(part.members))
    net = FirstLayer.of(matching.model)
    left = Sum.of(net, matching, images, part.deviation)
    if knowledge.clipped and left.exact:
        left = replace(left, factors=[], unknown=len(part.members))
    until = budget.until(images)
    while left.peel(images) and left.exact and len(left.images) < images and time.process_time() < until:
        pass
    return left.found(images, knowledge, time.process_time() - since)


@dataclass(frozen=True)
class FirstLayer:
    """A model in two: the linear layer that images enter first, and all that follows it. centred: images are
    brought to [-1, 1] before.
    """

    first: nn.Linear
    rest: nn.Sequential
    centred: bool

    @classmethod
    def of(cls, model: nn.Module) -> FirstLayer:
        """Raises: ConfigError for a model that begins with anything else than a linear layer with a bias."""
        layers = list(model.children())
        at = next(i for i, layer in enumerate(layers) if not isinstance(layer, Centred | nn.Flatten))
        first = layers[at]
        if not isinstance(first, nn.Linear) or first.bias is None:
            raise ConfigError(
                f"peeling reads what enters a first linear layer with a bias, and this model begins with "
                f"{type(first).__name__}: try --model mlp-1000"
            )
        centred = any(isinstance(layer, Centred) for layer in layers[:at])
        return cls(first, nn.Sequential(*layers[at + 1 :]), centred)

    @property
    def size(self) -> int:
        return self.first.weight.numel() + self.first.bias.numel()

    @property
    def classes(self) -> int:
        *_, last = (layer for layer in (self.first, *self.rest) if isinstance(layer, nn.Linear))
        return last.out_features

    def added(self, x: Vector) -> Vector:
        """(C, m, H): what each of these inputs, (m, d), with each label adds to the gradient of the bias; to
        that of the weights it adds the same times itself.
        """
        before = self.first(torch.tensor(x)).detach().requires_grad_()
        logits = self.rest(before)
        each = []
        for label in range(self.classes):
            loss = cross_entropy(logits, torch.full((len(x),), label), reduction="sum")
            each.append(torch.autograd.grad(loss, before, retain_graph=True)[0].numpy())
        return np.stack(each)


@dataclass
class Sum:
    """What is left of a sum of gradients of the first layer. weight: (H, d), bias: (H,). deviation: (H,), of
    each number of a neuron, by rounding and by what was taken off a little wrong. exact: whether it is known
    what an image added, of one step. factors: of clients, by which they scaled what their images add, as far
    as they are known; unknown: how many more there may be.
    """

    net: FirstLayer
    weight: Vector = field(repr=False)
    bias: Vector = field(repr=False)
    deviation: Vector = field(repr=False)
    exact: bool
    factors: list[float] = field(default_factory=lambda: [1.0])
    unknown: int = 0
    images: list[Vector] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, net: FirstLayer, matching: Matching, images: int, deviation: float) -> Sum:
        """As the gradients of all images add up, each with weight 1: those of a step were averaged.
        deviation: of each number that was seen.
        """
        gradient = images * matching.mean_gradient()
        sizes = [net.first.weight.numel(), net.first.bias.numel()]
        weight, bias = (each.numpy().copy() for each in torch.split(gradient[: net.size], sizes))
        known = images * deviation / matching.reach + FLOAT * float(np.abs(gradient.numpy()).max())
        return cls(
            net, weight.reshape(len(bias), -1), bias, np.full(len(bias), known), exact=matching.steps == 1
        )

    def peel(self, images: int) -> bool:
        """Take off all images that several neurons tell of, or where none is told of so, the surest one; of
        several steps only the former.

        Returns: whether there was any.
        """
        read = self.read()
        if read is None:
            return False
        agreed = read.votes.max() >= 2 or not self.exact
        left = np.ones(len(read.x), dtype=bool)
        before = len(self.images)
        for i in np.lexsort((read.off[read.why, np.arange(len(read.x))], -read.votes)):
            why = int(read.why[i])
            tell = read.same[i] & left & (read.off[why] < 1)
            if not left[i] or (agreed and read.votes[i] < 2) or not tell.any():
                continue
            left &= ~read.same[i]
            sure = 1 / np.square(read.deviation[tell])
            self._take((sure @ read.x[tell]) / sure.sum(), why, 1 / np.sqrt(sure.sum()))
            if not agreed or len(self.images) == images:
                break
        return len(self.images) > before

    def read(self, like: int | None = None) -> _Read | None:
        """What stands in neurons and may be an image by its pixels, and of some label by what it adds: to its
        own neuron, or to this one, where it adds the same to all that it fires.
        """
        clear = np.flatnonzero(np.abs(self.bias) > self.deviation / BLURRED)
        x = self.weight[clear] / self.bias[clear, None]
        deviation = self.deviation[clear] / np.abs(self.bias[clear])
        low = -1.0 if self.net.centred else 0.0
        slack = RANGE * deviation + 1e-3
        inside = (x.min(axis=1, initial=np.inf) > low - slack) & (x.max(axis=1, initial=-np.inf) < 1 + slack)
        clear, x, deviation = clear[inside], np.clip(x[inside], low, 1), deviation[inside]
        if not len(clear):
            return None
        own = self.net.added(x)[:, np.arange(len(clear)), clear if like is None else like]
        told = self._learn(clear, own, _same(x, deviation)) if self.unknown else np.ones(len(clear), bool)
        off = self._off(clear, own)
        true = told & (off.min(axis=0, initial=np.inf) < 1)
        return _Read.of(x[true], deviation[true], off[:, true]) if true.any() else None

    def _off(self, clear: NDArray[np.int64], own: Vector) -> Vector:
        """(F C, m): how far m neurons are from what their content adds to them, (C, m), by each factor."""
        each = [np.abs(f * own - self.bias[clear]) for f in self.factors]
        off: Vector = np.concatenate([own[:0], *each]) / self._allowed(clear)
        return off

    def _allowed(self, clear: NDArray[np.int64]) -> Vector:
        loose = LOOSE if self.exact else LOOSER
        allowed: Vector = LATITUDE * self.deviation[clear] + loose * np.abs(self.bias[clear])
        return allowed

    def _learn(self, clear: NDArray[np.int64], own: Vector, same: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Learn factors on which neurons agree that hold one image, those that most agree on first.

        Returns: (m,), of which no factor that is not known explains more: by a wrong one a few of many agree,
        on a wrong label.
        """
        bias, allowed = self.bias[clear], self._allowed(clear)
        factor = bias / np.where(own == 0, np.inf, own)  # (C, m)
        i, j = np.nonzero(same)
        within = allowed[j] + allowed[i] * np.abs(bias[j] / bias[i])
        agree = np.abs(factor[:, i] * own[:, j] - bias[j]) < within
        agree &= (factor[:, i] > 0) & (factor[:, i] < 1 + allowed[i] / np.abs(bias[i]))
        votes = np.stack([np.bincount(i, each, len(bias)) for each in agree])
        most = votes.max(axis=0)
        while True:
            known = ((self._off(clear, own) < 1) @ same.astype(np.float64)).max(axis=0, initial=0)
            told: NDArray[np.bool_] = (most < TELLING) | (2 * known >= most)
            if not self.unknown or told.all():
                return told
            at = int((most * ~told).argmax())
            label = int(votes[:, at].argmax())
            tell = j[(i == at) & agree[label]]
            sure = np.square(own[label, tell] / allowed[tell])
            self.factors.append(float((sure @ factor[label, tell]) / sure.sum()))
            self.unknown -= 1

    def _take(self, x: Vector, why: int, deviation: float) -> None:
        factor, label = divmod(why, self.net.classes)
        if self.exact:
            added = self.factors[factor] * self.net.added(x[None])[label, 0]
            self.weight -= np.outer(added, x)
            self.bias -= added
            self.deviation = np.sqrt(np.square(self.deviation) + np.square(added * deviation))
        self.images.append(x)
        self.labels.append(label)

    def found(self, images: int, knowledge: Knowledge, seconds: float) -> Found:
        """Grey stands for those that were not found."""
        shape = knowledge.model.shape
        x = np.stack(self.images) if self.images else np.empty((0, self.weight.shape[1]))
        x = (x + 1) / 2 if self.net.centred else x
        claimed = np.arange(images) < len(x)
        grey = np.full((images - len(x), x.shape[1]), 0.5)
        labels = np.array(self.labels + [0] * len(grey), dtype=np.int64)
        found = np.concatenate([x, grey]).reshape(images, *shape)
        left = float(np.square(self.weight).sum())
        return Found(found, labels, left, seconds, claimed=claimed)


@dataclass(frozen=True)
class _Read:
    """x: (m, d), what m neurons hold. off: (F C, m), how far a neuron is from what its content adds to it by
    each factor and with each label, in parts of what is allowed. same: (m, m), which hold one image. why:
    (m,), the factor and label that most neurons agree on that do so; votes: (m,), how many these are.
    """

    x: Vector
    deviation: Vector
    off: Vector
    same: NDArray[np.bool_]
    why: NDArray[np.int64]
    votes: NDArray[np.float64]

    @classmethod
    def of(cls, x: Vector, deviation: Vector, off: Vector) -> _Read:
        same = _same(x, deviation)
        votes = (off < 1).astype(np.float64) @ same
        why = (votes - np.minimum(off, 1) / 2).argmax(axis=0)  # of as many votes what fits best
        return cls(x, deviation, off, same, why, votes.max(axis=0))


def _same(x: Vector, deviation: Vector) -> NDArray[np.bool_]:
    """(m, m): which of (m, d), each pixel of a deviation of (m,), are one image."""
    squares, variance = np.square(x).sum(axis=1), np.square(deviation)
    apart = (squares[:, None] + squares - 2 * x @ x.T) / x.shape[1]
    same: NDArray[np.bool_] = apart < 2.5 * (variance[:, None] + variance) + 1e-6
    return same
