"""A server that asks twice for one and the same: the second time by a model that clients take for another.

What a client sends follows from what a model computes, and many parameters compute the same. A client that is
to tell whether it was asked before, by a task and by nothing of its own data, has only the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fl.config.section import ConfigError
from fl.models.architectures import Centred, Description, Standardised, build

Vector = NDArray[np.float64]
Places = NDArray[np.int64]
FACTOR: Final = (
    1.05  # by which what enters a unit is larger, and what it gives smaller, or the other way round
)
SHIFT: Final = 0.1  # of the model's length, by which a last layer is shifted
NEARBY: Final = 0.02  # by which a model is really another: twice as far as clients take for near

WITH_WEIGHTS = (nn.Linear, nn.Conv2d)
BETWEEN = (nn.ReLU, nn.Sigmoid, nn.MaxPool2d, nn.Flatten, Centred, Standardised)


@dataclass(frozen=True)
class Disguise:
    """parameters: (d,), of the model that is sent in place of a first one. back: what an update of it, (d,),
    says of an update of the first one.
    """

    parameters: NDArray[Any] = field(repr=False)
    back: Callable[[Vector], Vector] = field(default=lambda update: update, repr=False)


def renumbered(model: Description, parameters: NDArray[Any], rng: np.random.Generator) -> Disguise:
    """Hidden units, or channels, in another order. Raises: ConfigError for a model that is not one layer
    after the other.
    """
    layers, order = _layers(model), np.arange(len(parameters))
    for before, after in pairwise(layers):
        units = rng.permutation(before.units)
        for places in before.entering + after.leaving(before.units):
            order[places] = order[places][units]
    back = np.argsort(order)
    return Disguise(parameters[order], lambda update: update[back])


def rescaled(model: Description, parameters: NDArray[np.float32], rng: np.random.Generator) -> Disguise:
    """What enters each hidden unit times c, and what it gives over c: with ReLU between it computes the same.
    The gradient by c w is that by w, over c: one step tells the same, and several nearly.

    Raises: as `renumbered`, and of a model of sigmoids.
    """
    if any(isinstance(layer, nn.Sigmoid) for layer in _built(model)):
        raise ConfigError(f"rescaled units compute the same with ReLU between: not {model.model}, but mlp")
    layers, factors = _layers(model), np.ones(len(parameters))
    for before, after in pairwise(layers):
        c = FACTOR ** rng.choice([-1.0, 1.0], (before.units, 1))
        for places in before.entering:
            factors[places] *= c
        for places in after.leaving(before.units):
            factors[places] /= c
    return Disguise((parameters * factors).astype(np.float32), lambda update: update * factors)


def shifted(model: Description, parameters: NDArray[np.float32], rng: np.random.Generator) -> Disguise:
    """The same function added to the logits of all classes. Softmax takes no notice, and no gradient does,
    for those by the logits add up to 0: all steps tell the same, as many as there are, of any model that ends
    in a linear layer.

    Raises: as `renumbered`.
    """
    last, away = _layers(model)[-1], np.zeros(len(parameters))
    for places in last.entering:
        away[places] = rng.standard_normal(places.shape[1])
    return Disguise(_moved(parameters, away, SHIFT))


def nearby(model: Description, parameters: NDArray[np.float32], rng: np.random.Generator) -> Disguise:
    """Really another model, not far off, by which clients send nearly the same."""
    return Disguise(_moved(parameters, rng.standard_normal(len(parameters)), NEARBY))


DISGUISES: Mapping[str, Callable[[Description, NDArray[np.float32], np.random.Generator], Disguise]] = {
    "renumbered": renumbered,
    "rescaled": rescaled,
    "shifted": shifted,
    "nearby": nearby,
}


def _moved(parameters: NDArray[np.float32], away: Vector, far: float) -> NDArray[np.float32]:
    length = np.linalg.norm(parameters.astype(np.float64))
    there: NDArray[np.float32] = (parameters + far * length / np.linalg.norm(away) * away).astype(np.float32)
    return there


@dataclass(frozen=True)
class _Layer:
    """Where its parameters are among all. weight: (out, in, ...), bias: (out,)."""

    weight: Places
    bias: Places

    @property
    def units(self) -> int:
        return len(self.weight)

    @property
    def entering(self) -> list[Places]:
        """Of what each of its units takes, (units, ...)."""
        return [self.weight.reshape(self.units, -1), self.bias[:, None]]

    def leaving(self, units: int) -> list[Places]:
        """Of what is taken of each unit of the layer before: a channel may have been flattened to several."""
        by_unit = self.weight.reshape(self.units, units, -1)
        return [by_unit.transpose(1, 0, 2).reshape(units, -1)]


def _built(model: Description) -> list[nn.Module]:
    built = build(model.model, model.shape, model.classes, 0)
    layers = list(built.children())
    plain = all(isinstance(layer, (*WITH_WEIGHTS, *BETWEEN)) for layer in layers)
    if not plain or any(isinstance(layer, WITH_WEIGHTS) and layer.bias is None for layer in layers):
        raise ConfigError(
            f"only a model of linear layers and convolutions with biases, one after the other, is disguised "
            f"so: not {model.model}, but mlp or lenet-zhu"
        )
    return layers


def _layers(model: Description) -> list[_Layer]:
    found, at = list[_Layer](), 0
    for layer in _built(model):
        if isinstance(layer, WITH_WEIGHTS):  # its weight, and then its bias
            places = list[Places]()
            for parameter in layer.parameters():
                places.append(np.arange(at, at + parameter.numel()).reshape(parameter.shape))
                at += parameter.numel()
            found.append(_Layer(*places))
    return found
