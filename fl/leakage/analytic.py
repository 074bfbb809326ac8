"""Images that enter a linear layer with a bias, read off its gradient: no optimiser, and hardly an error."""

from __future__ import annotations

import time
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fl.config.section import ConfigError
from fl.leakage.attack import Budget, Found, Guess, Knowledge
from fl.leakage.gradients import Matching
from fl.leakage.labels import of_gradient
from fl.leakage.views import Part, View
from fl.models.architectures import Centred

SILENT: Final = 1e-7  # of the largest gradient of a bias: a neuron that no image has moved
ALIKE: Final = 1e-6  # mean squared difference of two rows that are one image, in float32


def analytic(view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
    """The images that enter a first linear layer, each neuron's weight gradient over its bias gradient.

    Source: Phong et al., IEEE TIFS 13(5), 2018, section 3; Geiping et al., NeurIPS 2020, proposition 3.1.
    """
    return tuple(_of_part(part, knowledge) for part in view.parts)


def _of_part(part: Part, knowledge: Knowledge) -> Found:
    begun, images = time.process_time(), knowledge.images_of(part)
    matching = Matching(knowledge.at(part), part.updates[0], len(part.members))
    weight, bias = _first(matching)
    moved = np.abs(bias) > SILENT * np.abs(bias).max()
    rows = weight[moved] / bias[moved, None]
    if any(isinstance(layer, Centred) for layer in matching.model.modules()):
        rows = (rows + 1) / 2
    if images == 1:  # every row is it: that whose bias moved most has least rounding
        rows = rows[[np.abs(bias[moved]).argmax()]]
    chosen = _most_like_images(rows, images)
    x = chosen.reshape(images, *knowledge.model.shape)
    return Found(x, of_gradient(matching, knowledge, images), seconds=time.process_time() - begun)


def _first(matching: Matching) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The gradient of the first layer's weight, (h, d), and bias, (h,).

    Raises: ConfigError for a model that begins with anything else than a linear layer with a bias.
    """
    layers = [layer for layer in matching.model.modules() if not isinstance(layer, nn.Sequential)]
    first = next(layer for layer in layers if not isinstance(layer, Centred | nn.Flatten))
    if not isinstance(first, nn.Linear) or first.bias is None:
        raise ConfigError(
            "the analytic attack reads what enters a first linear layer with a bias: this model begins with "
            f"{type(first).__name__}; try --model mlp"
        )
    sizes = [first.weight.numel(), first.bias.numel()]
    weight, bias = torch.split(matching.mean_gradient()[: sum(sizes)], sizes)
    return weight.view_as(first.weight).numpy(), bias.numpy()


def _most_like_images(rows: NDArray[np.float64], images: int) -> NDArray[np.float64]:
    """(N, d): of the rows those that most others repeat and that leave [0, 1] least, no two alike; grey where
    there are no more.

    Neurons that one image alone has moved all hold just that; those that several have, each another mixture
    of them.
    """
    outside = np.square(rows - np.clip(rows, 0, 1)).mean(axis=1)
    squares = np.square(rows).mean(axis=1)
    apart = squares[:, None] + squares - 2 * (rows @ rows.T) / rows.shape[1]
    repeated = (apart < ALIKE).sum(axis=1)
    chosen = list[int]()
    for i in np.lexsort((outside, -repeated)):
        if all(apart[i, j] > ALIKE for j in chosen):
            chosen.append(int(i))
        if len(chosen) == images:
            break
    grey = np.full((images - len(chosen), rows.shape[1]), 0.5)
    return np.concatenate([rows[chosen], grey])
