"""What a client does with its data in a round, and the server with the mean: parts of a run's description
that travel to the clients.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from secagg.specs import check_fields

Algorithm = Literal["fedavg", "fedavg-weights", "fedsgd"]
Precision = Literal["float32", "float64", "bfloat16"]
Way = Literal["batched", "sequential"]
"""How clients of one process are computed: see `fl.training.clients`."""
Optimiser = Literal["average", "momentum", "adam", "yogi"]


_Real = Annotated[float, msgspec.Meta(ge=0, le=100)]
_Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class LocalPlan(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A client's part of a round.

    algorithm: fedavg sends what training changed, w_k - w; fedavg-weights sends w_k; fedsgd sends the
    gradient of its whole data at w, after no training (McMahan et al. 2017, section 2). epochs: passes over
    its data, unless steps is above 0: then just so many steps, over as many passes as they take. momentum:
    of SGD, begun anew each round. proximal: mu of FedProx (Li et al. 2020): mu/2 |w_k - w|^2 is added to the
    loss. precision: bfloat16 is of the forward and backward pass; weights stay float32.
    """

    algorithm: Algorithm = "fedavg"
    epochs: _Count = 1
    steps: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 0
    batch_size: _Count = 8
    lr: _Real = 0.05
    momentum: _Share = 0.0
    proximal: _Real = 0.0
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        check_fields(self, "plan")

    def steps_of(self, examples: int) -> int:
        """How many steps a client with so many examples takes."""
        if self.algorithm == "fedsgd":
            return 1
        return self.steps or self.epochs * -(-examples // self.batch_size)


class ServerStep(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How the mean update moves the model: see `fl.training.server`."""

    optimiser: Optimiser = "average"
    lr: _Real = 1.0
    momentum: _Share = 0.9
    beta2: _Share = 0.99
    tau: _Real = 1e-3

    def __post_init__(self) -> None:
        check_fields(self, "plan")
