"""The clients of a round spread over the workers of a cluster, in the place of the threads of one process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fl.config.plan import LocalPlan
from fl.data.examples import Labels
from fl.training.local import LocalResult, train
from fl.training.step import PerExample
from secagg.parallel import Executor, in_order

CHUNKS = 4  # for each worker and round: few to hand over, and who is done early takes another

Client = tuple[int, NDArray[np.int64], bytes]
"""(its id, which of all examples are its own, the key of their order)."""


class Cluster(Executor, Protocol):
    """`fl.cluster.RayExecutor`, which this module is not to import: Ray is not always there."""

    @property
    def workers(self) -> int: ...

    def put(self, value: Any) -> Any: ...


class Spread:
    """Trains clients in chunks, each by one worker, as `fl.training.local.train` does on one thread of a CPU.

    x: (N, ...), y: (N,), all examples; each machine of the cluster is sent them once.

    Security: workers are sent the examples, and of each client the key of its order in this round, from which
    its secret does not follow: nothing else of it, and of no mask.
    """

    def __init__(self, cluster: Cluster, x: NDArray[np.generic], y: Labels) -> None:
        self._cluster, self._x, self._y = cluster, cluster.put(x), cluster.put(y)

    def train(
        self,
        model: nn.Module,
        plan: LocalPlan,
        clients: Sequence[Client],
        *,
        per_example: PerExample | None = None,
        counting: bool = True,
    ) -> Iterator[Mapping[int, LocalResult]]:
        """A round of these clients, a chunk after the other, in their order whoever is done first.

        Raises: Diverged, ConfigError as `local.train`; what the cluster raises.
        """
        size = -(-len(clients) // (CHUNKS * self._cluster.workers))
        chunks = [clients[first : first + size] for first in range(0, len(clients), size)]
        told = self._cluster.put((model, plan, per_example, counting))
        calls = ((self._x, self._y, told, chunk) for chunk in chunks)
        for results in in_order(self._cluster, _train_some, calls, ahead=len(chunks)):
            # What comes of a cluster's memory can be read alone, and keeps its place there.
            yield {u: replace(result, upload=result.upload.copy()) for u, result in results.items()}


def _train_some(
    x: NDArray[np.generic],
    y: Labels,
    told: tuple[nn.Module, LocalPlan, PerExample | None, bool],
    clients: Sequence[Client],
) -> dict[int, LocalResult]:
    """One worker's task."""
    torch.set_num_threads(1)  # or steps would be added up in another order
    model, plan, per_example, counting = told
    return {
        u: train(
            *(model, torch.tensor(x[own]), torch.tensor(y[own]), plan, order),
            u=u,
            per_example=per_example,
            counting=counting,
        )
        for u, own, order in clients
    }
