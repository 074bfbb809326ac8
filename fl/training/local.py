"""A client's training: mini-batch SGD with momentum on its own examples, from the model it received."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from fl.config.plan import LocalPlan
from fl.config.secret import permutations, samples
from fl.config.section import ConfigError
from fl.data.examples import Inputs, Labels
from fl.training.dense import flattened, is_written_out, sgd_step
from fl.training.step import (
    Gradients,
    Part,
    PerExample,
    Tensors,
    at_once,
    check_examples,
    class_weights,
    descend,
    example_gradients,
    mean_gradient,
    released,
    summed,
)

EVALUATION_BATCH = 256  # examples: a few times faster than 1024, whose activations leave the caches


class Diverged(ArithmeticError):  # noqa: N818 - reads as what happened
    """Training left the finite numbers."""


@dataclass(frozen=True)
class LocalResult:
    """What one client's training gives.

    upload: (d,), in the order of `fl.models.weights.to_vector`, float32 (float64 in that precision): for
    fedavg trained minus received model, for fedavg-weights the trained model, for fedsgd the gradient of the
    mean loss, followed by what it changed in the buffers.
    examples: the client's number of examples, its weight in the mean.
    loss: mean cross-entropy in nats per example over all steps, each batch measured before its own step; with
    the weights of a plan that balances the loss.
    correct: how many of the client's own examples the *received* model classifies correctly, before training.
    """

    upload: NDArray[np.floating]
    examples: int
    loss: float
    correct: int


class Tap(Protocol):
    """What an experiment listens to at a client: more than any server sees.

    `step` is told, before each step is taken, which of the client's own examples are in it, (B,) int64, and
    what it goes along; `upload` what is sent in the end, (d,): after training, and after whatever changes it
    on the way.

    It hears what is used, and changes nothing of it. Only the written-out steps of a dense network never have
    their gradient: there it is computed once more for the tap, the same but for rounding.
    """

    def step(self, u: int, step: int, examples: NDArray[np.int64], gradients: Gradients) -> None:
        """u: the client. step: from 0 on. examples: (B,), places in what it holds. gradients: what the step
        goes along, before it is taken.
        """
        ...

    def upload(self, u: int, upload: NDArray[np.floating]) -> None:
        """u: the client. upload: (d,), as it is given to the session."""
        ...


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


def on_device(on: torch.device, x: Inputs, y: Labels) -> tuple[torch.Tensor, torch.Tensor]:
    """Copies of examples and labels, there."""
    return torch.tensor(x, device=on), torch.tensor(y, device=on)


def batches(
    examples: int, plan: LocalPlan, order: bytes, weights: torch.Tensor | None = None
) -> Iterator[torch.Tensor]:
    """Which examples each step takes: passes over all of them in orders drawn from the key `order`, cut into
    batches, the last of a pass what is left; by Poisson sampling each example with probability batch_size in
    `examples`, for itself, by `weights` where classes are balanced so: a batch may be empty. For fedsgd one
    step takes all.

    A pass is drawn when its first step is taken: how many there are is the server's to say, and takes no
    memory.
    """
    if plan.algorithm == "fedsgd":
        return iter([torch.arange(examples)])
    if plan.sampling == "poisson":
        balanced = weights.numpy() if weights is not None and plan.balance == "sampling" else None
        drawn = map(torch.from_numpy, samples(order, examples, plan.batch_size, balanced))
        return islice(drawn, plan.steps_of(examples))
    passes = (torch.split(torch.from_numpy(each), plan.batch_size) for each in permutations(order, examples))
    return islice((batch for each in passes for batch in each), plan.steps_of(examples))


def prepared(model: nn.Module, x: torch.Tensor, plan: LocalPlan) -> nn.Module:
    """A copy of the model to be trained on x: there, and in the plan's precision."""
    return copy.deepcopy(model).to(x.device, number_type(plan)).train()


def channels_last(model: nn.Module, x: torch.Tensor) -> tuple[nn.Module, torch.Tensor]:
    """Both in the layout in which convolutions on images are fastest, by a third and more; as they are where
    there are none. Their numbers are the same. vmap does not take it.
    """
    if x.ndim != 4 or not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        return model, x
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave it out
    return model, x.to(memory_format=torch.channels_last)


def number_type(plan: LocalPlan) -> torch.dtype:
    """The type of weights: what bfloat16 computes with is cast as it goes."""
    return torch.float64 if plan.precision == "float64" else torch.float32


