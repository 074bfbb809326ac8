"""The step of a client's training: how its gradient is had, and how it is taken. `local` takes the steps of
one client after the other, `batched` those of many at once; both have them from here.

A gradient is had in one of two ways: as the mean's, by one backward pass over the batch; or, where
`PerExample` asks for it, as every example's own, of which `PerExample` then makes what the step goes along.
Neither leaves the device that it was computed on. `dense` takes steps that never have their gradient: where
every example is to have one, they are taken here.

Shapes: K clients of a stack, B examples of a batch, p of a parameter, d of all parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import cross_entropy

from fl.config.plan import LocalPlan
from fl.config.section import ConfigError
from fl.models.batchnorm import mixes_examples, stateful_call

GRADIENT_CHUNK = 64  # examples that are taken at once of a whole shard, or with a gradient each
NORM_PART = 1 << 16  # numbers whose squares are added up at once

Tensors = list[torch.Tensor]
"""One for each parameter, in the order of `model.parameters()`."""


# This is an argument of training and no field of `LocalPlan`: a task that asks for it does so in its
# `privacy`, of which `fl.privacy.step` makes one of these; experiments pass their own.
@dataclass(frozen=True)
class PerExample:
    """Asks for the gradient of every example, and says what a step makes of them.

    bounded: gradients of examples, (K, B, *p) each, to what of them is added up, alike. It does to each
    example what it would do to it alone: B is as many as fit, and some of them only pad a batch. It may do so
    in place.
    released: that sum over a client's whole batch, (K, *p) each, how many examples it is of, (K,), and the
    largest norm of what `bounded` left of one, (K,), to what the step goes along, (K, *p) each. It is called
    once a step, into however many parts the batch was cut, also where the batch is empty.

    K is 1 where clients are taken one by one: then several at a time, each from a thread of its own.

    Security: these two see every gradient on its way into the model, and nothing that depends on the data
    comes after them: momentum and the proximal term know only the steps taken. But the loss that is reported
    is of the examples as they are, and BatchNorm's statistics would be: models that have them are refused.
    """

    bounded: Callable[[Tensors], Tensors]
    released: Callable[[Tensors, torch.Tensor, torch.Tensor], Tensors]


def _mean(total: Tensors, of: torch.Tensor, largest: torch.Tensor) -> Tensors:
    return [g / of.clamp(min=1).view(-1, *[1] * (g.ndim - 1)) for g in total]


MEAN = PerExample(bounded=lambda each: each, released=_mean)
"""The step as it is without: for who listens to every example."""


@dataclass(frozen=True)
class Gradients:
    """What one step of one client goes along, where and in which precision it was computed: of the loss
    alone, without momentum and the proximal term.

    along: (d,). each: (B, d), of each example what `PerExample.bounded` left of it; None where nobody asked.
    """

    along: torch.Tensor = field(repr=False)
    each: torch.Tensor | None = field(default=None, repr=False)

    @classmethod
    def of(cls, along: Tensors, each: Tensors | None) -> Gradients:
        """Copies, as a step uses up what it is given. along: (*p) each; each: (B, *p) each."""
        rows = None if each is None else torch.cat([g.flatten(1) for g in each], dim=1)
        return cls(torch.cat([g.flatten() for g in along]), rows)


def check_examples(model: nn.Module) -> None:
    """Raises: ConfigError where examples share statistics, so that none has a gradient of its own."""
    if mixes_examples(model):
        raise ConfigError("a model with BatchNorm has no gradient of a single example: take another model")


def at_once(plan: LocalPlan, per_example: PerExample | None) -> int:
    """How many of a client's examples go through the model together, at most."""
    if plan.algorithm == "fedsgd":
        return GRADIENT_CHUNK
    return plan.batch_size if per_example is None else min(plan.batch_size, GRADIENT_CHUNK)


def class_weights(y: torch.Tensor) -> torch.Tensor:
    """(n,) float64: n / (classes that there are x examples of this one's), of mean 1, with which all classes
    weigh alike. y: (n,).

    Security: of the client's own counts, which it tells nobody. But they follow its data: who else is in a
    class decides what an example weighs.
    """
    _, of_class, counts = torch.unique(y, return_inverse=True, return_counts=True)
    weights: torch.Tensor = len(y) / (len(counts) * counts[of_class].double())
    return weights


# The gradient of the mean


def mean_gradient(
    model: nn.Module,
    parameters: Tensors,
    x: torch.Tensor,
    y: torch.Tensor,
    of: int,
    weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, Tensors]:
    """(loss, gradients): the part that x: (B, ...), y: (B,) have in the mean over `of` examples. weights:
    (B,), of their losses; None for 1.
    """
    # A sum over what the batch has, so that its parts add up to the gradient of the whole.
    if weights is None:
        loss = cross_entropy(model(x), y, reduction="sum") / of
    else:
        loss = (cross_entropy(model(x), y, reduction="none") * weights).sum() / of
    return loss.detach(), list(torch.autograd.grad(loss, parameters))


