"""Numbers over seeds: which seeds, their mean and spread, what a change makes of each; rates of guesses."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scipy.special import betaincinv

Row = Mapping[str, Any]


def seeds(first: int, count: int) -> range:
    """A benchmark's seeds, from that of its command on: the same in each of its cases, so that they pair."""
    return range(first, first + count)


def spread(values: Sequence[float], form: str = ".3f") -> str:
    """Mean ± sample standard deviation; of one value the value."""
    mean = format(statistics.mean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):{form}}"


def difference(with_it: Mapping[Any, float], without: Mapping[Any, float]) -> tuple[float, float | None]:
    """(mean, standard error) of with minus without, over the seeds that both have; of one pair no error.

    By pairs, what a seed does to both (the split of the data, the first model) cancels out: a difference of
    two means would have it twice. Raises: ValueError where no seed is in both.
    """
    pairs = sorted(with_it.keys() & without.keys())
    if not pairs:
        raise ValueError("no seed was measured with and without")
    differences = [with_it[seed] - without[seed] for seed in pairs]
    mean = statistics.fmean(differences)
    if len(pairs) == 1:
        return mean, None
    return mean, statistics.stdev(differences) / math.sqrt(len(pairs))


def paired(with_it: Mapping[Any, float], without: Mapping[Any, float], form: str = "+.3f") -> str:
    """`difference` with ± and its standard error; of one pair the difference."""
    mean, error = difference(with_it, without)
    return format(mean, form) + ("" if error is None else f" ± {error:{form.lstrip('+')}}")


def times(with_it: Mapping[Any, float], without: Mapping[Any, float]) -> float:
    """The mean, over the seeds that both have, of with over without. Raises: as `difference`."""
    pairs = sorted(with_it.keys() & without.keys())
    if not pairs:
        raise ValueError("no seed was measured with and without")
    return statistics.fmean(with_it[seed] / without[seed] for seed in pairs)


def by_seed(rows: Sequence[Row], value: Callable[[Row], float]) -> dict[int, float]:
    """Seed -> a number of its row. Raises: ValueError where a seed has two rows, which would not pair."""
    values = {row["seed"]: value(row) for row in rows}
    if len(values) != len(rows):
        raise ValueError("a seed was measured twice: name what its rows differ in")
    return values


def interval(right: int, of: int, error: float = 0.05) -> tuple[float, float]:
    """Clopper and Pearson 1934: of the rate, where so many of as many guesses are right."""
    low = float(betaincinv(right, of - right + 1, error / 2)) if right else 0.0
    high = float(betaincinv(right + 1, of - right, 1 - error / 2)) if right < of else 1.0
    return low, high


def guesses(right: int, of: int) -> str:
    """The rate and its interval, in percent."""
    low, high = interval(right, of)
    return f"{right / of:.1%} ({100 * low:.1f} to {100 * high:.1f})"
