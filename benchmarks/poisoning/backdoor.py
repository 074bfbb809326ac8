"""A backdoor under every rule: a tenth of the clients stamps a trigger on half of its images, calls them
another class, and sends what these give.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import backdoored
from benchmarks.backdoored import MEAN, plot, table
from benchmarks.harness import Case, Control

__all__ = ["ALONE", "CLAIM", "CONTROL", "cases", "plot", "table"]

CLAIM = (
    "Fashion-MNIST, 40 clients of 250 examples each, dealt at random, 22 rounds; 4 clients, half of what the "
    "rules assume, stamp a trigger on half of their images and call these another class. The mean of all "
    "keeps its accuracy, 87 %, and takes 86 % of the images with the trigger for that class. Multi-Krum and "
    "mixing of nearest neighbours leave 1 % and lose nothing; Bulyan leaves 1, the median, the trimmed mean, "
    "that of capped shares and buckets 2 to 3, for at most half a point of accuracy. Krum leaves none, and "
    "costs 9 points, and a robust learning rate (rlr) leaves 12 for 5 points. FLTrust leaves 1, 7 and 28 by "
    "seed, for 2 points. Where all that is too long is made shorter, bounded norms, centred clipping and the "
    "geometric median, 70 to 78 are left; tests by accuracy, which a trigger does not cost, leave 84 and 86; "
    "reputation leaves 16 with one seed, and 82 and 83 with the others."
)
CONTROL = Control("the mean of all under the same attack", lambda row: row["rule"] == MEAN)
ALONE = False
BOOST = 1.0


def cases(size: str, seed: int) -> Sequence[Case]:
    return backdoored.cases(size, seed, BOOST)
