"""Nets of so many convolutions and nothing else that would hide an image, and an attack on them.

`python deep.py ATTACK` runs an attack as `python -m fl.leakage.apart ATTACK` does, where these nets have
names. They are for measuring what depth hides, and no client trains one: they are no models of `fl`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final
from unittest.mock import patch

from torch import nn

from fl.data.examples import Shape
from fl.leakage import apart
from fl.leakage.attack import Budget, Guess, Knowledge
from fl.leakage.views import View
from fl.models import architectures
from fl.models.architectures import Centred, Residual

CHANNELS: Final = 12
SIGMOID, RELU, RESIDUAL = "sigmoid", "relu", "residual-17"


def deep(layers: int, activation: str, shape: Shape, classes: int) -> nn.Module:
    """5 x 5 convolutions of 12 channels, of stride 2 the first two, and a linear layer, as lenet-zhu and
    lenet-4conv are; of sigmoids from U(-0.5, 0.5), as there, of ReLU from He's normal, biases 0.
    """
    channels, side = shape[0], shape[1]
    net: list[nn.Module] = []
    for layer in range(layers):
        stride = 2 if layer < 2 else 1
        net.append(nn.Conv2d(channels, CHANNELS, 5, stride=stride, padding=2))
        net.append(nn.Sigmoid() if activation == SIGMOID else nn.ReLU())
        channels, side = CHANNELS, -(-side // stride)
    model = nn.Sequential(*net, nn.Flatten(), nn.Linear(CHANNELS * side * side, classes))
    for parameter in model.parameters():
        if activation == SIGMOID:
            nn.init.uniform_(parameter, -0.5, 0.5)
        elif parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu")
        else:
            nn.init.zeros_(parameter)
    return model


def narrow(shape: Shape, classes: int) -> nn.Module:
    """resnet18 with an eighth of its channels."""
    before = 8
    first = nn.Conv2d(shape[0], before, 3, padding=1, bias=False)
    net: list[nn.Module] = [Centred(), first, nn.GroupNorm(2, before), nn.ReLU()]
    for width in (8, 16, 32, 64):
        net += [Residual(before, width, stride=width // before), Residual(width, width, stride=1)]
        before = width
    return nn.Sequential(*net, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


DEPTHS: Final = (2, 4, 6, 8)
NETS: dict[str, architectures.Architecture] = {
    f"{activation}-{layers}": partial(deep, layers, activation)
    for activation in (SIGMOID, RELU)
    for layers in DEPTHS
}
NETS[RESIDUAL] = narrow


@contextmanager
def named() -> Iterator[None]:
    """In here these nets can be built by name."""
    with patch.dict(architectures.FOR_IMAGES, NETS), patch.dict(architectures.MODELS, NETS):
        yield


def attacked(attack: str, view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
    """As fl.leakage.apart.run."""
    return apart.of_program(["-P", __file__, attack], view, knowledge, budget, seed)


if __name__ == "__main__":
    with named():
        apart.main(sys.argv[1])
