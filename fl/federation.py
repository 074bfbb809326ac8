"""Federated averaging over a cohort: what the server asks for, what a client does with it, what comes back.

A client's update, its number of examples, its loss and its count of correct answers are named vectors of
one session: with a scheme that hides, the server learns their sums and nothing of any one client.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from fl.config import RunConfig
from fl.data import Dataset
from fl.data.shard import Shard
from fl.models import MODELS, Description, build, from_vector, to_vector
from fl.training.fedavg import FedAvg
from fl.training.local import device, evaluate, train
from secagg import (
    Aggregate,
    Bounded,
    Counts,
    RemoteProtocolError,
    Roster,
    Scheme,
    Weight,
)
from secagg.errors import ClientId
from transport import Cohort, RoundReport

UPDATE, EXAMPLES, LOSS, CORRECT = "update", "examples", "loss", "correct"
LOSS_BOUND = 16.0  # nats; of ten classes, chance is 2.3

_Real = Annotated[float, msgspec.Meta(ge=0, le=100)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class Instructions(msgspec.Struct, frozen=True, array_like=True, tag="train", forbid_unknown_fields=True):
    """The task of one training round: the model, and all that a client is to do with it.

    run: fresh for each run, so that round 3 of this one is not round 3 of another: a client contributes to
    each once. parameters: (d,) little-endian float32; empty: those that the clients keep, which the server
    does not have, after the round before in the same run. seed: of the order of examples, with id and round.
    """

    run: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    round: _Count
    model: Description
    parameters: bytes
    local_epochs: _Count
    batch_size: _Count
    lr: _Real
    momentum: _Real
    seed: int


_instructions = msgspec.msgpack.Decoder(Instructions)  # made once: see secagg.wire.decodes


@dataclass(frozen=True)
class Held:
    """The global model at a client, where clients keep it. round: in whose sum it was last. parameters: (d,)
    float64.
    """

    run: bytes
    round: int
    model: Description
    parameters: NDArray[np.float64] = field(repr=False)


def write_instructions(
    config: RunConfig, run: bytes, round: int, model: Description, parameters: NDArray[np.float32]
) -> bytes:
    """The task of one training round, with the model to start from; (0,) parameters for the clients' own."""
    return msgspec.msgpack.encode(
        Instructions(
            run,
            round,
            model,
            parameters.astype("<f4").tobytes(),
            config.local_epochs,
            config.batch_size,
            config.lr,
            config.momentum,
            config.seed,
        )
    )


def read_instructions(task: bytes, held: Held | None = None) -> tuple[Instructions, torch.nn.Module]:
    """The instructions, and the model they bring, or that this client holds where they bring none.

    Raises: RemoteProtocolError if the task is anything else, or starts from a model this client has not got.
    """
    try:
        instructions = _instructions.decode(task)
        description = instructions.model
        vector = np.frombuffer(instructions.parameters, "<f4")
        if not instructions.parameters:
            vector = _held_before(instructions, held)
        with torch.device("meta"):  # shapes only: the task decides nothing about memory but by its length
            model = MODELS[description.model](description.shape, description.classes)
        from_vector(model, vector)
        model.to_empty(device="cpu")
        from_vector(model, vector)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, RuntimeError, ValueError) as error:
        raise RemoteProtocolError(f"the server's task is not a training round: {error}") from None
    if msgspec.msgpack.encode(instructions) != task:
        raise RemoteProtocolError("the server's task is in a form that is not canonical")
    if not math.isfinite(instructions.lr) or not math.isfinite(instructions.momentum):
        raise RemoteProtocolError("the server's task has a learning rate or momentum that is not a number")
    return instructions, model


def _held_before(instructions: Instructions, held: Held | None) -> NDArray[np.float32]:
    if held is None or (held.run, held.round) != (instructions.run, instructions.round - 1):
        raise RemoteProtocolError(
            f"training round {instructions.round} starts from the model that the clients keep, which this "
            "client has not got: it was not in every sum before. It can take part in the next run"
        )
    return held.parameters.astype(np.float32)


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
    """What a training round tells whoever has its sum.

    accuracy, loss: of the new model on a test set; None without one. train_loss, train_accuracy: weighted
    means over the clients' own examples, of sums that hid them. error_bound: no weight of the mean is farther
    off.
    """

    accuracy: float | None
    loss: float | None
    train_loss: float
    train_accuracy: float
    error_bound: float

    @classmethod
    def of(cls, total: Aggregate, evaluated: tuple[float, float] | tuple[None, None]) -> Learned:
        """evaluated: accuracy and loss of the new model."""
        return cls(
            *evaluated,
            float(total.mean[LOSS][0]),
            float(total.sum[CORRECT][0] / total.sum[EXAMPLES][0]),
            total.error_bound[UPDATE],
        )


