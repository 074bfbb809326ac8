"""What a user of `secagg train` is promised, at every seed: the same sessions, driven in this process."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from fl.config import RunConfig
from fl.data import load
from fl.data.partition import dirichlet
from fl.data.shard import Shard
from fl.federation import LocalTrainer, serve_rounds
from fl.models import build, from_vector
from fl.training.local import evaluate
from secagg import Aggregate, ClientSession, Scheme, run, throwaway_identities


@dataclass
class HereCohort:
    """The clients of a run without a network between them."""

    config: RunConfig

    def __post_init__(self):
        torch.set_num_threads(1)
        self.dataset = data = load(self.config.dataset)
        rng = np.random.default_rng(self.config.seed)
        shares = dirichlet(data.train_y, self.config.clients, self.config.alpha, rng)
        self.trainers = {
            u: LocalTrainer(u, Shard(data.train_x[own], data.train_y[own], data.classes, data.name), "cpu")
            for u, own in enumerate(shares)
        }
        self.roster = self
        self.identities, self._own = throwaway_identities(range(self.config.clients))

    def __len__(self) -> int:
        return self.config.clients

    def aggregate(self, scheme: Scheme, task: bytes, **_: object) -> Aggregate:
        clients = Clients(scheme)
        total = run(clients, self.trainers, task=task, identities=self._own)
        self.learned = [
            (trainer.keep(clients.made[u].result), clients.made[u].result)
            for u, trainer in self.trainers.items()
            if clients.made[u].result is not None
        ]
        return total

    def train(self) -> list:
        return list(serve_rounds(self, self.config, self.dataset))


class Clients:
    """A scheme whose clients can be looked at: some of them keep the sum."""

    def __init__(self, scheme: Scheme) -> None:
        self._scheme, self.made = scheme, {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheme, name)

    def client(self, u: int, *args: Any, **named: Any) -> ClientSession:
        self.made[u] = self._scheme.client(u, *args, **named)
        return self.made[u]


@pytest.mark.parametrize("seed", range(5))
def test_the_model_is_as_good_as_without_protection(seed):
    masked = HereCohort(RunConfig(seed=seed)).train()
    plain = HereCohort(RunConfig(seed=seed, scheme="plain")).train()
    assert masked[-1].record.accuracy >= (0.96 if seed == 0 else 0.95)
    assert abs(masked[-1].record.accuracy - plain[-1].record.accuracy) <= 0.01
    difference = np.abs(masked[0].parameters - plain[0].parameters).max()
    assert 0 < difference <= masked[0].record.error_bound


def test_under_ckks_it_is_as_good_in_both_endings():
    """A few rounds. Where the clients keep the model, theirs."""
    rounds = {"rounds": 5, "seed": 1}
    plain = HereCohort(RunConfig(scheme="plain", **rounds)).train()
    released = HereCohort(RunConfig(scheme="ckks", **rounds)).train()
    assert abs(released[-1].record.accuracy - plain[-1].record.accuracy) <= 0.01
    difference = np.abs(released[0].parameters - plain[0].parameters).max()
    assert 0 < difference <= released[0].record.error_bound
    cohort = HereCohort(RunConfig(scheme="ckks", ending="keep", **rounds))
    for number, _ in enumerate(serve_rounds(cohort, cohort.config, cohort.dataset)):
        held, total = cohort.learned[0]
        difference = np.abs(held.parameters - plain[number].parameters).max()
        assert number > 0 or 0 < difference <= total.error_bound["update"]
    model = build(held.model.model, held.model.shape, held.model.classes, 0)
    from_vector(model, held.parameters)
    data = cohort.dataset
    accuracy, _ = evaluate(model, data.test_x, data.test_y, torch.device("cpu"))
    assert abs(accuracy - plain[-1].record.accuracy) <= 0.01
