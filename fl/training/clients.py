"""The clients of a whole run in this process: their examples on one device, and a round of any of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fl.config.plan import LocalPlan, Way
from fl.data.examples import Labels
from fl.own import OwnTask
from fl.training.batched import train_batched
from fl.training.local import EVALUATION_BATCH, LocalResult, Tap, channels_last, inputs, prepared, train
from fl.training.own import train_own
from fl.training.spread import Cluster, Spread
from fl.training.step import PerExample

WAYS: tuple[Way, ...] = ("sequential", "batched")

T = TypeVar("T")

TRIED_CLIENTS, TRIED_STEPS = 8, 4  # of each way, to see which is faster


def usable_cores() -> int:
    """How many cores this process has, which may be bound to some; all, where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalClients:
    """All clients of a run, to be trained in this process.

    x: (N, ...), y: (N,), all examples, put on `on` once. shares: client -> which of them are its own,
    (n_u,) int64; clients may share some.

    way: how a round is computed; None: the first round measures both ways, and all take the faster one.
    `sequential` is one client after the other, on a CPU as many side by side as this process may use cores.

    cluster: whose workers train in the place of this process, one client after the other each, on CPUs: as
    `sequential` does here, to the bit on machines alike. What a tap hears is trained here all the same.
    own: a task of one's own, whose clients are trained one at a time: what its code draws and keeps is its
    process's.
    """

    def __init__(
        self,
        x: NDArray[np.generic],
        y: Labels,
        shares: Mapping[int, NDArray[np.int64]],
        on: torch.device,
        way: Way | None = None,
        cluster: Cluster | None = None,
        own: OwnTask | None = None,
    ) -> None:
        self._own = own
        self._x, self._y = torch.tensor(x, device=on), torch.tensor(y, device=on)
        self._shares = {u: torch.tensor(own) for u, own in shares.items()}
        self._spread = None if cluster is None else Spread(cluster, x, y)
        self.way, self.rates = way if cluster is None and own is None else "sequential", dict[Way, float]()
        self.trained: set[int] = set()  # in this round; where all are computed at once, none before the end
        cores = usable_cores() if on.type == "cpu" else 1
        # One thread each: several for one small step wait for one another, and add up in another order.
        one_thread = (lambda: torch.set_num_threads(1)) if cores > 1 else (lambda: None)
        cores = cores if own is None else 1
        self._pool = ThreadPoolExecutor(cores, initializer=one_thread)

    def train(
        self,
        model: nn.Module,
        plan: LocalPlan,
        orders: Mapping[int, bytes],
        *,
        tap: Tap | None = None,
        per_example: PerExample | None = None,
        counting: bool = True,
    ) -> dict[int, LocalResult]:
        """A round of the clients in `orders`: the keys of the orders in which they take their examples.
        per_example, counting: as for `local.train`.

        Raises: Diverged, ConfigError as `local.train`.
        """
        self.way = way = self.way or self._faster(model, plan, orders, per_example)
        self.trained = set()
        if self._spread is not None and tap is None:
            return self._by_cluster(self._spread, model, plan, orders, per_example, counting)
        results = self._train(way, model, plan, orders, tap, per_example)
        if not counting:
            return results
        correct = self._correct(model, plan, list(results))
        return {u: replace(result, correct=correct[u]) for u, result in results.items()}

    def hold(self, shares: Mapping[int, NDArray[np.int64]]) -> None:
        """From now on these clients have these of all examples."""
        self._shares |= {u: torch.tensor(own) for u, own in shares.items()}

    def examples(self, u: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Client u's own, where all are: (n_u, ...) and (n_u,)."""
        own = self._shares[u].to(self._x.device)
        return self._x.index_select(0, own), self._y.index_select(0, own)

    def _by_cluster(
        self,
        spread: Spread,
        model: nn.Module,
        plan: LocalPlan,
        orders: Mapping[int, bytes],
        per_example: PerExample | None,
        counting: bool,
    ) -> dict[int, LocalResult]:
        clients = [(u, self._shares[u].numpy(), orders[u]) for u in sorted(orders)]
        results = dict[int, LocalResult]()
        for some in spread.train(model, plan, clients, per_example=per_example, counting=counting):
            results |= some
            self.trained |= some.keys()
        return results

    def _train(
        self,
        way: Way,
        model: nn.Module,
        plan: LocalPlan,
        orders: Mapping[int, bytes],
        tap: Tap | None,
        per_example: PerExample | None,
    ) -> dict[int, LocalResult]:
        """The round, with nobody's correct answers counted."""
        ids = sorted(orders)
        if way == "batched":
            shares, keys = [self._shares[u] for u in ids], [orders[u] for u in ids]
            results = train_batched(
                model, self._x, self._y, shares, plan, keys, ids=ids, tap=tap, per_example=per_example
            )
            return dict(zip(ids, results, strict=True))

        train_one = train if self._own is None else partial(train_own, self._own)

        def one(u: int) -> LocalResult:
            x, y = self.examples(u)
            result = train_one(
                model, x, y, plan, orders[u], u=u, tap=tap, per_example=per_example, counting=False
            )
            self.trained.add(u)
            return result

        if tap is not None:  # one listener: it hears one client at a time
            return {u: one(u) for u in ids}
        return self.side_by_side(one, ids)

    def side_by_side(self, one: Callable[[int], T], ids: Sequence[int]) -> dict[int, T]:
        """What this gives of each client, computed as where clients are computed one after the other."""
        return dict(zip(ids, self._pool.map(one, ids), strict=True))

    @torch.no_grad()
    def _correct(self, model: nn.Module, plan: LocalPlan, ids: Sequence[int]) -> dict[int, int]:
        """How many of each client's examples the model they all received has right."""
        received, right = prepared(model, self._x, plan).eval(), list[torch.Tensor]()
        every = torch.cat([self._shares[u] for u in ids]).to(self._x.device)
        for some in torch.split(every, EVALUATION_BATCH):
            received, x = channels_last(received, inputs(self._x[some], plan))
            right.append(received(x).argmax(dim=1) == self._y[some])
        parts = torch.split(torch.cat(right), [len(self._shares[u]) for u in ids])
        return {u: int(part.sum()) for u, part in zip(ids, parts, strict=True)}

    def _faster(
        self,
        model: nn.Module,
        plan: LocalPlan,
        orders: Mapping[int, bytes],
        per_example: PerExample | None,
    ) -> Way:
        self.rates = self._tried(model, plan, orders, per_example)
        return max(WAYS, key=lambda way: self.rates[way])

    def _tried(
        self,
        model: nn.Module,
        plan: LocalPlan,
        orders: Mapping[int, bytes],
        per_example: PerExample | None,
    ) -> dict[Way, float]:
        """Client-steps a second of both ways, on a few steps of a few clients."""
        # With the keys of this round: nothing of what is tried is sent, and no tap hears it.
        some = {u: orders[u] for u in sorted(orders)[:TRIED_CLIENTS]}
        short = msgspec.structs.replace(plan, steps=TRIED_STEPS)
        steps = sum(short.steps_of(len(self._shares[u])) for u in some)
        rates: dict[Way, float] = {}
        for way in WAYS:
            self._train(way, model, short, some, None, per_example)  # the first time much is set up
            begun = time.perf_counter()
            self._train(way, model, short, some, None, per_example)
            rates[way] = steps / (time.perf_counter() - begun)
        return rates