@dataclass(frozen=True)
class RoundRecord:
    """One training round, as the server saw it; a line of metrics.jsonl.

    accuracy to train_accuracy, error_bound: as in `Learned`; None where the clients keep the sum. bytes_up,
    bytes_down: of the protocol's messages, all clients together. alive: clients in the sum.
    """

    round: int
    accuracy: float | None
    loss: float | None
    train_loss: float | None
    train_accuracy: float | None
    bytes_up: int
    bytes_down: int
    alive: int
    seconds: float
    error_bound: float | None

    @classmethod
    def of(
        cls,
        round: int,
        learned: Learned | None,
        survivors: Collection[ClientId],
        reports: Sequence[RoundReport],
        seconds: float,
    ) -> RoundRecord:
        """learned: by the server."""
        nothing = dict.fromkeys(Learned.__dataclass_fields__)
        return cls(
            round=round,
            bytes_up=sum(sum(report.up.values()) for report in reports),
            bytes_down=sum(sum(report.down.values()) for report in reports),
            alive=len(survivors),
            seconds=seconds,
            **(nothing if learned is None else asdict(learned)),
        )


@dataclass(frozen=True)
class Trained:
    """What a round leaves: its record, who is in its sum, and the global model as (d,) float64; None where
    the clients keep it.
    """

    record: RoundRecord
    survivors: frozenset[ClientId]
    parameters: NDArray[np.float64] | None


def serve_rounds(
    cohort: Cohort,
    config: RunConfig,
    dataset: Dataset,
    *,
    deadlines: Mapping[str, float] | None = None,
    begin: Callable[[Scheme], None] = lambda scheme: None,
    watch: Callable[[RoundReport], None] = lambda report: None,
) -> Iterator[Trained]:
    """Train for `config.rounds` rounds with the whole roster, yielding after each.

    begin: told the scheme of all sessions, before the first. watch: told of each protocol round.

    Raises: TooFewClients and RemoteProtocolError from a round; ConfigError.
    """
    on = device(config.device)
    description = Description(config.model, dataset.shape, dataset.classes)
    model = build(config.model, dataset.shape, dataset.classes, config.seed)
    server = FedAvg(to_vector(model))
    scheme = scheme_for(
        config,
        len(cohort.roster),
        len(server.parameters),
        config.max_examples or len(dataset.train_y),
        cohort.roster.identities,
    )
    begin(scheme)
    run, kept = os.urandom(16), config.protection.kept
    for round in range(1, config.rounds + 1):
        begun, reports = time.monotonic(), list[RoundReport]()

        def keep(report: RoundReport, reports: list[RoundReport] = reports) -> None:
            reports.append(report)
            watch(report)

        # The first model is public, drawn from the seed; what becomes of it the clients may keep.
        start = server.broadcast if round == 1 or not kept else np.empty(0, np.float32)
        task = write_instructions(config, run, round, description, start)
        total = cohort.aggregate(scheme, task, deadlines=deadlines, watch=keep)
        learned = None
        if not kept:
            server.apply(total.mean[UPDATE])
            from_vector(model, server.broadcast)
            learned = Learned.of(total, evaluate(model, dataset.test_x, dataset.test_y, on))
        record = RoundRecord.of(round, learned, total.survivors, reports, time.monotonic() - begun)
        yield Trained(record, total.survivors, None if kept else server.parameters)


class LocalTrainer:
    """What a client contributes: a function of the task. It opens nothing but the shard it was given.

    on_round: told the training round's number when its task arrives.
    """

    def __init__(
        self, u: ClientId, shard: Shard, device_name: str, on_round: Callable[[int], None] = lambda _: None
    ) -> None:
        self._u, self._shard, self._device, self._on_round = u, shard, device(device_name), on_round
        self._held: Held | None = None
        self._asked: Held | None = None  # as the round under way began, still without its sum

    def __call__(self, task: bytes) -> dict[str, Any]:
        """Raises: RemoteProtocolError if the task does not fit this client's data, or starts from a model it
        does not have; Diverged.
        """
        instructions, model = read_instructions(task, self._held)
        self._on_round(instructions.round)
        shard, description = self._shard, instructions.model
        if (description.shape, description.classes) != (shard.shape, shard.classes):
            raise RemoteProtocolError(
                f"the server's model is for images of {description.shape} in {description.classes} classes, "
                f"this client's are {shard.shape} in {shard.classes}"
            )
        own = self._held if not instructions.parameters else None
        start = own.parameters if own else to_vector(model).astype(np.float64)
        self._asked = Held(instructions.run, instructions.round, description, start)
        result = train(
            model,
            shard.x,
            shard.y,
            epochs=instructions.local_epochs,
            batch_size=instructions.batch_size,
            lr=instructions.lr,
            momentum=instructions.momentum,
            seed=order_seed(instructions.seed, self._u, instructions.round),
            device=self._device,
        )
        return {
            UPDATE: result.update,
            EXAMPLES: result.examples,
            LOSS: np.array([min(result.loss, LOSS_BOUND)]),
            CORRECT: np.array([result.correct]),
        }

    def keep(self, total: Aggregate) -> Held:
        """The model with the mean of the round that was trained last, where clients keep it: the next task
        starts from it.
        """
        assert self._asked is not None  # noqa: S101 - whoever has a sum was asked for it
        model = FedAvg(self._asked.parameters)
        model.apply(total.mean[UPDATE])
        self._held = replace(self._asked, parameters=model.parameters)
        return self._held


def order_seed(seed: int, u: ClientId, round: int) -> int:
    """Of the order in which client u takes its examples in a training round: 63 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{u}/{round}".encode()).digest()[:8], "big") >> 1
