"""A server that crafts the model: parameters that make a sieve of a first layer, and how what it sums is
read.

Nothing but numbers is changed, the architecture is an honest one's. Every neuron measures one thing, how
bright an image is, and fires above a threshold of its own. Two neighbours differ by what is between their
thresholds, so that of a sum of any number of clients each difference holds the images of one bin: one image,
where there are enough bins. All neurons have one and the same effect on the logits, and next to none on their
values: what an image adds is then known beforehand, for each label another number.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fl.config.section import ConfigError
from fl.leakage.attack import Budget, Found, Guess, Knowledge
from fl.leakage.gradients import Matching
from fl.leakage.peeling import FirstLayer, Sum
from fl.leakage.views import Part, View
from fl.models.architectures import Centred, Description, build
from fl.models.weights import from_vector, to_vector

FAINT: Final = 1e-7  # of a brightness, as a neuron says it: a thousand of them leave the logits at 0
APART: Final = 0.4  # share by which what the labels add differs: no two of them come to a third
BOUND_TO: Final = 60.0  # largest gradient: at a rate of .05 an update of 3, the bound that training has


def crafted(
    model: Description,
    public: NDArray[np.float32],
    *,
    bins: int | None = None,
    largest: float = BOUND_TO,
    block: tuple[int, int] = (0, 1),
) -> NDArray[np.float32]:
    """Parameters, (d,), by which a linear layer sorts images into bins that are alike full, by the quantiles
    of public images, (N, C, H, W).

    bins: at most so many as there are neurons; None for all. largest: absolute value of what an image adds to
    any number of a gradient, which is what makes rounding small. block: (j, n) takes the j-th of n parts of
    the neurons alone, and leaves the others dead.

    Source: Fowl et al., Robbing the Fed, ICLR 2022, section 3; with blocks Zhao et al., CVPR 2023.
    Raises: ConfigError for a model that is no linear layer, ReLU and a last layer.
    """
    net = _sieve(build(model.model, model.shape, model.classes, 0), model.model)
    first, last = net.first, cast(nn.Linear, net.rest[-1])
    j, n = block
    room = first.out_features // n
    bins = min(bins or room, room)
    x = public.reshape(len(public), -1).astype(np.float64)
    bright = (2 * x - 1 if net.centred else x).mean(axis=1)
    thresholds = np.quantile(bright, np.arange(bins) / bins)
    thresholds[0] = -2.0  # no image is darker
    with torch.no_grad():
        first.weight.zero_()
        first.bias.fill_(-FAINT)
        mine = slice(j * room, j * room + bins)
        first.weight[mine] = FAINT / first.in_features
        first.bias[mine] = torch.tensor(-FAINT * thresholds, dtype=torch.float32)
        last.weight[:] = torch.tensor(_effects(model.classes) * largest, dtype=torch.float32)[:, None]
        last.bias.zero_()
    return to_vector(nn.Sequential(first, *net.rest))


def _effects(classes: int) -> NDArray[np.float64]:
    """(C,) of sum 0, half of them below, sizes from 1 / (1 + APART) to 1: with logits of 0 what an image of a
    label adds to a neuron is minus its number.
    """
    half = classes // 2
    sizes = np.linspace(1 / (1 + APART), 1, half) if half > 1 else np.ones(half)
    return np.concatenate([sizes, np.zeros(classes - 2 * half), -sizes])


def _sieve(model: nn.Module, name: str) -> FirstLayer:
    """Raises: ConfigError for a model of other layers than an imprint's."""
    layers = [type(layer) for layer in model.children() if not isinstance(layer, Centred | nn.Flatten)]
    if layers != [nn.Linear, nn.ReLU, nn.Linear]:
        raise ConfigError(f"an imprint is of a linear layer, ReLU and a last layer: not {name}, but mlp-1000")
    return FirstLayer.of(model)


def imprint(view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
    """Images out of sums, through a model that the server crafted: rows of a first layer, differenced.

    Source: Fowl et al., Robbing the Fed, ICLR 2022, section 3; what tells images from mixtures: this project.
    """
    return tuple(_of_part(part, knowledge.at(part)) for part in view.parts)


def _of_part(part: Part, knowledge: Knowledge) -> Found:
    since, images = time.process_time(), knowledge.images_of(part)
    matching = Matching(knowledge, part.updates[0], len(part.members))
    net = _sieve(matching.model, knowledge.model.model)
    bins, lowest = _bins(net, Sum.of(net, matching, images, part.deviation))
    # Rounded, an image may be a little darker than the threshold that it is above: the lowest it is above.
    read = bins.read(like=lowest)
    if read is not None:
        surest = np.argsort(read.off.min(axis=0))[:images]
        bins.images += list(read.x[surest])
        bins.labels += read.off[:, surest].argmin(axis=0).tolist()
    return bins.found(images, knowledge, time.process_time() - since)


def _bins(net: FirstLayer, total: Sum) -> tuple[Sum, int]:
    """What stands between the threshold of each neuron and the next, of neurons that are dead nothing; and
    which has the lowest.
    """
    weight, bias = (p.detach().numpy() for p in (net.first.weight, net.first.bias))
    slope = weight.mean(axis=1)
    alive = np.flatnonzero(slope > 0)
    if not len(alive):
        raise ConfigError("an imprint is read through a model that was crafted for it, and this one was not")
    order = alive[np.argsort(-bias[alive] / slope[alive], kind="stable")]
    between = replace(
        total,
        weight=np.zeros_like(total.weight),
        bias=np.zeros_like(total.bias),
        deviation=np.sqrt(2) * total.deviation,
    )
    between.weight[order] = total.weight[order] - np.append(total.weight[order[1:]], [0 * weight[0]], axis=0)
    between.bias[order] = total.bias[order] - np.append(total.bias[order[1:]], 0)
    return between, int(order[0])


def permuted(
    parameters: NDArray[np.float32], model: Description, public: NDArray[np.float32], images: int, seed: int
) -> NDArray[np.float32]:
    """Parameters, (d,), in which the weights of each neuron of the first layer have changed places, and no
    number is another: so that one of so many images fires it, by public ones, (N, C, H, W), and no more.

    Those that have moved stand against the mean image, large where it is dark. Source: Geiping et al.,
    NeurIPS 2020, name the attack; Boenisch et al., EuroS&P 2023, set such traps by weights of their own.
    Raises: ConfigError as `crafted`.
    """
    net = _sieve(build(model.model, model.shape, model.classes, 0), model.model)
    both = nn.Sequential(net.first, *net.rest)
    from_vector(both, parameters)
    x = public.reshape(len(public), -1).astype(np.float32)
    x = 2 * x - 1 if net.centred else x
    dark, rng = x.mean(axis=0), np.random.default_rng(seed)
    weight, bias = (p.detach().numpy() for p in (net.first.weight, net.first.bias))
    for row, b in zip(weight, bias, strict=True):
        honest, order = row.copy(), rng.permutation(len(row))
        few, many = 0, len(row)
        while many - few > len(row) // 50:
            moved = (few + many) // 2
            row[:] = _against(honest, order[:moved], dark)
            few, many = (few, moved) if np.quantile(x @ row + b, 1 - 1 / images) <= 0 else (moved, many)
        row[:] = _against(honest, order[:many], dark)
    return to_vector(both)


def _against(
    row: NDArray[np.float32], places: NDArray[np.int64], mean: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The row, its numbers at these places sorted: the smallest stands where the mean is largest."""
    moved = row.copy()
    moved[places[np.argsort(-mean[places])]] = np.sort(row[places])
    return moved
