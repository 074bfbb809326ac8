"""A benchmark's rows, measured in this process, where a test has made it small."""

from __future__ import annotations

from typing import Any

from benchmarks.cores import Say
from benchmarks.harness import Row


def rows_of(
    benchmark: Any, seed: int = 0, size: str = "quick", say: Say = lambda case, what: None
) -> list[Row]:
    return [row for case in benchmark.cases(size, seed) for row in case.rows(say)]
