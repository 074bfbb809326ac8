"""What clients send: a client's update, its number of examples, its loss and its count of correct answers are
named vectors of one session. With a scheme that hides, the server learns their sums and nothing of any one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl.config.run import RunConfig
from fl.training.local import LocalResult
from secagg import Aggregate, Bounded, Counts, Roster, Scheme, Weight
from secagg.specs import Spec

UPDATE, EXAMPLES, LOSS, CORRECT = "update", "examples", "loss", "correct"
LOSS_BOUND = 16.0  # nats; of ten classes, chance is 2.3


def scheme_for(config: RunConfig, clients: int, length: int, examples: int, roster: Roster | None) -> Scheme:
    """The session of every training round. length: d of the model; examples: the largest weight."""
    vectors: dict[str, Spec] = {
        UPDATE: Bounded(length=length, bound=config.bound, bits=config.bits, clip=config.clip),
        EXAMPLES: Weight(maximum=examples),
        LOSS: Bounded(length=1, bound=LOSS_BOUND),
        CORRECT: Counts(length=1, maximum=examples),
    }
    return config.protection.for_cohort(clients, vectors, roster)


def contribution(result: LocalResult) -> dict[str, Any]:
    """The named vectors of a client's training."""
    return {
        UPDATE: result.upload,
        EXAMPLES: result.examples,
        LOSS: np.array([min(result.loss, LOSS_BOUND)]),
        CORRECT: np.array([result.correct]),
    }


def examples_of(totals: Sequence[Aggregate]) -> float:
    return float(sum(total.sum[EXAMPLES][0] for total in totals)) or 1.0


def mean_of(totals: Sequence[Aggregate], name: str) -> NDArray[np.float64]:
    """The weighted mean over the clients of all clusters: of the clusters' means, by their examples."""
    if len(totals) == 1:
        return totals[0].mean[name]
    shares = [float(total.sum[EXAMPLES][0]) / examples_of(totals) for total in totals]
    parts = [share * total.mean[name] for share, total in zip(shares, totals, strict=True)]
    return np.sum(parts, axis=0)  # type: ignore[no-any-return]
