"""Federated averaging over a cohort: what the server asks for, what a client does with it, what comes back.

A client's update, its number of examples, its loss and its count of correct answers are named vectors of
one session: with a scheme that hides, the server learns their sums and nothing of any one client.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fl.alike import likeness
from fl.config import ConfigError, RunConfig
from fl.data.examples import Inputs, Labels
from fl.data.shard import Shard
from fl.layout import Serving
from fl.limits import Limits
from fl.links import compute_seconds, expected_seconds
from fl.models import Description, build
from fl.plan import LocalPlan, ServerStep
from fl.secret import RUN_ID_BYTES, order_key
from fl.selection import Declared, choose, clusters
from fl.task import Held, read_instructions, write_instructions
from fl.training.checkpoint import Checkpoint
from fl.training.local import LocalResult, Tap, device, evaluate, train
from fl.training.server import GlobalModel
from fl.weights import from_vector, to_vector
from secagg import (
    Aggregate,
    Bounded,
    Counts,
    LocalProtocolError,
    Policy,
    RemoteProtocolError,
    Roster,
    Scheme,
    TooFewClients,
    Weight,
)
from secagg.alike import Likeness
from secagg.crypto import KEY_BYTES
from secagg.errors import ClientId, counted
from transport import RoundReport

UPDATE, EXAMPLES, LOSS, CORRECT = "update", "examples", "loss", "correct"
LOSS_BOUND = 16.0  # nats; of ten classes, chance is 2.3
UPLOADS = ("masked-input", "input")
"""The protocol rounds in which vectors leave the clients."""


def scheme_for(config: RunConfig, clients: int, length: int, examples: int, roster: Roster | None) -> Scheme:
    """The session of every training round. length: d of the model; examples: the largest weight."""
    vectors = {
        UPDATE: Bounded(length=length, bound=config.bound, bits=config.bits, clip=config.clip),
        EXAMPLES: Weight(maximum=examples),
        LOSS: Bounded(length=1, bound=LOSS_BOUND),
        CORRECT: Counts(length=1, maximum=examples),
    }
    return config.protection.for_cohort(clients, vectors, roster)


@dataclass(frozen=True)
class Learned:
    """What a training round tells whoever has its sum, or its sums.

    accuracy, loss: of the new model on a test set; None without one. validation: its accuracy on what was
    held out of the training data. train_loss, train_accuracy: weighted means over the clients' own examples,
    of sums that hid them; the loss while they train, the accuracy before, of the model that they received.
    error_bound: no weight of the mean is farther off.
    """

    accuracy: float | None
    loss: float | None
    validation: float | None
    train_loss: float
    train_accuracy: float
    error_bound: float

    @classmethod
    def of(
        cls,
        totals: Sequence[Aggregate],
        evaluated: tuple[float, float] | None = None,
        validation: float | None = None,
    ) -> Learned:
        """evaluated: accuracy and loss of the new model. totals: of the clusters, disjoint."""
        accuracy, loss = evaluated or (None, None)
        return cls(
            accuracy,
            loss,
            validation,
            float(mean_of(totals, LOSS)[0]),
            float(sum(total.sum[CORRECT][0] for total in totals) / _examples(totals)),
            max(total.error_bound[UPDATE] for total in totals),
        )


def _examples(totals: Sequence[Aggregate]) -> float:
    return float(sum(total.sum[EXAMPLES][0] for total in totals)) or 1.0


def mean_of(totals: Sequence[Aggregate], name: str) -> NDArray[np.float64]:
    """The weighted mean over the clients of all clusters: of the clusters' means, by their examples."""
    if len(totals) == 1:
        return totals[0].mean[name]
    shares = [float(total.sum[EXAMPLES][0]) / _examples(totals) for total in totals]
    parts = [share * total.mean[name] for share, total in zip(shares, totals, strict=True)]
    return np.sum(parts, axis=0)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class RoundRecord:
    """One training round, as the server saw it; a line of metrics.jsonl.

    accuracy to train_accuracy, error_bound: as in `Learned`; None where the clients keep the sum, or the
    round was abandoned. bytes_up, bytes_down: of the protocol's messages, all clients together. chosen: how
    many were asked; alive: how many are in the sum, over `sums` sums of `sums_asked`, one for each cluster.
    delay: seconds that the model of links and devices gives the slowest client in the sum; None without
    links. abandoned: why the model stayed as it was, "" if it did not.
    """

    round: int
    accuracy: float | None
    loss: float | None
    validation: float | None
    train_loss: float | None
    train_accuracy: float | None
    bytes_up: int
    bytes_down: int
    chosen: int
    alive: int
    sums: int
    sums_asked: int
    seconds: float
    delay: float | None
    abandoned: str
    error_bound: float | None

    @classmethod
    def of(cls, learned: Learned | None, reports: Sequence[RoundReport], **rest: Any) -> RoundRecord:
        """learned: by the server. rest: the fields that the two do not give."""
        nothing = dict.fromkeys(Learned.__dataclass_fields__)
        return cls(
            bytes_up=sum(sum(report.up.values()) for report in reports),
            bytes_down=sum(sum(report.down.values()) for report in reports),
            **(nothing if learned is None else asdict(learned)),
            **rest,
        )


@dataclass(frozen=True)
class Trained:
    """What a round leaves: its record, who is in each of its sums, the global model as (d,) float64, None
    where the clients keep it, and what a resumed run goes on from.
    """

    record: RoundRecord
    survivors: tuple[frozenset[ClientId], ...]
    parameters: NDArray[np.float64] | None
    checkpoint: Checkpoint


