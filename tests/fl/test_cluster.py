"""Ray's workers: what a task gives, raises and survives. Where Ray is installed: `make test-slow` runs it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl.config.run import RunConfig
from fl.config.secret import RunSecrets

pytestmark = [
    pytest.mark.slow,
    # Of Ray's own processes and files, which it leaves to the end of this one.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of two workers; those who ask for one meanwhile are given it."""
    module = pytest.importorskip("ray", reason="needs the extra `ray`")
    from fl.cluster import connected

    ended_by = signal.getsignal(signal.SIGTERM)
    connected(2)
    assert signal.getsignal(signal.SIGTERM) is ended_by
    module.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find this file
    yield module
    module.shutdown()


def dying(folder: Path, times: int, then: Callable[..., Any], *args: Any) -> Any:
    """then(*args), after so many workers that were asked it have been killed."""
    for attempt in range(times):
        try:
            (folder / f"{attempt}").touch(exist_ok=False)
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)
    return then(*args)


def lacking(name: str) -> None:
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_tasks_give_and_raise_what_the_function_does(ray: Any) -> None:
    from fl.cluster import ClusterError, connected

    with connected(2) as executor:
        assert executor.workers == 2
        assert list(executor.map(pow, [2, 3], [4, 5])) == [16, 243]
        x = np.arange(5)
        np.testing.assert_array_equal(executor.submit(np.multiply, executor.put(x), 2).result(), 2 * x)
        error = executor.submit(divmod, 1, 0).exception()
        assert type(error) is ZeroDivisionError
        with pytest.raises(ModuleNotFoundError, match="nowhere"):
            executor.submit(lacking, "nowhere").result()
        with pytest.raises(ClusterError, match=r"no fl\.x: install this secagg\[fl\] on all its"):
            executor.submit(lacking, "fl.x").result()


def test_a_task_whose_worker_is_killed_is_done_again_and_not_without_end(ray: Any, tmp_path: Path) -> None:
    from fl.cluster import RETRIES, ClusterError, connected

    once, always = tmp_path / "once", tmp_path / "always"
    once.mkdir()
    always.mkdir()
    with connected(2) as executor:
        assert executor.submit(dying, once, 1, divmod, 7, 2).result() == (3, 1)
        with pytest.raises(ClusterError, match="could not do a task, tried 4 times: ") as caught:
            executor.submit(dying, always, 9, divmod, 7, 2).result()
    assert "\n" not in str(caught.value)
    assert len(list(always.iterdir())) == RETRIES + 1


@pytest.mark.parametrize(
    "changes",
    [
        {"local_steps": 3},
        {"scheme": "split", "algorithm": "fedsgd", "alike": "never"},
        {"scheme": "plain", "attack": "flip", "attackers": 0.2, "robust": "median"},
    ],
    ids=str,
)
def test_a_run_is_to_the_bit_that_of_one_process(ray: Any, changes: dict[str, Any]) -> None:
    from fl.cohort.layout import lay_out
    from fl.federation.simulation import simulated

    def ran(execution: str) -> list[Any]:
        config = RunConfig.of(clients=10, sample=6, rounds=2, execution=execution, **changes)
        return list(simulated(config, lay_out(config), secrets=RunSecrets.of_seed(1)).rounds())

    for here, there in zip(ran("sequential"), ran("ray"), strict=True):
        np.testing.assert_array_equal(here.parameters, there.parameters, strict=True)
        assert here.survivors == there.survivors
        assert here.record.accuracy == there.record.accuracy
        assert here.record.train_accuracy == pytest.approx(there.record.train_accuracy, abs=0.01)


def test_noise_in_the_steps_reaches_the_workers(ray: Any) -> None:
    """It is fresh, so that no two runs are alike."""
    from fl.cohort.layout import lay_out
    from fl.federation.simulation import simulated

    noise = {"privacy": "example", "clip": 1.0, "noise_multiplier": 1.0}
    config = RunConfig.of(clients=4, rounds=1, execution="ray", local_steps=2, model="mlp", **noise)
    runs = [simulated(config, lay_out(config), secrets=RunSecrets.of_seed(1)) for _ in range(2)]
    one, other = (next(run.rounds()).parameters for run in runs)
    assert (one != other).any()
