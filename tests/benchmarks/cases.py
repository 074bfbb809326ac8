"""A benchmark made small: its rows, measured in this process, and that its table can be shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from benchmarks import harness, noised
from benchmarks.cores import Say
from benchmarks.harness import Row
from fl.cli.output import Output
from fl.config.run import RunConfig
from fl.data import DataError, Dataset


def rows_of(
    benchmark: Any, seed: int = 0, size: str = "quick", say: Say = lambda case, what: None
) -> list[Row]:
    return [row for case in benchmark.cases(size, seed) for row in case.rows(say)]


def few_examples(monkeypatch: pytest.MonkeyPatch, *benchmarks: Any) -> Iterator[None]:
    """For a fixture: these benchmarks train 12 clients, 6 a round, on pixels of noise."""
    rng = np.random.default_rng(0)
    x, y = rng.random((600, 1, 8, 8), dtype=np.float32), np.arange(600) % 10

    def load(name: str, data_dir: object = None) -> Dataset:
        return Dataset(name, x, y, x[:60], y[:60], classes=10)

    monkeypatch.setattr("fl.cohort.layout.load", load)
    for benchmark in benchmarks:
        right = benchmark.configuration

        def smaller(*given: Any, right: Any = right) -> RunConfig:
            settings = {"clients": 12, "sample": 6, "model": "mlp", "examples_per_client": 20}
            few = {"local_steps": 2, "batch_size": 4, "corrupt": 1, "execution": "sequential"}
            return right(*given).with_(**settings | few)

        monkeypatch.setattr(benchmark, "configuration", smaller)
    noised.layout_of.cache_clear()
    yield
    noised.layout_of.cache_clear()


def no_data(monkeypatch: pytest.MonkeyPatch, case: Callable[[], object]) -> None:
    """The case says that its data are absent."""

    def load(name: str, data_dir: object = None) -> Dataset:
        raise DataError(f"no {name} here")

    noised.layout_of.cache_clear()
    monkeypatch.setattr("fl.cohort.layout.load", load)
    with pytest.raises(NotImplementedError, match="no mnist here"):
        case()


def shown(benchmark: Any, rows: list[harness.Row]) -> None:
    """The table has a cell for each column, and a picture, where there is one, can be drawn."""
    benchmark.CONTROL.check(rows)
    table = benchmark.table(rows)
    assert {len(line) for line in table.rows} == {len(table.header)}
    harness.show(table, Output(quiet=True))
    if hasattr(benchmark, "plot"):
        assert benchmark.plot(rows).axes
