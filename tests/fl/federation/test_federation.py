"""Federated averaging: rounds over real sockets, what a client takes for a task, what the server can read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import transport
from fl.cohort.layout import Serving
from fl.cohort.selection import Declared, choose
from fl.config.plan import LocalPlan, ServerStep
from fl.config.privacy import Perturbation
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets, order_key
from fl.data import Dataset
from fl.data.shard import Shard
from fl.federation.client import LocalTrainer
from fl.federation.records import Trained
from fl.federation.server import Server
from fl.federation.task import Instructions, read_instructions
from fl.federation.vectors import scheme_for
from fl.models.architectures import Description, build
from fl.models.weights import to_vector
from fl.training.local import LocalResult, train
from secagg import (
    Masking,
    Policy,
    Recorded,
    RemoteProtocolError,
    ServerView,
    run,
    throwaway_identities,
)
from secagg.masking.messages import MaskedInput
from secagg.plain import Input
from secagg.wire import decode
from transport.processes import lay_out_keys

SHAPE, CLASSES, LENGTH = (1, 2, 2), 3, 15
SIZES = (5, 9, 21, 8, 13, 6)  # examples of each client; most tests take the first three
SECRETS = RunSecrets.of_seed(1)
CONFIG = RunConfig.of(
    clients=3,
    rounds=2,
    local_epochs=1,
    batch_size=4,
    lr=0.05,
    momentum=0.9,
    model="logistic",
    max_examples=max(SIZES),
    seed=0,
)


def shard(u: int) -> Shard:
    rng = np.random.default_rng(u)
    x = rng.uniform(0, 1, (SIZES[u], *SHAPE)).astype(np.float32)
    return Shard(x, rng.integers(0, CLASSES, SIZES[u]), CLASSES, "tiny")


def dataset() -> Dataset:
    parts = [shard(u) for u in range(3)]
    x, y = np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts])
    return Dataset("tiny", x, y, x[:7], y[:7], CLASSES)


def model() -> torch.nn.Module:
    return build("logistic", SHAPE, CLASSES, CONFIG.training.seed)


def task(**changed: Any) -> bytes:
    """Instructions of the first round, as a server sends them, with some fields changed."""
    fields: dict[str, Any] = {
        "run": bytes(16),
        "round": 1,
        "model": Description("logistic", SHAPE, CLASSES),
        "parameters": to_vector(model()).tobytes(),
        "plan": plan(),
        "server": server(),
        "privacy": None,
    }
    return msgspec.msgpack.encode(["train", *(fields | changed).values()])


def plan(**changed: Any) -> list[Any]:
    """How a client is to train, as it travels, with some fields changed."""
    return list((msgspec.structs.asdict(CONFIG.training.plan) | changed).values())


def privacy(**changed: Any) -> list[Any]:
    """What a client is to do to the gradients of its examples, as it travels, with some fields changed."""
    asked = Perturbation(mechanism="example", clip=0.5, multiplier=1.0)
    return list((msgspec.structs.asdict(asked) | changed).values())


def server(**changed: Any) -> list[Any]:
    """How the server steps, as it travels, with some fields changed."""
    return list((msgspec.structs.asdict(CONFIG.server.step) | changed).values())


def trained(u: int, parameters: np.ndarray, message: bytes) -> LocalResult:
    """What client u computes of that task from those parameters."""
    received = model()
    torch.nn.utils.vector_to_parameters(torch.tensor(parameters), received.parameters())
    x, y = torch.tensor(shard(u).x), torch.tensor(shard(u).y)
    return train(received, x, y, CONFIG.training.plan, order_key(SECRETS.client(u), message))


class Asked:
    """A tap that keeps the order in which each round took the examples."""

    def __init__(self) -> None:
        self.orders: list[list[int]] = []

    def step(self, u: int, step: int, examples: np.ndarray, gradients: np.ndarray) -> None:
        if step == 0:
            self.orders.append([])
        self.orders[-1] += examples.tolist()

    def upload(self, u: int, upload: np.ndarray) -> None: ...


# Rounds


def federate(
    folder: Path, config: RunConfig, declared: dict[int, Declared] | None = None
) -> tuple[list[Trained], list[list[bool]]]:
    """A server and its clients on loopback: the rounds; of each client whether it was summed, by session."""
    keys, folders = lay_out_keys(folder, config.cohort.clients)

    def client(u: int, own: Path, endpoint: str) -> list[bool]:
        summed = []
        with transport.join(
            endpoint, own / "client.key", own / "server.pub", own / "roster", policy=Policy()
        ) as peer:
            trainer = LocalTrainer(u, shard(u), "cpu", SECRETS.client(u))
            while (contribution := peer.contribute(trainer)) is not None:
                summed.append(contribution.summed)
        return summed

    with ThreadPoolExecutor(config.cohort.clients) as threads:
        with transport.serve("tcp://127.0.0.1:*", keys / "server.key", keys / "roster") as cohort:
            clients = [threads.submit(client, u, own, cohort.endpoint) for u, own in enumerate(folders)]
            cohort.wait_for_clients(config.cohort.clients, 60)
            known = Serving(dataset(), declared=declared)
            server = Server(cohort, config, known, secret=SECRETS.server, run=SECRETS.run)
            rounds = list(server.rounds(None, lambda report: None))
        return rounds, [client.result() for client in clients]


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> list[Trained]:
    """Of three clients, all in each round."""
    rounds, summed = federate(tmp_path_factory.mktemp("parties"), CONFIG)
    assert summed == [[True] * CONFIG.training.rounds] * 3
    return rounds


def test_over_a_network_a_round_is_of_those_who_were_chosen(tmp_path: Path) -> None:
    """The others wait, and are asked when it is their turn."""
    config = CONFIG.with_(clients=6, sample=4, rounds=3)
    rounds, summed = federate(tmp_path, config)
    candidates = {u: Declared(1.0) for u in range(6)}
    chosen = [choose("chance", candidates, 4, SECRETS.server, round) for round in (1, 2, 3)]
    assert [trained.survivors for trained in rounds] == [(frozenset(some),) for some in chosen]
    assert summed == [[True] * sum(u in some for some in chosen) for u in range(6)]
    assert len(set(chosen)) > 1
    assert all(trained.record.bytes_up > 0 for trained in rounds)


def test_over_a_network_clusters_are_summed_one_by_one(tmp_path: Path) -> None:
    """Their mean is the mean over all, to the bounds of both."""
    config = CONFIG.with_(clients=6, rounds=1)
    (whole,), _ = federate(tmp_path / "whole", config)
    config = config.with_(cluster="label")
    (parts,), summed = federate(tmp_path / "parts", config, {u: Declared(1.0, label=u % 2) for u in range(6)})
    assert parts.survivors == (frozenset({0, 2, 4}), frozenset({1, 3, 5}))
    assert (parts.record.sums, parts.record.alive) == (2, 6)
    assert summed == [[True]] * 6
    apart = np.abs(parts.parameters - whole.parameters).max()
    assert apart <= parts.record.error_bound + whole.record.error_bound


def test_the_model_moves_by_the_weighted_mean_of_the_updates(rounds: list[Trained]) -> None:
    """w <- w + sum n_k (w_k - w) / n, to the bound that the round states."""
    before = to_vector(model()).astype(np.float64)
    for number, after in enumerate(rounds, start=1):
        start = before.astype(np.float32)
        message = task(run=SECRETS.run, round=number, parameters=start.tobytes())
        results = [trained(u, start, message) for u in range(3)]
        mean = np.average([result.upload for result in results], axis=0, weights=SIZES[:3])
        assert np.abs(after.parameters - before - mean).max() <= after.record.error_bound
        assert np.abs(mean).max() > 100 * after.record.error_bound  # or it would say nothing
        before = after.parameters


def test_a_round_tells_the_clients_means_and_the_test_sets(rounds: list[Trained]) -> None:
    results = [trained(u, to_vector(model()), task(run=SECRETS.run)) for u in range(3)]
    record = rounds[0].record
    assert record.train_loss == pytest.approx(
        np.average([result.loss for result in results], weights=SIZES[:3]), abs=1e-3
    )
    assert record.train_accuracy == sum(result.correct for result in results) / sum(SIZES[:3])
    assert (record.round, record.alive) == (1, 3)
    assert 0 <= record.accuracy <= 1
    assert record.bytes_up > 0
    assert record.bytes_down > 3 * 4 * LENGTH


# What the server can read


def view_of(scheme: str, rng: Any) -> ServerView:
    """Everything the server saw of the first round."""
    config = CONFIG.with_(scheme=scheme)
    roster, identities = throwaway_identities(range(3))
    recorders: list[Recorded] = []

    def record(session: Any) -> Recorded:
        recorders.append(Recorded(session))
        return recorders[0]

    run(
        scheme_for(config, 3, LENGTH, 2**30, roster),
        {u: LocalTrainer(u, shard(u), "cpu", SECRETS.client(u)) for u in range(3)},
        identities=identities,
        task=task(),
        rounding_seeds=dict.fromkeys(range(3), bytes(32)),
        instrument=record,
        rng=rng,
    )
    return recorders[0].view


def own_numbers(u: int) -> dict[str, list[bytes]]:
    """Client u's weight, count and loss in every form in which they might travel."""
    result = trained(u, to_vector(model()), task())
    counts = {"examples": result.examples, "correct": result.correct}
    forms = {
        name: [count.to_bytes(8, "little"), msgspec.msgpack.encode(count)] for name, count in counts.items()
    }
    return forms | {"loss": [np.array(result.loss, kind).tobytes() for kind in ("<f4", "<f8")]}


