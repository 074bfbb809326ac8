"""What clients send: a client's update, its number of examples, its loss and its count of correct answers are
named vectors of one session. With a scheme that hides, the server learns their sums and nothing of any one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl.config.run import RunConfig
from fl.robust import Points
from fl.training.local import LocalResult
from secagg import Aggregate, Bounded, Counts, RemoteProtocolError, Roster, Scheme, Weight
from secagg.specs import Spec

UPDATE, EXAMPLES, LOSS, CORRECT = "update", "examples", "loss", "correct"
LOSS_BOUND = 16.0  # nats; of ten classes, chance is 2.3


def scheme_for(config: RunConfig, clients: int, length: int, examples: int, roster: Roster | None) -> Scheme:
    """The session of every training round. length: d of the model; examples: the largest weight."""
    vectors: dict[str, Spec] = {
        UPDATE: Bounded(
            length=length,
            bound=config.protection.bound,
            bits=config.protection.bits,
            clip=config.privacy.clip,
        ),
        EXAMPLES: Weight(maximum=examples),
    }
    if config.training.metrics:
        vectors[LOSS] = Bounded(length=1, bound=LOSS_BOUND)
        vectors[CORRECT] = Counts(length=1, maximum=examples)
    return config.protection.for_cohort(clients, vectors, roster)


def contribution(result: LocalResult, names: Collection[str]) -> dict[str, Any]:
    """Those of a client's vectors that a session asks for. Raises: RemoteProtocolError for any other."""
    every = {
        UPDATE: result.upload,
        EXAMPLES: result.examples,
        # Cut here: of what encoding clips the client is warned.
        LOSS: np.array([min(result.loss, LOSS_BOUND)]),
        CORRECT: np.array([result.correct]),
    }
    if UPDATE not in names or not every.keys() >= set(names):
        raise RemoteProtocolError(
            f"the server asks for {', '.join(sorted(names))}; a client has {', '.join(every)}"
        )
    return {name: every[name] for name in names}


def points_of(totals: Sequence[Aggregate]) -> Points:
    """What a round's sums tell, as a rule is given it: their parts where they have some."""
    parts = [part for total in totals for part in total.parts or (total,)]
    return Points(
        tuple(part.survivors for part in parts),
        np.stack([part.mean[UPDATE] for part in parts]),
        np.array([float(part.sum[EXAMPLES][0]) for part in parts]),
    )


def examples_of(totals: Sequence[Aggregate]) -> float:
    return float(sum(total.sum[EXAMPLES][0] for total in totals)) or 1.0


def mean_of(totals: Sequence[Aggregate], name: str) -> NDArray[np.float64]:
    """The weighted mean over the clients of all clusters: of the clusters' means, by their examples."""
    if len(totals) == 1:
        return totals[0].mean[name]
    shares = [float(total.sum[EXAMPLES][0]) / examples_of(totals) for total in totals]
    parts = [share * total.mean[name] for share, total in zip(shares, totals, strict=True)]
    return np.sum(parts, axis=0)  # type: ignore[no-any-return]
