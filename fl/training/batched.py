"""The clients of a round as one computation: parameters stacked over clients, the step of all at once.

What `fl.training.local.train` does one client after the other, with `torch.func.vmap` over them. Both take
the same examples in the same order, and agree to the rounding of their precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import nn

from fl.config.plan import LocalPlan
from fl.training.dense import flattened, is_written_out, sgd_step
from fl.training.local import (
    LocalResult,
    Tap,
    batches,
    computing,
    finished,
    flat,
    inputs,
    number_type,
    prepared,
)
from fl.training.step import (
    Gradients,
    PerExample,
    Tensors,
    at_once,
    check_examples,
    class_weights,
    descend,
    example_gradients,
    released,
    stacked_mean_gradient,
    summed,
)

MOST_EXAMPLES = {"cpu": 2_048, "cuda": 65_536}
"""Examples in one step of all clients together; more clients are taken one group after the other."""

MOST_NUMBERS = {"cpu": 2**28, "cuda": 2**32}
"""The most numbers in the gradients of these examples, where each has its own: 1 and 16 GiB of float32, of
which there are two or three copies while they are bounded and added up."""

Named = dict[str, torch.Tensor]


def train_batched(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    shares: Sequence[torch.Tensor],
    plan: LocalPlan,
    orders: Sequence[bytes],
    *,
    ids: Sequence[int] | None = None,
    tap: Tap | None = None,
    per_example: PerExample | None = None,
) -> list[LocalResult]:
    """Train a copy of `model` for each client: share k, (n_k,) int64, says which of x: (N, ...), y: (N,) are
    its examples, key k gives their order. `correct` is left at 0: all received one model, which is measured
    at once. ids: how the tap knows the clients, else by their place.

    Raises: Diverged; ConfigError as `local.train`.
    """
    if per_example is not None:
        check_examples(model)
    ids = range(len(shares)) if ids is None else ids
    base = prepared(model, x, plan)
    received = flat(base)
    results: dict[int, LocalResult] = {}
    for group in _groups(shares, plan, _most(x.device, per_example, len(received)), per_example):
        stack = _Stack(base, torch.stack([shares[k][0] for k in group]), plan, per_example)
        weights = _weights(plan, y, [shares[k] for k in group])
        taken = [batches(len(shares[k]), plan, orders[k], w) for k, w in zip(group, weights, strict=True)]
        with computing(x.device, plan):
            for step, column in enumerate(_columns(taken)):
                hear = None if tap is None else _hearing(tap, step, [ids[k] for k in group], column)
                # Those who still train are the head of the group: the column may be shorter.
                own = [shares[k][batch] for k, batch in zip(group, column, strict=False)]
                of_loss = None
                if plan.balance == "loss":
                    of_loss = [w[batch] for w, batch in zip(weights, column, strict=False) if w is not None]
                stack.step(x, y, own, of_loss, hear)
        uploads, losses = stack.uploads(received).cpu().numpy(), stack.losses()
        for k, upload, loss in zip(group, uploads, losses, strict=True):
            results[k] = finished(upload, len(shares[k]), loss, 0, plan)
    return [results[k] for k in range(len(shares))]


def _weights(
    plan: LocalPlan, y: torch.Tensor, shares: Sequence[torch.Tensor]
) -> Sequence[torch.Tensor | None]:
    """Of each client's examples, where the plan balances their classes."""
    if plan.balance == "none":
        return [None] * len(shares)
    return [class_weights(y[share].cpu()) for share in shares]


Hear = Callable[[int, Gradients], None]
"""Is told of one client of a stack: (its place there, what its step goes along)."""


def _hearing(tap: Tap, step: int, ids: Sequence[int], column: Sequence[torch.Tensor]) -> Hear:
    return lambda k, gradients: tap.step(ids[k], step, column[k].numpy(), gradients)