def inputs(x: torch.Tensor, plan: LocalPlan) -> torch.Tensor:
    """Images in the plan's precision; tokens as they are."""
    return x.to(number_type(plan)) if x.is_floating_point() else x


@contextmanager
def computing(on: torch.device, plan: LocalPlan) -> Iterator[None]:
    """Deterministic, and in bfloat16 where the plan says so."""
    coarse = plan.precision == "bfloat16"
    with (
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        # Weights change from step to step, and the cache of autocast would keep the first ones.
        torch.autocast(on.type, torch.bfloat16, enabled=coarse, cache_enabled=False),
    ):
        yield


def train(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    plan: LocalPlan,
    order: bytes,
    *,
    u: int = 0,
    tap: Tap | None = None,
    per_example: PerExample | None = None,
    counting: bool = True,
) -> LocalResult:
    """Train a copy of `model` as `plan` says on x: (N, ...), y: (N,), N >= 1, where they are.

    per_example: asks for a gradient of every example, and says what steps make of them.
    counting: whether to look how many examples the received model has right, a pass of its own; else 0.

    The order of examples comes from the key `order` alone (`fl.config.secret.order_key`).
    On the CPU, with one thread, the same arguments give the same bits in any process on a like machine.
    Raises: Diverged; ConfigError for `per_example` of a model whose examples have no gradients of their own.
    """
    if per_example is not None:
        check_examples(model)
    trained, x = channels_last(prepared(model, x, plan), inputs(x, plan))
    received = flat(trained)
    correct = measure(trained, x, y)[0] if counting else 0
    weights = None if plan.balance == "none" else class_weights(y.cpu())
    sgd = _SGD(trained, plan, per_example, weights)
    total, seen = torch.zeros((), device=x.device, dtype=number_type(plan)), 0
    with computing(x.device, plan):
        for step, batch in enumerate(batches(len(y), plan, order, weights)):
            hear = None if tap is None else partial(tap.step, u, step, batch.numpy())
            # Kept on the device: to read a number there is to wait for all that was asked of it before.
            total += sgd.step(x, y, batch.to(x.device), hear) * len(batch)
            seen += len(batch)
    upload = _upload(flat(trained), received, sgd.along, plan).cpu().numpy()
    return finished(upload, len(y), total.item() / max(seen, 1), correct, plan)


def _upload(after: torch.Tensor, received: torch.Tensor, along: Tensors, plan: LocalPlan) -> torch.Tensor:
    """The upload, as `LocalResult` has it. along: what fedsgd's one step would have gone along."""
    if plan.algorithm == "fedavg-weights":
        return after
    moved = after - received
    if plan.algorithm == "fedsgd":
        # The parameters have not moved, but BatchNorm's buffers have, which follow them.
        gradient = torch.cat([g.flatten() for g in along])
        return torch.cat([gradient, moved[len(gradient) :]])
    return moved


