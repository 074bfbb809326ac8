"""The server's step of federated averaging: w + Delta, or an optimiser that takes Delta for a gradient.

FedAvg: McMahan et al., AISTATS 2017, algorithm 1. Momentum: Hsu, Qi and Brown 2019 (FedAvgM). Adam and Yogi:
Reddi et al., ICLR 2021, algorithm 2, with v = tau^2 before the first round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fl.config.plan import LocalPlan, ServerStep
from fl.models.weights import to_vector

Vector = NDArray[np.float64]


class GlobalModel:
    """The global model as a vector, and what the optimiser remembers. Adding a small mean to a large
    parameter in float64 loses nothing.

    parameters: (d,) float64; the first `trained` of them are parameters, the others buffers, which are
    averaged whatever the optimiser. Raises ValueError for a vector that is not flat and finite as float32, as
    which clients receive it.
    """

    def __init__(
        self, parameters: NDArray[np.floating], step: ServerStep | None = None, trained: int | None = None
    ) -> None:
        if parameters.ndim != 1 or not _fits(parameters):
            raise ValueError("the initial parameters must be one flat vector, finite as float32")
        self.parameters: Vector = parameters.astype(np.float64)
        self._step = step or ServerStep()
        self._trained = len(parameters) if trained is None else trained
        self._m: Vector = np.zeros(self._trained if self._step.optimiser != "average" else 0)
        adaptive = self._step.optimiser in ("adam", "yogi")
        self._v: Vector = np.full(self._trained if adaptive else 0, self._step.tau**2)

    @classmethod
    def of(
        cls, model: nn.Module, step: ServerStep, parameters: NDArray[np.floating] | None = None
    ) -> GlobalModel:
        """The model as the server's step moves it; parameters: (d,), instead of its own."""
        trained = sum(parameter.numel() for parameter in model.parameters())
        return cls(to_vector(model) if parameters is None else parameters, step, trained)

    @property
    def broadcast(self) -> NDArray[np.float32]:
        """What the clients of the next round receive: (d,) float32."""
        return self.parameters.astype(np.float32)

    @property
    def memory(self) -> dict[str, Vector]:
        """What has to be kept beside the parameters to go on from here."""
        return {"m": self._m, "v": self._v}

    def remember(self, memory: Mapping[str, Vector]) -> None:
        """Go on from what `memory` was. Raises: ValueError for that of another optimiser or model."""
        if {name: kept.shape for name, kept in memory.items()} != {
            name: kept.shape for name, kept in self.memory.items()
        }:
            raise ValueError("this is not the memory of such an optimiser")
        if not all(np.isfinite(kept).all() for kept in memory.values()):
            raise ValueError("the memory of the optimiser holds NaN or infinity")
        self._m, self._v = memory["m"].copy(), memory["v"].copy()

    def apply(self, mean: NDArray[np.floating], plan: LocalPlan | None = None) -> None:
        """Step along the mean of what the clients of a round sent: (d,), finite, weighted by n_k.

        Of updates and weights the two forms of FedAvg, w + sum n_k/n (w_k - w) and sum n_k/n w_k, which are
        equal as the weights n_k/n sum to 1; of gradients FedSGD, w - lr sum n_k/n g_k.

        Raises ValueError for any other vector; the state is then as it was.
        """
        if mean.shape != self.parameters.shape:
            raise ValueError(f"the mean update has shape {mean.shape}, the model {self.parameters.shape}")
        if not _fits(mean):
            raise ValueError("the mean update holds NaN, or what float32 does not hold")
        plan = plan or LocalPlan()
        delta = mean.astype(np.float64)
        if plan.algorithm == "fedavg-weights":
            delta = delta - self.parameters
        elif plan.algorithm == "fedsgd":  # of the buffers it sends what they moved by, as fedavg does
            delta[: self._trained] *= -plan.lr
        # All or nothing: a step that cannot be taken leaves the optimiser as it was, too.
        before, moved = (self._m, self._v), delta.copy()
        moved[: self._trained] = STEPS[self._step.optimiser](self, delta[: self._trained])
        if not _fits(self.parameters + moved):
            self._m, self._v = before
            raise ValueError("the step leads out of what float32 holds: take a smaller one")
        self.parameters = self.parameters + moved

    def _average(self, delta: Vector) -> Vector:
        return self._step.lr * delta

    def _momentum(self, delta: Vector) -> Vector:
        self._m = self._step.momentum * self._m + delta
        return self._step.lr * self._m

    def _adam(self, delta: Vector) -> Vector:
        square, beta2 = np.square(delta), self._step.beta2
        return self._adaptive(delta, beta2 * self._v + (1 - beta2) * square)

    def _yogi(self, delta: Vector) -> Vector:
        square, beta2 = np.square(delta), self._step.beta2
        return self._adaptive(delta, self._v - (1 - beta2) * square * np.sign(self._v - square))

    def _adaptive(self, delta: Vector, v: Vector) -> Vector:
        # No correction of the bias of the first rounds: algorithm 2 has none.
        self._m = self._step.momentum * self._m + (1 - self._step.momentum) * delta
        self._v = v
        return self._step.lr * self._m / (np.sqrt(v) + self._step.tau)


def _fits(vector: NDArray[np.floating]) -> bool:
    """Whether float32 holds it; NaN it does not."""
    return bool((np.abs(vector) <= np.finfo(np.float32).max).all())


STEPS: dict[str, Callable[[GlobalModel, Vector], Vector]] = {
    "average": GlobalModel._average,
    "momentum": GlobalModel._momentum,
    "adam": GlobalModel._adam,
    "yogi": GlobalModel._yogi,
}
