"""Work of the server that an executor of the caller's does side by side: `secagg` starts no thread itself.

Processes are sent it pickled: seeds of masks, and the rebuilt keys of the dropped. They are what the server
itself has learnt by then, and serve this session alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from secagg.bits import Words
from secagg.prg import Prg, add_masks, gcm_is_faster

T = TypeVar("T")

_AHEAD: Final = 32  # tasks handed over and not taken back: their results take memory
_MOST_TASKS: Final = 64  # in which masks are summed: enough for many workers to end together
_TASK_BYTES: Final = 1 << 24  # of keystream at least, a few milliseconds: handing a task over costs less
_LEAST_RANGE: Final = 1 << 16  # coordinates of one task: of fewer, setting the ciphers up would cost too much


class Executor(Protocol):
    """Any `concurrent.futures.Executor`: threads, processes, or somebody else's. The caller owns it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """A future of fn(*args), with `result` and `cancel`; fn is a function of a module, args are bytes,
        strings and numbers, so that both can be sent elsewhere.
        """
        ...


def in_order(
    executor: Executor | None,
    work: Callable[..., T],
    calls: Iterable[tuple[Any, ...]],
    *,
    ahead: int = _AHEAD,
) -> Iterator[T]:
    """work(*call) for each call, in their order; several at once where there is an executor, at most `ahead`
    handed over and not taken back. What has not begun when one raises, or when no more results are taken, is
    called off.
    """
    if executor is None:
        yield from (work(*call) for call in calls)
        return
    left, futures = iter(calls), deque[Any]()
    try:
        while True:
            futures.extend(executor.submit(work, *call) for call in islice(left, ahead - len(futures)))
            if not futures:
                return
            yield futures.popleft().result()
    finally:
        for future in futures:
            future.cancel()


def add_masks_by(
    executor: Executor, y: Words, plus: Iterable[bytes], minus: Iterable[bytes], prg: Prg
) -> None:
    """`add_masks` by tasks, each for a range of coordinates (any range of a stream can be had by itself) and,
    where these are few, a part of the seeds. A result takes the memory of its range until it is added.
    """
    gcm_is_faster()  # tried before the workers keep each other from it
    added, taken = list(plus), list(minus)
    seeds = len(added) + len(taken)
    tasks = max(1, min(_MOST_TASKS, seeds * y.nbytes // _TASK_BYTES))
    ranges = max(1, min(tasks, len(y) // _LEAST_RANGE))
    parts = min(tasks // ranges, max(1, seeds))
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
