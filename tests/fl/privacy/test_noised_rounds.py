"""Rounds of training with noise: who adds it, how much of it arrives, and what is not sent beside it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from torch import nn

from fl.cohort.layout import lay_out
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.config.section import ConfigError
from fl.data.shard import Shard
from fl.federation.client import LocalTrainer
from fl.federation.sending import Results
from fl.federation.server import Server
from fl.federation.simulation import simulated
from fl.federation.task import Instructions, write_instructions
from fl.federation.vectors import BELOW, EXAMPLES, UPDATE
from fl.privacy.mechanisms import Level
from fl.training.local import Diverged, LocalResult
from fl.training.step import Gradients

SECRETS = RunSecrets.of_seed(1)
NOISY: dict[str, Any] = {"clip": 0.5, "noise_multiplier": 4.0, "local_epochs": 1}
SCHEMES: dict[str, dict[str, Any]] = {
    "masking": {},
    "ckks, release": {"scheme": "ckks"},
    "plain": {"scheme": "plain"},
}
LENGTH = 650


class Ear:
    """The uploads of each client, before they are encoded."""

    def __init__(self) -> None:
        self.sent: dict[int, list[np.ndarray]] = {}

    def step(self, u: int, step: int, examples: np.ndarray, gradients: object) -> None: ...

    def upload(self, u: int, upload: np.ndarray) -> None:
        self.sent.setdefault(u, []).append(upload)


def run_of(ear: Ear | None = None, sending: Any = None, **changes: Any) -> Server:
    """Of five clients with fifty digits each and 650 parameters."""
    settings = {"clients": 5, "rounds": 3, "model": "logistic", "execution": "batched", "partition": "iid"}
    config = RunConfig.of(**settings | {"examples_per_client": 50} | NOISY | changes)
    more = {} if sending is None else {"sending": sending}
    return simulated(config, lay_out(config), secrets=SECRETS, tap=ear, **more)


def is_noise(x: np.ndarray, deviation: float) -> bool:
    """Whether its spread is that of so much normal noise: wrong once in 10^9."""
    of_squares = float(np.sum(np.square(x / deviation)))
    return abs(of_squares - len(x)) < 6.2 * math.sqrt(2 * len(x)) + 20


# Local


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_client_adds_all_its_noise_and_the_range_leaves_it_whole(scheme: str) -> None:
    ear = Ear()
    server = run_of(ear, privacy="local", **SCHEMES[scheme])
    start = server.model.parameters
    trained = next(server.rounds())
    for (upload,) in ear.sent.values():
        assert is_noise(upload, 2.0)  # the update within it has a norm of 1/4 of one coordinate's noise
    assert not any(trained.local.clipped.values())
    assert trained.parameters is not None
    mean = np.mean([upload for (upload,) in ear.sent.values()], axis=0)
    np.testing.assert_allclose(trained.parameters - start, mean, atol=2e-3)
    assert trained.record.noise == pytest.approx(2.0 / math.sqrt(5))
    assert trained.record.clip == 0.5


def test_two_clients_and_two_rounds_have_no_noise_in_common() -> None:
    ear = Ear()
    again = run_of(ear, privacy="local")
    first, second = again.rounds(), run_of(ear, privacy="local").rounds()
    for rounds in (first, first, second):
        next(rounds)
    sent = [upload for uploads in ear.sent.values() for upload in uploads]
    for i, one in enumerate(sent):
        assert all(is_noise(one - other, 2.0 * math.sqrt(2)) for other in sent[:i])


def test_over_a_network_a_client_adds_noise_because_the_task_says_so() -> None:
    server, ear = run_of(privacy="local", noise="laplace"), Ear()
    layout, start = lay_out(server.config), server.model.broadcast
    shard = Shard(*layout.examples(2), layout.serving.dataset.classes, "digits")
    trainer = LocalTrainer(2, shard, "cpu", SECRETS.client(2), tap=ear)
    trainer(write_instructions(server.config, server.run, 1, server.description, start, Level(0.5, 4.0)))
    (upload,) = ear.sent[2]
    # Of |Laplace| of deviation 1 the mean is sqrt(1/2) and so is the deviation.
    assert abs(np.abs(upload).mean() / 2 - math.sqrt(0.5)) < 6.2 * math.sqrt(0.5 / LENGTH)


@pytest.mark.parametrize("mechanism", ["none", "local", "example", "distributed"])
def test_training_that_diverges_is_told_without_noise_where_all_is(mechanism: str) -> None:
    """A server can send a model that overflows on some data and not on other: who stayed away would tell."""
    wild = {"lr": 100.0, "momentum": 0.99, "proximal": 100.0, "local_epochs": 10}
    noise = {} if mechanism == "none" else {"clip": 0.5, "noise_multiplier": 4.0}
    settings = {"clients": 5, "model": "logistic", "examples_per_client": 50, "execution": "batched"}
    config = RunConfig.of(privacy=mechanism, **settings | wild | noise)
    layout, told = lay_out(config), list[str]()
    server = simulated(config, layout)
    shard = Shard(*layout.examples(2), layout.serving.dataset.classes, "digits")
    trainer = LocalTrainer(2, shard, "cpu", tell=told.append)
    trainer.offered(server.scheme)
    task = write_instructions(config, server.run, 1, server.description, server.model.broadcast)
    if mechanism == "none":
        with pytest.raises(Diverged):
            trainer(task)
        return
    sent = trainer(task)[UPDATE]
    assert "training diverged" in told[0]
    if mechanism == "local":
        assert is_noise(sent, 2.0)
    else:  # its share is added in the ring, or was in the steps
        assert not sent.any()


def test_what_an_attacker_sends_is_not_noised_for_it() -> None:
    def nothing(instructions: Instructions, model: nn.Module, results: Results) -> Results:
        assert all(is_noise(result.upload, 2.0) for result in results.values())
        return {u: _without(result) if u == 3 else result for u, result in results.items()}

    ear = Ear()
    next(run_of(ear, nothing, privacy="local").rounds())
    assert not ear.sent[3][0].any()


def _without(result: LocalResult) -> LocalResult:
    return LocalResult(np.zeros_like(result.upload), result.examples, result.loss, result.correct)


# Central


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_server_noises_the_mean_of_clipped_updates_once(scheme: str) -> None:
    ear = Ear()
    server = run_of(ear, privacy="central", **SCHEMES[scheme])
    start = server.model.parameters
    trained = next(server.rounds())
    assert trained.parameters is not None
    uploads = [upload.astype(np.float64) for (upload,) in ear.sent.values()]
    assert all(np.linalg.norm(upload) < 5 for upload in uploads)  # and not noised
    mean = np.mean([upload * min(1, 0.5 / np.linalg.norm(upload)) for upload in uploads], axis=0)
    rounding = 0.0 if scheme == "plain" else math.sqrt(LENGTH) * 0.5 / 32767
    deviation = 4.0 * (0.5 + rounding) / 5
    assert is_noise(trained.parameters - start - mean, deviation)
    assert trained.record.noise == pytest.approx(deviation, rel=1e-6)


def test_central_noise_is_of_the_mean_and_of_no_other_rule() -> None:
    config = RunConfig.of(clients=5, privacy="central", clip=0.5, noise_multiplier=1.0, execution="batched")
    with pytest.raises(ConfigError, match="privacy = 'central': its noise is of the mean"):
        simulated(config, lay_out(config), rule=lambda points, bench, memory: None)  # type: ignore[arg-type, return-value]


# Example


class Steps(Ear):
    """And what each step goes along."""

    def __init__(self) -> None:
        super().__init__()
        self.along: dict[int, list[np.ndarray]] = {}

    def step(self, u: int, step: int, examples: np.ndarray, gradients: Gradients) -> None:  # type: ignore[override]
        self.along.setdefault(u, []).append(gradients.along.numpy())


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("batches", ["shuffled", "poisson"])
def test_every_step_is_noised_by_the_rounds_multiplier_and_the_range_leaves_it_whole(
    batches: str, scheme: str
) -> None:
    """From 160 down to 40: beside it gradients are nothing, and it leaves the usual range."""
    ear = Steps()
    more = {"noise_multiplier": 160.0, "noise_schedule": "linear", "noise_end": 40.0, "batch_size": 10}
    server = run_of(ear, privacy="example", local_batches=batches, **SCHEMES[scheme] | more)
    start = server.model.parameters
    for round, trained in enumerate(server.rounds()):
        for steps in ear.along.values():
            for along in steps[5 * round :]:
                assert is_noise(along, (160.0, 100.0, 40.0)[round] * 0.5 / 10)
        assert not any(trained.local.clipped.values())
        assert trained.parameters is not None
        mean = np.mean([sent[round] for sent in ear.sent.values()], axis=0)
        np.testing.assert_allclose(trained.parameters - start, mean, atol=5e-3)
        start = trained.parameters
    assert {len(steps) for steps in ear.along.values()} == {15}
    assert list(server.scheme.vectors) == [UPDATE, EXAMPLES]


@pytest.mark.parametrize("where", ["in one process", "over a network"])
def test_a_round_that_is_begun_twice_takes_other_samples(where: str) -> None:
    """With the same secrets and the same task: what two rounds cost is reckoned with a coin for each."""
    taken = list[tuple[int, ...]]()

    class Samples(Ear):
        def step(self, u: int, step: int, examples: np.ndarray, gradients: object) -> None:
            if u == 2:
                taken.append(tuple(examples.tolist()))

    more: dict[str, Any] = {"privacy": "example", "local_batches": "poisson", "local_steps": 3}
    for _ in range(2):
        server = run_of(Samples(), **more)
        if where == "in one process":
            next(server.rounds())
            continue
        shard = Shard(*lay_out(server.config).examples(2), 10, "digits")
        trainer = LocalTrainer(2, shard, "cpu", SECRETS.client(2), tap=Samples())
        trainer(write_instructions(server.config, bytes(16), 1, server.description, server.model.broadcast))
    assert len(taken) == len(set(taken)) == 6


def test_a_gradients_noise_fits_too() -> None:
    ear = Ear()
    more = {"algorithm": "fedsgd", "alike": "never", "noise_multiplier": 1000.0}
    trained = next(run_of(ear, privacy="example", **more).rounds())
    for (upload,) in ear.sent.values():
        assert is_noise(upload, 1000.0 * 0.5 / 50)
    assert not any(trained.local.clipped.values())


# Distributed


@pytest.mark.parametrize("noise", ["skellam", "discrete-gaussian"])
def test_the_sum_carries_the_clients_shares_once(noise: str) -> None:
    ear = Ear()
    server = run_of(ear, privacy="distributed", noise=noise)
    start = server.model.parameters
    trained = next(server.rounds())
    assert trained.parameters is not None
    uploads = [upload.astype(np.float64) for (upload,) in ear.sent.values()]
    assert all(np.linalg.norm(upload) < 5 for upload in uploads)  # the noise comes in encoding
    mean = np.mean([upload * min(1, 0.5 / np.linalg.norm(upload)) for upload in uploads], axis=0)
    record = trained.record
    assert record.honest is not None
    assert record.noise == pytest.approx(4.0 * 0.5 / 5 * math.sqrt(5 / record.honest), rel=1e-3)
    assert is_noise(trained.parameters - start - mean, record.noise)
    assert record.error_bound is None
    assert record.wraps is not None


# What is not sent


@pytest.mark.parametrize("privacy", ["local", "central", "distributed"])
def test_beside_noise_neither_weights_nor_loss_nor_counts_are_sent(privacy: str) -> None:
    server = run_of(privacy=privacy)
    assert list(server.scheme.vectors) == [UPDATE]
    record = next(server.rounds()).record
    assert (record.train_loss, record.train_accuracy) == (None, None)
    assert record.accuracy is not None


# Adaptive clip


@pytest.mark.parametrize("privacy", ["central", "distributed"])
def test_the_clip_follows_the_median_norm_under_noise_and_is_gone_on_with(privacy: str) -> None:
    ear = Ear()
    server = run_of(ear, privacy=privacy, adaptive_clip=True, clip=100.0, noise_multiplier=1e-2)
    assert set(server.scheme.vectors) == {UPDATE, BELOW}
    clips = [trained.record.clip for trained in server.rounds()]
    # Of five clients the share is noised by 0.05 to 0.065, and so a step of the clip by 1.3 %.
    assert clips[:2] == pytest.approx([100, 100 * math.exp(-0.1)], rel=0.08)
    assert len(clips) == 3
    server = run_of(ear, privacy=privacy, adaptive_clip=True, clip=1e-3, noise_multiplier=1e-2)
    first = next(server.rounds())
    config, layout = server.config, lay_out(server.config)
    resumed = simulated(config, layout, secrets=SECRETS, resume=first.checkpoint)
    assert next(resumed.rounds()).record.clip == pytest.approx(1e-3 * math.exp(0.1), rel=0.08)
