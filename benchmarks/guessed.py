"""Who looks at candidates and guesses which of them is true: what tells one from the others, and how much a
linear model makes of it, which was fitted to candidates that the attacker has made of data of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import betaincinv, logsumexp
from torch import nn

from fl.models.weights import from_vector
from fl.training.local import evaluate
from secagg.errors import ClientId

Vector = NDArray[np.floating[Any]]
Shown = Mapping[ClientId, Vector]
"""(K, d): the candidates of each client, in the order in which they were sent."""

LINKED = 1e-12  # beside the norm of a vector: no division by zero
RIDGE = 1.0  # of a fit to some tens of choices

ATTACKERS: Mapping[str, Sequence[str]] = {
    "norms, layers": ("norms, layers",),
    "last step": ("last step",),
    "other clients": ("others",),
    "over rounds": ("rounds",),
    "classifier": ("norms, layers", "last step", "others", "rounds", "own data"),
}
"""Name -> what it looks at. None has the sum."""


@dataclass
class Observer:
    """What a server that looks on makes of the rounds of a run, one after the other.

    model: of the architecture that is trained. layers: how many coordinates each of its tensors has.
    x, y: examples of its own. seen: the rounds so far.
    """

    model: nn.Module
    layers: Sequence[int]
    x: torch.Tensor
    y: torch.Tensor
    seen: list[Shown] = field(default_factory=list)

    def look(self, shown: Shown, start: Vector, own: Vector) -> dict[str, NDArray[np.float64]]:
        """What tells candidates of a round apart: name -> (clients, K, features), clients by id.

        start: (d,), the model that clients have trained from, as far as it is known. own: (d,), an update
        that it has trained from there.
        """
        middles = {u: x.mean(axis=0) for u, x in shown.items()}
        middle = np.mean(list(middles.values()), axis=0)
        before = self.seen[-1] if self.seen else None
        last = np.mean([x.mean(axis=0) for x in before.values()], axis=0) if before else np.zeros_like(middle)
        n, found = len(shown), list[dict[str, Vector]]()
        for u in sorted(shown):
            others = (n * middle - middles[u]) / max(1, n - 1)
            found.append(
                {
                    "norms, layers": np.array([self._looks(x) for x in shown[u]]),
                    "last step": cosines(shown[u], last[None]),
                    "others": cosines(shown[u], others[None]),
                    "rounds": self._linked(u, shown[u] - middle),
                    "own data": np.hstack(
                        [cosines(shown[u], own[None]), [self._trained(start + x) for x in shown[u]]]
                    ),
                }
            )
        self.seen.append(shown)
        return {name: np.array([each[name] for each in found]) for name in found[0]}

    def _looks(self, x: Vector) -> list[float]:
        """Of each layer: norm, mean, deviation, skewness, kurtosis, largest coordinate, share of zeros."""
        found = list[float]()
        for part in np.split(x, np.cumsum(self.layers)[:-1]):
            deviation = float(part.std()) + LINKED
            z = (part - part.mean()) / deviation
            moments = [float(np.linalg.norm(part)), float(part.mean()), deviation]
            squared = z * z
            shape = [float((squared * z).mean()), float((squared * squared).mean()), float(np.abs(z).max())]
            found += [*moments, *shape, float((part == 0).mean())]
        return found

    def _linked(self, u: ClientId, own: Vector) -> Vector:
        """(K, 2): the largest cosine with what the client has shown before, and the mean; of what is not
        common to all clients."""
        earlier = [shown[u] - np.mean(list(shown.values()), axis=(0, 1)) for shown in self.seen]
        if not earlier:
            return np.zeros((len(own), 2))
        near = cosines(own, np.concatenate(earlier))
        return np.stack([near.max(axis=1), near.mean(axis=1)], axis=1)

    def _trained(self, parameters: Vector) -> tuple[float, float]:
        """(accuracy, mean loss) of the model on the attacker's own examples."""
        model = deepcopy(self.model)
        from_vector(model, parameters.astype(np.float32))
        return evaluate(model, self.x, self.y)


def cosines(x: Vector, y: Vector) -> NDArray[np.float64]:
    """(K, d), (m, d) -> (K, m)."""
    norms = np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1))
    found: NDArray[np.float64] = x @ y.T / (norms + LINKED)
    return found


@dataclass(frozen=True)
class Fitted:
    """Weights of features by which the true candidate has been told from the others."""

    scale: NDArray[np.float64]
    weights: NDArray[np.float64]

    @classmethod
    def to(cls, features: NDArray[np.float64], true: NDArray[np.int64]) -> Fitted:
        """A multinomial logit: P(j) is proportional to exp(w f_j) (McFadden 1974), with a penalty |w|^2 / 2.

        features: (choices, K, F). true: (choices,), which candidate it was.
        """
        f, scale = _between(features)
        chosen = np.arange(len(true)), true

        def loss(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            scores = f @ w
            total = logsumexp(scores, axis=1)
            p = np.exp(scores - total[:, None])
            gradient = np.einsum("ck,ckf->f", p, f) - f[chosen].sum(axis=0) + RIDGE * w
            return float((total - scores[chosen]).sum() + RIDGE / 2 * w @ w), gradient

        return cls(scale, minimize(loss, np.zeros(f.shape[2]), jac=True, method="L-BFGS-B").x)

    def guess(self, features: NDArray[np.float64]) -> NDArray[np.int64]:
        """(choices, K, F) -> (choices,)."""
        f, _ = _between(features, self.scale)
        best: NDArray[np.int64] = np.argmax(f @ self.weights, axis=1)
        return best


def _between(
    features: NDArray[np.float64], scale: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a feature differs by among candidates of one client; the rest says nothing of which is true."""
    f = features - features.mean(axis=1, keepdims=True)
    scale = f.std(axis=(0, 1)) + LINKED if scale is None else scale
    return f / scale, scale


def by_sum(shown: Shown, total: Vector, rng: np.random.Generator) -> NDArray[np.int64]:
    """Of whoever has the sum: the choice that adds up to it, by least squares in some of the coordinates."""
    clients = sorted(shown)
    columns = np.concatenate([shown[u] for u in clients])  # (n K, d)
    some = rng.permutation(len(total))[: 4 * len(columns)]
    chosen, *_ = np.linalg.lstsq(columns[:, some].T, total[some], rcond=None)
    best: NDArray[np.int64] = np.argmax(chosen.reshape(len(clients), -1), axis=1)
    return best


def interval(right: float, of: int, error: float = 0.05) -> tuple[float, float]:
    """Clopper and Pearson 1934: of the rate, where so many of as many guesses are right; or a part of one."""
    low = float(betaincinv(right, of - right + 1, error / 2)) if right else 0.0
    high = float(betaincinv(right + 1, of - right, 1 - error / 2)) if right < of else 1.0
    return low, high
