"""An image of each class out of a model alone: what it is surest of is like what it was trained on."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, median_filter
from torch import nn

from fl.config.section import ConfigError
from fl.leakage.attack import Budget, Found, Guess, Knowledge
from fl.leakage.gradients import model_of
from fl.leakage.views import View

STEP: Final = 0.1  # lambda, gamma and beta of the source
SURE: Final = 0.99
PATIENCE: Final = 100  # steps without a smaller cost


def face(view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
    """An image of each class that a model takes for it, by gradient descent on 1 - p of the class from grey.

    Source: Fredrikson et al., Model Inversion Attacks (MI-Face), CCS 2015, algorithm 1.

    A part's update is here the model itself, (1, d). An image to which it gives 99 % stays as it is.
    """
    if len(knowledge.model.shape) != 3:
        raise ConfigError(f"face makes images, and {knowledge.model.model} is for text")
    return tuple(_of_model(replace(knowledge, parameters=part.updates[0]), budget) for part in view.parts)


def _of_model(knowledge: Knowledge, budget: Budget) -> Found:
    since, classes = time.process_time(), knowledge.model.classes
    model, y = model_of(knowledge), torch.arange(classes)
    x = torch.full((classes, *knowledge.model.shape), 0.5, dtype=torch.float64)
    best, least, last = x.clone(), torch.full((classes,), float("inf"), dtype=torch.float64), 0
    until = budget.until(classes)
    for step in range(budget.iterations):
        cost, along = _cost(model, x, y)
        better = cost < least
        last = step if better.any() else last
        best[better], least[better] = x[better], cost[better]
        moving = least > 1 - SURE
        if not moving.any() or step - last >= PATIENCE or time.process_time() > until:
            break
        x = torch.where(moving[:, None, None, None], (x - STEP * along).clamp(0, 1), x)
        if budget.processed:
            x = torch.tensor(processed(x.numpy()))
    return Found(best.numpy(), y.numpy(), float(least.mean()), time.process_time() - since)


def _cost(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(1 - p of its class, (N,); the gradient of each in its own image, (N, C, H, W))."""
    x = x.clone().requires_grad_()
    cost = 1 - model(x).softmax(dim=1)[y, y]
    (along,) = torch.autograd.grad(cost.sum(), [x])
    return cost.detach(), along


def processed(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Denoised by the median of 3 x 3, and sharpened by what it has more than its blur: the source names both
    and gives no numbers. x: (N, C, H, W) in [0, 1].
    """
    calm = median_filter(x, size=(1, 1, 3, 3))
    sharp: NDArray[np.float64] = np.clip(2 * calm - gaussian_filter(calm, sigma=(0, 0, 1, 1)), 0, 1)
    return sharp
