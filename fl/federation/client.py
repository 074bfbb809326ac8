"""A client of a run: what it computes for the task of a round."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray
from torch import nn

from fl.config.alike import likeness
from fl.config.limits import Limits
from fl.config.preflight import OFF, Preflight
from fl.data.shard import Shard
from fl.federation.attacking import Attacker
from fl.federation.decoys import Training, decoys
from fl.federation.looking import Looking
from fl.federation.sending import Sending, as_trained, contributions, in_place_of, in_turn
from fl.federation.task import Held, Instructions, check_loop, order_of, read_instructions
from fl.federation.vectors import CORRECT, EXAMPLES, LOSS, UPDATE, check_of_groups
from fl.models.architectures import MODELS
from fl.models.weights import to_vector
from fl.own import OwnTask
from fl.preflight import Kept, Verdict, Withheld
from fl.privacy.releases import Release
from fl.privacy.spending import own_releases
from fl.privacy.step import asked_for
from fl.training.local import Diverged, LocalResult, Tap, device, on_device, train
from fl.training.own import train_own
from fl.training.server import GlobalModel
from fl.training.step import PerExample
from secagg import Aggregate, Among, Decoys, Masking, Policy, Private, RemoteProtocolError, Scheme
from secagg.alike import Likeness
from secagg.crypto import KEY_BYTES
from secagg.errors import ClientId
from secagg.specs import Spec


class LocalTrainer:
    """What a client contributes: a function of the task. It opens nothing but the shard it was given.

    secret: this client's own, 32 bytes, from which it draws the order of its examples; None for a fresh one.
    limits: beyond which it refuses a task.
    asked: told what a task asks for, and what its session's vectors will tell by the noise that this client
    adds itself, before anything is trained; what it raises keeps the client out. tell: told, for whoever runs
    this client, what the server is not. tap, per_example: as `fl.training.local.train`, the latter in place
    of what a task asks for. sending: of this client alone. preflight: how much of its examples an update may
    give away; looked: told what each does, before it leaves. attacker: what this client is, if it is a
    malicious one, which looks at no update. own: a task of its own, and the only one that it trains.
    """

    def __init__(
        self,
        u: ClientId,
        shard: Shard,
        device_name: str,
        secret: bytes | None = None,
        *,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        asked: Callable[[Instructions, Sequence[Release]], None] = lambda instructions, releases: None,
        tell: Callable[[str], None] = lambda text: None,
        tap: Tap | None = None,
        per_example: PerExample | None = None,
        sending: Sending = as_trained,
        preflight: Preflight = OFF,
        looked: Callable[[Verdict], None] = lambda verdict: None,
        attacker: Attacker | None = None,
        own: OwnTask | None = None,
    ) -> None:
        self._train = train if own is None else partial(train_own, own)
        self._models, self._own_loop = MODELS if own is None else own.models, own is not None and own.trains
        self._preflight, self._looked = OFF if attacker else preflight, looked
        self._kept: dict[ClientId, Kept] = {}
        self._secret, self._limits = secret or os.urandom(KEY_BYTES), limits
        self._u, self._shard, self._told, self._tell = u, shard, asked, tell
        self._tap, self._per_example, self._attacker = tap, per_example, attacker
        self._sending = sending if attacker is None else in_turn(sending, attacker.attackers)
        self._device = device(device_name)
        self._x, self._y = on_device(self._device, shard.x, shard.y)
        self._names: Collection[str] = (UPDATE, EXAMPLES, LOSS, CORRECT)
        self._specs: Mapping[str, Spec] = {}
        self._private = False  # whether all that the session asks for is summed under noise
        self._decoys = 0  # that the session asks for beside what is true
        self._earlier: NDArray[np.float32] | None = None  # the model that was received last
        self._held: Held | None = None
        self._asked: tuple[Held, Any] | None = None  # as the round under way began, still without its sum

    def __call__(self, task: bytes) -> Mapping[str, Any]:
        """Train as the task says, and give those of the vectors that the session asks for, among decoys where
        it asks for these.

        Raises: RemoteProtocolError if the task does not fit this client's data, is beyond its limits, asks
        for what it does not train, or starts from a model it does not have; Diverged, where no noise bounds
        what is told; Withheld, where the update would give away more than it may; TaskError.
        """
        instructions, model = read_instructions(task, self._held, self._limits, self._models)
        asked = instructions.privacy
        if self._own_loop:
            check_loop(instructions)
        if self._decoys and self._models is not MODELS:
            raise RemoteProtocolError("the server asks for decoys: of a task of its own a client makes none")
        if self._decoys and asked is not None and asked.mechanism != "none":
            raise RemoteProtocolError(
                "the server asks for noise beside decoys: each is computed from this client's data, and no "
                "epsilon would hold"
            )
        releases = self._releases(instructions, len(to_vector(model)))
        self._told(instructions, releases)
        shard, description = self._shard, instructions.model
        if (description.shape, description.classes) != (shard.shape, shard.classes):
            raise RemoteProtocolError(
                f"the server's model is for examples of {description.shape} in {description.classes} "
                f"classes, this client's are {shard.shape} in {shard.classes}"
            )
        start = self._held.model if self._held and not instructions.parameters else None
        if start is None:
            start = GlobalModel.of(model, instructions.server)
        self._asked = Held(instructions.run, instructions.round, description, start), instructions.plan
        if self._attacker is not None:
            self._x, self._y = on_device(self._device, *self._attacker.examples(self._u, instructions.round))
        try:
            result = self._trained(instructions, model, order_of(instructions, self._secret, task))
        except Diverged as error:
            if not (releases or self._private):
                raise
            # To stay away would tell without noise, and without a charge, on what side of the finite numbers
            # the data of this client are: a server can make a model that overflows on some data alone.
            self._tell(f"{error}; that would tell of this client's data: it contributes zeros instead")
            result = LocalResult(np.zeros_like(to_vector(model)), len(shard.y), 0.0, 0)
        looking = Looking.of(
            self._preflight, instructions, self._specs, noised=bool(releases), kept=self._kept
        )
        sent = self._sent(looking, model, result, task)
        return self._among(sent, result, instructions, model) if self._decoys else sent

    def _sent(self, looking: Looking, model: nn.Module, result: LocalResult, task: bytes) -> dict[str, Any]:
        """Raises: Withheld."""
        results = {self._u: result}
        if self._attacker is not None:
            results |= self._attacker.accomplices(self._u, looking.instructions, model, task, self._device)
        send = partial(
            contributions,
            looking.instructions,
            model,
            names=self._names,
            sending=self._sending,
            tap=self._tap,
        )
        sent, verdicts = looking.sent(model, lambda u: self._shard.x, results, send)
        for verdict in verdicts.values():
            self._looked(verdict)
            if looking.withholds(verdict):
                raise Withheld(f"nothing was sent: {verdict.sentence()}")
        return sent[self._u]

    def _among(
        self, sent: dict[str, Any], result: LocalResult, instructions: Instructions, model: nn.Module
    ) -> Among:
        asked = self._per_example or asked_for(instructions.privacy, instructions.plan)
        training = Training(
            model, self._x, self._y, instructions.model.classes, instructions.plan, self._earlier, asked
        )
        self._earlier = to_vector(model)
        made = decoys(training, result, self._decoys)
        return Among(sent, in_place_of(instructions, model, self._u, made, self._names))

    def _trained(self, instructions: Instructions, model: nn.Module, order: bytes) -> LocalResult:
        return self._train(
            model,
            self._x,
            self._y,
            instructions.plan,
            order,
            u=self._u,
            tap=self._tap,
            per_example=self._per_example or asked_for(instructions.privacy, instructions.plan),
            counting=CORRECT in self._names,
        )

    def _releases(self, instructions: Instructions, length: int) -> tuple[Release, ...]:
        """What is told of this client by noise of its own, which it adds whatever the others do: none where
        it is asked for more than its update, since nothing else has noise.
        """
        asked = instructions.privacy
        # How many examples there are is not what noise on each of them hides.
        of_examples = asked is not None and asked.mechanism == "example"
        if not {UPDATE, *([EXAMPLES] if of_examples else [])} >= set(self._names):
            return ()
        return own_releases(asked, instructions.plan, length, len(self._shard.y))

    def offered(self, scheme: Scheme) -> None:
        """Be told the session that was accepted, and so which vectors it asks for; untold, give all.

        Raises: RemoteProtocolError where it asks a group for what no group tells.
        """
        if isinstance(scheme, Masking) and scheme.groups is not UNSET:
            check_of_groups(scheme.vectors)
        self._specs, self._names = scheme.vectors, scheme.vectors.keys()
        self._private = all(isinstance(spec, Private) for spec in scheme.vectors.values())
        self._decoys = scheme.candidates - 1 if isinstance(scheme, Decoys) else 0

    def likeness(self, task: bytes, policy: Policy) -> Likeness | None:
        """What the update that this task asks for is computed from. Raises: RemoteProtocolError as a call."""
        instructions, model = read_instructions(task, self._held, self._limits, self._models)
        return likeness(instructions.plan, to_vector(model), policy, own_loop=self._own_loop)

    def keep(self, total: Aggregate) -> Held:
        """The model with the mean of the round that was trained last, where clients keep it: the next task
        starts from it.
        """
        assert self._asked is not None  # noqa: S101 - whoever has a sum was asked for it
        self._held, plan = self._asked
        self._held.model.apply(total.mean[UPDATE], plan)
        return self._held