def test_masked_metrics_are_nowhere_in_what_the_server_saw() -> None:
    """Each of the four vectors in its own ring; the same metrics under other masks are other words."""
    first, second = (view_of("masking", np.random.default_rng(seed).bytes) for seed in (1, 2))
    for u in range(3):
        one, other = (
            decode(MaskedInput, message).packed
            for view in (first, second)
            for round, v, message in view.received
            if (round, v) == ("masked-input", u)
        )
        assert len(one) == 4
        assert all(bytes(a) != bytes(b) for a, b in zip(one, other, strict=True))
        said = b"".join(bytes(vector) for vector in one)
        for forms in own_numbers(u).values():
            assert forms[0] not in said
            assert len(forms[1]) == 1 or forms[1] not in said
    np.testing.assert_array_equal(first.aggregate.codes["examples"], [sum(SIZES[:3])])
    np.testing.assert_array_equal(first.aggregate.codes["update"], second.aggregate.codes["update"])


def test_in_plain_they_are_all_there() -> None:
    """The same look at a server that reads everything: it is the masks that hide."""
    view = view_of("plain", np.random.default_rng(1).bytes)
    for u in range(3):
        (message,) = [message for round, v, message in view.received if (round, v) == ("input", u)]
        said = b"".join(bytes(vector) for vector in decode(Input, message).vectors)
        for forms in own_numbers(u).values():
            assert forms[0] in said