class Clients(Protocol):
    """The clients of a roster, and a session with some of them: `transport.Cohort`, or all in this process
    (`fl.simulation.SimulatedCohort`)."""

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
        self.model = global_model(self._model, config.server_step)
        self.run, self._next = run or os.urandom(RUN_ID_BYTES), 1
        if resume is not None:
            self.model = _resumed(self._model, resume, config.server_step)
            self.run, self._next = resume.run, resume.round + 1
        self._tests = [_on(on, dataset.test_x, dataset.test_y)]
        if serving.validation is not None:
            self._tests.append(_on(on, *serving.validation))
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
        needed = self._config.minimum or 0

        def keep(report: RoundReport) -> None:
            reports.append(report)
            watch(report)
            if report.round in UPLOADS and len(report.alive) < needed:
                raise TooFewClients(len(report.alive), needed, report.round)

        scheme = self._scheme_for(len(cohort))
        limits = dict(deadlines or {})
        if self._config.deadline is not None:
            training = scheme.rounds[1]
            limits = {name: self._config.deadline for name in scheme.rounds if name in UPLOADS} | limits
            limits.setdefault(training, self._config.deadline)
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


def global_model(
    model: torch.nn.Module, step: ServerStep, parameters: NDArray[np.floating] | None = None
) -> GlobalModel:
    """The model as the server's step moves it; parameters: (d,), instead of its own."""
    trained = sum(parameter.numel() for parameter in model.parameters())
    return GlobalModel(to_vector(model) if parameters is None else parameters, step, trained)


def _resumed(first: torch.nn.Module, resume: Checkpoint, step: ServerStep) -> GlobalModel:
    """Raises: ConfigError for a checkpoint of another model or optimiser, or one that is not finite."""
    try:
        length = len(to_vector(first))
        if resume.parameters.shape != (length,):
            raise ValueError(f"{len(resume.parameters)} parameters, this model has {length}")
        model = global_model(first, step, resume.parameters)
        model.remember(resume.memory)
    except ValueError as error:
        raise ConfigError(
            f"the checkpoint is not one of this run ({error}): begin the run anew, with --force"
        ) from error
    return model


def client_seconds(config: RunConfig, serving: Serving, u: ClientId, up: int, down: int) -> float:
    """What the model of links and devices gives client u for a round of so many bytes."""
    declared, speeds, held = serving.declared, serving.speeds, serving.examples
    if declared is None or speeds is None or held is None or (link := declared[u].link) is None:
        raise ConfigError("links: only `secagg train` lays out a model of them")
    return compute_seconds(_seen(config.plan, held[u]), speeds[u]) + expected_seconds(link, up, down)


def _seen(plan: LocalPlan, examples: int) -> int:
    """How many examples all steps of a round take: whole passes, and some batches of another."""
    if plan.algorithm == "fedsgd":
        return examples
    passes, batches = divmod(plan.steps_of(examples), -(-examples // plan.batch_size))
    return passes * examples + batches * plan.batch_size


def _on(on: torch.device, x: Inputs, y: Labels) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(x, device=on), torch.tensor(y, device=on)


def contribution(result: LocalResult) -> dict[str, Any]:
    """The named vectors of a client's training."""
    return {
        UPDATE: result.upload,
        EXAMPLES: result.examples,
        LOSS: np.array([min(result.loss, LOSS_BOUND)]),
        CORRECT: np.array([result.correct]),
    }


class LocalTrainer:
    """What a client contributes: a function of the task. It opens nothing but the shard it was given.

    secret: this client's own, 32 bytes, from which it draws the order of its examples; None for a fresh one.
    limits: beyond which it refuses a task.
    on_round: told the training round's number when its task arrives. tap: as `fl.training.local.Tap`.
    """

    def __init__(
        self,
        u: ClientId,
        shard: Shard,
        device_name: str,
        secret: bytes | None = None,
        *,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        on_round: Callable[[int], None] = lambda _: None,
        tap: Tap | None = None,
    ) -> None:
        self._secret, self._limits = secret or os.urandom(KEY_BYTES), limits
        self._u, self._shard, self._on_round, self._tap = u, shard, on_round, tap
        self._x, self._y = _on(device(device_name), shard.x, shard.y)
        self._held: Held | None = None
        self._asked: tuple[Held, Any] | None = None  # as the round under way began, still without its sum

    def __call__(self, task: bytes) -> dict[str, Any]:
        """Raises: RemoteProtocolError if the task does not fit this client's data, is beyond its limits, or
        starts from a model it does not have; Diverged.
        """
        instructions, model = read_instructions(task, self._held, self._limits)
        self._on_round(instructions.round)
        shard, description = self._shard, instructions.model
        if (description.shape, description.classes) != (shard.shape, shard.classes):
            raise RemoteProtocolError(
                f"the server's model is for examples of {description.shape} in {description.classes} "
                f"classes, this client's are {shard.shape} in {shard.classes}"
            )
        start = self._held.model if self._held and not instructions.parameters else None
        if start is None:
            start = global_model(model, instructions.server)
        self._asked = Held(instructions.run, instructions.round, description, start), instructions.plan
        order = order_key(self._secret, task)
        result = train(model, self._x, self._y, instructions.plan, order, u=self._u, tap=self._tap)
        return contribution(result)

    def likeness(self, task: bytes, policy: Policy) -> Likeness | None:
        """What the update that this task asks for is computed from. Raises: RemoteProtocolError as a call."""
        instructions, model = read_instructions(task, self._held, self._limits)
        return likeness(instructions.plan, to_vector(model), policy)

    def keep(self, total: Aggregate) -> Held:
        """The model with the mean of the round that was trained last, where clients keep it: the next task
        starts from it.
        """
        assert self._asked is not None  # noqa: S101 - whoever has a sum was asked for it
        self._held, plan = self._asked
        self._held.model.apply(total.mean[UPDATE], plan)
        return self._held
