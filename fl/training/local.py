"""A client's training: mini-batch SGD with momentum on its own examples, from the model it received."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from fl.config.plan import LocalPlan
from fl.config.run import ConfigError
from fl.config.secret import permutations
from fl.data.examples import Inputs, Labels
from fl.models.batchnorm import mixes_examples
from fl.training.dense import flattened, is_written_out, sgd_step

EVALUATION_BATCH = 256  # examples: a few times faster than 1024, whose activations leave the caches
GRADIENT_CHUNK = 64  # examples of a whole shard's gradient that are taken at once


class Diverged(ArithmeticError):  # noqa: N818 - reads as what happened
    """Training left the finite numbers."""


@dataclass(frozen=True)
class LocalResult:
    """What one client's training gives.

    upload: (d,), in the order of `fl.models.weights.to_vector`, float32 (float64 in that precision): for
    fedavg trained minus received model, for fedavg-weights the trained model, for fedsgd the gradient of the
    mean loss, followed by what it changed in the buffers.
    examples: the client's number of examples, its weight in the mean.
    loss: mean cross-entropy in nats per example over all steps, each batch measured before its own step.
    correct: how many of the client's own examples the *received* model classifies correctly, before training.
    """

    upload: NDArray[np.floating]
    examples: int
    loss: float
    correct: int


class Tap(Protocol):
    """What an experiment listens to at a client: more than any server sees.

    `step` is told, before each step, which of the client's own examples are in it, (B,) int64, and their
    gradients, (B, d) float32, one row each, of the loss alone, in the order of the model's parameters;
    `upload` what is sent in the end, (d,): after training, and after whatever changes it on the way.
    """

    def step(
        self, u: int, step: int, examples: NDArray[np.int64], gradients: NDArray[np.float32]
    ) -> None: ...

    def upload(self, u: int, upload: NDArray[np.floating]) -> None: ...


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


def batches(examples: int, plan: LocalPlan, order: bytes) -> Iterator[torch.Tensor]:
    """Which examples each step takes: passes over all of them in orders drawn from the key `order`, cut into
    batches, the last of a pass what is left. For fedsgd one step takes all.

    A pass is drawn when its first step is taken: how many there are is the server's to say, and takes no
    memory.
    """
    if plan.algorithm == "fedsgd":
        return iter([torch.arange(examples)])
    passes = (torch.split(torch.from_numpy(each), plan.batch_size) for each in permutations(order, examples))
    return islice((batch for each in passes for batch in each), plan.steps_of(examples))


def prepared(model: nn.Module, x: torch.Tensor, plan: LocalPlan) -> nn.Module:
    """A copy of the model to be trained on x: there, and in the plan's precision."""
    return copy.deepcopy(model).to(x.device, number_type(plan)).train()


def laid_out(model: nn.Module, x: torch.Tensor) -> tuple[nn.Module, torch.Tensor]:
    """Both in the layout in which convolutions on images are fastest, by a third and more; as they are where
    there are none. Their numbers are the same. vmap does not take it.
    """
    if x.ndim != 4 or not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        return model, x
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave it out
    return model, x.to(memory_format=torch.channels_last)


def number_type(plan: LocalPlan) -> torch.dtype:
    """Of weights: what bfloat16 computes with is cast as it goes."""
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
    counting: bool = True,
) -> LocalResult:
    """Train a copy of `model` as `plan` says on x: (N, ...), y: (N,), N >= 1, where they are.

    counting: whether to look how many examples the received model has right, a pass of its own; else 0.

    The order of examples comes from the key `order` alone (`fl.config.secret.order_key`).
    On the CPU, with one thread, the same arguments give the same bits in any process on a like machine.
    Raises: Diverged; ConfigError for a tap on a model whose examples have no gradients of their own.
    """
    trained, x = laid_out(prepared(model, x, plan), inputs(x, plan))
    received = flat(trained)
    correct = measure(trained, x, y)[0] if counting else 0
    sgd = _SGD(trained, plan)
    total, seen = torch.zeros((), device=x.device, dtype=number_type(plan)), 0
    with computing(x.device, plan):
        for step, batch in enumerate(batches(len(y), plan, order)):
            batch = batch.to(x.device)
            if tap is not None:
                tap.step(u, step, batch.cpu().numpy(), per_example(trained, x[batch], y[batch]))
            total += sgd.step(x, y, batch) * len(batch)
            seen += len(batch)
    after = flat(trained)
    if plan.algorithm == "fedsgd":
        gradient = torch.cat([g.flatten() for g in sgd.gradients])
        upload = torch.cat([gradient, (after - received)[len(gradient) :]])
    else:
        upload = after if plan.algorithm == "fedavg-weights" else after - received
    return finished(upload.cpu().numpy(), len(y), total.item() / seen, correct, plan)