def test_every_metric_is_a_vector_of_the_session() -> None:
    roster, _ = throwaway_identities(range(3))
    scheme = scheme_for(CONFIG, 3, LENGTH, 100, roster)
    assert isinstance(scheme, Masking)
    assert set(scheme.vectors) == {"update", "examples", "loss", "correct"}


# Tasks


def test_a_task_is_read_back() -> None:
    state = torch.get_rng_state()
    instructions, received = read_instructions(
        task(round=7, plan=plan(lr=0.25, algorithm="fedsgd", proximal=1.5), server=server(optimiser="yogi"))
    )
    assert instructions.round == 7
    assert instructions.plan == LocalPlan(
        "fedsgd",
        CONFIG.training.epochs,
        0,
        CONFIG.training.batch_size,
        0.25,
        CONFIG.training.momentum,
        1.5,
        "float32",
    )
    assert instructions.server == ServerStep("yogi")
    np.testing.assert_array_equal(to_vector(received), to_vector(model()))
    assert torch.equal(torch.get_rng_state(), state)


def reads_or_refuses(message: bytes) -> None:
    try:
        instructions, received = read_instructions(message)
    except RemoteProtocolError:
        return
    assert isinstance(instructions, Instructions)
    assert np.isfinite(to_vector(received)).all()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_task_or_an_error(message: bytes) -> None:
    reads_or_refuses(message)


@given(data=st.data())
def test_a_task_with_changed_bytes_is_a_task_or_an_error(data: st.DataObject) -> None:
    whole = task()
    at, until = sorted((data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, len(whole)))))
    reads_or_refuses(whole[:at] + data.draw(st.binary(max_size=8)) + whole[until:])


@given(
    model=st.sampled_from(["cnn", "mlp", "logistic"]),
    shape=st.tuples(*[st.integers(1, 65_536)] * 3),
    classes=st.integers(1, 65_536),
    parameters=st.binary(max_size=100),
)
def test_any_model_is_a_task_or_an_error(
    model: str, shape: tuple[int, int, int], classes: int, parameters: bytes
) -> None:
    """And takes no memory but that of its parameters, of which there are few here."""
    reads_or_refuses(task(model=Description(model, shape, classes), parameters=parameters))


