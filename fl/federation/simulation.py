"""A federation in one process: every client trained here, by `fl.training.clients`, and then summed by the
same sessions as over a network, with keys, masks and ciphertexts, but without sockets.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fl.cohort.delay import client_seconds
from fl.cohort.layout import Layout
from fl.config.plan import Way
from fl.config.preflight import OFF, Preflight
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets, rounding_seed
from fl.federation.attacking import Attackers, skipping
from fl.federation.combining import Noise
from fl.federation.decoys import Training, decoys
from fl.federation.looking import Looking
from fl.federation.records import Learned, Local
from fl.federation.sending import Sending, as_trained, contributions, in_place_of, in_turn
from fl.federation.server import Server
from fl.federation.task import Held, Instructions, order_of, read_instructions
from fl.federation.vectors import CORRECT, UPDATE
from fl.models.architectures import MODELS
from fl.models.weights import from_vector, to_vector
from fl.own import OwnTask
from fl.preflight import Kept, Verdict
from fl.privacy.spending import Spending, own_releases
from fl.privacy.step import asked_for
from fl.robust import Rule
from fl.training.checkpoint import Checkpoint
from fl.training.clients import LocalClients, usable_cores
from fl.training.local import LocalResult, Tap, device, evaluate
from fl.training.server import GlobalModel
from fl.training.spread import Cluster
from fl.training.step import PerExample
from secagg import (
    Aggregate,
    Among,
    ClientSession,
    Clipping,
    Decoys,
    Identity,
    Roster,
    Scheme,
    ServerSession,
    TooFewClients,
    run,
    throwaway_identities,
)
from secagg.alike import Alike, Likeness, Record, in_memory
from secagg.crypto import KEY_BYTES
from secagg.errors import ClientId
from secagg.record import Around, Instrument
from secagg.session import relays_of
from secagg.tagged import Tagged
from secagg.wire import Raw, relay_party
from transport import Refused, RoundReport, Standing
from transport.errors import clients as named

Watch = Callable[[RoundReport], None]
WAYS: dict[str, Way | None] = {
    "auto": None,
    "batched": "batched",
    "sequential": "sequential",
    "processes": "sequential",  # as each process computes its own client
    "ray": "sequential",  # as each worker computes its own clients
}
"""How clients are computed in this process, by a run's `execution`; None where both ways are tried first."""


@dataclass(frozen=True)
class _Members:
    """Who may be asked: the clients in this process, whose identities end with it."""

    clients: Mapping[ClientId, Identity]
    identities: Roster | None


def cluster_of(config: RunConfig) -> Cluster | None:
    """The cluster that trains the clients of a run, and unmasks its sums; None where this process does.

    Raises: ModuleNotFoundError without Ray; `fl.cluster.ClusterError`.
    """
    if config.training.execution != "ray":
        return None
    from fl.cluster import connected

    return connected(usable_cores())


