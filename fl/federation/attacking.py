"""Malicious clients, where they send: the updates that they forge in place of what they trained; and a
process that is one of them, with what it knows of its accomplices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fl.config.attack import AttackConfig
from fl.config.plan import LocalPlan
from fl.data.examples import Inputs, Labels
from fl.federation.task import Instructions, order_of, round_of
from fl.models.weights import to_vector
from fl.poisoning import UPDATES, Known
from fl.privacy.step import asked_for
from fl.training.local import LocalResult, on_device, train
from secagg import ClientSession
from secagg.crypto import Tag, kdf
from secagg.errors import ClientId
from secagg.record import Unclipped
from secagg.states import StatefulClient

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Attackers:
    """The malicious clients of a run, as a `Sending`: what they are asked for and have trained -> what they
    send. Outside the rounds of their attack, and where it is one on data alone, they send what they trained.

    ids: all of them. secrets: of those whose updates are forged here. clients: of the run, where what the
    others do is not seen; None where the results are those of all clients of a round.

    Security: what they send is encoded as everybody's is, cut to the range of a sum and, but where they skip
    it (`skipping`), to the clip of a session. A client that encodes by itself sends any integers of the ring
    that it likes.
    """

    attack: AttackConfig
    ids: frozenset[ClientId]
    secrets: Mapping[ClientId, bytes] = field(repr=False)
    clients: int | None = None

    def __call__(
        self, instructions: Instructions, model: nn.Module, results: Mapping[ClientId, LocalResult]
    ) -> Mapping[ClientId, LocalResult]:
        name, level = self.attack.name, self.attack.level
        if self.attack.of_data:
            name, level = "scale", self.attack.boost
        ours = sorted(self.ids & results.keys())
        if name is None or not ours or not self.attack.at(instructions.round):
            return results
        plan, start = instructions.plan, _Start.of(model)
        seen = sorted(results.keys() - self.ids) if self.attack.omniscient else []
        others = [start.change(plan, results[u]) for u in seen]
        sent = dict(results)
        # Who looks at nobody else's forges alone, the same in a process of its own.
        for some in [ours] if self.attack.colluding else [[u] for u in ours]:
            known = Known(
                instructions.round,
                start.parameters,
                np.stack([start.change(plan, results[u]) for u in some]),
                np.stack(others) if others else None,
                self.clients or len(results),
                len(ours) if self.clients is None else len(self.ids),
            )
            forged = UPDATES[name](known, level, self._rng(instructions.round, some))
            for u, change in zip(some, forged, strict=True):
                sent[u] = replace(results[u], upload=start.upload(plan, change, results[u]))
        return sent

    def _rng(self, round: int, some: Sequence[ClientId]) -> np.random.Generator:
        """Alike for all who forge together: from the secret of the first of them."""
        key = kdf(Tag.TRAINING, self.secrets[some[0]], b"", "attack", round)
        return np.random.default_rng(int.from_bytes(key, "big"))


def skipping(attack: AttackConfig, session: ClientSession) -> ClientSession:
    """An attacker's session, which has heard nothing yet: without the clip in the rounds of an attack that
    skips it.
    """
    if not attack.skip_clip:
        return session
    assert isinstance(session, StatefulClient)  # noqa: S101 - as the clients of all schemes are
    return Unclipped(session, lambda task: attack.at(round_of(task)))


@dataclass(frozen=True)
class _Start:
    """The received model, from which changes are reckoned. trained: so many of its parameters are trained;
    the others are buffers.
    """

    parameters: Vector
    trained: int

    @classmethod
    def of(cls, model: nn.Module) -> _Start:
        return cls(to_vector(model).astype(np.float64), sum(each.numel() for each in model.parameters()))

    def change(self, plan: LocalPlan, result: LocalResult) -> Vector:
        """What the model changes by, of what a client would upload."""
        change = result.upload.astype(np.float64)
        if plan.algorithm == "fedavg-weights":
            change -= self.parameters
        elif plan.algorithm == "fedsgd":
            change[: self.trained] *= -(plan.lr or 1.0)
        return change

    def upload(self, plan: LocalPlan, change: Vector, result: LocalResult) -> NDArray[np.floating]:
        """The other way round, as float of the kind that the client's own upload has."""
        upload = change.copy()
        if plan.algorithm == "fedavg-weights":
            upload += self.parameters
        elif plan.algorithm == "fedsgd":
            upload[: self.trained] /= -(plan.lr or 1.0)
        return upload.astype(result.upload.dtype)


@dataclass(frozen=True)
class Member:
    """One attacker, as the others know it: its secret, its examples, and those that it trains on in the
    rounds of an attack on data.
    """

    secret: bytes = field(repr=False)
    own: tuple[Inputs, Labels] = field(repr=False)
    poisoned: tuple[Inputs, Labels] | None = field(default=None, repr=False)

    def examples(self, attacking: bool) -> tuple[Inputs, Labels]:
        return self.poisoned if attacking and self.poisoned is not None else self.own


@dataclass(frozen=True)
class Attacker:
    """One malicious client in a process of its own. It shares what it has with its accomplices, and so trains
    what each of them trains, too, where the attack looks at it: all forge the same.

    attackers: what they send. members: whom it knows so, itself among them.
    Security: it does not know which of its accomplices are in a round, and reckons with all, and with all
    clients of the run.
    """

    attackers: Attackers
    members: Mapping[ClientId, Member]

    def examples(self, u: ClientId, round: int) -> tuple[Inputs, Labels]:
        return self.members[u].examples(self.attackers.attack.at(round))

    def session(self, session: ClientSession) -> ClientSession:
        """Its own, as `skipping` has it."""
        return skipping(self.attackers.attack, session)

    def accomplices(
        self, u: ClientId, instructions: Instructions, model: nn.Module, task: bytes, on: torch.device
    ) -> dict[ClientId, LocalResult]:
        """What the others would send of this task, by their own secrets, if they were honest."""
        if not self.attackers.attack.colluding or not self.attackers.attack.at(instructions.round):
            return {}
        results = {}
        for v, member in self.members.items():
            if v != u:
                x, y = on_device(on, *self.examples(v, instructions.round))
                results[v] = train(
                    model,
                    x,
                    y,
                    instructions.plan,
                    order_of(instructions, member.secret, task),
                    u=v,
                    per_example=asked_for(instructions.privacy, instructions.plan),
                    counting=False,
                )
        return results
