"""Rules that take each coordinate by itself. But for one, each client counts once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fl.robust.points import Bench, Memory, Points, Unfit, Verdict, check_enough

Rows = NDArray[np.float64]

BLOCK = 5000
"""Coordinates at once: rows of 100 clients fit a cache. With a power of two they would get in each other's
way there: sorting takes twice as long (measured with 20 to 100 rows)."""

BUCKET = 2  # Karimireddy et al. use no more
LARGEST_SHARE = 2.0  # of an equal one


def blocks(d: int) -> Iterator[slice]:
    """All coordinates, a few at a time."""
    return (slice(start, start + BLOCK) for start in range(0, d, BLOCK))


def mixed(shares: Rows, x: Rows) -> Rows:
    """(d,): the sum of the rows of x (P, d), each times its share (P,)."""
    # Not a product of matrices: how that rounds depends on the number of cores.
    total: Rows = np.einsum("p,pd->d", shares, x)
    return total


def middle(x: Rows, f: int) -> Rows:
    """(d,): of each coordinate of x (P, d) the mean of its values without the f least and the f greatest,
    2f < P. With f = (P - 1) // 2 it is the median.
    """
    means = np.empty(x.shape[1])
    for block in blocks(x.shape[1]):
        means[block] = np.sort(x[:, block], axis=0)[f : len(x) - f].mean(axis=0)
    return means


def median(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The median of each coordinate.

    Needs: the update of each client.
    Source: Yin et al., ICML 2018, definition 1.
    """
    return Verdict(middle(points.updates, (len(points.updates) - 1) // 2))


def trimmed_mean(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The mean of each coordinate without its f least and its f greatest values, f the assumed attackers.

    Needs: the update of each client.
    Source: Yin et al., ICML 2018, definition 2.
    """
    f = bench.attackers(points)
    check_enough("trimmed-mean", points, 2 * f + 1, f)
    return Verdict(middle(points.updates, f))


def weighted_trimmed(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The trimmed mean, weighted by examples, of which nobody counts for more than twice an equal share.

    What is cut at each end of a coordinate has the weight of the f heaviest clients together, so that no f
    attackers outweigh it. On equal weights it is the trimmed mean.

    Needs: the update of each client, and how many examples it says it has.
    Source: this project's; Yin et al., ICML 2018, definition 2, in shares of the weight.
    """
    x, f = points.updates, bench.attackers(points)
    check_enough("weighted-trimmed", points, 2 * f + 1, f)
    shares = capped(points.weights, LARGEST_SHARE / len(x))
    cut = float(np.sort(shares)[len(x) - f :].sum())
    # To the rounding of shares: who holds half can put the last value in the middle.
    if 2 * cut > 1 - 1e-9:
        raise Unfit(
            f"weighted-trimmed cannot withstand {f} of {len(x)} updates that may have {cut:.0%} of all "
            "examples: take more clients a round, or assume fewer attackers"
        )
    return Verdict(weighted_middle(x, shares, cut))


def capped(weights: Rows, most: float) -> Rows:
    """(P,): shares of 1 in proportion to the weights (P,), none of them over `most`, which is at least 1 / P.
    Equal ones where too few have any weight.
    """
    n = len(weights)
    shares = weights / (weights.sum() or 1.0)
    order = np.argsort(-shares, kind="stable")
    for heavy in range(n):
        # The `heavy` first have `most` each, and the others what that leaves, in proportion.
        light = shares[order[heavy:]]
        left = 1 - heavy * most
        if light.sum() > 0 and light[0] * left <= most * light.sum() * (1 + 1e-12):
            shares[order[:heavy]] = most
            shares[order[heavy:]] = light * (left / light.sum())
            return shares
    equal: Rows = np.full(n, 1 / n)
    return equal


def weighted_middle(x: Rows, shares: Rows, cut: float) -> Rows:
    """(d,): of each coordinate of x (P, d) the mean weighted by shares (P,) of what is left of its values,
    sorted, when `cut` < .5 of the weight is taken away at each end, of the last one that it reaches a part.
    """
    means = np.empty(x.shape[1])
    for block in blocks(x.shape[1]):
        order = np.argsort(x[:, block], axis=0, kind="stable")
        upto = np.cumsum(shares[order], axis=0)
        kept = np.minimum(upto, 1 - cut) - np.maximum(upto - shares[order], cut)
        # What rounding leaves of a value that was cut would bring it back, if it is large.
        kept[kept < 1e-12] = 0
        values = np.take_along_axis(x[:, block], order, axis=0)
        means[block] = (kept * values).sum(axis=0) / kept.sum(axis=0)
    return means


def rlr(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The mean, weighted by examples, backwards in coordinates in whose signs clients agree too little.

    That is where those of one sign outnumber the others by less than 2f, f the assumed attackers: published
    is a threshold that is found by trying.

    Needs: the update of each client, and how many examples it says it has.
    Source: Ozdayi et al., AAAI 2021 (robust learning rate).
    """
    x, f = points.updates, bench.attackers(points)
    threshold = 2 * f
    check_enough("rlr", points, threshold, f)  # with fewer all turn back, whatever they agree on
    update, origin = mixed(points.shares, x), bench.origin
    for block in blocks(x.shape[1]):
        agree = np.abs(np.sign(x[:, block] - origin[block]).sum(axis=0)) >= threshold
        update[block] = np.where(agree, update[block], 2 * origin[block] - update[block])
    return Verdict(update)


def bucketing(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The median, of the means of two clients each.

    Who comes together changes from round to round, and follows from the round's number. It is no secret: f
    attackers spoil f of the means at most, however they are dealt.

    Needs: the mean of any two clients' updates.
    Source: Karimireddy et al., ICLR 2022, algorithm 1, with s = 2.
    """
    f = bench.attackers(points)
    check_enough("bucketing", points, 2 * BUCKET * f + 1, f)
    order = np.random.default_rng(bench.round).permutation(len(points.updates))
    means = buckets(points.updates, order, BUCKET)
    return Verdict(middle(means, (len(means) - 1) // 2))


def buckets(x: Rows, order: NDArray[np.int64], s: int) -> Rows:
    """(ceil(P / s), d): the means of s rows of x (P, d) each, in this order; the last is of what is left."""
    means = x[order[::s]]
    for nth in range(1, s):
        more = order[nth::s]
        means[: len(more)] += x[more]
    return means / np.minimum(s, len(x) - s * np.arange(len(means)))[:, None]