class SimulatedCohort:
    """All clients of a run, where `fl.federation.Server` has them over a network.

    secrets: of each client, 32 bytes, from which it draws the order of its examples and how it rounds, so
    that a resumed run does alike; None for fresh ones. way: how they are computed, None as the configuration
    says. tap, per_example: as `fl.training.local.train`, the latter in place of what a task asks for.
    sending: of all clients together, before the configuration's attackers send what they like. preflight: how
    much of its examples each update of the others may give away; a client that sends nothing for it takes no
    part from then on. instrument: put around the sessions of clients and
    relays, as over a network each one's own. own: the task of one's own that all of them have.
    """

    def __init__(
        self,
        config: RunConfig,
        layout: Layout,
        *,
        secrets: Mapping[ClientId, bytes] | None = None,
        way: Way | None = None,
        tap: Tap | None = None,
        per_example: PerExample | None = None,
        sending: Sending = as_trained,
        preflight: Preflight = OFF,
        instrument: Instrument | None = None,
        own: OwnTask | None = None,
    ) -> None:
        self._own, self._models = own, MODELS if own is None else own.models
        self._config, self._serving, self._layout = config, layout.serving, layout
        self._preflight, self.looked = preflight, dict[ClientId, Verdict]()
        self._kept: dict[ClientId, Kept] = {}
        self._tap, self._per_example = tap, per_example
        self._instrument = instrument
        self._secrets = secrets or {u: os.urandom(KEY_BYTES) for u in range(config.cohort.clients)}
        self._sending = sending
        if layout.attackers:
            self._sending = in_turn(sending, Attackers(config.attack, layout.attackers, self._secrets))
        self._cluster = cluster_of(config)
        self.clients = LocalClients(
            layout.x,
            layout.y,
            layout.shares,
            device("cpu" if self._cluster else config.training.device),
            way or WAYS[config.training.execution],
            self._cluster,
            own,
        )
        clients = range(config.cohort.clients)
        roster, self._identities = throwaway_identities(clients, relays=config.protection.relay_count)
        self.roster = _Members({u: self._identities[u] for u in clients}, roster)
        parties = (None, *clients)
        self._signed: dict[ClientId | None, Record] = {u: in_memory() for u in parties}
        self._tagged = {
            j: Tagged(in_memory(), self._identities[relay_party(j)].key, roster) for j in roster.relays
        }
        # Where the clients keep the model: it, and what they learned of it.
        self._earlier: NDArray[np.float32] | None = None  # the model of the round before, for decoys
        self.held: Held | None = None
        self.learned: Learned | None = None
        self.clipped: dict[ClientId, int] = {}  # honest coordinates beyond the bound, in the last session
        self._training = frozenset[ClientId]()  # in this round
        self._withheld: dict[ClientId, str] = {}  # who would not send, and why
        self._without: set[ClientId] = set()  # these, and who missed a sum then: it has the model no more

    def aggregate(
        self,
        scheme: Scheme,
        task: bytes = b"",
        *,
        clients: Collection[ClientId] | None = None,
        deadlines: Mapping[str, float] | None = None,
        watch: Watch | None = None,
        alike: Likeness | None = None,
        parts: bool = False,
        instrument: Callable[[ServerSession], ServerSession] = lambda session: session,
        excluded: Mapping[ClientId, str] = MappingProxyType({}),
    ) -> Aggregate:
        """One session. deadlines: the configuration's, by the model of links; others mean nothing here.

        Raises: as `secagg.run`; Diverged; LocalProtocolError of the sending.
        """
        cohort = sorted(self.roster.clients if clients is None else clients)
        instructions, model = read_instructions(task, self.held, models=self._models)
        there = [u for u in cohort if u not in self._without and u not in excluded]
        # Of the whole task: a bit of the model makes other orders, and so other updates of every client. The
        # difference of two sums that differ by one client is then not that client's update.
        orders = {u: order_of(instructions, self._secrets[u], task) for u in there}
        self._training = frozenset(there)
        attacking = self._config.attack.at(instructions.round)
        of_attackers = self._layout.poisoned if attacking else self._layout.shares
        self.clients.hold({u: of_attackers[u] for u in self._layout.poisoned})
        with self._own.told("model") if self._own is not None else nullcontext():
            results = self.clients.train(
                model,
                instructions.plan,
                orders,
                tap=self._tap,
                per_example=self._per_example or asked_for(instructions.privacy, instructions.plan),
                counting=CORRECT in scheme.vectors,
            )
        sent: dict[ClientId, Any] = {**self._sent(instructions, model, results, scheme)}
        if isinstance(scheme, Decoys):
            sent = self._among(sent, results, instructions, model, scheme)
        try:
            total = run(
                scheme,
                {u: sent.get(u, {}) for u in cohort},
                task=task,
                drop={scheme.rounds[0]: set(cohort) & (self._without | excluded.keys())}
                | self._late(scheme, task, there),
                rounding_seeds={u: rounding_seed(self._secrets[u]) for u in cohort},
                identities={u: self._identities[u] for u in (*cohort, *relays_of(scheme))},
                instrument=lambda session: Watched(
                    instrument(session), watch or (lambda report: None), excluded
                ),
                listen=self._listen,
                executor=self._cluster,
                parts=parts,
                alike=self._rules(cohort, alike),
                tagged=self._tagged,
                told=self._tell,
            )
        except TooFewClients as few:
            if not self._withheld:
                raise
            why = next(iter(self._withheld.values()))
            message = f"{few}; {named(self._withheld)} sent nothing: {why}"
            raise Refused(message, few, self._withheld) from None
        if self._config.protection.kept:
            self._keep(instructions, model, total)
            self._without |= set(cohort) - total.survivors
        return total

    def _sent(
        self,
        instructions: Instructions,
        model: nn.Module,
        results: Mapping[ClientId, LocalResult],
        scheme: Scheme,
    ) -> Mapping[ClientId, Any]:
        """What each client sends that sends anything."""
        send = partial(
            contributions, instructions, model, names=scheme.vectors, sending=self._sending, tap=self._tap
        )
        most = max((result.examples for result in results.values()), default=1)
        length = len(to_vector(model))
        noised = bool(own_releases(instructions.privacy, instructions.plan, length, most))
        looking = Looking.of(self._preflight, instructions, scheme.vectors, noised=noised, kept=self._kept)
        sent, self.looked = looking.sent(
            model,
            lambda u: self.clients.examples(u)[0].cpu().numpy(),
            results,
            send,
            blind=self._layout.attackers,
        )
        withheld = {u: v.sentence() for u, v in self.looked.items() if looking.withholds(v)}
        self._withheld |= withheld
        self._without |= withheld.keys()
        return {u: vectors for u, vectors in sent.items() if u not in withheld}

    def _among(
        self,
        sent: Mapping[ClientId, Any],
        results: Mapping[ClientId, LocalResult],
        instructions: Instructions,
        model: nn.Module,
        scheme: Decoys,
    ) -> dict[ClientId, Among]:
        """What each client sends among decoys."""
        asked = self._per_example or asked_for(instructions.privacy, instructions.plan)
        classes, plan = instructions.model.classes, instructions.plan

        def among(u: ClientId) -> Among:
            training = Training(model, *self.clients.examples(u), classes, plan, self._earlier, asked)
            made = decoys(training, results[u], scheme.candidates - 1)
            return Among(sent[u], in_place_of(instructions, model, u, made, scheme.vectors))

        all_among = self.clients.side_by_side(among, sorted(sent))
        self._earlier = to_vector(model)
        return all_among

    def local(self) -> Local:
        """What the clients say of the last round."""
        return Local(
            self.clients.way,
            dict[str, float](self.clients.rates.items()),
            self.clipped,
            self.learned,
            None if self.held is None else self.held.model.parameters,
            self.looked,
        )

    def in_round(self) -> tuple[str, int, int]:
        """What `transport.Cohort.in_round` tells, but of training: the sums take little beside it."""
        return "training", len(self.clients.trained), len(self._training)

    def standing(self) -> Standing:
        """What `transport.Cohort.standing` tells, but of training, as `in_round`. Any thread may ask."""
        trained = self._training & frozenset(self.clients.trained)
        return Standing("training", trained, self._training - trained)

    def _rules(self, cohort: Collection[ClientId], alike: Likeness | None) -> dict[ClientId | None, Alike]:
        """The rules for like sums of the clients, and under None of the server."""
        if alike is None:
            return {}
        keys = {u: self.roster.clients[u].key for u in cohort}
        server = keys[min(cohort)]  # its record is sealed for nobody here
        return {
            u: Alike(lambda task: alike, self._signed[u], key, self.roster.identities)
            for u, key in ((None, server), *keys.items())
        }

    def _listen(self, u: ClientId, session: ClientSession) -> ClientSession:
        if u in self._layout.attackers:
            session = skipping(self._config.attack, session)
        return session if self._instrument is None else self._instrument.client(u, session)

    def _tell(self, u: ClientId, clipping: Mapping[str, Clipping]) -> None:
        # An attacker's is no reason to give the run a wider range.
        told = UPDATE in clipping and u not in self._layout.attackers
        self.clipped[u] = clipping[UPDATE].coordinates if told else 0

    def _keep(self, instructions: Instructions, model: nn.Module, total: Aggregate) -> None:
        """What every client does with the sum, once for all of them."""
        if instructions.parameters or self.held is None:
            held = GlobalModel.of(model, instructions.server)
        else:
            held = self.held.model
        held.apply(total.mean[UPDATE], instructions.plan)
        self.held = Held(instructions.run, instructions.round, instructions.model, held)
        test = self._serving.dataset
        x, y = torch.tensor(test.test_x), torch.tensor(test.test_y)
        from_vector(model, held.broadcast)
        on = device(self._config.training.device)
        self.learned = Learned.of([total], evaluate(model, x.to(on), y.to(on)))

    def _late(self, scheme: Scheme, task: bytes, cohort: Collection[ClientId]) -> dict[str, set[ClientId]]:
        """Whose upload comes after the deadline, by the model of links."""
        limit = self._config.cohort.deadline
        if limit is None:
            return {}
        up, down = scheme.upload_bytes, len(task)
        late = {u for u in cohort if client_seconds(self._config, self._serving, u, up, down) > limit}
        return {scheme.upload_round: late}


