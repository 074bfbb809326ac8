"""What the server makes of what a round tells: rules that combine updates, or sums of them.

A rule sees what its scheme lets the server see (`Points`), beside it what the server has of its own (`Bench`)
and what it kept from the rounds before (`Memory`). Each docstring says what the rule needs to see, and whose
it is. What it says nothing else of counts every part once, whatever number of examples it declares.
"""

from __future__ import annotations

from collections.abc import Mapping

from fl.robust import coordinates, distances, rules, trust
from fl.robust.points import Bench, Memory, Points, Rule, Unfit, Verdict

__all__ = ["RULES", "Bench", "Memory", "Points", "Rule", "Unfit", "Verdict"]

RULES: Mapping[str, Rule] = {
    "mean": rules.mean,
    "median": coordinates.median,
    "trimmed-mean": coordinates.trimmed_mean,
    "weighted-trimmed": coordinates.weighted_trimmed,
    "krum": distances.krum,
    "multi-krum": distances.multi_krum,
    "bulyan": distances.bulyan,
    "nnm": distances.nnm,
    "bucketing": coordinates.bucketing,
    "geometric-median": distances.geometric_median,
    "centred-clipping": distances.centred_clipping,
    "norm-bound": rules.norm_bound,
    "rlr": coordinates.rlr,
    "draco": rules.draco,
    "mmse": rules.mmse,
    "fltrust": trust.fltrust,
    "test-weighting": trust.weighting_by_test,
    "leave-one-out": trust.leave_one_out,
    "reputation": trust.reputation,
}