def _most(on: torch.device, per_example: PerExample | None, length: int) -> int:
    """How many examples there may be in a step. length: numbers in the gradient of one."""
    most = MOST_EXAMPLES.get(on.type, MOST_EXAMPLES["cpu"])
    if per_example is None:
        return most
    return min(most, MOST_NUMBERS.get(on.type, MOST_NUMBERS["cpu"]) // length)


def _groups(
    shares: Sequence[torch.Tensor], plan: LocalPlan, most: int, per_example: PerExample | None = None
) -> Iterator[list[int]]:
    """Clients in groups, those with the most steps first: who still trains is then the head of the group."""
    order = sorted(range(len(shares)), key=lambda k: -plan.steps_of(len(shares[k])))
    size = max(1, most // at_once(plan, per_example))
    for first in range(0, len(order), size):
        yield order[first : first + size]


def _columns(taken: Sequence[Iterator[torch.Tensor]]) -> Iterator[list[torch.Tensor]]:
    """Step by step the batches of those that still train: the head of the group, as it is sorted."""
    while column := [batch for of_client in taken for batch in islice(of_client, 1)]:
        yield column


@dataclass(frozen=True)
class _Batch:
    """What the first k clients of a stack take. examples: (k, B) int64, B >= 1, which of all, a shorter batch
    padded with one of the client's own; counted: (k, B) of 0 and 1, which of them count; weights: (k, B), of
    their losses; sizes: (k,), how many count.
    """

    examples: torch.Tensor
    counted: torch.Tensor
    weights: torch.Tensor
    sizes: torch.Tensor


@dataclass
class _Stack:
    """The models of a group of clients: each parameter and buffer with a first dimension of K. pads: (K,), an
    example of each.
    """

    base: nn.Module
    pads: torch.Tensor
    plan: LocalPlan
    per_example: PerExample | None
    parameters: Named = field(init=False)
    buffers: Named = field(init=False)

    def __post_init__(self) -> None:
        def stacked(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.detach().expand(len(self.pads), *tensor.shape).clone()

        self.parameters = {name: stacked(tensor) for name, tensor in self.base.named_parameters()}
        self.buffers = {name: stacked(tensor) for name, tensor in self.base.named_buffers()}
        each = self.parameters.values()
        self._start = [tensor.clone() for tensor in each] if self.plan.proximal else []
        self._velocity = [torch.zeros_like(tensor) for tensor in each] if self.plan.momentum else []
        self._written_out = is_written_out(self.base, self.plan) and self.per_example is None
        some = next(iter(self.parameters.values()))
        self._loss = torch.zeros(len(self.pads), dtype=number_type(self.plan), device=some.device)
        self._seen = torch.zeros_like(self._loss)
        self._mean_gradient = stacked_mean_gradient(self.base)
        self._along = Tensors()

    def step(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        own: Sequence[torch.Tensor],
        weights: Sequence[torch.Tensor] | None,
        hear: Hear | None,
    ) -> None:
        """Take a step of the first len(own) clients: own[k] are the examples of client k, weights[k] of their
        losses; None for 1.
        """
        k, batch = len(own), self._padded(own, weights)
        parameters, velocity, start = (
            [tensor[:k] for tensor in of_all]
            for of_all in (self.parameters.values(), self._velocity, self._start)
        )
        if hear is not None or not self._written_out:
            loss, self._along, each = self._gradient(x, y, batch, kept=hear is not None)
        if hear is not None:
            self._tell(hear, each, own)
        if self._written_out:  # also where it is heard: who listens changes no bit of what is trained
            loss = self._written_out_step(parameters, velocity, x, y, batch)
        elif self.plan.algorithm != "fedsgd":
            descend(parameters, self._along, velocity, start, self.plan)
        self._loss[:k] += loss * batch.sizes
        self._seen[:k] += batch.sizes

    def _tell(self, hear: Hear, each: Tensors | None, own: Sequence[torch.Tensor]) -> None:
        """Each client apart, without what pads its batch."""
        for k, examples in enumerate(own):
            rows = None if each is None else [g[k, : len(examples)] for g in each]
            hear(k, Gradients.of([g[k] for g in self._along], rows))

    def _padded(self, own: Sequence[torch.Tensor], weights: Sequence[torch.Tensor] | None) -> _Batch:
        """The batch as it is computed on, on the device."""
        on = self._loss.device
        sizes = torch.tensor([len(batch) for batch in own])
        # With an example of one's own: it is multiplied by 0, and nobody's model is shown another's data.
        pads = self.pads[: len(own), None]
        examples = nn.utils.rnn.pad_sequence(list(own), batch_first=True)
        examples = examples if examples.shape[1] else pads  # of empty batches alone, of which each is padded
        counted = torch.arange(examples.shape[1]) < sizes[:, None]
        examples = torch.where(counted, examples, pads)
        each = torch.ones(examples.shape)
        if weights is not None:
            padded = nn.utils.rnn.pad_sequence(list(weights), batch_first=True)
            each = padded if padded.shape[1] else each
        numbers = (part.to(on, self._loss.dtype) for part in (counted, each, sizes))
        return _Batch(examples.to(on), *numbers)

    def _written_out_step(
        self, parameters: Tensors, velocity: Tensors, x: torch.Tensor, y: torch.Tensor, batch: _Batch
    ) -> torch.Tensor:
        """Take the step. Returns the mean losses before it: (k,)."""
        some = flattened(self.base, inputs(x.index_select(0, batch.examples.flatten()), self.plan))
        labels = y.index_select(0, batch.examples.flatten()).view_as(batch.examples)
        weight = batch.counted * batch.weights / batch.sizes[:, None].clamp(min=1)
        return sgd_step(parameters, velocity, some.view(*labels.shape, -1), labels, weight, self.plan)

    def _gradient(
        self, x: torch.Tensor, y: torch.Tensor, batch: _Batch, *, kept: bool
    ) -> tuple[torch.Tensor, Tensors, Tensors | None]:
        """(mean losses, what the steps go along, and of every example if asked for and kept)."""
        # A batch is taken at once, a whole shard in chunks, as the other path takes it.
        most = at_once(self.plan, self.per_example)
        parts = (torch.split(part, most, dim=1) for part in (batch.examples, batch.counted, batch.weights))
        taken = (
            (inputs(x[chunk], self.plan), y[chunk], count, weight)
            for chunk, count, weight in zip(*parts, strict=True)
        )
        if self.per_example is None:
            sizes = batch.sizes.clamp(min=1)
            return *summed(self._mean_of(*some, sizes) for some in taken), None
        named = _of_first(len(batch.sizes), self.parameters)
        each = ((*example_gradients(self.base, named, x, y, w), count) for x, y, count, w in taken)
        return released(each, batch.sizes, self.per_example, kept=kept)

    def _mean_of(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        counted: torch.Tensor,
        weights: torch.Tensor,
        of: torch.Tensor,
    ) -> tuple[torch.Tensor, Tensors]:
        """`fl.training.step.mean_gradient` of the first clients; what it makes of their buffers is kept."""
        k = len(of)
        parameters, buffers = _of_first(k, self.parameters), _of_first(k, self.buffers)
        losses, gradients, buffers = self._mean_gradient(parameters, buffers, x, y, counted, weights, of)
        # Where all of a client's part is padding, its buffers are as they were: nothing of it was seen.
        for name, tensor in buffers.items():
            trained = counted.any(dim=1).view(-1, *[1] * (tensor.ndim - 1))
            self.buffers[name][:k] = torch.where(trained, tensor, self.buffers[name][:k])
        return losses, gradients

    def losses(self) -> list[float]:
        return (self._loss / self._seen.clamp(min=1)).tolist()

    def uploads(self, received: torch.Tensor) -> torch.Tensor:
        """(K, d): as `LocalResult.upload`."""
        buffers = [tensor.flatten(1) for tensor in self.buffers.values() if tensor.is_floating_point()]
        if self.plan.algorithm == "fedsgd":
            gradient = torch.cat([g.flatten(1) for g in self._along], dim=1)
            moved = [torch.cat(buffers, dim=1) - received[gradient.shape[1] :]] if buffers else []
            return torch.cat([gradient, *moved], dim=1)
        after = torch.cat([*(tensor.flatten(1) for tensor in self.parameters.values()), *buffers], dim=1)
        return after if self.plan.algorithm == "fedavg-weights" else after - received


def _of_first(clients: int, stacked: Named) -> Named:
    return {name: tensor[:clients] for name, tensor in stacked.items()}


def as_shares(sizes: Sequence[int]) -> list[torch.Tensor]:
    """The shares of clients whose examples lie one after the other: (n_k,) int64 each."""
    ends = np.cumsum(sizes)
    return [torch.arange(end - size, end) for size, end in zip(sizes, ends.tolist(), strict=True)]