def simulated(
    config: RunConfig,
    layout: Layout,
    *,
    secrets: RunSecrets | None = None,
    resume: Checkpoint | None = None,
    way: Way | None = None,
    tap: Tap | None = None,
    per_example: PerExample | None = None,
    sending: Sending = as_trained,
    preflight: Preflight = OFF,
    instrument: Instrument | None = None,
    rule: Rule | None = None,
    noise: Noise | None = None,
    evaluate_every: int = 1,
    spending: Spending | None = None,
    own: OwnTask | None = None,
) -> Server:
    """A run with all its clients in this process, for everybody who trains like that: go over its `rounds`.

    secrets: of all parties; None for fresh ones. resume, rule, noise, evaluate_every, spending: as `Server`;
    way, tap, per_example, sending, preflight: as `SimulatedCohort`. instrument: put around the sessions of
    the server and of the clients. own: as both.
    """
    drawn = secrets or RunSecrets.fresh()
    cohort = SimulatedCohort(
        config,
        layout,
        secrets=drawn.clients(config.cohort.clients),
        way=way,
        tap=tap,
        per_example=per_example,
        sending=sending,
        preflight=preflight,
        instrument=instrument,
        own=own,
    )
    return Server(
        cohort,
        config,
        layout.serving,
        resume,
        secret=drawn.server,
        run=drawn.run,
        rule=rule,
        noise=noise,
        instrument=instrument,
        evaluate_every=evaluate_every,
        local=cohort.local,
        spending=spending,
        own=own,
    )


