"""Every rule on the data of the backdoor's tables, where nobody attacks: what it costs, and how often a
trigger that nobody trained on is taken for the target.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import backdoored
from benchmarks.backdoored import MEAN, plot, table
from benchmarks.harness import Case, Control

__all__ = ["ALONE", "CLAIM", "CONTROL", "cases", "plot", "table"]

CLAIM = (
    "Fashion-MNIST, 40 clients, nobody attacks: a trigger that nobody has taught works on 0.7 % of the "
    "images under the mean and on 0.7 to 1.1 under every rule, so that what stands above that in the tables "
    "of attacks was taught. What a rule costs where it is not needed is mostly nothing: twelve keep the "
    "mean's 87.0 % to within a quarter of a point; Bulyan loses 0.7 points, FLTrust 2.4, RLR 5 and Krum 9. "
    "Leaving out who is unlike the others takes honest clients: a fifth of them under multi-Krum, 30 % by "
    "leaving one out, 40 under Bulyan and FLTrust, and 98 under Krum."
)
CONTROL = Control("the mean of all", lambda row: row["rule"] == MEAN)
ALONE = False
BOOST = 0.0  # nobody attacks


def cases(size: str, seed: int) -> Sequence[Case]:
    return backdoored.cases(size, seed, BOOST)
