"""What a mechanism tells at least, found by playing it: a lower bound of its epsilon, at a stated confidence.

An accountant's claim is an upper bound of what is proven. Where a bound from here is above it, the claim is
false, but for the few times that the confidence leaves; where it is below, nothing is proven by that. So an
audit is worth what it catches: noise of half the size, noise that follows the data.

Two ways: `audit` plays the mechanism many times on two inputs that differ in one canary; `audit_at_once`
looks at a single run with many canaries, each of which is in or out by a coin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtri

from fl.config.section import ConfigError

Scores = NDArray[np.float64]
Counts = NDArray[np.integer[Any]] | np.integer[Any] | int

Play = Callable[[bool, int], Scores]
"""(whether the canary is in, how many runs) -> (runs,), a score of each, from nothing but what the adversary
sees of it: the larger, the more it speaks for the canary. Runs are independent of one another.
"""

CANDIDATES: Final = 2000
"""Thresholds that are tried: more than that many scores are not told apart where one is chosen."""


@dataclass(frozen=True)
class LowerBound:
    """No mechanism whose epsilon at `delta` is smaller than this one would have been played so, but with a
    probability of 1 - confidence at most. plays: runs of the mechanism, or canaries in its single run.
    """

    epsilon: float
    delta: float
    confidence: float
    plays: int


def audit(play: Play, *, runs: int, delta: float, confidence: float = 0.99) -> LowerBound:
    """By the hypothesis test of Kairouz, Oh and Viswanath (1311.0776, theorem 2.1), which no test of an
    (epsilon, delta)-private mechanism beats: with FPR how often the canary is seen where it is not, and FNR
    how often it is missed,

        1 - delta - FNR <= e^epsilon FPR    and    1 - delta - FPR <= e^epsilon FNR.

    Both rates are taken at their upper bounds of Clopper and Pearson, each at half of what the confidence
    leaves (as Jagielski, Ullman, Oprea, 2006.07709). The test is whether a score reaches a threshold. The
    first quarter of the runs chooses it; the bound is of the others, which had no say in it.

    runs: with the canary, and as many without; 4 or more. Some thousands for a delta of 0.01 or more; at 1e-5
    the scores that tell most are rare, and it takes hundreds of thousands.

    Raises: ConfigError.
    """
    _check(delta, confidence)
    ConfigError.unless(runs >= 4, f"runs = {runs}: give 4 or more, a quarter of which choose the threshold")
    absent, present = play(False, runs), play(True, runs)
    first = runs // 4
    threshold = _threshold(absent[:first], present[:first], delta, confidence)
    found = _by_rates(
        np.count_nonzero(absent[first:] >= threshold),
        np.count_nonzero(present[first:] < threshold),
        runs - first,
        delta,
        confidence,
    )
    return LowerBound(float(found), delta, confidence, 2 * runs)


def _threshold(absent: Scores, present: Scores, delta: float, confidence: float) -> float:
    """The one that would give these runs the largest bound."""
    scores = np.unique(np.concatenate([absent, present]))
    candidates = scores[:: -(-len(scores) // CANDIDATES)]
    runs = len(absent)
    false = runs - np.searchsorted(np.sort(absent), candidates)
    missed = np.searchsorted(np.sort(present), candidates)
    return float(candidates[np.argmax(_by_rates(false, missed, runs, delta, confidence))])


def _by_rates(false: Counts, missed: Counts, runs: int, delta: float, confidence: float) -> Scores:
    """The bound where so many of as many runs were taken for the other kind."""
    FPR, FNR = (_at_most(wrong, runs, (1 - confidence) / 2) for wrong in (false, missed))
    one, other = (1 - delta - FNR) / FPR, (1 - delta - FPR) / FNR
    return np.log(np.maximum(1.0, np.maximum(one, other)))


def _at_most(wrong: Counts, runs: int, error: float) -> Scores:
    """Clopper and Pearson 1934: the rate at which so few of the runs are wrong with this probability."""
    count = np.asarray(wrong, np.float64)
    # bdtri solves P(Binomial(runs, rate) <= count) = error for the rate.
    return np.where(count < runs, bdtri(np.minimum(count, runs - 1), runs, error), 1.0)


def audit_at_once(
    included: NDArray[np.bool_], scores: Scores, *, guesses: int, delta: float, confidence: float = 0.99
) -> LowerBound:
    """From a single run with m canaries (Steinke, Nasr, Jagielski, 2305.08846, theorem 5.2).

    included: (m,), how a fair coin of its own fell for each: whether the canary was in. scores: (m,), the
    larger, the more what came out speaks for that canary. guesses: r, even, at most m, chosen before anything
    was seen: the r/2 highest scores are guessed to be in, the r/2 lowest to be out.

    If v are right, and W is the number of heads of r coins, each of which is heads with probability
    e^epsilon / (e^epsilon + 1), then under an (epsilon, delta)-private mechanism so many or more are right
    with a probability of at most P(W >= v) + 2 m delta max_i P(v > W >= v - i) / i, i = 1..v. The bound is
    the largest epsilon at which this is less than what the confidence leaves.

    Raises: ConfigError.
    """
    _check(delta, confidence)
    m = len(scores)
    fit = guesses % 2 == 0 and 2 <= guesses <= m
    ConfigError.unless(fit, f"guesses = {guesses}: give an even number from 2 to {m}, the canaries")
    by_score = included[np.argsort(scores, kind="stable")]
    lowest, highest = by_score[: guesses // 2], by_score[m - guesses // 2 :]
    right = int(np.count_nonzero(highest) + np.count_nonzero(~lowest))
    low, high = 0.0, 64.0
    if chance(m, guesses, right, low, delta) >= 1 - confidence:
        return LowerBound(0.0, delta, confidence, m)
    while high - low > 1e-6:
        middle = (low + high) / 2
        if chance(m, guesses, right, middle, delta) < 1 - confidence:
            low = middle
        else:
            high = middle
    return LowerBound(low, delta, confidence, m)


def chance(m: int, r: int, v: int, epsilon: float, delta: float) -> float:
    """The theorem's bound of the probability that v or more of r guesses of m canaries are right."""
    of_heads = 1 / (1 + math.exp(-epsilon))
    below = np.concatenate([[0.0], bdtr(np.arange(r), r, of_heads)])  # P(W < k), k = 0..r
    together = (below[v] - below[v::-1][1:]) / np.arange(1, v + 1)
    return float(min(1.0, 1 - below[v] + 2 * m * delta * max(together, default=0.0)))


def _check(delta: float, confidence: float) -> None:
    ConfigError.unless(0 <= delta < 1, f"delta = {delta}: give a number from 0 on, below 1")
    ConfigError.unless(
        0.5 <= confidence < 1, f"confidence = {confidence}: give a number from 0.5 on, below 1"
    )
