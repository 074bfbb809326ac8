"""Rules that go by what clients declare: their examples, their noise, whose examples they share."""

from __future__ import annotations

from collections import Counter

import numpy as np

from fl.robust.coordinates import mixed
from fl.robust.distances import factors, lengths
from fl.robust.points import Bench, Memory, Points, Unfit, Verdict


def mean(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The mean of all, weighted by examples.

    Needs: no part of a round: of disjoint sums it gives what one sum of all would.
    Source: McMahan et al., AISTATS 2017, algorithm 1.
    """
    if len(points.updates) == 1:
        return Verdict(points.updates[0])
    return Verdict(mixed(points.shares, points.updates))


def norm_bound(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The mean, weighted by examples, of updates made as short as the median length where they are longer.

    Published is a constant length, which needs no part of a round where clients can be held to it.

    Needs: the update of each client, and how many examples it says it has.
    Source: Sun et al., arXiv:1911.07963, 2019 (norm thresholding).
    """
    far = lengths(points.updates, bench.origin)
    shares = points.shares * factors(far, float(np.median(far)))
    return Verdict(mixed(shares, points.updates) + (points.shares.sum() - shares.sum()) * bench.origin)


def mmse(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The mean, weighted by examples and by the inverse of the variance that updates have by their noise.

    The variance is the square of the noise that a client declares, and what updates differ by beside noise,
    estimated from all of them. Where all declare the same it is the mean. It believes what is declared, and
    is no defence against who lies.

    Needs: the update of each client, how many examples it says it has, and how much noise.
    Source: inverse-variance weights with random effects (DerSimonian and Laird, 1986).
    Raises: Unfit without declared noise.
    """
    if bench.noise is None:
        raise Unfit("mmse needs the noise of each update declared: give clients noise of their own to add")
    x, shares = points.updates, points.shares
    if len(x) > 1:
        spread = float(np.square(lengths(x, x.mean(axis=0))).sum() / (len(x) - 1) / x.shape[1])
        beside = max(0.0, spread - float(np.square(bench.noise).mean()))
        variance = np.square(bench.noise) + beside
        # Without any noise all count alike; who alone has none does not count infinitely.
        shares = shares / np.maximum(variance, 1e-9 * variance.max() or 1.0)
        shares /= shares.sum() or 1.0
    return Verdict(mixed(shares, x))


def draco(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The mean, weighted by examples, of what more than half of each group with the same examples sent.

    Equal to the bit, update and number of examples. Groups without such a majority, lost clients counted
    against it, are left out.

    Needs: the update of each client, several of which compute the same.
    Source: Chen et al., ICML 2018 (DRACO: repetition code).
    Raises: Unfit without groups, and where none has a majority.
    """
    if not bench.copies:
        raise Unfit("draco needs clients that hold the same examples: deal each part to several of them")
    row = {next(iter(members)): i for i, members in enumerate(points.members) if len(members) == 1}
    taken, agree = [], set[int]()
    for group in bench.copies:
        rows = [row[u] for u in sorted(group & row.keys())]
        sent = {i: points.updates[i].tobytes() + points.weights[i].tobytes() for i in rows}
        said, votes = Counter(sent.values()).most_common(1)[0] if sent else (b"", 0)
        if 2 * votes > len(group):
            same = [i for i in rows if sent[i] == said]
            taken.append(same[0])
            agree.update(same)
    if not taken:
        raise Unfit("draco found no group whose greater half sent the same: hold more copies of each part")
    chosen = Points(tuple(points.members[i] for i in taken), points.updates[taken], points.weights[taken])
    left_out = frozenset(range(len(points.updates))) - agree
    return Verdict(mixed(chosen.shares, chosen.updates), left_out)
