"""Rules that go by how far the updates are from one another, or from a centre. Each client counts once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fl.robust.coordinates import blocks, middle, mixed
from fl.robust.points import Bench, Memory, Points, Verdict, check_enough

Rows = NDArray[np.float64]

PRECISE = 1e-6
"""Of the squared distance of two rows to the sum of their squared norms. Where it is larger the distance
comes out of their product to ten digits."""

SMOOTHING = 1e-6  # Pillutla et al.'s
SETTLED = 1e-8
"""Change of a share with which Weiszfeld's steps end: 3 to 43 of them, with 10 and with 50 updates, where a
fifth is up to 1e9 deviations away. What is much less can drown in the rounding of such distances."""
ENOUGH = 200  # steps, in any case
FAR = 1e8
"""Median distances beyond which a row is left out of the start, and distances are taken row by row. A share
of it that is still to go when all is settled moved the point by 1e-5 of a deviation where two of ten were
1e12 away, and by 1e29 where they were 3e38 away."""


def squared_distances(x: Rows) -> Rows:
    """(P, P): between any two rows of x (P, d), by one product of matrices, and what that cannot tell."""
    apart, drowned = _apart(x, x.mean(axis=0))  # whole models are much longer than they are apart
    if drowned.any():
        # Someone is so far off that the differences of others are lost: again, about one of these, which
        # saves time alone,
        apart, drowned = _apart(x, x[np.argmin(np.median(apart, axis=1))])
    for row in np.flatnonzero(drowned.any(axis=1)):
        # and one by one of those that are far off together, as attackers who send the same.
        near = np.flatnonzero(drowned[row])
        apart[row, near] = np.square(lengths(x[near], x[row]))
    return apart


def _apart(x: Rows, about: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """Squared distances (P, P), reckoned about a point (d,), and which of them are not precise."""
    gram = np.zeros((len(x), len(x)))
    for block in blocks(x.shape[1]):
        rows = x[:, block] - about[block]
        gram += rows @ rows.T
    beside = np.add.outer(np.diagonal(gram), np.diagonal(gram))
    apart = beside - gram - gram.T
    drowned = apart < PRECISE * beside
    np.fill_diagonal(apart, 0)
    np.fill_diagonal(drowned, val=False)
    return apart, drowned


def lengths(x: Rows, about: Rows | None = None) -> Rows:
    """(P,): how far each row of x (P, d) is from a point, None for 0."""
    squared = np.zeros(len(x))
    for block in blocks(x.shape[1]):
        rows = x[:, block] if about is None else x[:, block] - about[block]
        squared += np.vecdot(rows, rows)
    return np.sqrt(squared)


def factors(far: Rows, bound: float) -> Rows:
    """(P,) in [0, 1]: what makes each length of `far` at most the bound."""
    return np.minimum(1.0, np.divide(bound, far, out=np.ones_like(far), where=far > 0))


def scores(apart: Rows, neighbours: int) -> Rows:
    """(P,): the sum of the squared distances of each to the nearest `neighbours` of the others (P, P)."""
    total: Rows = np.sort(apart, axis=1)[:, 1 : neighbours + 1].sum(axis=1)  # the first is to itself
    return total


def neighbours_mixed(x: Rows, f: int) -> Rows:
    """(P, d): in the place of each row the mean of the P - f rows nearest to it, itself among them."""
    near = np.argsort(squared_distances(x), axis=1, kind="stable")[:, : len(x) - f]
    share = np.zeros((len(x), len(x)))
    np.put_along_axis(share, near, 1 / (len(x) - f), axis=1)
    means: Rows = share @ x
    return means


def krum(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The one update that is nearest to its P - f - 2 nearest others, f of P the assumed attackers.

    Needs: the update of each client.
    Source: Blanchard et al., NeurIPS 2017, section 4.
    """
    return _krum("krum", 1, points, bench)


