"""A client's training: mini-batch SGD with momentum on its own examples, from the model it received."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from fl.config import ConfigError
from fl.data.examples import Images, Labels
from fl.models import to_vector

EVALUATION_BATCH = 1024  # examples: bounds memory, changes no result


class Diverged(ArithmeticError):  # noqa: N818 - reads as what happened
    """Training left the finite numbers."""


@dataclass(frozen=True)
class LocalResult:
    """What one client's training gives.

    update: (d,) float32, trained model minus received model, in the order of `fl.models.to_vector`.
    examples: the client's number of examples, its weight in the mean.
    loss: mean cross-entropy in nats per example over all epochs, each batch measured before its own step.
    correct: how many of the client's own examples the *received* model classifies correctly, before training.
    """

    update: NDArray[np.float32]
    examples: int
    loss: float
    correct: int


def device(name: str) -> torch.device:
    """The device called `name`; "auto" is the first CUDA device where there is one, else the CPU.

    Raises: ConfigError where this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.empty(1, device=chosen)
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {name!r} is not to be had here ({reason}): try auto or cpu") from error
    return chosen


def train(
    model: nn.Module,
    x: Images,
    y: Labels,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    momentum: float,
    seed: int,
    device: torch.device,
) -> LocalResult:
    """Train a copy of `model` for `epochs` passes over x: (N, C, H, W), y: (N,), N >= 1.

    The order of examples comes from `seed` alone; the caller makes it from run, client and training round.
    On the CPU, with one thread, the same arguments give the same bits in any process on a like machine.
    Raises: Diverged.
    """
    trained = copy.deepcopy(model).to(device).train()
    images, labels = torch.tensor(x, device=device), torch.tensor(y, device=device)
    received = to_vector(trained)
    correct, _ = _measure(trained, images, labels)
    parameters = list(trained.parameters())
    velocity = [torch.zeros_like(parameter) for parameter in parameters]
    order = torch.Generator().manual_seed(seed)
    total = torch.zeros((), device=device)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        for _ in range(epochs):
            for batch in torch.randperm(len(y), generator=order).to(device).split(batch_size):
                loss = cross_entropy(trained(images[batch]), labels[batch])
                gradients = torch.autograd.grad(loss, parameters)
                total += loss.detach() * len(batch)
                # torch.optim.SGD, written out: importing it costs each client process a second.
                with torch.no_grad():
                    for parameter, v, gradient in zip(parameters, velocity, gradients, strict=True):
                        v.mul_(momentum).add_(gradient)
                        parameter.sub_(v, alpha=lr)
    mean_loss = total.item() / (epochs * len(y))
    with np.errstate(invalid="ignore", over="ignore"):
        update = to_vector(trained) - received
    if not math.isfinite(mean_loss) or not np.isfinite(update).all():
        raise Diverged(f"training diverged (mean loss {mean_loss}): lower lr ({lr}) or momentum ({momentum})")
    return LocalResult(update, len(y), mean_loss, correct)


def evaluate(model: nn.Module, x: Images, y: Labels, device: torch.device) -> tuple[float, float]:
    """(accuracy in [0, 1], mean cross-entropy in nats) of the model on x: (N, C, H, W), y: (N,), N >= 1.

    The model is left on `device`.
    """
    correct, loss = _measure(model.to(device), torch.tensor(x, device=device), torch.tensor(y, device=device))
    return correct / len(y), loss / len(y)


@torch.inference_mode()
def _measure(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[int, float]:
    """(correct predictions, summed cross-entropy), in eval mode; the mode is put back."""
    was_training = model.training
    model.eval()
    correct, loss = 0, 0.0
    for x, y in zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True):
        logits = model(x)
        correct += int((logits.argmax(dim=1) == y).sum())
        loss += float(cross_entropy(logits, y, reduction="sum"))
    model.train(was_training)
    return correct, loss
