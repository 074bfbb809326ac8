"""The clients of a round in chunks, by whatever executor: as one after the other here, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fl import data
from fl.config.plan import LocalPlan
from fl.models.architectures import build
from fl.training.clients import LocalClients
from fl.training.local import Diverged, LocalResult
from fl.training.spread import CHUNKS, Spread, _train_some

CPU = torch.device("cpu")
DIGITS = data.load("digits")
X, Y = DIGITS.train_x[:120], DIGITS.train_y[:120]
SHARES = {u: np.arange(10 * u, 10 * u + 3 + u) for u in range(8)}
ORDERS = {u: bytes([u]) * 32 for u in SHARES}
PLAN = LocalPlan(steps=3, batch_size=4)


class Threads(ThreadPoolExecutor):
    """A cluster within this process."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.workers, self.given = workers, list[tuple[Any, ...]]()

    def put(self, value: Any) -> Any:
        return value

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.given.append(args)
        return super().submit(fn, *args, **kwargs)


def trained(cluster: Threads | None, model: str = "cnn", plan: LocalPlan = PLAN) -> dict[int, LocalResult]:
    clients = LocalClients(X, Y, SHARES, CPU, "sequential", cluster)
    return clients.train(build(model, (1, 8, 8), 10, 0), plan, ORDERS)


def same(one: dict[int, LocalResult], other: dict[int, LocalResult]) -> None:
    assert list(one) == list(other)
    for u, result in one.items():
        for name, value in asdict(result).items():
            np.testing.assert_array_equal(value, getattr(other[u], name), strict=True)


@pytest.mark.parametrize("model", ["cnn", "mlp", "tolpegin-fmnist"])
def test_what_workers_train_is_to_the_bit_what_this_process_does(model: str) -> None:
    with Threads(2) as cluster:
        same(trained(cluster, model), trained(None, model))


@given(st.integers(1, 40), st.integers(1, 9))
def test_each_client_is_in_one_chunk_in_order_and_there_are_a_few_for_each_worker(
    count: int, workers: int
) -> None:
    clients = [(u, np.arange(1), bytes(32)) for u in range(count)]

    class Seen(Threads):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            self.given.append(args)
            done: Future[Any] = Future()
            done.set_result({})
            return done

    with Seen(workers) as cluster:
        list(Spread(cluster, X, Y).train(build("logistic", (1, 8, 8), 10, 0), PLAN, clients))
    chunks = [args[-1] for args in cluster.given]
    assert [client for chunk in chunks for client in chunk] == clients
    assert len(chunks) <= CHUNKS * workers
    assert max(map(len, chunks)) == -(-count // (CHUNKS * workers))


def test_the_server_hears_who_is_done() -> None:
    with Threads(1) as cluster:
        clients = LocalClients(X, Y, SHARES, CPU, None, cluster)
        assert clients.way == "sequential"
        clients.train(build("cnn", (1, 8, 8), 10, 0), PLAN, {2: ORDERS[2], 5: ORDERS[5]})
    assert clients.trained == {2, 5}


def test_a_worker_is_given_examples_model_and_of_each_client_the_key_of_its_order() -> None:
    with Threads(1) as cluster:
        trained(cluster)
    for x, y, (_, plan, *options), chunk in cluster.given:
        assert (x is X, y is Y, plan, options) == (True, True, PLAN, [None, True])
        assert all(order == ORDERS[u] for u, _, order in chunk)


def test_a_client_that_diverges_is_told_of_as_here() -> None:
    plan = LocalPlan(steps=30, batch_size=4, lr=100.0)
    with Threads(2) as cluster, pytest.raises(Diverged, match="lower lr"):
        trained(cluster, plan=plan)


def test_what_a_client_holds_may_change() -> None:
    with Threads(1) as cluster:
        here, there = (LocalClients(X, Y, SHARES, CPU, "sequential", each) for each in (None, cluster))
        before = there.train(build("cnn", (1, 8, 8), 10, 0), PLAN, ORDERS)
        for clients in (here, there):
            clients.hold({3: np.arange(60, 70)})
        model = build("cnn", (1, 8, 8), 10, 0)
        after = there.train(model, PLAN, ORDERS)
        same(after, here.train(model, PLAN, ORDERS))
    assert (before[3].upload != after[3].upload).any()


def test_results_that_can_only_be_read_are_copied() -> None:
    """As those in a cluster's memory are."""

    def frozen(*args: Any) -> dict[int, LocalResult]:
        results = _train_some(*args)
        for result in results.values():
            result.upload.flags.writeable = False
        return results

    class Frozen(Threads):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            return super().submit(frozen, *args, **kwargs)

    with Frozen(1) as cluster:
        assert all(result.upload.flags.writeable for result in trained(cluster).values())
