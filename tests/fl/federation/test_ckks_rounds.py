"""Federated averaging under CKKS, over real sockets: the model at the server, or at the clients alone."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import transport
from fl.cohort.layout import Serving
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets, order_key
from fl.data import Dataset
from fl.data.shard import Shard
from fl.federation.client import LocalTrainer
from fl.federation.records import Trained
from fl.federation.server import Server
from fl.federation.task import Held, Instructions, read_instructions, write_instructions
from fl.models.architectures import Description, build
from fl.models.weights import from_vector, to_vector
from fl.training.local import train
from fl.training.server import GlobalModel
from secagg import Aggregate, Policy, RemoteProtocolError
from transport import RoundReport, TransportError
from transport.processes import lay_out_keys

CLIENTS = 4
SECRETS = RunSecrets.of_seed(0)
SHAPE, CLASSES, LENGTH = (1, 2, 2), 3, 15
SIZES = (5, 9, 21, 14)  # examples of each client, its weight in the mean
CONFIG = RunConfig.of(
    clients=CLIENTS,
    rounds=3,
    local_epochs=1,
    batch_size=4,
    model="logistic",
    scheme="ckks",
    max_examples=max(SIZES),
    seed=0,
)
DESCRIPTION = Description("logistic", SHAPE, CLASSES)


def shard(u: int) -> Shard:
    rng = np.random.default_rng(u)
    x = rng.uniform(0, 1, (SIZES[u], *SHAPE)).astype(np.float32)
    return Shard(x, rng.integers(0, CLASSES, SIZES[u]), CLASSES, "tiny")


def dataset() -> Dataset:
    parts = [shard(u) for u in range(CLIENTS)]
    x, y = np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts])
    return Dataset("tiny", x, y, x[:7], y[:7], CLASSES)


def first_model() -> NDArray[np.float64]:
    return to_vector(build("logistic", SHAPE, CLASSES, CONFIG.training.seed)).astype(np.float64)


def mean_update(parameters: NDArray[np.float64], task: bytes, clients: list[int]) -> NDArray[np.float64]:
    """Of what these clients make of the model when that task is asked, by their numbers of examples."""
    updates = []
    for u in clients:
        received = build("logistic", SHAPE, CLASSES, 0)
        from_vector(received, parameters)
        x, y = torch.tensor(shard(u).x), torch.tensor(shard(u).y)
        updates.append(train(received, x, y, CONFIG.training.plan, order_key(SECRETS.client(u), task)).upload)
    return np.average(updates, axis=0, weights=[SIZES[u] for u in clients])


@dataclass
class Client:
    """What one client was asked for, what it has made of it, and why it left before the end, if it did."""

    tasks: list[bytes] = field(default_factory=list)
    held: list[tuple[int, NDArray[np.float64]]] = field(default_factory=list)
    sums: list[Aggregate] = field(default_factory=list)
    summed: list[bool] = field(default_factory=list)
    left: str = ""


@dataclass
class Federation:
    """A run that has ended."""

    rounds: list[Trained]
    reports: list[RoundReport]
    clients: list[Client]


def take_part(u: int, own: Path, endpoint: str, policy: Policy, client: Client, absent: int) -> None:
    """absent: the session in which this client's connection breaks as it uploads; then it comes back."""
    trainer = LocalTrainer(u, shard(u), "cpu", SECRETS.client(u))

    def vectors(task: bytes) -> dict[str, Any]:
        client.tasks.append(task)
        return trainer(task)

    def vanish(round: str, sent: int, size: int) -> None:
        if round == "input" and len(client.tasks) == absent:
            raise TransportError("the plug was pulled")

    while True:
        keys = own / "client.key", own / "server.pub", own / "roster"
        try:
            with transport.join(endpoint, *keys, policy=policy) as peer:
                while (contribution := peer.contribute(vectors, progress=vanish)) is not None:
                    client.summed.append(contribution.summed)
                    if contribution.result is not None:
                        client.sums.append(contribution.result)
                        held = trainer.keep(contribution.result)
                        client.held.append((held.round, held.model.parameters))
            return
        except TransportError:
            absent = 0
        except RemoteProtocolError as error:
            client.left = str(error)
            return


def federate(folder: Path, ending: str, absent: dict[int, int] | None = None) -> Federation:
    server, folders = lay_out_keys(folder, CLIENTS)
    config = CONFIG.with_(ending=ending)
    clients, reports = [Client() for _ in range(CLIENTS)], list[RoundReport]()
    with (
        ThreadPoolExecutor(CLIENTS) as threads,
        transport.serve("tcp://127.0.0.1:*", server / "server.key", server / "roster") as cohort,
    ):
        for u, own in enumerate(folders):
            terms = cohort.endpoint, config.protection.policy()
            threads.submit(take_part, u, own, *terms, clients[u], (absent or {}).get(u, 0))
        cohort.wait_for_clients(CLIENTS, 60)

        def watch(report: RoundReport) -> None:
            reports.append(report)
            if report.round == "input" and report.lost:
                cohort.wait_for_clients(CLIENTS, 60)  # it is back before the next session

        rounds = list(Server(cohort, config, Serving(dataset())).rounds(None, watch))
    return Federation(rounds, reports, clients)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federate(tmp_path_factory.mktemp("released"), "release")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """Client 3 is lost in the second training round, and comes back for the third."""
    return federate(tmp_path_factory.mktemp("kept"), "keep", {3: 2})


# Released


