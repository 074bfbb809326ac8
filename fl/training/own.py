"""A client's training by a task of one's own: by its loop, or by the trainer's steps on its model."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from fl.config.plan import LocalPlan
from fl.own import OwnTask
from fl.training.local import LocalResult, Tap, finished, flat, measure, prepared, train
from fl.training.step import PerExample

if TYPE_CHECKING:
    from collections.abc import Iterator


def train_own(
    own: OwnTask,
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
    """As `fl.training.local.train`, which takes the steps where the task has no loop of its own; of one that
    has, a tap hears no steps. torch's generator is seeded from `order`, whatever the model draws of it.

    Not for two threads at a time. Raises: Diverged; TaskError.
    """
    with own.told("model"), _seeded(order):
        if not own.trains:
            return train(model, x, y, plan, order, u=u, tap=tap, per_example=per_example, counting=counting)
        trained = prepared(model, x, plan)
        received = flat(trained)
        correct = measure(trained, x, y)[0] if counting else 0
        examples, loss = own.trained(trained, x, y, plan)
        after = flat(trained).to(received)
    own.check_same(len(after), len(received))
    upload = after if plan.algorithm == "fedavg-weights" else after - received
    return finished(upload.cpu().numpy(), examples, loss, correct, plan)


@contextmanager
def _seeded(order: bytes) -> Iterator[None]:
    """With torch's generator on the CPU, and those on GPUs, seeded by a client's key, and put back."""
    with torch.random.fork_rng():
        torch.manual_seed(int.from_bytes(order[:8], "big"))
        yield
