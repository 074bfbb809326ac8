"""The server's part in the rule of a run: what it has of its own to hold a round's updates against, and what
the rule remembers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fl.cohort.layout import Serving
from fl.config.plan import ServerStep
from fl.config.robust import assuming
from fl.config.run import RunConfig
from fl.config.secret import root_key
from fl.config.section import ConfigError
from fl.federation.vectors import points_of
from fl.models.weights import from_vector
from fl.robust import RULES, Bench, Points, Rule, Unfit
from fl.robust.rules import mean
from fl.training.local import device, evaluate, on_device, train
from fl.training.server import GlobalModel
from secagg import Aggregate
from secagg.errors import ClientId

OF_RULE = "rule."  # before the names of what a rule remembers, in a checkpoint
Vector = NDArray[np.float64]
Noise = Mapping[ClientId, float]
"""Client -> the standard deviation in a coordinate that it declares of the noise in its update."""


class Combining:
    """Of one run, round by round.

    rule: None for that of the configuration. model: one like the run's, whose weights are used up. secret:
    the server's own. memory: what the checkpoint of a run that goes on has kept.

    Raises: ConfigError for a rule of the configuration that is not for as many clients as a round has, and
    for any but the mean where there is nothing to combine.
    """

    def __init__(
        self,
        config: RunConfig,
        serving: Serving,
        model: nn.Module,
        secret: bytes,
        rule: Rule | None = None,
        memory: Mapping[str, Vector] | None = None,
    ) -> None:
        if rule is None:
            check_fit(config)
        self._rule = rule or RULES[config.robust.rule]
        if self.by_parts and config.protection.kept:
            raise ConfigError("a rule needs sums to combine: with ending = 'keep' the server has none")
        if self.by_parts and config.privacy.mechanism == "central":
            raise ConfigError("privacy = 'central': its noise is of the mean: no other rule with it")
        self._config, self._model, self._secret = config, model, secret
        on, self._classes = device(config.training.device), serving.dataset.classes
        self._validation = None if serving.validation is None else on_device(on, *serving.validation)
        self._root = None if serving.root is None else on_device(on, *serving.root)
        there = (memory or {}).items()
        self._memory = {name.removeprefix(OF_RULE): kept for name, kept in there if name.startswith(OF_RULE)}

    @property
    def by_parts(self) -> bool:
        """Whether the rule has to see parts: the mean needs none, and they take the memory of a cohort."""
        return self._rule is not mean

    @property
    def memory(self) -> dict[str, Vector]:
        """What has to be kept to go on from here."""
        return {OF_RULE + name: kept for name, kept in self._memory.items()}

    def combined(
        self, round: int, start: Vector, totals: Sequence[Aggregate], noise: Noise
    ) -> tuple[Vector, frozenset[ClientId]]:
        """What the rule takes for the mean of what clients sent, and whom it left out. start: (d,), the model
        that they started from. noise: none where nobody declares any.

        Raises: Unfit, of a round that the rule cannot stand for.
        """
        points = points_of(totals)
        verdict = self._rule(points, self._bench(round, start, points, noise), self._memory)
        self._memory = dict(verdict.memory)
        left_out = frozenset[ClientId]().union(*(points.members[row] for row in verdict.left_out))
        return verdict.update, left_out

    def _bench(self, round: int, start: Vector, points: Points, noise: Noise) -> Bench:
        plan = self._config.training.plan

        def after(update: Vector) -> Vector:
            # By the plain step, whatever the server's: one that remembers moves along no update alone.
            alone = GlobalModel.of(self._model, ServerStep(), start)
            try:
                alone.apply(update, plan)
            except ValueError:  # beyond float32, where an attacker may want to be: no model
                return np.full_like(start, np.inf)
            return alone.parameters

        return Bench(
            round,
            start,
            score=None if self._validation is None else self._score,
            assumed=self._config.robust.assumed,
            root=None if self._root is None else lambda: self._own(round, start),
            noise=_declared(points, noise) if noise else None,
            copies=copies(self._config),
            chance=1 / self._classes,
            step=after,
        )

    def _score(self, parameters: Vector) -> float:
        """Accuracy on the validation data; 0 of what is no model."""
        assert self._validation is not None  # noqa: S101 - else nothing scores
        weights = parameters.astype(np.float32)
        if not np.isfinite(weights).all():
            return 0.0
        from_vector(self._model, weights)
        accuracy, _ = evaluate(self._model, *self._validation)
        self._model.cpu()
        return accuracy

    def _own(self, round: int, start: Vector) -> Vector:
        """What a client would send that held the root data. Raises: Diverged."""
        assert self._root is not None  # noqa: S101 - else there is no such update
        from_vector(self._model, start.astype(np.float32))  # as clients receive it
        plan, key = self._config.training.plan, root_key(self._secret, round)
        return train(self._model, *self._root, plan, key, counting=False).upload.astype(np.float64)


def check_fit(config: RunConfig) -> None:
    """Raises: ConfigError where the rule is not for as many clients, or groups of them, as a round has."""
    clients, groups = config.cohort.per_round, config.protection.groups
    if unfit := _unfit(config, groups or clients, config.robust.assumed):
        would_do = f" ({_that_would_do(config)})" if groups and config.robust.counts else ""
        raise ConfigError(f"robust = {config.robust.rule!r}: {unfit}{would_do}") from unfit


def _that_would_do(config: RunConfig) -> str:
    """So many groups, of those that may be, or such a share of attackers."""
    clients, groups, robust = config.cohort.per_round, config.protection.groups, config.robust
    more = (G for G in range(groups + 1, config.most_groups + 1) if not _unfit(config, G, robust.assumed))
    fewer = (assuming(f, clients) for f in range(robust.attackers(clients) - 1, -1, -1))
    less = (share for share in fewer if not _unfit(config, groups, share))
    would = {"groups": next(more, None), "assumed": next(less, None)}
    said = " or ".join(f"{name} = {value:g}" for name, value in would.items() if value is not None)
    return f"{said} would do" if said else "neither would do here: take another rule, or scheme = 'plain'"


def _unfit(config: RunConfig, parts: int, assumed: float) -> Unfit | None:
    """Why the rule is not for so many parts of a round's clients; None where it is."""
    clients = config.cohort.per_round
    ones = np.ones((parts, 1))
    members = [frozenset(range(i * clients // parts, (i + 1) * clients // parts)) for i in range(parts)]
    points = Points(tuple(members), ones, np.array([float(len(some)) for some in members]))
    # Asked once, of updates that are all alike: so the limits of each stand where it is, and nowhere else.
    bench = Bench(
        1,
        ones[0],
        score=lambda model: 1.0,
        assumed=assumed,
        root=lambda: ones[0],
        noise=ones[:, 0],
        copies=copies(config),
    )
    try:
        RULES[config.robust.rule](points, bench, {})
    except Unfit as error:
        return error
    return None


def copies(config: RunConfig) -> tuple[frozenset[ClientId], ...]:
    """The groups of clients that were dealt the same examples."""
    size = config.robust.redundancy
    if size == 1:
        return ()
    return tuple(frozenset(range(u, u + size)) for u in range(0, config.cohort.clients, size))


def _declared(points: Points, noise: Noise) -> Vector:
    """(P,): the deviation of the noise in each part, of the mean of so many updates."""
    return np.array(
        [math.sqrt(sum(noise[u] ** 2 for u in part)) / len(part) for part in points.members], np.float64
    )
