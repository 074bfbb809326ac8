"""The server of a run: whom it asks, for what, and what it does with what comes back, round by round."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
import torch

from fl.cohort.delay import client_seconds
from fl.cohort.layout import Serving
from fl.cohort.selection import Declared, choose, clusters
from fl.config.alike import likeness
from fl.config.plan import ServerStep
from fl.config.run import ConfigError, RunConfig
from fl.config.secret import RUN_ID_BYTES
from fl.federation.records import Learned, RoundRecord, Trained
from fl.federation.task import write_instructions
from fl.federation.vectors import UPDATE, mean_of, scheme_for
from fl.models.architectures import Description, build
from fl.models.weights import from_vector, to_vector
from fl.training.checkpoint import Checkpoint
from fl.training.local import device, evaluate, on_device
from fl.training.server import GlobalModel
from secagg import Aggregate, LocalProtocolError, Scheme, TooFewClients
from secagg.alike import Likeness
from secagg.crypto import KEY_BYTES
from secagg.errors import ClientId, counted
from transport import RoundReport


class Clients(Protocol):
    """The clients of a roster, and a session with some of them: `transport.Cohort`, or all in this process
    (`fl.federation.simulation.SimulatedCohort`)."""

    @property
    def roster(self) -> Any: ...

    def aggregate(
        self,
        scheme: Scheme,
        task: bytes = b"",
        *,
        clients: Collection[ClientId] | None = None,
        deadlines: Mapping[str, float] | None = None,
        watch: Callable[[RoundReport], None] | None = None,
        alike: Likeness | None = None,
    ) -> Aggregate: ...


class Server:
    """The server's side of a run, round by round.

    secret: its own, 32 bytes, from which it draws whom it asks; None for a fresh one. run: the run's id, 16
    bytes; None for a fresh one, or that of the run that is resumed.
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
    ) -> None:
        self._cohort, self._config, self._serving = cohort, config, serving
        self._secret = secret or os.urandom(KEY_BYTES)
        dataset, on = serving.dataset, device(config.device)
        self.description = Description(config.model, dataset.shape, dataset.classes)
        self._model = build(config.model, dataset.shape, dataset.classes, config.seed)
        self.model = GlobalModel.of(self._model, config.server_step)
        self.run, self._next = run or os.urandom(RUN_ID_BYTES), 1
        if resume is not None:
            self.model = _resumed(self._model, resume, config.server_step)
            self.run, self._next = resume.run, resume.round + 1
        self._tests = [on_device(on, dataset.test_x, dataset.test_y)]
        if serving.validation is not None:
            self._tests.append(on_device(on, *serving.validation))
        self.lost: TooFewClients | None = None  # why a sum was last abandoned
        self._ids = sorted(cohort.roster.clients.keys())

    @property
    def scheme(self) -> Scheme:
        """Of a session with a whole round's clients."""
        return self._scheme_for(min(self._config.cohort, len(self._ids)))

    def _scheme_for(self, clients: int) -> Scheme:
        # As small as it can be: a client of a tenth of the largest weight has a tenth of the precision.
        each = self._config.max_examples or self._config.examples_per_client
        most = each or len(self._serving.dataset.train_y)
        length = len(self.model.parameters)
        return scheme_for(self._config, clients, length, most, self._cohort.roster.identities)

    def rounds(
        self, deadlines: Mapping[str, float] | None, watch: Callable[[RoundReport], None]
    ) -> Iterator[Trained]:
        for round in range(self._next, self._config.rounds + 1):
            trained = self._round(round, deadlines, watch)
            yield trained
            reached = trained.record.validation
            if self._config.until_accuracy and reached and reached >= self._config.until_accuracy:
                return

    def _round(
        self, round: int, deadlines: Mapping[str, float] | None, watch: Callable[[RoundReport], None]
    ) -> Trained:
        begun, config, kept = time.monotonic(), self._config, self._config.protection.kept
        cohorts = self._chosen(round)
        # The first model is public, drawn from the seed; what becomes of it the clients may keep.
        start = self.model.broadcast if round == 1 or not kept else np.empty(0, np.float32)
        task = write_instructions(config, self.run, round, self.description, start)
        alike = None if kept else likeness(config.plan, start, config.protection.policy())
        totals, reports, abandoned = list[Aggregate](), list[RoundReport](), ""
        for cohort in cohorts:
            try:
                totals.append(self._sum(cohort, task, alike, deadlines, reports, watch))
            except TooFewClients as error:
                if kept or (config.minimum is None and config.deadline is None):
                    raise  # those who keep the model have none to go on from
                self.lost = error
                abandoned = f"{counted(error.alive, 'client')} left in {error.round}, {error.needed} needed"
        learned = None
        if totals and not kept:
            self.model.apply(mean_of(totals, UPDATE), config.plan)
            learned = Learned.of(totals, *self._evaluated())
        survivors = tuple(total.survivors for total in totals)
        record = RoundRecord.of(
            learned,
            reports,
            round=round,
            chosen=sum(map(len, cohorts)),
            alive=sum(map(len, survivors)),
            sums=len(totals),
            sums_asked=len(cohorts),
            seconds=time.monotonic() - begun,
            delay=self._delay(reports, survivors),
            abandoned="" if totals else abandoned,
        )
        checkpoint = Checkpoint(self.run, round, self.model.parameters, self.model.memory)
        return Trained(record, survivors, None if kept else self.model.parameters, checkpoint)

    def _chosen(self, round: int) -> Sequence[Sequence[ClientId]]:
        """The clients of the round, by cluster. Raises: ConfigError where a declaration is missing."""
        config, declared = self._config, self._serving.declared or {}
        candidates = {u: declared.get(u, Declared(1.0)) for u in self._ids}
        try:
            chosen = choose(config.select, candidates, config.cohort, self._secret, round)
            if config.cluster is None:
                return [chosen]
            return clusters(config.cluster, chosen, candidates, self._smallest(len(chosen)))
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def _smallest(self, most: int) -> int:
        """Clients of a cluster: as few as there can be a session of."""
        for clients in range(1 if self._config.small_cohort else 3, most):
            with suppress(LocalProtocolError):
                self._scheme_for(clients)
                return clients
        return most

    def _sum(
        self,
        cohort: Sequence[ClientId],
        task: bytes,
        alike: Likeness | None,
        deadlines: Mapping[str, float] | None,
        reports: list[RoundReport],
        watch: Callable[[RoundReport], None],
    ) -> Aggregate:
        """Raises: TooFewClients, also if fewer uploads came than the configuration asks for: before the sum
        of a scheme that hides is opened."""
        needed, scheme = self._config.minimum or 0, self._scheme_for(len(cohort))

        def keep(report: RoundReport) -> None:
            reports.append(report)
            watch(report)
            if report.round == scheme.upload_round and len(report.alive) < needed:
                raise TooFewClients(len(report.alive), needed, report.round)

        limits = dict(deadlines or {})
        if self._config.deadline is not None:
            limits.setdefault(scheme.upload_round, self._config.deadline)
            limits.setdefault(scheme.training_round, self._config.deadline)
        return self._cohort.aggregate(scheme, task, clients=cohort, deadlines=limits, watch=keep, alike=alike)

    def _evaluated(self) -> tuple[tuple[float, float], float | None]:
        from_vector(self._model, self.model.broadcast)
        test, *validation = [evaluate(self._model, x, y) for x, y in self._tests]
        self._model.cpu()
        return test, validation[0][0] if validation else None

    def _delay(
        self, reports: Sequence[RoundReport], survivors: Sequence[Collection[ClientId]]
    ) -> float | None:
        """Ma et al., figure 5: the slowest client's computation and transmission."""
        if self._config.links is None or not survivors:
            return None
        return max(
            client_seconds(
                self._config,
                self._serving,
                u,
                sum(report.up.get(u, 0) for report in reports),
                sum(report.down.get(u, 0) for report in reports),
            )
            for some in survivors
            for u in some
        )


def _resumed(first: torch.nn.Module, resume: Checkpoint, step: ServerStep) -> GlobalModel:
    """Raises: ConfigError for a checkpoint of another model or optimiser, or one that is not finite."""
    try:
        length = len(to_vector(first))
        if resume.parameters.shape != (length,):
            raise ValueError(f"{len(resume.parameters)} parameters, this model has {length}")
        model = GlobalModel.of(first, step, resume.parameters)
        model.remember(resume.memory)
    except ValueError as error:
        raise ConfigError(
            f"the checkpoint is not one of this run ({error}): begin the run anew, with --force"
        ) from error
    return model