@pytest.mark.parametrize(
    "changed",
    [
        {"run": bytes(15)},
        {"round": 0},
        {"plan": plan(algorithm="fedprox")},
        {"plan": plan(epochs=0)},
        {"plan": plan(epochs=100_001)},
        {"plan": plan(steps=-1)},
        {"plan": plan(steps=100_001)},
        {"plan": plan(batch_size=0)},
        {"plan": plan(batch_size=100_001)},
        {"plan": plan(lr=-0.1)},
        {"plan": plan(lr=100.1)},
        {"plan": plan(lr=float("nan"))},
        {"plan": plan(lr=float("inf"))},
        {"plan": plan(momentum=float("nan"))},
        {"plan": plan(momentum=1.0)},
        {"plan": plan(proximal=-0.1)},
        {"plan": plan(proximal=float("nan"))},
        {"plan": plan(precision="float16")},
        {"plan": plan(sampling="balanced")},
        {"plan": plan(more=1)},
        {"plan": {}},
        {"server": server(optimiser="adagrad")},
        {"server": server(lr=-0.1)},
        {"server": server(lr=float("nan"))},
        {"server": server(momentum=1.0)},
        {"server": server(beta2=1.0)},
        {"server": server(beta2=float("nan"))},
        {"server": server(tau=float("inf"))},
        {"server": server(more=1)},
        {"privacy": privacy(clip=None)},
        {"privacy": privacy(multiplier=float("inf"))},
        {"parameters": bytes(4 * LENGTH - 1)},
        {"parameters": bytes(4 * LENGTH - 4)},
        {"parameters": bytes(4 * LENGTH + 4)},
        {"parameters": np.full(LENGTH, np.nan, "<f4").tobytes()},
        {"parameters": np.full(LENGTH, np.inf, "<f4").tobytes()},
        {"model": {"model": "resnet", "shape": SHAPE, "classes": CLASSES}},
        {"model": {"model": "logistic", "shape": (1, 2), "classes": CLASSES}},
        {"model": {"model": "logistic", "shape": (1, 2, 0), "classes": CLASSES}},
        {"model": {"model": "logistic", "shape": SHAPE, "classes": CLASSES, "path": "/etc/passwd"}},
        {"more": 1},
    ],
    ids=str,
)
def test_a_task_out_of_range_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError, match="the server's task is not a training round"):
        read_instructions(task(**changed))


def test_a_task_in_another_encoding_is_refused() -> None:
    """A learning rate that is written as an integer reads as the same number."""
    with pytest.raises(RemoteProtocolError, match="the server's task is in a form that is not canonical"):
        read_instructions(task(plan=plan(lr=1)))
    with pytest.raises(RemoteProtocolError, match="the server's task is in a form that is not canonical"):
        read_instructions(task(plan=plan()[:-1]))  # what is left out has a default


def test_a_model_for_other_data_is_refused() -> None:
    other = build("logistic", (1, 3, 3), CLASSES, 0)
    message = task(model=Description("logistic", (1, 3, 3), CLASSES), parameters=to_vector(other).tobytes())
    with pytest.raises(RemoteProtocolError, match=r"for examples of \(1, 3, 3\) in 3 classes, this client's"):
        LocalTrainer(0, shard(0), "cpu")(message)


def test_a_model_whose_examples_share_statistics_is_not_trained_by_example() -> None:
    described = Description("tolpegin-fmnist", (1, 28, 28), 10)
    parameters = to_vector(build("tolpegin-fmnist", (1, 28, 28), 10, 0)).tobytes()
    read_instructions(task(model=described, parameters=parameters))
    with pytest.raises(
        RemoteProtocolError, match="a model with BatchNorm has no gradient of a single example"
    ):
        read_instructions(task(model=described, parameters=parameters, privacy=privacy()))


def test_a_client_learns_of_its_round_and_gives_four_vectors() -> None:
    told: list[int] = []
    vectors = LocalTrainer(1, shard(1), "cpu", asked=lambda asked, _: told.append(asked.round))(task(round=3))
    assert told == [3]
    assert vectors.keys() == {"update", "examples", "loss", "correct"}
    assert vectors["examples"] == SIZES[1]
    assert vectors["update"].shape == (LENGTH,)


@pytest.mark.parametrize(
    "changed", [{"run": b"another run id.."}, {"round": 2}, {"plan": plan(lr=0.051)}], ids=str
)
def test_whatever_changes_in_a_task_a_client_takes_its_examples_in_another_order(
    changed: dict[str, Any],
) -> None:
    """And in the same for the same task; another client in another."""
    secret, asked = bytes(32), Asked()
    for message in (task(), task(), task(**changed)):
        LocalTrainer(2, shard(2), "cpu", secret, tap=asked)(message)
    LocalTrainer(2, shard(2), "cpu", bytes([1]) * 32, tap=asked)(task())
    first, again, other, another_client = asked.orders
    assert first == again
    assert sorted(first) == sorted(other) == list(range(SIZES[2]))
    assert len({tuple(order) for order in (first, other, another_client)}) == 3
