"""The clients of a round as one computation: parameters stacked over clients, the step of all at once.

What `fl.training.local.train` does one client after the other, with `torch.func.vmap` over them. Both take
the same examples in the same order, and agree to the rounding of their precision.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import nn
from torch.func import grad_and_value, vmap
from torch.nn.functional import cross_entropy

from fl.config.plan import LocalPlan
from fl.models.batchnorm import stateful_call
from fl.training.dense import flattened, is_written_out, sgd_step
from fl.training.local import (
    GRADIENT_CHUNK,
    LocalResult,
    Tap,
    batches,
    computing,
    descend,
    finished,
    flat,
    inputs,
    number_type,
    per_example,
    prepared,
)

MOST_EXAMPLES = {"cpu": 2_048, "cuda": 65_536}
"""Examples in one step of all clients together; more clients are taken one group after the other."""

Tensors = dict[str, torch.Tensor]


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
) -> list[LocalResult]:
    """Train a copy of `model` for each client: share k, (n_k,) int64, says which of x: (N, ...), y: (N,) are
    its examples, key k gives their order. `correct` is left at 0: all received one model, which is measured
    at once.

    Raises: Diverged; ConfigError as `local.train`.
    """
    ids = range(len(shares)) if ids is None else ids
    base = prepared(model, x, plan)
    received = flat(base)
    results: dict[int, LocalResult] = {}
    for group in _groups(shares, plan, x.device):
        stack = _Stack(base, len(group), plan)
        taken = [batches(len(shares[k]), plan, orders[k]) for k in group]
        with computing(x.device, plan):
            for step, columns in enumerate(_columns(taken)):
                if tap is not None:
                    for k, (column, batch) in enumerate(zip(group, columns, strict=False)):
                        own = shares[column][batch].to(x.device)
                        gradients = per_example(stack.model(k), inputs(x[own], plan), y[own])
                        tap.step(ids[column], step, batch.numpy(), gradients)
                stack.step(x, y, [shares[k][batch] for k, batch in zip(group, columns, strict=False)])
        uploads, losses = stack.uploads(received).cpu().numpy(), stack.losses()
        for k, upload, loss in zip(group, uploads, losses, strict=True):
            results[k] = finished(upload, len(shares[k]), loss, 0, plan)
    return [results[k] for k in range(len(shares))]


def _groups(shares: Sequence[torch.Tensor], plan: LocalPlan, on: torch.device) -> Iterator[list[int]]:
    """Clients in groups, those with the most steps first: who still trains is then the head of the group."""
    order = sorted(range(len(shares)), key=lambda k: -plan.steps_of(len(shares[k])))
    batch = GRADIENT_CHUNK if plan.algorithm == "fedsgd" else plan.batch_size
    size = max(1, MOST_EXAMPLES.get(on.type, MOST_EXAMPLES["cpu"]) // batch)
    for first in range(0, len(order), size):
        yield order[first : first + size]


def _columns(taken: Sequence[Iterator[torch.Tensor]]) -> Iterator[list[torch.Tensor]]:
    """Step by step the batches of those that still train: the head of the group, as it is sorted."""
    while column := [batch for of_client in taken for batch in islice(of_client, 1)]:
        yield column


@dataclass
class _Stack:
    """The models of a group of clients: each parameter and buffer with a first dimension of K."""

    base: nn.Module
    clients: int
    plan: LocalPlan
    parameters: Tensors = field(init=False)
    buffers: Tensors = field(init=False)

    def __post_init__(self) -> None:
        def stacked(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.detach().expand(self.clients, *tensor.shape).clone()

        self.parameters = {name: stacked(tensor) for name, tensor in self.base.named_parameters()}
        self.buffers = {name: stacked(tensor) for name, tensor in self.base.named_buffers()}
        each = self.parameters.values()
        self._start = [tensor.clone() for tensor in each] if self.plan.proximal else []
        self._velocity = [torch.zeros_like(tensor) for tensor in each] if self.plan.momentum else []
        self._written_out = is_written_out(self.base, self.plan)
        some = next(iter(self.parameters.values()))
        self._loss = torch.zeros(self.clients, dtype=number_type(self.plan), device=some.device)
        self._seen = torch.zeros_like(self._loss)
        self._all = vmap(grad_and_value(self._loss_of_one, has_aux=True))
        self._gradients: Tensors = {}

    def _loss_of_one(
        self,
        parameters: Tensors,
        buffers: Tensors,
        x: torch.Tensor,
        y: torch.Tensor,
        counted: torch.Tensor,
        of: torch.Tensor,
    ) -> tuple[torch.Tensor, Tensors]:
        """Its share in the mean over `of` examples; and its new buffers."""
        logits, buffers = stateful_call(self.base, parameters, buffers, x, counted)
        each = cross_entropy(logits, y, reduction="none")
        return (each * counted).sum() / of, buffers

    def model(self, k: int) -> nn.Module:
        """A copy of the model of client k as it stands; it has no buffers that train."""
        copied = copy.deepcopy(self.base)
        with torch.no_grad():
            for name, parameter in copied.named_parameters():
                parameter.copy_(self.parameters[name][k])
        return copied

    def step(self, x: torch.Tensor, y: torch.Tensor, own: Sequence[torch.Tensor]) -> None:
        """Of the first len(own) clients: own[k] are the examples of client k."""
        k, plan = len(own), self.plan
        if self._written_out:
            self._written_out_step(x, y, own)
            return
        gradients = self._gradient(x, y, own)
        self._gradients = gradients
        if plan.algorithm == "fedsgd":
            return
        parameters, velocity = self._of_first(k)
        along, start = [gradients[name] for name in self.parameters], [start[:k] for start in self._start]
        descend(parameters, along, velocity, start, plan)

    def _of_first(self, k: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """(parameters, velocity) of the first k clients."""
        return [p[:k] for p in self.parameters.values()], [v[:k] for v in self._velocity]

    def _padded(self, own: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(own as (k, B), which of it counts as (k, B) of 0 and 1, how much of it as (k,)), on the device."""
        on = self._loss.device
        sizes = torch.tensor([len(batch) for batch in own])
        examples = nn.utils.rnn.pad_sequence(list(own), batch_first=True)
        counted = torch.arange(examples.shape[1]) < sizes[:, None]
        examples = torch.where(counted, examples, examples[:, :1])  # with an example of one's own
        return examples.to(on), counted.to(on, self._loss.dtype), sizes.to(on, self._loss.dtype)

    def _written_out_step(self, x: torch.Tensor, y: torch.Tensor, own: Sequence[torch.Tensor]) -> None:
        examples, counted, sizes = self._padded(own)
        some = flattened(self.base, inputs(x.index_select(0, examples.flatten()), self.plan))
        labels = y.index_select(0, examples.flatten()).view_as(examples)
        weight = counted / sizes[:, None]
        parameters, velocity = self._of_first(len(own))
        some = some.view(*examples.shape, -1)
        self._loss[: len(own)] += sgd_step(parameters, velocity, some, labels, weight, self.plan) * sizes
        self._seen[: len(own)] += sizes

    def _gradient(self, x: torch.Tensor, y: torch.Tensor, own: Sequence[torch.Tensor]) -> Tensors:
        """Of each one's mean loss over its examples; what pads a shorter batch is not counted."""
        k, (examples, counted, sizes) = len(own), self._padded(own)
        gradients: Tensors = {}
        # A batch is taken at once, a whole shard in chunks, as the other path takes it.
        at_once = GRADIENT_CHUNK if self.plan.algorithm == "fedsgd" else examples.shape[1]
        chunks, counts = (torch.split(padded, at_once, dim=1) for padded in (examples, counted))
        for chunk, count in zip(chunks, counts, strict=True):
            some, (loss, buffers) = self._all(
                {name: tensor[:k] for name, tensor in self.parameters.items()},
                {name: tensor[:k] for name, tensor in self.buffers.items()},
                inputs(x[chunk], self.plan),
                y[chunk],
                count,
                sizes,
            )
            for name, tensor in buffers.items():
                kept = count.any(dim=1).view(-1, *[1] * (tensor.ndim - 1))
                self.buffers[name][:k] = torch.where(kept, tensor, self.buffers[name][:k])
            gradients = {name: gradients[name] + g if gradients else g for name, g in some.items()}
            self._loss[:k] += loss.detach() * sizes
        self._seen[:k] += sizes
        return gradients

    def losses(self) -> list[float]:
        return (self._loss / self._seen).tolist()

    def uploads(self, received: torch.Tensor) -> torch.Tensor:
        """(K, d): as `LocalResult.upload`."""
        buffers = [tensor.flatten(1) for tensor in self.buffers.values() if tensor.is_floating_point()]
        if self.plan.algorithm == "fedsgd":
            gradient = torch.cat([g.flatten(1) for g in self._gradients.values()], dim=1)
            moved = [torch.cat(buffers, dim=1) - received[gradient.shape[1] :]] if buffers else []
            return torch.cat([gradient, *moved], dim=1)
        after = torch.cat([*(tensor.flatten(1) for tensor in self.parameters.values()), *buffers], dim=1)
        return after if self.plan.algorithm == "fedavg-weights" else after - received


def as_shares(sizes: Sequence[int]) -> list[torch.Tensor]:
    """Of clients whose examples lie one after the other: (n_k,) int64 each."""
    ends = np.cumsum(sizes)
    return [torch.arange(end - size, end) for size, end in zip(sizes, ends.tolist(), strict=True)]
