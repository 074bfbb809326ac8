"""What images would have made of a model, as a function to be differentiated: what an inversion matches.

Of one step it is their gradient; of several, the steps are taken again, each client's for itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from fl.leakage.attack import Knowledge
from fl.models.architectures import build
from fl.models.weights import from_vector

Tensors = Sequence[torch.Tensor]
Named = dict[str, torch.Tensor]


def model_of(knowledge: Knowledge) -> nn.Module:
    """The model that the clients received, in float64, in eval mode.

    float64 decides: of three images the same engine gave 5.5, 6.0 and 31.4 dB in float32 and 49.0, 43.4 and
    47.4 in float64.
    """
    description = knowledge.model
    model = build(description.model, description.shape, description.classes, 0)
    from_vector(model, knowledge.parameters)
    return model.double().eval()


def rehearsed(knowledge: Knowledge) -> None:
    """An attack's step on an image, for nothing: torch's first one takes as long as a hundred later ones."""
    if len(knowledge.model.shape) == 3:
        matching = Matching(knowledge, np.ones(len(knowledge.parameters)), 1)
        x = torch.zeros((1, *knowledge.model.shape), dtype=torch.float64, requires_grad=True)
        torch.autograd.grad(matching.squared(x, torch.zeros(1, dtype=torch.int64)), [x])


class Matching:
    """How far what N images with labels would have sent is from what was seen, beside its own length.

    update: (d,), the mean of what the clients sent. clients: N / clients images belong to each. sparse:
    where it is 0 it was left out, and says nothing of what the images would have sent.
    """

    def __init__(
        self, knowledge: Knowledge, update: NDArray[np.float64], clients: int, *, sparse: bool = False
    ) -> None:
        self.model, self._plan, self._clients = model_of(knowledge), knowledge.plan, clients
        self._named = {name: p.detach() for name, p in self.model.named_parameters()}
        start = torch.cat([p.flatten() for p in self._named.values()])
        seen = torch.tensor(update[: len(start)], dtype=torch.float64)
        # One step is a gradient, whatever the clients called it.
        self.steps = 1 if self._plan.algorithm == "fedsgd" else max(1, self._plan.steps)
        self._sent = seen != 0 if sparse else torch.ones_like(seen, dtype=torch.bool)
        if self._plan.algorithm == "fedavg-weights":
            seen = seen - start
        self._unit = 1.0  # in which the numbers that were sent stand here
        if self._plan.algorithm != "fedsgd" and self.steps == 1:
            self._unit = self._plan.lr
            seen = seen / -self._plan.lr
        self.seen = seen

    def made(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """(d,): what x, (N, C, H, W), with labels y would have sent; differentiable in x."""
        if self.steps == 1:
            loss = cross_entropy(self.model(x), y)
            return _flat(torch.autograd.grad(loss, list(self.model.parameters()), create_graph=True))
        each = len(y) // self._clients
        shares = zip(torch.split(x, each), torch.split(y, each), strict=True)
        return torch.stack([self._moved(*share) for share in shares]).mean(dim=0)

    def squared(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """||made - seen||^2 / ||seen||^2. On trained nets, whose gradients are small, an optimiser that looks
        at ||made - seen||^2 stops before it has begun (8.3 dB, and 29.3 so).
        """
        return self.off(x, y) / self.size

    def off(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """||made - seen||^2."""
        return (self.made(x, y) - self.seen)[self._sent].square().sum()

    @property
    def size(self) -> torch.Tensor:
        """||seen||^2."""
        return self.seen[self._sent].square().sum()

    def explained(self, deviation: float) -> float:
        """What `squared` is of the true images, in the mean, where each number sent is off by so much."""
        return float(self._sent.sum() * (deviation / self._unit) ** 2 / self.size)

    def cosine(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """1 - cos(made, seen)."""
        made, seen = self.made(x, y)[self._sent], self.seen[self._sent]
        distance: torch.Tensor = 1 - (made @ seen) / (made.norm() * seen.norm())
        return distance

    def mean_gradient(self) -> torch.Tensor:
        """(d,): the gradient that was seen; of several steps, what stands for it: their move, over as far as
        a constant gradient would have moved the model.
        """
        return self.seen if self.steps == 1 else self.seen / -self.reach

    @property
    def reach(self) -> float:
        """How far a constant gradient of length 1 would have moved what is sent: what is uncertain by so much
        leaves the mean gradient uncertain by 1.
        """
        if self._plan.algorithm == "fedsgd":
            return 1.0
        moved, velocity = 0.0, 0.0
        for _ in range(self.steps):
            velocity = self._plan.momentum * velocity + 1
            moved += velocity
        return self._plan.lr * moved

    def _gradient(self, named: Named, x: torch.Tensor, y: torch.Tensor) -> Tensors:
        held = {name: p if p.requires_grad else p.clone().requires_grad_() for name, p in named.items()}
        loss = cross_entropy(functional_call(self.model, held, (x,)), y)
        return torch.autograd.grad(loss, list(held.values()), create_graph=True)

    def _moved(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """One client's steps, its batches in an order of the attacker's: it knows none of the client's own,
        and of the images none but these.
        """
        plan, named = self._plan, dict(self._named)
        velocity = [torch.zeros_like(p) for p in named.values()]
        batches = torch.split(torch.arange(len(y)), plan.batch_size)
        for step in range(self.steps):
            batch = batches[step % len(batches)]
            along = self._gradient(named, x[batch], y[batch])
            velocity = [plan.momentum * v + g for v, g in zip(velocity, along, strict=True)]
            named = {name: p - plan.lr * v for (name, p), v in zip(named.items(), velocity, strict=True)}
        moved = [p - start for p, start in zip(named.values(), self._named.values(), strict=True)]
        return _flat(moved)


def _flat(tensors: Tensors) -> torch.Tensor:
    return torch.cat([t.flatten() for t in tensors])
