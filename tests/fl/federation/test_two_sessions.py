"""The attack with two chosen sessions, played on real ones: a server sums everybody, then all but its victim
for the same model under another run id, and subtracts."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from fl.cohort.layout import Layout, lay_out
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.data.shard import Shard
from fl.federation.client import LocalTrainer
from fl.federation.task import write_instructions
from fl.federation.vectors import UPDATE, scheme_for
from fl.models.architectures import Description, build
from fl.models.weights import to_vector
from secagg import run, throwaway_identities

CONFIG = RunConfig.of(
    clients=8,
    partition="iid",
    examples_per_client=60,
    max_examples=60,
    batch_size=4,
    lr=0.1,
    momentum=0.9,
    precision="float64",
    bits=24,
)
"""In float64, which leaves nothing to the processor."""
SECRETS, VICTIM = RunSecrets.of_seed(0), 3
MODEL = Description("cnn", (1, 8, 8), 10)


@cache
def layout() -> Layout:
    return lay_out(CONFIG)


def summed(run_id: bytes, without: set[int], sent: dict[int, np.ndarray]) -> np.ndarray:
    """The server's sum of updates, weighted by examples, of a masked session against an active server. sent:
    is told what each client puts in, which no server sees.
    """
    start = to_vector(build("cnn", MODEL.shape, MODEL.classes, 0))
    roster, identities = throwaway_identities(range(CONFIG.cohort.clients))

    def client(u: int) -> Callable[[bytes], dict[str, Any]]:
        shard = Shard(*layout().examples(u), MODEL.classes, "digits")
        trainer = LocalTrainer(u, shard, "cpu", SECRETS.client(u))

        def contribution(task: bytes) -> dict[str, Any]:
            vectors = trainer(task)
            sent[u] = vectors[UPDATE]
            return vectors

        return contribution

    total = run(
        scheme_for(CONFIG, CONFIG.cohort.clients, len(start), 60, roster),
        {u: client(u) for u in range(CONFIG.cohort.clients)},
        task=write_instructions(CONFIG, run_id, 1, MODEL, start),
        identities=identities,
        drop={"masked-input": without},
    )
    assert total.survivors == set(range(CONFIG.cohort.clients)) - without
    return total.sum[UPDATE]


def correlation() -> float:
    """Of the difference of the two sums with the victim's update in the first."""
    sent: dict[int, np.ndarray] = {}
    difference = summed(bytes(16), set(), sent) - summed(bytes([1]) * 16, {VICTIM}, {})
    return float(np.corrcoef(difference, sent[VICTIM])[0, 1])


def test_in_a_secret_order_the_difference_is_not_the_victims_update() -> None:
    assert abs(correlation()) < 0.5


def test_in_the_same_order_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the order came from what two tasks share."""
    monkeypatch.setattr("fl.federation.task.order_key", lambda secret, task: secret)
    assert correlation() > 0.99