class _SGD:
    """torch.optim.SGD, written out: importing it costs each client process a second. For fedsgd a step only
    leaves the whole shard's `gradients`.
    """

    def __init__(self, model: nn.Module, plan: LocalPlan) -> None:
        self._model, self._plan = model, plan
        self._parameters: list[torch.Tensor] = list(model.parameters())
        self._velocity = [torch.zeros_like(p) for p in self._parameters] if plan.momentum else []
        self._start = [p.detach().clone() for p in self._parameters] if plan.proximal else []
        self._written_out = is_written_out(model, plan)
        self.gradients: list[torch.Tensor] = []

    def step(self, x: torch.Tensor, y: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        """Take a step on the examples `batch` of x and y. Returns their mean loss before it."""
        plan, parameters = self._plan, self._parameters
        if plan.algorithm == "fedsgd":
            loss, self.gradients = _in_chunks(self._model, parameters, x, y, batch)
            return loss
        x, y = x.index_select(0, batch), y.index_select(0, batch)  # several times as fast as x[batch]
        if self._written_out:
            each = x.new_full(y.shape, 1 / len(y))
            return sgd_step(parameters, self._velocity, flattened(self._model, x), y, each, plan)
        loss = cross_entropy(self._model(x), y)
        gradients = list(torch.autograd.grad(loss, parameters))
        descend(parameters, gradients, self._velocity, self._start, plan)
        return loss.detach()


@torch.no_grad()
def descend(
    parameters: list[torch.Tensor],
    gradients: list[torch.Tensor],
    velocity: list[torch.Tensor],
    start: list[torch.Tensor],
    plan: LocalPlan,
) -> None:
    """Take the step in place; the gradients are used up. velocity: empty without momentum; start: where
    training began, empty without a proximal term.
    """
    if plan.proximal:
        torch._foreach_add_(gradients, torch._foreach_sub(parameters, start), alpha=plan.proximal)
    if plan.momentum:
        torch._foreach_mul_(velocity, plan.momentum)
        torch._foreach_add_(velocity, gradients)
        gradients = velocity
    torch._foreach_add_(parameters, gradients, alpha=-plan.lr)


def _in_chunks(
    model: nn.Module, parameters: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor, batch: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """(mean loss of the batch, its gradient), some examples at once."""
    gradients = [torch.zeros_like(p) for p in parameters]
    total = gradients[0].new_zeros(())
    for chunk in torch.split(batch, GRADIENT_CHUNK):
        loss = cross_entropy(model(x[chunk]), y[chunk], reduction="sum") / len(batch)
        torch._foreach_add_(gradients, torch.autograd.grad(loss, parameters))
        total += loss.detach()
    return total, gradients


def per_example(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> NDArray[np.float32]:
    """The gradient of each example's own loss: (B, d) float32, in the order of the model's parameters.

    Raises: ConfigError where examples share statistics, so that none has a gradient of its own.
    """
    if mixes_examples(model):
        raise ConfigError("a model with BatchNorm has no gradient of a single example: tap another model")

    def loss(parameters: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return cross_entropy(functional_call(model, parameters, (x[None],)), y[None])

    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    each = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, y)
    return torch.cat([g.flatten(1) for g in each.values()], dim=1).float().cpu().numpy()


def flat(model: nn.Module) -> torch.Tensor:
    """As `fl.models.weights.to_vector`, in the model's own precision, where it is."""
    tensors = [*model.parameters(), *model.buffers()]
    return torch.cat([tensor.detach().flatten() for tensor in tensors if tensor.is_floating_point()])


def finished(
    upload: NDArray[np.floating], examples: int, loss: float, correct: int, plan: LocalPlan
) -> LocalResult:
    """Raises: Diverged."""
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


@torch.no_grad()  # not inference_mode, which would leave weights that cannot be trained
def measure(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[int, float]:
    """(correct predictions, summed cross-entropy), in eval mode; the mode is put back."""
    was_training = model.training
    model.eval()
    correct, loss = 0, 0.0
    model, x = laid_out(model, x)
    parts = (torch.split(each, EVALUATION_BATCH) for each in (x, y))
    for some_x, some_y in zip(*parts, strict=True):
        logits = model(some_x)
        correct += int((logits.argmax(dim=1) == some_y).sum())
        loss += float(cross_entropy(logits, some_y, reduction="sum"))
    model.train(was_training)
    return correct, loss