def test_the_released_model_moves_by_the_weighted_mean_of_the_updates(released: Federation) -> None:
    """To the bound that the round states."""
    before = first_model()
    for number, after in enumerate(released.rounds, start=1):
        mean = mean_update(before, released.clients[0].tasks[number - 1], [0, 1, 2, 3])
        assert after.parameters is not None
        assert np.abs(after.parameters - before - mean).max() <= after.record.error_bound
        assert np.abs(mean).max() > 100 * after.record.error_bound
        before = after.parameters


def test_clients_have_no_sum_of_what_was_released(released: Federation) -> None:
    for client in released.clients:
        assert (client.summed, client.sums) == ([True] * CONFIG.training.rounds, [])
        assert all(len(read_instructions(task)[0].parameters) == 4 * LENGTH for task in client.tasks)


# Kept


def test_the_kept_model_moves_at_the_clients_by_the_weighted_mean(kept: Federation) -> None:
    before = first_model()
    for number in range(1, CONFIG.training.rounds + 1):
        there = [0, 1, 2, 3] if number == 1 else [0, 1, 2]
        mean = mean_update(before, kept.clients[0].tasks[number - 1], there)
        (round, after), total = kept.clients[0].held[number - 1], kept.clients[0].sums[number - 1]
        assert (round, total.survivors) == (number, frozenset(there))
        assert np.abs(after - before - mean).max() <= total.error_bound["update"]
        assert np.abs(mean).max() > 100 * total.error_bound["update"]
        before = after


def test_all_that_have_the_model_have_the_same_bits(kept: Federation) -> None:
    for number in range(CONFIG.training.rounds):
        first, *others = [c.held[number][1] for c in kept.clients if len(c.held) > number]
        assert len(others) == (3 if number == 0 else 2)
        for other in others:
            np.testing.assert_array_equal(first, other)


def test_the_server_sends_the_first_model_and_never_has_another(kept: Federation) -> None:
    for task in kept.clients[0].tasks[1:]:
        assert msgspec.msgpack.decode(task, type=Instructions).parameters == b""
    instructions, _ = read_instructions(kept.clients[0].tasks[0])
    np.testing.assert_array_equal(np.frombuffer(instructions.parameters, "<f4"), first_model())
    for number, after in enumerate(kept.rounds, start=1):
        record = after.record
        assert after.parameters is None
        assert (record.accuracy, record.loss, record.error_bound) == (None, None, None)
        assert (record.train_loss, record.train_accuracy) == (None, None)
        assert record.alive == len(after.survivors[0]) == (4 if number == 1 else 3)
        assert record.bytes_down > 0


def test_who_was_lost_in_one_round_has_no_model_and_leaves_with_the_reason(kept: Federation) -> None:
    client = kept.clients[3]
    why = "training round 3 starts from the model that the clients keep, which this client has not got"
    assert client.left.startswith(why)
    assert [round for round, _ in client.held] == [1]
    lost = [(report.round, report.lost[3]) for report in kept.reports if 3 in report.lost]
    (first, how), (then, reason) = lost
    assert (first, how) in {("input", "vanished"), ("input", "restarted")}
    assert (then, reason.startswith(f"left: {why}")) == ("advertise-keys", True)
    assert [client.summed for client in kept.clients[:3]] == [[True] * 3] * 3


# Tasks without a model


RUN = os.urandom(16)
HELD = Held(RUN, 1, DESCRIPTION, GlobalModel(np.arange(LENGTH) / 10))


def task(round: int, run: bytes = RUN, model: Description = DESCRIPTION) -> bytes:
    return write_instructions(CONFIG, run, round, model, np.empty(0, np.float32))


def test_a_task_without_a_model_starts_from_the_one_that_is_held() -> None:
    instructions, model = read_instructions(task(2), HELD)
    assert instructions.parameters == b""
    np.testing.assert_array_equal(to_vector(model), HELD.model.broadcast)


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        (task(2), None),
        (task(1), HELD),
        (task(3), HELD),
        (task(2, run=bytes(16)), HELD),
    ],
    ids=["none is held", "before it", "a round was missed", "of another run"],
)
def test_a_model_that_is_not_held_is_not_made_up(asked: bytes, held: Held | None) -> None:
    with pytest.raises(RemoteProtocolError, match="which this client has not got"):
        read_instructions(asked, held)


def test_a_held_model_of_another_size_is_refused() -> None:
    other = task(2, model=Description("logistic", (1, 3, 3), CLASSES))
    with pytest.raises(RemoteProtocolError, match="the server's task is not a training round"):
        read_instructions(other, HELD)


def test_a_round_without_its_sum_leaves_the_model_as_it_was() -> None:
    """Of the round before, from which the next cannot start. Sums too small for float32 are not lost."""
    trainer = LocalTrainer(0, shard(0), "cpu")
    trainer(write_instructions(CONFIG, RUN, 1, DESCRIPTION, first_model().astype(np.float32)))
    total = Aggregate(frozenset(), {}, {}, {"update": np.full(LENGTH, 1e-10)}, {})
    held = trainer.keep(total)
    first = held.model.parameters
    np.testing.assert_array_equal(first, first_model() + 1e-10)
    trainer(task(2))  # the sum does not come
    with pytest.raises(RemoteProtocolError, match="training round 3 starts from the model"):
        trainer(task(3))
    trainer(task(2))
    np.testing.assert_array_equal(trainer.keep(total).model.parameters, first + 1e-10)
