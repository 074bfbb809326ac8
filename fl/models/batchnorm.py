"""The one layer here that has a state besides its parameters, and calling models that have such layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.func import functional_call

Tensors = dict[str, torch.Tensor]


class BatchNorm2d(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, ICML 2015, algorithms 1 and 2) of (B, C, H, W), B >= 1.

    As torch.nn.BatchNorm2d, with two differences. `counted`, if set, says with a 0 or 1 each which of the B
    examples make the statistics, so that a batch can be padded with finite numbers. And the running
    statistics are replaced, not written to, so that `stateful_call` can hand them out from inside torch.func.

    A channel of one number has no variance: its running variance goes towards 0 instead of NaN. If no example
    counts, the running statistics stay as they are.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.counted: torch.Tensor | None = None  # (B,)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(self.weight.dtype)  # bfloat16, as autocast leaves it, is too coarse to sum in
        if self.training:
            mean, variance = self._of_batch(x)
        else:  # rounding and noise of a secure sum can leave a small variance below zero
            mean, variance = self.running_mean, self.running_var.clamp(0)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]

    def _of_batch(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(C,) each: mean and biased variance of the examples that count; the running ones move there."""
        counted = x.new_ones(len(x)) if self.counted is None else self.counted.to(x.dtype)
        examples = counted[:, None, None, None]
        number = counted.sum() * (x.shape[2] * x.shape[3])
        mean = (examples * x).sum((0, 2, 3)) / number.clamp(1)
        variance = (examples * (x - mean[:, None, None]) ** 2).sum((0, 2, 3)) / number.clamp(1)
        unbiased = variance * number / (number - 1).clamp(1)
        self.running_mean = self._moved(self.running_mean, mean, number)
        self.running_var = self._moved(self.running_var, unbiased, number)
        return mean, variance

    def _moved(self, running: torch.Tensor, seen: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
        moved = (1 - self.momentum) * running + self.momentum * seen.detach()
        return torch.where(number > 0, moved, running)


def mixes_examples(model: nn.Module) -> bool:
    """Whether the model, in training, lets one example change another's logits: the gradient of a single
    example is then not defined."""
    return any(isinstance(module, BatchNorm2d) for module in model.modules())


@contextmanager
def _counting(model: nn.Module, counted: torch.Tensor | None) -> Iterator[None]:
    norms = [module for module in model.modules() if isinstance(module, BatchNorm2d)]
    for norm in norms:
        norm.counted = counted
    try:
        yield
    finally:
        for norm in norms:
            norm.counted = None


def stateful_call(
    model: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    x: torch.Tensor,
    counted: torch.Tensor | None = None,
) -> tuple[torch.Tensor, Tensors]:
    """(logits, new buffers) of the model with these parameters and buffers; the model's own stay as they are.

    parameters, buffers: by name, all that the model has.
    x: (B, ...), finite.  counted: (B,) of 0 and 1, which examples make a batch's statistics; None: all.
    The model's mode says whether it trains. Works inside torch.func.vmap and, with has_aux, torch.func.grad.
    Not for two threads with one model.
    """
    tensors = {**parameters, **buffers}
    with _counting(model, counted):
        logits = functional_call(model, tensors, (x,))
    # functional_call puts into its argument what the call made of a buffer.
    return logits, {name: tensors[name] for name in buffers}