class Watched(Around):
    """A server session that reports each round as `transport.Cohort` does. excluded: who is not asked."""

    def __init__(
        self, session: ServerSession, watch: Watch, excluded: Mapping[ClientId, str] = MappingProxyType({})
    ) -> None:
        super().__init__(session)
        for u, why in excluded.items():
            session.lose(u, why)
        self._excluded = excluded
        self._watch, self._begun = watch, time.monotonic()
        self._up: dict[ClientId, int] = {}
        self._down: dict[ClientId, int] = {}

    def receive(self, sender: ClientId, message: Raw) -> None:
        super().receive(sender, message)
        self._up[sender] = len(message)

    def advance(self) -> dict[ClientId, bytes]:
        closing, waited_for, requests = self.round, self.waiting_for, dict[ClientId, bytes]()
        try:
            requests = self._session.advance()
        finally:  # a round that ends the session is reported, too: it shows who was lost
            up, down = self._up, self._down
            seconds = time.monotonic() - self._begun
            lost = {**dict.fromkeys(waited_for, "late"), **self._excluded}
            self._excluded = {}  # they are lost once, before the first round
            self._up, self._down, self._begun = {}, {u: len(m) for u, m in requests.items()}, time.monotonic()
            self._watch(
                RoundReport(
                    closing,
                    frozenset(up),
                    lost,
                    up,
                    down,
                    sum(up.values()),
                    sum(down.values()),
                    seconds,
                    frozenset(self.unopened),
                )
            )
        return requests
