"""What a rule is given, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ClientId

Memory = Mapping[str, NDArray[np.float64]]
"""What a rule keeps from round to round, by name: (n,) float64 each. It is part of the checkpoint, so
that a resumed run goes on alike."""


@dataclass(frozen=True)
class Points:
    """The parts of a round, disjoint: what the server learned of each, and nothing below it.

    members: who is in each part, at least one. updates: (P, d) float64, the weighted mean of what the members
    of each sent. weights: (P,) float64, the sum of their examples. There is one part for each client where
    nothing is hidden, and otherwise one for each sum that was opened, so that P is 1 where there is a single
    sum.
    """

    members: tuple[frozenset[ClientId], ...]
    updates: NDArray[np.float64] = field(repr=False)
    weights: NDArray[np.float64] = field(repr=False)

    @property
    def shares(self) -> NDArray[np.float64]:
        """(P,): the weights, as parts of 1; of clients that say they have no examples all 0."""
        return self.weights / (self.weights.sum() or 1.0)


@dataclass(frozen=True)
class Bench:
    """What the server has of its own to hold points against.

    round: of training, from 1. model: (d,) float64, from which the clients started. score: the accuracy on
    the server's validation data of a model, (d,) -> [0, 1]; None without such data.
    """

    round: int
    model: NDArray[np.float64] = field(repr=False)
    score: Callable[[NDArray[np.float64]], float] | None = None


@dataclass(frozen=True)
class Verdict:
    """What a rule makes of a round. update: (d,) float64, what the server takes for the mean. left_out: the
    rows of the points that had no part in it. memory: for the next round.
    """

    update: NDArray[np.float64] = field(repr=False)
    left_out: frozenset[int] = frozenset()
    memory: Memory = field(default_factory=dict, repr=False)


Rule = Callable[[Points, Bench, Memory], Verdict]
