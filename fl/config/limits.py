"""What a client is willing to compute in a round: its own rule, as `secagg.Policy` is for what it sends."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fl.config.plan import LocalPlan
from secagg import RemoteProtocolError

_Most = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most that a client computes for a task.

    epochs, steps: the most of a round, whichever of them the plan counts by, and so its time. batch_size:
    the most examples of a step, and so the memory of its activations. parameters: the most of a model, d.

    Security: all are compared with what the task says, and none with what this client holds: a refusal that
    went by its number of examples would tell the server that number, bit by bit.
    """

    epochs: _Most = 100
    steps: _Most = 10_000
    batch_size: _Most = 1_024
    parameters: _Most = 25_000_000

    @classmethod
    def of(cls, plan: LocalPlan) -> Limits:
        """The limits of a client that was told what it will be asked, and takes no more."""
        return cls(
            epochs=plan.epochs,
            steps=max(1, plan.steps),  # 0 steps are of a plan that counts epochs, and no limit
            batch_size=plan.batch_size,
            parameters=2**31 - 1,
        )

    @property
    def task_bytes(self) -> int:
        """The most of a task: of a model of twice the parameters, to which `check` can say what is wrong."""
        return 8 * self.parameters + 2**16

    def check(self, plan: LocalPlan, parameters: int) -> None:
        """parameters: d of the model that is to be trained. Raises: RemoteProtocolError beyond a limit."""
        asked = {"parameters": parameters}
        # fedsgd is one pass in chunks of a fixed size, whatever its plan says of epochs and batches.
        if plan.algorithm != "fedsgd":
            # Of the two the one that counts: a plan of steps has its epochs at whatever they are by default.
            count = {"steps": plan.steps} if plan.steps else {"epochs": plan.epochs}
            asked |= count | {"batch_size": plan.batch_size}
        for name, number in asked.items():
            if number > (most := getattr(self, name)):
                option = name.replace("_", "-")
                raise RemoteProtocolError(
                    f"the server asks for {name} of {number} in training; this client takes {most} at most. "
                    f"If that is right: --most-{option} {number}"
                )
