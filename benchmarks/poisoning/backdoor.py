"""A backdoor under every rule: a tenth of the clients stamps a trigger on half of its images, calls them
another class, and sends what these give.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import backdoored
from benchmarks.backdoored import MEAN, plot, table
from benchmarks.harness import UNMEASURED, Case, Control

__all__ = ["ALONE", "CLAIM", "CONTROL", "cases", "plot", "table"]

CLAIM = UNMEASURED
CONTROL = Control("the mean of all under the same attack", lambda row: row["rule"] == MEAN)
ALONE = False
BOOST = 1.0


def cases(size: str, seed: int) -> Sequence[Case]:
    return backdoored.cases(size, seed, BOOST)
