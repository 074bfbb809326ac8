"""An executor of any kind gives what one thread gives."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from secagg import Bounded, Counts, Masking, run, throwaway_identities
from secagg.parallel import add_masks_by, in_order
from secagg.prg import Prg, add_masks

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_executor.py"
SEEDS = [bytes([i]) * 32 for i in range(100)]


POOLS: dict[str, Callable[[], Executor]] = {
    "threads": lambda: ThreadPoolExecutor(2),
    "processes": lambda: ProcessPoolExecutor(2, multiprocessing.get_context("spawn")),
}


@pytest.fixture(params=POOLS, scope="module")
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with POOLS[request.param]() as pool:
        yield pool


class Counting:
    """How many tasks it was given; it does none."""

    tasks = 0

    def submit(self, work: Callable[..., Any], /, *call: Any) -> Future[int]:
        self.tasks += 1
        done: Future[int] = Future()
        done.set_result(0)
        return done


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
@pytest.mark.parametrize("prg", ["aes-128-ctr", "chacha20"])
@pytest.mark.parametrize("length", [1, 1000, 100_003, 3_000_001])
def test_masks_are_those_of_one_thread(length: int, prg: Prg, dtype: type, executor: Executor) -> None:
    count = 100 if length < 10**6 else 3
    plus, minus = SEEDS[:count], SEEDS[count // 3 : count // 2]
    y, expected = np.arange(length, dtype=dtype), np.arange(length, dtype=dtype)
    add_masks_by(executor, y, iter(plus), iter(minus), prg)
    add_masks(expected, plus, minus, prg)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("length", "seeds", "tasks"),
    [
        (1, 1, 1),
        (1, 0, 1),
        (1000, 100, 1),
        (100_000, 100, 2),
        (140_000, 100, 2),
        (3_000_001, 3, 2),
        (3_000_001, 100, 45),
        (3_000_001, 400, 45),
        (3_000_001, 800, 45),
        (400_000, 800, 60),
    ],
)
def test_the_work_is_cut_into_tasks_for_many_workers(length: int, seeds: int, tasks: int) -> None:
    pool = Counting()
    add_masks_by(pool, np.zeros(length, np.uint32), (SEEDS * 8)[:seeds], [], "aes-128-ctr")
    assert pool.tasks == tasks


def test_no_seed_adds_nothing() -> None:
    y = np.arange(10, dtype=np.uint32)
    with ThreadPoolExecutor(1) as pool:
        add_masks_by(pool, y, [], [], "aes-128-ctr")
    np.testing.assert_array_equal(y, np.arange(10))


@pytest.mark.parametrize("adversary", ["semi-honest", "active"])
@pytest.mark.parametrize("graph", ["sparse", "complete"])
def test_a_session_unmasked_by_others_has_the_same_sum(
    adversary: Any, graph: Any, executor: Executor
) -> None:
    n = 20
    roster, identities = throwaway_identities(range(n)) if adversary == "active" else (None, None)
    vectors = {"": Bounded(length=1000, bound=1.0), "hits": Counts(length=3, maximum=9)}
    scheme = Masking.for_cohort(
        n, vectors, adversary=adversary, roster=roster, graph=graph, corrupt=1, dropout=2
    )
    x = {u: {"": np.full(1000, u / n), "hits": np.array([u % 9, 1, 2])} for u in range(n)}
    drop = {"masked-input": {0}, "unmasking": {3}}
    total = run(scheme, x, drop=drop, identities=identities, executor=executor)
    stayed = sorted(set(range(n)) - {0})
    np.testing.assert_array_equal(total.sum["hits"], sum(x[u]["hits"] for u in stayed))
    expected = np.mean([u / n for u in stayed])
    assert np.abs(total.mean[""] - expected).max() <= total.error_bound[""]


def test_results_come_in_the_order_of_the_calls() -> None:
    with ThreadPoolExecutor(4) as pool:
        assert list(in_order(pool, divmod, ((i, 3) for i in range(50)))) == [divmod(i, 3) for i in range(50)]
    assert list(in_order(None, divmod, ((i, 3) for i in range(50)))) == [divmod(i, 3) for i in range(50)]


def test_what_a_task_raises_is_raised() -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(ZeroDivisionError):
        list(in_order(pool, divmod, [(1, 0)]))


def test_what_has_not_begun_when_one_raises_is_called_off() -> None:
    done, raised = [], Event()

    def work(i: int) -> None:
        if i == 0:
            raise ValueError("the first")
        raised.wait()  # the one worker is kept here, if it began this one before it was called off
        done.append(i)

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ValueError, match="the first"):
            next(in_order(pool, work, ((i,) for i in range(1000))))
        raised.set()
    assert done in ([], [1])


def test_few_results_wait_to_be_taken() -> None:
    submitted = []

    class Eager:
        def submit(self, work: Callable[..., int], /, *call: int) -> Future[int]:
            submitted.append(call)
            future: Future[int] = Future()
            future.set_result(work(*call))
            return future

    for taken, result in enumerate(in_order(Eager(), abs, ((i,) for i in range(100)))):
        assert result == taken
        assert len(submitted) - taken <= 32


def test_rays_executor_is_one_of_them() -> None:
    pytest.importorskip("ray", reason="needs the extra `ray`")
    said = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    assert "the mean over 18 clients is within its bound" in said.stdout
