"""Models that a server crafts so that a client's examples come out of its update, beside that of the library
(`fl.leakage.imprint.crafted`): numbers alone, in the architecture of an honest one.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fl.models.architectures import Description, build
from fl.models.weights import to_vector

JITTER: Final = 0.3  # of a number, by which rows of a sieve differ: no two are the same
STEEP: Final = 0.1  # sum of a row: how far brightness goes
FAINT: Final = 0.01  # of what each neuron adds to what comes behind

Vector = NDArray[np.float32]


def hidden(
    model: Description,
    public: NDArray[np.floating],
    rng: np.random.Generator,
    *,
    jitter: float = 0.0,
    directions: int = 1,
    uneven: bool = False,
    above: float = 0.0,
    part: float = 1.0,
) -> Vector:
    """Parameters, (d,), of which each neuron fires above a threshold of its own, as an imprint's do: public
    images, (N, ...), are alike many between any two. What hides it is on top, and layers may follow.

    jitter: of each number of a row, as a share of it. directions: how many things neurons measure, each its
    own, in turns. uneven: neurons count behind by different factors, which the server knows. above: no bin
    lies below this quantile. part: of the neurons, which are made so; the others are as they were.

    Source: Fowl et al., Robbing the Fed, ICLR 2022, section 3; all that hides it: this project.
    """
    net, first, behind, centred = _opened(model, rng)
    width = first.weight.shape[1]
    hidden = round(part * len(first.weight))
    made = np.arange(hidden) if part == 1 else rng.permutation(len(first.weight))[:hidden]
    weigh = [rng.uniform(0, 1, width) if j else np.ones(width) for j in range(directions)]
    rows = np.stack([weigh[i % directions] for i in range(hidden)])
    rows = rows * (1 + jitter * rng.normal(size=rows.shape))
    rows *= STEEP / rows.sum(axis=1, keepdims=True)
    answers = public.reshape(len(public), -1).astype(np.float64) @ rows.T
    places = above + (1 - above) * rng.permutation(hidden) / hidden
    thresholds = np.array([np.quantile(of, at) for of, at in zip(answers.T, places, strict=True)])
    by = rng.uniform(0.5, 2, hidden) if uneven else np.ones(hidden)
    with torch.no_grad():
        _set(first, rows, -thresholds, centred, made)
        towards = torch.tensor(rng.normal(size=behind.out_features), dtype=torch.float32)
        # Behind a second layer comes another ReLU: what all its neurons are given is above 0.
        towards = towards.abs() if behind is not net[-1] else towards
        behind.weight[:, made] = FAINT * towards[:, None] * torch.tensor(by, dtype=torch.float32)
        behind.bias[:] = behind.bias.abs()
    return to_vector(net)


def traps(
    model: Description, _public: NDArray[np.floating], rng: np.random.Generator, *, strength: float
) -> Vector:
    """Parameters, (d,), half of each row negative, and the other half by the factor `strength` smaller: few
    inputs move a neuron.

    Source: Boenisch et al., When the Curious Abandon Honesty, EuroS&P 2023, section 5.
    """
    net, first, _, centred = _opened(model, rng)
    hidden, width = first.weight.shape
    sizes = np.abs(rng.normal(0, 1 / np.sqrt(width), (hidden, width)))
    up = np.argsort(rng.random((hidden, width)), axis=1) < width // 2
    with torch.no_grad():
        _set(first, np.where(up, strength * sizes, -sizes), np.zeros(hidden), centred, np.arange(hidden))
    return to_vector(net)


def _opened(model: Description, rng: np.random.Generator) -> tuple[nn.Sequential, nn.Linear, nn.Linear, bool]:
    """(an honest model; its first linear layer; the one behind; whether inputs are centred)."""
    net: Any = build(model.model, model.shape, model.classes, int(rng.integers(2**31)))
    first, behind, *_ = (layer for layer in net if isinstance(layer, nn.Linear))
    return net, first, behind, not isinstance(net[0], nn.Flatten)


def _set(
    first: nn.Linear,
    rows: NDArray[np.float64],
    bias: NDArray[np.float64],
    centred: bool,
    of: NDArray[np.intp],
) -> None:
    """Of these neurons, meant for pixels in [0, 1]; a model that takes 2 x - 1 gets what does the same."""
    if centred:
        rows, bias = rows / 2, bias + rows.sum(axis=1) / 2
    first.weight[of] = torch.tensor(rows, dtype=torch.float32)
    first.bias[of] = torch.tensor(bias, dtype=torch.float32)
