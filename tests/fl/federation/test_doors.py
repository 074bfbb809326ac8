"""The doors by which experiments come in: what is sent, what the sums tell, what a party saw."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from torch import nn

import transport
from fl.cohort.layout import lay_out
from fl.config.privacy import Perturbation
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.config.section import ConfigError
from fl.data.shard import Shard
from fl.federation.client import LocalTrainer
from fl.federation.sending import Results
from fl.federation.server import Server
from fl.federation.simulation import SimulatedCohort, simulated
from fl.federation.task import Instructions, read_instructions, write_instructions
from fl.federation.vectors import UPDATE
from fl.robust import Bench, Memory, Points, Verdict
from fl.robust.rules import mean
from fl.training.step import MEAN, PerExample
from secagg import Bounded, Counts, LocalProtocolError, Plain, RemoteProtocolError, Weight
from secagg.plain import Input
from secagg.record import Recorder
from secagg.wire import decode, encode
from transport.processes import lay_out_keys

SMALL: dict[str, Any] = {
    "clients": 5,
    "rounds": 2,
    "local_steps": 2,
    "model": "logistic",
    "examples_per_client": 20,
    "execution": "batched",
}
SECRETS = RunSecrets.of_seed(3)
SCHEMES = [{"scheme": "masking"}, {"scheme": "ckks"}, {"scheme": "plain"}]


def run_of(instruments: Mapping[str, Any] = {}, **changes: Any) -> Server:
    config = RunConfig.of(**SMALL | changes)
    return simulated(config, lay_out(config), secrets=SECRETS, **instruments)


class Ear:
    """Keeps what each client sends."""

    def __init__(self) -> None:
        self.sent: dict[int, list[np.ndarray]] = {}

    def step(self, *_: Any) -> None: ...

    def upload(self, u: int, upload: np.ndarray) -> None:
        self.sent.setdefault(u, []).append(upload)


class Rule:
    """The mean, which keeps the points it was given and counts its rounds."""

    def __init__(self) -> None:
        self.points: list[Points] = []
        self.benches: list[Bench] = []
        self.counted: list[float] = []

    def __call__(self, points: Points, bench: Bench, memory: Memory) -> Verdict:
        self.points.append(points)
        self.benches.append(bench)
        self.counted.append(float(memory.get("rounds", np.zeros(1))[0]))
        return replace(mean(points, bench, memory), memory={"rounds": np.array([self.counted[-1] + 1])})


def doubled(instructions: Instructions, model: nn.Module, results: Results) -> Results:
    return {u: replace(result, upload=2 * result.upload) for u, result in results.items()}


# Step


def test_every_example_has_a_gradient_where_that_is_asked_for() -> None:
    """In one process and over a network: halved, they move the models half as far."""
    halved = PerExample(lambda each: [g / 2 for g in each], MEAN.released)
    sent = {}
    for asked in (MEAN, halved):
        ear = Ear()
        instruments = {"tap": ear, "per_example": asked}
        server = run_of(instruments, local_steps=1, precision="float64")
        layout, start = lay_out(server.config), server.model.broadcast
        shard = Shard(*layout.examples(2), layout.serving.dataset.classes, "digits")
        task = write_instructions(server.config, server.run, 1, server.description, start)
        LocalTrainer(2, shard, "cpu", SECRETS.client(2), **instruments)(task)
        next(server.rounds())
        over_a_network, here = ear.sent[2]
        np.testing.assert_allclose(over_a_network, here, rtol=1e-9, atol=1e-12)
        sent[asked] = here
    np.testing.assert_allclose(sent[halved], sent[MEAN] / 2, rtol=1e-9, atol=1e-12)


def test_a_task_may_ask_for_clipped_gradients_of_examples_and_an_experiment_has_its_own() -> None:
    """Over a network and in one process: a step of rate 1 is as long as the clip at most."""
    config = RunConfig.of(**SMALL | {"local_steps": 1, "lr": 1.0, "precision": "float64"})
    layout, ear = lay_out(config), Ear()
    asked = Perturbation(mechanism="example", clip=1e-3)
    server = simulated(config, layout, secrets=SECRETS)
    start = server.model.broadcast
    unasked = write_instructions(config, server.run, 1, server.description, start)
    task = encode(msgspec.structs.replace(read_instructions(unasked)[0], privacy=asked))
    scheme = Plain.for_cohort(5, {UPDATE: Bounded(length=len(start), bound=3.0)})
    shard = Shard(*layout.examples(2), layout.serving.dataset.classes, "digits")
    for instruments in ({}, {"per_example": MEAN}):
        LocalTrainer(2, shard, "cpu", SECRETS.client(2), tap=ear, **instruments)(task)
        cohort = SimulatedCohort(config, layout, secrets=SECRETS.clients(5), tap=ear, **instruments)
        cohort.aggregate(scheme, task)
    by_network, here, own_by_network, own = ear.sent[2]
    np.testing.assert_allclose(by_network, here, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(own_by_network, own, rtol=1e-9, atol=1e-12)
    assert 0 < np.linalg.norm(here) <= 1e-3 < np.linalg.norm(own)


# Upload


def test_what_is_sent_comes_of_all_clients_at_once_and_is_what_a_tap_hears() -> None:
    asked: list[tuple[int, list[int]]] = []

    def sending(instructions: Instructions, model: nn.Module, results: Results) -> Results:
        asked.append((instructions.round, sorted(results)))
        return doubled(instructions, model, results)

    honest, ear = Ear(), Ear()
    before = next(run_of({"tap": honest}).rounds()).parameters
    after = next(run_of({"tap": ear, "sending": sending}).rounds()).parameters
    assert asked == [(1, [0, 1, 2, 3, 4])]
    for u in range(5):
        np.testing.assert_array_equal(ear.sent[u][0], 2 * honest.sent[u][0])
    first = run_of().model.parameters
    assert before is not None
    assert after is not None
    np.testing.assert_allclose(after - first, 2 * (before - first), atol=3e-4)  # of 16 bits in [-3, 3]


def test_over_a_network_each_client_sends_what_its_own_sending_gives() -> None:
    server = run_of()
    layout, ear = lay_out(server.config), Ear()
    start = server.model.broadcast
    task = write_instructions(server.config, server.run, 1, server.description, start)
    shard = Shard(*layout.examples(2), layout.serving.dataset.classes, "digits")
    trained = LocalTrainer(2, shard, "cpu", SECRETS.client(2))(task)
    sent = LocalTrainer(2, shard, "cpu", SECRETS.client(2), tap=ear, sending=doubled)(task)
    np.testing.assert_array_equal(sent[UPDATE], 2 * trained[UPDATE])
    np.testing.assert_array_equal(ear.sent[2], [sent[UPDATE]])


def test_a_client_has_no_other_vectors_than_those_of_training() -> None:
    server = run_of()
    layout = lay_out(server.config)
    task = write_instructions(server.config, server.run, 1, server.description, server.model.broadcast)
    trainer = LocalTrainer(0, Shard(*layout.examples(0), layout.serving.dataset.classes, "digits"), "cpu")
    trainer.offered(Plain.for_cohort(3, {UPDATE: Counts(length=1, maximum=1), "labels": Weight(maximum=9)}))
    with pytest.raises(RemoteProtocolError, match="the server asks for labels, update; a client has update,"):
        trainer(task)


def test_who_takes_part_is_not_for_the_sending_to_say() -> None:
    with pytest.raises(LocalProtocolError, match=r"of clients \[0, 1, 2, 3, 4\] the sending gave \[1\]"):
        next(run_of({"sending": lambda _, __, results: {1: results[1]}}).rounds())


# Sum


def test_of_plain_a_rule_sees_what_every_client_sent_with_its_weight() -> None:
    rule, ear = Rule(), Ear()
    trained = next(run_of({"rule": rule, "tap": ear}, scheme="plain").rounds())
    (points,) = rule.points
    assert points.members == tuple(frozenset({u}) for u in range(5))
    np.testing.assert_allclose(points.updates, [ear.sent[u][0] for u in range(5)], rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(points.weights, [20.0] * 5)
    plain = next(run_of(scheme="plain").rounds())
    np.testing.assert_allclose(trained.parameters, plain.parameters, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES[:2])
def test_of_one_hidden_sum_a_rule_sees_the_sum_alone(scheme: dict[str, str]) -> None:
    rule = Rule()
    next(run_of({"rule": rule}, **scheme).rounds())
    assert [points.members for points in rule.points] == [(frozenset(range(5)),)]


def test_of_clusters_a_rule_sees_a_sum_each() -> None:
    rule = Rule()
    trained = next(run_of({"rule": rule}, clients=9, cluster="label", scheme="masking").rounds())
    assert rule.points[0].members == trained.survivors
    assert len(trained.survivors) > 1


def test_what_a_rule_remembers_goes_on_after_a_stop() -> None:
    rule, again = Rule(), Rule()
    rounds = run_of({"rule": rule}, server="adam").rounds()
    checkpoint = next(rounds).checkpoint
    whole = next(rounds)
    rest = list(run_of({"rule": again, "resume": checkpoint}, server="adam").rounds())
    assert (rule.counted, again.counted) == ([0, 1], [1])
    np.testing.assert_array_equal(rest[-1].parameters, whole.parameters)


def test_the_server_scores_a_model_for_its_rule_where_it_has_validation_data() -> None:
    rule, without = Rule(), Rule()
    server = run_of({"rule": rule}, validation=0.1, rounds=1)
    (trained,) = server.rounds()
    score = rule.benches[0].score
    assert score is not None
    assert score(server.model.parameters) == trained.record.validation
    next(run_of({"rule": without}).rounds())
    assert without.benches[0].score is None


def test_where_clients_keep_the_sum_there_is_nothing_for_a_rule() -> None:
    with pytest.raises(ConfigError, match="a rule needs sums to combine: with ending = 'keep'"):
        run_of({"rule": Rule()}, scheme="ckks", ending="keep")


# View


def second(task: bytes) -> bool:
    return read_instructions(task)[0].round == 2


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_round_is_recorded_as_any_party_saw_it(scheme: dict[str, str]) -> None:
    recorder = Recorder([None, 3], second)
    *_, trained = run_of({"instrument": recorder}, **scheme).rounds()
    (server,), (client,) = recorder.servers, recorder.clients[3]
    assert server.aggregate is not None
    assert server.aggregate.survivors == trained.survivors[0]
    assert [message for _, u, message in server.received if u == 3] == client.sent
    assert [message for _, u, message in server.sent if u == 3] == client.received


@pytest.mark.parametrize("scheme", SCHEMES)
def test_over_a_network_a_round_is_recorded_as_any_party_saw_it(
    scheme: dict[str, str], tmp_path: Path
) -> None:
    config = RunConfig.of(**SMALL | {"clients": 3} | scheme)
    layout, recorder, ear = lay_out(config), Recorder([None, 1], second), Ear()
    own, folders = lay_out_keys(tmp_path, 3)

    def client(u: int, endpoint: str) -> None:
        files = [folders[u] / name for name in ("client.key", "server.pub", "roster")]
        policy = config.protection.policy()
        shard = Shard(*layout.examples(u), layout.serving.dataset.classes, "digits")
        trainer = LocalTrainer(u, shard, "cpu", tap=ear if u == 1 else None)
        with transport.join(endpoint, *files, policy=policy) as peer:
            while peer.contribute(trainer, instrument=lambda session: recorder.client(u, session)):
                pass

    with ThreadPoolExecutor(3) as threads:
        with transport.serve("tcp://127.0.0.1:*", own / "server.key", own / "roster") as cohort:
            clients = [threads.submit(client, u, cohort.endpoint) for u in range(3)]
            cohort.wait_for_clients(3, 60)
            list(Server(cohort, config, layout.serving, instrument=recorder).rounds())
        for done in clients:
            done.result()
    (server,), (seen,) = recorder.servers, recorder.clients[1]
    assert [message for _, u, message in server.received if u == 1] == seen.sent
    assert [message for _, u, message in server.sent if u == 1] == seen.received
    if scheme["scheme"] == "plain":  # what a server of it reads is what the client sends
        sent = decode(Input, seen.sent[-1]).vectors[-1]  # by name: correct, examples, loss, update
        np.testing.assert_array_equal(np.frombuffer(sent, "<f4"), ear.sent[1][1])


# Rounds


@pytest.mark.parametrize("scheme", SCHEMES)
def test_metrics_can_be_left_out_and_nobody_sends_or_counts_any(scheme: dict[str, str]) -> None:
    recorder, ear = Recorder([None]), Ear()
    server = run_of({"instrument": recorder, "tap": ear}, metrics=False, rounds=1, **scheme)
    (without,) = server.rounds()
    (beside,) = run_of(rounds=1, **scheme).rounds()
    assert server.scheme.vectors.keys() == {UPDATE, "examples"}
    record = without.record
    assert (record.train_loss, record.train_accuracy) == (None, None)
    assert (beside.record.train_loss, beside.record.train_accuracy) != (None, None)
    assert record.accuracy == beside.record.accuracy


def test_over_a_network_a_client_sends_the_vectors_that_the_session_asks_for() -> None:
    server = run_of(metrics=False)
    layout = lay_out(server.config)
    task = write_instructions(server.config, server.run, 1, server.description, server.model.broadcast)
    trainer = LocalTrainer(0, Shard(*layout.examples(0), layout.serving.dataset.classes, "digits"), "cpu")
    trainer.offered(server.scheme)
    assert trainer(task).keys() == {UPDATE, "examples"}


def test_the_model_is_looked_at_every_so_often_and_at_the_end() -> None:
    rounds = list(run_of({"evaluate_every": 3}, rounds=5, scheme="plain").rounds())
    assert [each.record.accuracy is not None for each in rounds] == [False, False, True, False, True]
    assert rounds[-1].record.accuracy == list(run_of(rounds=5, scheme="plain").rounds())[-1].record.accuracy
