"""A backdoor under every rule, where the attackers send four times what their poisoned data give."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import backdoored
from benchmarks.backdoored import MEAN, plot, table
from benchmarks.harness import Case, Control

__all__ = ["ALONE", "CLAIM", "CONTROL", "cases", "plot", "table"]

CLAIM = (
    "The same four clients send four times what they would: the mean still keeps 87 %, and takes 97 % of "
    "the images with the trigger for that class. What is longer is easier told: multi-Krum, nearest "
    "neighbours and now reputation leave 1 % and lose nothing, Bulyan leaves 1, and the median, the trimmed "
    "mean, that of capped shares and buckets 2 to 3, for a third of a point at most. Krum leaves none and "
    "costs 9 points, RLR 3 for 7. FLTrust leaves 1, 2 and 22 by seed, for 2. Made shorter it is still "
    "there: 73 to 80 under the geometric median, the bounded norm and centred clipping; and tests by "
    "accuracy leave 88 and 96."
)
CONTROL = Control("the mean of all under the same attack", lambda row: row["rule"] == MEAN)
ALONE = False
BOOST = 4.0


def cases(size: str, seed: int) -> Sequence[Case]:
    return backdoored.cases(size, seed, BOOST)
