"""What a rule is given, and what it answers."""

from __future__ import annotations

import math
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


class Unfit(ValueError):  # noqa: N818 - it is what the round is
    """A round that a rule cannot stand for: too few parts, or without what the rule has to see."""


@dataclass(frozen=True)
class Bench:
    """What the server has of its own to hold points against.

    round: of training, from 1. model: (d,) float64, from which the clients started. score: the accuracy on
    the server's validation data of a model, (d,) -> [0, 1]; None without such data. assumed: the share of
    attackers, in [0, 1), that a rule is to withstand. root: computes the update that the server's own
    training gives, from the model on its root data, (d,) float64; None without such data. noise: (P,)
    float64, the standard deviation in a coordinate that the members of each part declare of the noise in
    their update; None where nobody declares any. copies: groups of clients that hold the same examples and
    take them in the same order. chance: the accuracy of guessing, 1 / classes. step: the model (d,) that an
    update (d,) makes of the one above; None where it is their sum.
    """

    round: int
    model: NDArray[np.float64] = field(repr=False)
    score: Callable[[NDArray[np.float64]], float] | None = None
    assumed: float = 0.2
    root: Callable[[], NDArray[np.float64]] | None = None
    noise: NDArray[np.float64] | None = field(default=None, repr=False)
    copies: tuple[frozenset[ClientId], ...] = ()
    chance: float = 0.1
    step: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None

    def after(self, update: NDArray[np.float64]) -> NDArray[np.float64]:
        """(d,) float64: the model as it would be with this update."""
        return self.model + update if self.step is None else self.step(update)

    @property
    def origin(self) -> NDArray[np.float64]:
        """(d,) float64: the update of who changes nothing, from which the size of others is measured. It is
        the model where clients send whole models, and 0 elsewhere.
        """
        return self.model if np.array_equal(self.after(self.model), self.model) else np.zeros_like(self.model)

    def attackers(self, points: Points) -> int:
        """How many of the parts are an attacker's, at most, where the assumed share of the clients, rounded
        down, attacks: of groups each may have one in a group of its own.
        """
        clients = sum(map(len, points.members))
        # .29 * 100 is a little below 29 in floating point.
        return min(len(points.updates), math.floor(self.assumed * clients + 1e-9))


@dataclass(frozen=True)
class Verdict:
    """What a rule makes of a round. update: (d,) float64, what the server takes for the mean. left_out: the
    rows of the points that had no part in it. memory: for the next round.
    """

    update: NDArray[np.float64] = field(repr=False)
    left_out: frozenset[int] = frozenset()
    memory: Memory = field(default_factory=dict, repr=False)


Rule = Callable[[Points, Bench, Memory], Verdict]
"""Raises: Unfit."""


def check_enough(rule: str, points: Points, least: int, attackers: int) -> None:
    """Raises: Unfit where there are fewer than `least` parts."""
    if len(points.updates) < least:
        of_groups = any(len(members) > 1 for members in points.members)
        parts, more = ("groups", "more groups") if of_groups else ("updates", "more clients a round")
        raise Unfit(
            f"{rule} needs {least} {parts} to withstand {attackers} of them, and this round has "
            f"{len(points.updates)}: take {more}, or assume fewer attackers"
        )
