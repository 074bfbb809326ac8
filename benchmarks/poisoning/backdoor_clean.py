"""Every rule on the data of the backdoor's tables, where nobody attacks: what it costs, and how often a
trigger that nobody trained on is taken for the target.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import backdoored
from benchmarks.backdoored import MEAN, plot, table
from benchmarks.harness import UNMEASURED, Case, Control

__all__ = ["ALONE", "CLAIM", "CONTROL", "cases", "plot", "table"]

CLAIM = UNMEASURED
CONTROL = Control("the mean of all", lambda row: row["rule"] == MEAN)
ALONE = False
BOOST = 0.0  # nobody attacks


def cases(size: str, seed: int) -> Sequence[Case]:
    return backdoored.cases(size, seed, BOOST)
