"""What a user of `secagg train` is promised, at every seed: the same sessions, driven in this process."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from fl.config import RunConfig
from fl.data import load
from fl.data.partition import dirichlet
from fl.data.shard import Shard
from fl.federation import LocalTrainer, serve_rounds
from secagg import Aggregate, Scheme, run, throwaway_identities


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
        return run(scheme, self.trainers, task=task, identities=self._own)

    def train(self) -> list:
        return list(serve_rounds(self, self.config, self.dataset))


@pytest.mark.parametrize("seed", range(5))
def test_the_model_is_as_good_as_without_protection(seed):
    masked = HereCohort(RunConfig(seed=seed)).train()
    plain = HereCohort(RunConfig(seed=seed, scheme="plain")).train()
    assert masked[-1].record.accuracy >= (0.96 if seed == 0 else 0.95)
    assert abs(masked[-1].record.accuracy - plain[-1].record.accuracy) <= 0.01
    difference = np.abs(masked[0].parameters - plain[0].parameters).max()
    assert 0 < difference <= masked[0].record.error_bound