Stacked = Callable[..., tuple[torch.Tensor, Tensors, dict[str, torch.Tensor]]]


def stacked_mean_gradient(model: nn.Module) -> Stacked:
    """`mean_gradient` of K models at once: (parameters and buffers by name, x: (K, B, ...), y: (K, B),
    counted: (K, B) of 0 and 1, weights: (K, B), of: (K,)) -> (losses: (K,), gradients, new buffers).
    """

    def part(
        parameters: dict[str, torch.Tensor],
        buffers: dict[str, torch.Tensor],
        x: torch.Tensor,
        y: torch.Tensor,
        counted: torch.Tensor,
        weights: torch.Tensor,
        of: torch.Tensor,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logits, buffers = stateful_call(model, parameters, buffers, x, counted)
        each = cross_entropy(logits, y, reduction="none")
        return (each * weights * counted).sum() / of, buffers

    of_all = vmap(grad_and_value(part, has_aux=True))

    def gradient(*given: Any) -> tuple[torch.Tensor, Tensors, dict[str, torch.Tensor]]:
        gradients, (losses, buffers) = of_all(*given)
        return losses.detach(), list(gradients.values()), buffers

    return gradient


def summed(parts: Iterable[tuple[torch.Tensor, Tensors]]) -> tuple[torch.Tensor, Tensors]:
    """(loss, gradients) of a batch: the sums over its parts, of which there is at least one."""
    parts = iter(parts)
    loss, along = next(parts)
    for more, gradients in parts:
        loss = loss + more
        torch._foreach_add_(along, gradients)
    return loss, along


# The gradients of the examples


def example_gradients(
    model: nn.Module,
    parameters: Mapping[str, torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
    weights: torch.Tensor,
) -> tuple[torch.Tensor, Tensors]:
    """(losses: (K, B), gradients: (K, B, *p) each) of every example by itself. parameters: (K, *p) by name;
    x: (K, B, ...), y: (K, B), weights: (K, B), of their losses.
    """

    def loss(
        parameters: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        return cross_entropy(functional_call(model, parameters, (x[None],)), y[None]) * weight

    of_one = vmap(grad_and_value(loss), in_dims=(None, 0, 0, 0))
    gradients, losses = vmap(of_one)(dict(parameters), x, y, weights)
    return losses, list(gradients.values())


def norms(each: Tensors) -> torch.Tensor:
    """(K, B): the L2 norm of every example's gradient, over all parameters. each: (K, B, *p)."""
    # In parts: the squares of 20 million equal numbers, added up in float32 one after the other, give a norm
    # that is 1 % too small, and what is clipped by it is as much too long. So it is right to 1e-5.
    parts = [part for g in each for part in torch.split(g.flatten(2), NORM_PART, dim=2)]
    of_all: torch.Tensor = torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(part, dim=2) for part in parts]), dim=0
    )
    return of_all


Part = tuple[torch.Tensor, Tensors, torch.Tensor]
"""A part of a batch: (losses: (K, B), gradients: (K, B, *p) each, counted: (K, B) of 0 and 1)."""


@torch.no_grad()
def released(
    parts: Iterable[Part], of: torch.Tensor, per_example: PerExample, *, kept: bool
) -> tuple[torch.Tensor, Tensors, Tensors | None]:
    """(mean losses: (K,), what the step goes along: (K, *p) each, and where it is to be kept what `bounded`
    left of every example: (K, B, *p) each). of: (K,), how many examples count.
    """
    loss, total, bounded = torch.zeros_like(of), Tensors(), list[Tensors]()
    largest = torch.zeros_like(of)
    for losses, gradients, counted in parts:
        loss += (losses * counted).sum(dim=1) / of.clamp(min=1)
        each = per_example.bounded(gradients)
        largest = torch.maximum(largest, (norms(each) * counted).amax(dim=1))
        # After it: whatever it makes of the examples that pad a batch is not in the sum.
        some = [(g * counted.view(*counted.shape, *[1] * (g.ndim - 2))).sum(dim=1) for g in each]
        total = [a + b for a, b in zip(total, some, strict=True)] if total else some
        if kept:
            bounded.append(each)
    along = per_example.released(total, of, largest)
    return loss, along, [torch.cat(of_one, dim=1) for of_one in zip(*bounded, strict=True)] if kept else None


# The step


@torch.no_grad()
def descend(parameters: Tensors, along: Tensors, velocity: Tensors, start: Tensors, plan: LocalPlan) -> None:
    """Take the step in place; `along` is used up. velocity: empty without momentum; start: where training
    began, empty without a proximal term.
    """
    if plan.proximal:  # a part of the loss, so that momentum gathers it, too
        torch._foreach_add_(along, torch._foreach_sub(parameters, start), alpha=plan.proximal)
    if plan.momentum:
        torch._foreach_mul_(velocity, plan.momentum)
        torch._foreach_add_(velocity, along)
        along = velocity
    torch._foreach_add_(parameters, along, alpha=-plan.lr)
