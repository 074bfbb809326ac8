"""Work of the server that an executor of the caller's does side by side: `secagg` starts no thread itself.

Processes are sent it pickled: seeds of masks, and the rebuilt keys of the dropped. The server has learnt them
by then, they serve this session alone, and nobody's vector can be had from them once it is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from secagg.prg import Prg, Words, add_masks

T = TypeVar("T")

_TASKS: Final = 64  # in which masks are summed: enough for many workers to end together
_LEAST_RANGE: Final = 1 << 15  # coordinates of one task: with fewer, setting ciphers up would cost most
_LEAST_SEEDS: Final = 16


class Executor(Protocol):
    """Any `concurrent.futures.Executor`: threads, processes, or somebody else's. The caller owns it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any: ...


def in_order(
    executor: Executor | None, work: Callable[..., T], calls: Iterable[tuple[Any, ...]]
) -> Iterator[T]:
    """work(*call) for each call, in their order; all at once where there is an executor."""
    if executor is None:
        yield from (work(*call) for call in calls)
    else:
        for future in [executor.submit(work, *call) for call in calls]:
            yield future.result()


def add_masks_by(
    executor: Executor, y: Words, plus: Iterable[bytes], minus: Iterable[bytes], prg: Prg
) -> None:
    """`add_masks` by tasks, each for a range of coordinates (any range of a stream can be had by itself) and,
    where these are few, a part of the seeds. Takes the memory of one more y, or of 64 ranges of a short one.
    """
    added, taken = list(plus), list(minus)
    ranges = max(1, min(_TASKS, len(y) // _LEAST_RANGE))
    parts = max(1, min(_TASKS // ranges, (len(added) + len(taken)) // _LEAST_SEEDS))
    width = -(-len(y) // ranges)
    calls = [
        (y.dtype.str, start, min(width, len(y) - start), added[part::parts], taken[part::parts], prg)
        for start in range(0, len(y), width)
        for part in range(parts)
    ]
    for (_, start, count, *_), masks in zip(calls, in_order(executor, _sum_of_masks, calls), strict=True):
        y[start : start + count] += masks


def _sum_of_masks(
    dtype: DTypeLike, start: int, count: int, plus: list[bytes], minus: list[bytes], prg: Prg
) -> Words:
    masks = np.zeros(count, dtype)
    add_masks(masks, plus, minus, prg, start)
    return masks
