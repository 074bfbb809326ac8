"""The server of a run: whom it asks, for what, and what it does with what comes back, round by round."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fl.cohort.delay import client_seconds
from fl.cohort.layout import Serving
from fl.cohort.selection import Declared, choose, clusters
from fl.config.alike import likeness
from fl.config.plan import ServerStep
from fl.config.run import RunConfig
from fl.config.secret import RUN_ID_BYTES
from fl.config.section import ConfigError
from fl.federation.combining import Combining, Noise
from fl.federation.exclusion import Exclusion
from fl.federation.groups import Groups
from fl.federation.noising import Noising
from fl.federation.records import Learned, Local, RoundRecord, Trained
from fl.federation.task import write_instructions
from fl.federation.vectors import parts_of, scheme_for
from fl.models.architectures import MODELS, Description, build
from fl.models.weights import from_vector, to_vector
from fl.own import OwnTask
from fl.privacy.spending import Spending
from fl.robust import Rule, Unfit
from fl.training.checkpoint import Checkpoint
from fl.training.local import device, evaluate, on_device
from fl.training.server import GlobalModel
from secagg import (
    Aggregate,
    Bounded,
    LocalProtocolError,
    Private,
    RemoteProtocolError,
    Roster,
    Scheme,
    ServerSession,
    TooFewClients,
)
from secagg.alike import Likeness
from secagg.crypto import KEY_BYTES
from secagg.errors import ClientId
from secagg.record import Instrument
from transport import RoundReport, Standing


class Members(Protocol):
    """Who may be asked; and what signs, None where nothing is signed."""

    @property
    def clients(self) -> Mapping[ClientId, object]: ...

    @property
    def identities(self) -> Roster | None: ...


class Clients(Protocol):
    """The clients of a roster, and a session with some of them: `transport.Cohort`, or all in this process
    (`fl.federation.simulation.SimulatedCohort`)."""

    @property
    def roster(self) -> Members: ...

    def in_round(self) -> tuple[str, int, int] | None: ...

    def standing(self) -> Standing | None: ...

    def aggregate(
        self,
        scheme: Scheme,
        task: bytes = b"",
        *,
        clients: Collection[ClientId] | None = None,
        deadlines: Mapping[str, float] | None = None,
        watch: Callable[[RoundReport], None] | None = None,
        alike: Likeness | None = None,
        parts: bool = False,
        instrument: Callable[[ServerSession], ServerSession] = lambda session: session,
        excluded: Mapping[ClientId, str] = MappingProxyType({}),
    ) -> Aggregate: ...


class Server:
    """The server's side of a run, round by round.

    secret: its own, 32 bytes, from which it draws whom it asks; None for a fresh one. run: the run's id, 16
    bytes; None for a fresh one, or that of the run that is resumed. rule: what it makes of the parts of a
    round, None for the configuration's. noise: what each client declares of its own, None for what all are
    asked for. instrument: put around its sessions. evaluate_every: rounds from one look at the test and
    validation data to the next; the last round is always looked at. local: what clients in this process say.
    spending: of this run, before it goes on; None for one that keeps no record. own: the task of one's own
    that is trained, instead of the configuration's model.

    Raises: ConfigError for a checkpoint of another run, and as `Combining`.
    """

    def __init__(
        self,
        cohort: Clients,
        config: RunConfig,
        serving: Serving,
        resume: Checkpoint | None = None,
        *,
        secret: bytes | None = None,
        run: bytes | None = None,
        rule: Rule | None = None,
        noise: Noise | None = None,
        instrument: Instrument | None = None,
        evaluate_every: int = 1,
        local: Callable[[], Local] = Local,
        spending: Spending | None = None,
        own: OwnTask | None = None,
    ) -> None:
        self.own, self.models = own, MODELS if own is None else own.models
        self.cohort, self.config, self._serving = cohort, config, serving
        self._noise, self._instrument, self._local = noise, instrument, local
        self._evaluate_every = evaluate_every
        self._secret = secret or os.urandom(KEY_BYTES)
        dataset, on = serving.dataset, device(config.training.device)
        name = config.training.model if own is None else own.name
        self.description = Description(name, dataset.shape, dataset.classes)
        self._model = build(name, dataset.shape, dataset.classes, config.training.seed, self.models)
        self.model = GlobalModel.of(self._model, config.server.step)
        self.run, self._next = run or os.urandom(RUN_ID_BYTES), 1
        if resume is not None:
            self.model = _resumed(self._model, resume, config.server.step)
            self.run, self._next = resume.run, resume.round + 1
        memory = resume.memory if resume else {}
        self._combining = Combining(config, serving, self._model, self._secret, rule, memory)
        self._ids = sorted(cohort.roster.clients.keys())
        self.groups = Groups(config, self._ids, memory)
        self.exclusion = Exclusion(config, memory)
        self.noising = Noising(
            config,
            len(self.model.parameters),
            self._like(min(config.cohort.per_round, len(self._ids))),
            spending or Spending(config.privacy.delta),
            memory,
        )
        self.stopped = ""  # why there are no more rounds, before the last
        self._tests = [on_device(on, dataset.test_x, dataset.test_y)]
        if serving.validation is not None:
            self._tests.append(on_device(on, *serving.validation))
        self.lost: TooFewClients | RemoteProtocolError | Unfit | None = None  # why a sum was last abandoned

    @property
    def scheme(self) -> Scheme:
        """The session with a whole round's clients."""
        return self._scheme_for(min(self.config.cohort.per_round, len(self._ids)))

    def _like(self, clients: int) -> Scheme:
        """A session with so many clients, but for its vectors: of their kind, from which m_min follows."""
        distributed = self.config.privacy.mechanism == "distributed"
        one = Private(length=1, clip=1.0, multiplier=1e3) if distributed else Bounded(length=1, bound=1.0)
        return self.config.protection.for_cohort(clients, {"": one}, self.cohort.roster.identities)

    def _scheme_for(self, clients: int, round: int = 1) -> Scheme:
        # As small as it can be: a client of a tenth of the largest weight has a tenth of the precision.
        each = self.config.data.max_examples or self.config.data.examples_per_client
        most = each or len(self._serving.dataset.train_y)
        length = len(self.model.parameters)
        roster, level = self.cohort.roster.identities, self.noising.level(round)
        groups = self.groups
        return scheme_for(
            self.config, clients, length, most, roster, level, cohort=groups.cohort, cut=groups.cut
        )

    def rounds(
        self,
        deadlines: Mapping[str, float] | None = None,
        watch: Callable[[RoundReport], None] = lambda report: None,
    ) -> Iterator[Trained]:
        """Those that are left. deadlines: seconds of protocol rounds, by name. watch: told of each one."""
        for round in range(self._next, self.config.training.rounds + 1):
            if (then := self.noising.passes(round)) is not None:
                self.stopped = f"round {round} would bring epsilon to {then:.4g}: stopped before it"
                return
            trained = self._round(round, deadlines, watch)
            yield trained
            reached = trained.record.validation
            if (
                self.config.training.until_accuracy
                and reached
                and reached >= self.config.training.until_accuracy
            ):
                return

    def _round(
        self, round: int, deadlines: Mapping[str, float] | None, watch: Callable[[RoundReport], None]
    ) -> Trained:
        begun, config, kept = time.monotonic(), self.config, self.config.protection.kept
        cohorts = self._chosen(round)
        # The first model is public, drawn from the seed; what becomes of it the clients may keep.
        start = self.model.broadcast if round == 1 or not kept else np.empty(0, np.float32)
        level = self.noising.level(round)
        task = write_instructions(config, self.run, round, self.description, start, level)
        # Where the clients keep the model the server has none by whose nearness it could plan.
        policy, loop = config.protection.policy(), self.own is not None and self.own.trains
        alike = None if kept else likeness(config.training.plan, start, policy, own_loop=loop)
        self.noising.begin(round)
        totals, reports, abandoned = list[Aggregate](), list[RoundReport](), ""
        for cohort in cohorts:
            before = len(reports)
            try:
                scheme = self._scheme_for(len(cohort), round)
                totals.append(self._sum(scheme, cohort, task, alike, deadlines, reports, watch))
            except (TooFewClients, RemoteProtocolError) as error:
                closed = any(report.round == scheme.rounds[-1] for report in reports[before:])
                why = self.exclusion.abandoned(error, round, cohort, closed=closed)
                if why is None:
                    raise
                self.lost, abandoned = error, why
        learned, update, left_out = None, None, frozenset[ClientId]()
        survivors = tuple(part.survivors for part in (parts_of(totals) if self.groups else totals))
        totals, too_long = self.groups.parted(scheme, level, totals) if self.groups else (totals, [])
        self.groups.was_cut()
        if totals and not kept:
            try:
                update, left_out = self._combined(round, totals)
            except Unfit as error:
                # In groups whoever attacks can have its own left out: that is no reason for a run to end.
                if not (config.cohort.abandons or self.groups):
                    raise
                self.lost, totals, abandoned = error, [], str(error)
        elif too_long:
            abandoned = "every group's sum is longer than its clients could make it"
            self.lost = Unfit(abandoned)
        left_out = left_out.union(*(part.survivors for part in too_long))
        if update is not None:
            update = self.noising.noised(round, update, sum(len(total.survivors) for total in totals))
            self.model.apply(update, config.training.plan)
            looked = round % self._evaluate_every == 0 or round == config.training.rounds
            learned = Learned.of(totals, *(self._evaluated() if looked else ()))
        noise = self.noising.told(round, totals)  # with the clip that it had
        if learned is not None:
            self.noising.adapt(round, totals)
        if not totals and not self.groups:
            survivors = ()
        record = RoundRecord.of(
            learned,
            reports,
            round=round,
            chosen=sum(map(len, cohorts)),
            alive=sum(len(total.survivors) for total in totals),
            sums=len(totals),
            sums_asked=config.protection.groups or len(cohorts),
            seconds=time.monotonic() - begun,
            delay=self._delay(reports, survivors),
            abandoned="" if totals else abandoned,
            left_out=sorted(left_out) if left_out or (totals and self._combining.by_parts) else None,
            too_long=[sorted(part.survivors) for part in too_long] if self.groups else None,
            unsafe_groups=config.protection.unsafe_groups,
            excluded=sorted(self.exclusion.why),
            **noise,
        )
        memory = self.model.memory | self._combining.memory | self.noising.memory
        memory |= self.groups.memory | self.exclusion.memory
        checkpoint = Checkpoint(self.run, round, self.model.parameters, memory)
        parameters = None if kept else self.model.parameters
        return Trained(record, survivors, parameters, checkpoint, left_out, self._local())

    def _combined(
        self, round: int, totals: Sequence[Aggregate]
    ) -> tuple[NDArray[np.float64], frozenset[ClientId]]:
        clients = (u for total in totals for u in total.survivors)
        each = self.noising.of_each(round)
        noise = self._noise or ({} if each is None else dict.fromkeys(clients, each))
        return self._combining.combined(round, self.model.parameters, totals, noise)

    def _chosen(self, round: int) -> Sequence[Sequence[ClientId]]:
        """The clients of the round, by cluster. Raises: ConfigError where a declaration is missing."""
        config, declared = self.config, self._serving.declared or {}
        there = self._serving.there.get(round, self._ids)
        ids = self.exclusion.candidates([u for u in self._ids if u in there], config.cohort.per_round)
        candidates = {u: declared.get(u, Declared(1.0)) for u in ids}
        try:
            chosen = choose(config.cohort.select, candidates, config.cohort.per_round, self._secret, round)
            if config.cohort.cluster is None:
                return [chosen]
            return clusters(config.cohort.cluster, chosen, candidates, self._smallest(len(chosen)))
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def _smallest(self, most: int) -> int:
        """Clients of a cluster: as few as there can be a session of."""
        # Of two clients each has the other's vector: the sum less its own.
        # Only making it tells: what a scheme can keep depends on its adversary, corrupt and dropout.
        for clients in range(1 if self.config.protection.small_cohort else 3, most):
            with suppress(LocalProtocolError):
                self._scheme_for(clients)
                return clients
        return most

    def _sum(
        self,
        scheme: Scheme,
        cohort: Sequence[ClientId],
        task: bytes,
        alike: Likeness | None,
        deadlines: Mapping[str, float] | None,
        reports: list[RoundReport],
        watch: Callable[[RoundReport], None],
    ) -> Aggregate:
        """The sum of one cluster's clients.

        Raises: TooFewClients, also if fewer uploads came than the configuration asks for: before the sum of a
        scheme that hides is opened.
        """
        needed = self.config.cohort.minimum or 0

        def keep(report: RoundReport) -> None:
            reports.append(report)
            watch(report)
            # Here, since a round is reported before the requests of the next one leave: nothing is opened.
            alive = len(report.of_clients.alive)
            if report.round == scheme.upload_round and alive < needed:
                raise TooFewClients(alive, needed, report.round)

        limits = dict(deadlines or {})
        if self.config.cohort.deadline is not None:
            limits.setdefault(scheme.upload_round, self.config.cohort.deadline)
            limits.setdefault(scheme.training_round, self.config.cohort.deadline)
        return self.cohort.aggregate(
            scheme,
            task,
            clients=cohort,
            deadlines=limits,
            watch=keep,
            alike=alike,
            parts=self._combining.by_parts or bool(self.groups),
            instrument=partial(self._observed, task),
            excluded=self.exclusion.of(cohort),
        )

    def _observed(self, task: bytes, session: ServerSession) -> ServerSession:
        self.groups.begun(session)
        return session if self._instrument is None else self._instrument.server(task, session)

    def _evaluated(self) -> tuple[tuple[float, float], float | None]:
        from_vector(self._model, self.model.broadcast)
        with self.own.told("model") if self.own is not None else nullcontext():
            test, *validation = [evaluate(self._model, x, y) for x, y in self._tests]
        self._model.cpu()
        return test, validation[0][0] if validation else None

    def _delay(
        self, reports: Sequence[RoundReport], survivors: Sequence[Collection[ClientId]]
    ) -> float | None:
        """Ma et al., figure 5: the slowest client's computation and transmission."""
        if self.config.cohort.links is None or not survivors:
            return None
        return max(
            client_seconds(
                self.config,
                self._serving,
                u,
                sum(report.up.get(u, 0) for report in reports),
                sum(report.down.get(u, 0) for report in reports),
            )
            for some in survivors
            for u in some
        )


def _resumed(first: torch.nn.Module, resume: Checkpoint, step: ServerStep) -> GlobalModel:
    """The model that the checkpoint holds, with the optimiser's memory.

    Raises: ConfigError for a checkpoint of another model or optimiser, or one that is not finite.
    """
    try:
        length = len(to_vector(first))
        if resume.parameters.shape != (length,):
            raise ValueError(f"{len(resume.parameters)} parameters, this model has {length}")
        model = GlobalModel.of(first, step, resume.parameters)
        # The optimiser's names have no prefix, those of a rule and of noise have one.
        model.remember({name: kept for name, kept in resume.memory.items() if "." not in name})
    except ValueError as error:
        raise ConfigError(
            f"the checkpoint is not one of this run ({error}): begin the run anew, with --force"
        ) from error
    return model