class _SGD:
    """torch.optim.SGD, written out: importing it costs each client process a second. For fedsgd a step only
    leaves what it would have gone along, of the whole shard. weights: (n,), of the client's examples, where
    the plan balances their classes.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: LocalPlan,
        per_example: PerExample | None,
        weights: torch.Tensor | None,
    ) -> None:
        self._model, self._plan, self._per_example = model, plan, per_example
        self._parameters: Tensors = list(model.parameters())
        self._velocity = [torch.zeros_like(p) for p in self._parameters] if plan.momentum else []
        self._start = [p.detach().clone() for p in self._parameters] if plan.proximal else []
        self._written_out = is_written_out(model, plan) and per_example is None
        on = self._parameters[0]
        self._weights = weights.to(on) if weights is not None and plan.balance == "loss" else None
        self.along = Tensors()

    def step(
        self, x: torch.Tensor, y: torch.Tensor, batch: torch.Tensor, hear: Callable[[Gradients], None] | None
    ) -> torch.Tensor:
        """Take a step on the examples `batch` of x and y. Returns their mean loss before it."""
        if hear is not None or not self._written_out:
            loss, self.along, each = self._gradient(x, y, batch, kept=hear is not None)
        if hear is not None:
            hear(Gradients.of(self.along, each))
        if self._written_out:  # also where it is heard: who listens changes no bit of what is trained
            return self._written_out_step(x, y, batch)
        if self._plan.algorithm != "fedsgd":
            descend(self._parameters, self.along, self._velocity, self._start, self._plan)
        return loss

    def _written_out_step(self, x: torch.Tensor, y: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        x, y = x.index_select(0, batch), y.index_select(0, batch)
        each = x.new_full(y.shape, 1 / max(len(y), 1))
        if self._weights is not None:
            each *= self._weights.index_select(0, batch)
        return sgd_step(self._parameters, self._velocity, flattened(self._model, x), y, each, self._plan)

    def _gradient(
        self, x: torch.Tensor, y: torch.Tensor, batch: torch.Tensor, *, kept: bool
    ) -> tuple[torch.Tensor, Tensors, Tensors | None]:
        """(mean loss, what the step goes along, and of every example if asked for and kept)."""
        if self._per_example is None and not len(batch):
            nothing = torch.zeros((), device=y.device, dtype=number_type(self._plan))
            return nothing, [torch.zeros_like(p) for p in self._parameters], None
        # Of an empty batch an example goes through the model all the same, and does not count.
        taken = batch if len(batch) else batch.new_zeros(1)
        chunks = (
            # Several times as fast as x[some].
            (x.index_select(0, some), y.index_select(0, some), self._weights_of(some))
            for some in torch.split(taken, at_once(self._plan, self._per_example))
        )
        if self._per_example is None:
            model, parameters, n = self._model, self._parameters, len(batch)
            return *summed(mean_gradient(model, parameters, x, y, n, w) for x, y, w in chunks), None
        of = torch.full((1,), len(batch), dtype=number_type(self._plan), device=y.device)
        loss, along, each = released(self._stacks_of_one(chunks, of), of, self._per_example, kept=kept)
        rows = None if each is None else [g[0, : len(batch)] for g in each]
        return loss[0], [g[0] for g in along], rows

    def _weights_of(self, some: torch.Tensor) -> torch.Tensor | None:
        return None if self._weights is None else self._weights.index_select(0, some)

    def _stacks_of_one(
        self, chunks: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]], of: torch.Tensor
    ) -> Iterator[Part]:
        """Every example's gradient, as if there were K = 1 models."""
        named = {name: parameter.detach()[None] for name, parameter in self._model.named_parameters()}
        for x, y, w in chunks:
            weights = of.new_ones(1, len(y)) if w is None else w[None]
            losses, each = example_gradients(self._model, named, x[None], y[None], weights)
            yield losses, each, torch.ones_like(losses) * (of > 0)


def flat(model: nn.Module) -> torch.Tensor:
    """The model as `fl.models.weights.to_vector` has it, in its own precision, where it is."""
    tensors = [*model.parameters(), *model.buffers()]
    return torch.cat([tensor.detach().flatten() for tensor in tensors if tensor.is_floating_point()])


def finished(
    upload: NDArray[np.floating], examples: int, loss: float, correct: int, plan: LocalPlan
) -> LocalResult:
    """What training gives, if it is finite. Raises: Diverged."""
    if not math.isfinite(loss) or not np.isfinite(upload).all():
        raise Diverged(
            f"training diverged (mean loss {loss}): lower lr ({plan.lr}) or momentum ({plan.momentum})"
        )
    return LocalResult(upload, examples, loss, correct)


def evaluate(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """(accuracy in [0, 1], mean cross-entropy in nats) of the model on x: (N, ...), y: (N,), N >= 1.

    The model is left on their device.
    """
    correct, loss = measure(model.to(x.device), x, y)
    return correct / len(y), loss / len(y)


def measure(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[int, float]:
    """(correct predictions, summed cross-entropy), in eval mode; the mode is put back."""
    answers, loss = answered(model, x, y)
    return int((answers == y).sum()), loss


@torch.no_grad()  # not inference_mode, which would leave weights that cannot be trained
def answered(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, float]:
    """((N,) the class that the model takes each example for, summed cross-entropy), as `measure`."""
    was_training = model.training
    model.eval()
    answers, loss = [], 0.0
    model, x = channels_last(model, x)
    parts = (torch.split(each, EVALUATION_BATCH) for each in (x, y))
    for some_x, some_y in zip(*parts, strict=True):
        logits = model(some_x)
        answers.append(logits.argmax(dim=1))
        loss += float(cross_entropy(logits, some_y, reduction="sum"))
    model.train(was_training)
    return torch.cat(answers), loss