def multi_krum(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The mean of the P - f updates that are nearest to their P - f - 2 nearest others.

    Needs: the update of each client.
    Source: Blanchard et al., NeurIPS 2017, section 4 (m = P - f).
    """
    return _krum("multi-krum", len(points.updates) - bench.attackers(points), points, bench)


def _krum(rule: str, m: int, points: Points, bench: Bench) -> Verdict:
    n, f = len(points.updates), bench.attackers(points)
    check_enough(rule, points, 2 * f + 3, f)
    taken = central(points.updates, n - f - 2, m)
    return Verdict(points.updates[taken].mean(axis=0), frozenset(range(n)) - {*taken.tolist()})


def central(x: Rows, neighbours: int, m: int) -> NDArray[np.intp]:
    """(m,): the rows of x (P, d) that are nearest to so many others; of equals the first."""
    return np.argsort(scores(squared_distances(x), neighbours), kind="stable")[:m]


def bulyan(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """Of each coordinate the mean of the values nearest to the median, in updates that Krum takes.

    It takes P - 2f, one after another, and P - 4f of the values.

    Needs: the update of each client.
    Source: El Mhamdi et al., ICML 2018, section 4.
    """
    n, f = len(points.updates), bench.attackers(points)
    check_enough("bulyan", points, 4 * f + 3, f)
    apart = squared_distances(points.updates)
    left, taken = np.arange(n), list[int]()
    while len(taken) < n - 2 * f:
        # Towards the end fewer are left than Krum asks for: it goes by one neighbour then, not by none.
        score = scores(apart[np.ix_(left, left)], max(1, len(left) - f - 2))
        taken.append(int(left[np.argmin(score)]))
        left = left[left != taken[-1]]
    update = nearest_to_median(points.updates[np.sort(taken)], n - 4 * f)
    return Verdict(update, frozenset(left.tolist()))


def nearest_to_median(x: Rows, count: int) -> Rows:
    """(d,): the mean of the `count` values of each coordinate of x (P, d) that are nearest to its median."""
    nearest = np.empty(x.shape[1])
    for block in blocks(x.shape[1]):
        rows = np.sort(x[:, block], axis=0)
        median = (rows[(len(x) - 1) // 2] + rows[len(x) // 2]) / 2
        # They follow one another where values are sorted: which window reaches least far?
        reach = np.maximum(median - rows[: len(x) - count + 1], rows[count - 1 :] - median)
        window = np.argmin(reach, axis=0) + np.arange(count)[:, None]
        nearest[block] = np.take_along_axis(rows, window, axis=0).mean(axis=0)
    return nearest


def nnm(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The trimmed mean, after each update is replaced by the mean of the P - f nearest to it.

    Needs: the update of each client.
    Source: Allouah et al., AISTATS 2023 (nearest-neighbour mixing).
    """
    f = bench.attackers(points)
    check_enough("nnm", points, 2 * f + 1, f)
    return Verdict(middle(neighbours_mixed(points.updates, f), f))


def geometric_median(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The point whose distances to all updates have the least sum.

    Needs: the update of each client.
    Source: Pillutla et al., IEEE TSP 2022 (RFA: smoothed Weiszfeld), to its end, each client once.
    """
    return Verdict(weiszfeld(points.updates))


def weiszfeld(
    x: Rows, *, smoothing: float = SMOOTHING, iterations: int = ENOUGH, start: Rows | None = None
) -> Rows:
    """(d,): the geometric median of the rows of x (P, d), from `start` (d,), or from the mean of those that
    are not far off.

    smoothing: > 0, the least distance that is told from 0. It ends before `iterations` where nothing moves.
    """
    apart = squared_distances(x)
    middling = np.median(apart, axis=1)
    near = apart[np.argmin(middling)] <= FAR**2 * middling.min()
    shares = near / near.sum()
    for step in range(iterations):
        if step == 0 and start is not None:
            far = lengths(x, start)
        elif not near.all():
            far = lengths(x, mixed(shares, x))
        else:
            # The point is always a mix of the rows, so that distances to it follow from those between rows.
            across = apart @ shares
            far = np.sqrt(np.maximum(across - shares @ across / 2, 0))
        before, shares = shares, 1 / np.maximum(far, smoothing)
        shares /= shares.sum()
        if step and np.abs(shares - before).max() < SETTLED:
            break
    return mixed(shares, x)


def centred_clipping(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """What it gave last, moved by the mean of what updates differ from that, each difference clipped.

    Three times, clipped at the median length of the first differences: published is a constant. The first
    round begins at the median of each coordinate.

    Needs: the update of each client.
    Source: Karimireddy et al., ICML 2021 (centred clipping), without the clients' momentum.
    """
    x, origin = points.updates, bench.origin
    # Kept as what it changed: of whole models that of the round before is where this one begins.
    centre = memory["centre"] + origin if memory else middle(x, (len(x) - 1) // 2)
    centre = clipped_about(x, centre, float(np.median(lengths(x, centre))), iterations=3)
    return Verdict(centre, memory={"centre": centre - origin})


def clipped_about(x: Rows, centre: Rows, radius: float, *, iterations: int = 1) -> Rows:
    """(d,): v + mean of (x_i - v) min(1, radius / |x_i - v|), from v = centre (d,), over and over."""
    for _ in range(iterations):
        shares = factors(lengths(x, centre), radius) / len(x)
        centre = (1 - shares.sum()) * centre + mixed(shares, x)
    return centre
