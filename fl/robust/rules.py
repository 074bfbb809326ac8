"""Rules that combine the parts of a round."""

from __future__ import annotations

import numpy as np

from fl.robust.points import Bench, Memory, Points, Verdict


def mean(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The mean of all, weighted by their examples.

    Needs: no part of a round, one sum of all is enough. Of disjoint sums it gives what that would.
    Source: McMahan et al., AISTATS 2017, algorithm 1.
    """
    if len(points.updates) == 1:
        return Verdict(points.updates[0])
    shares = zip(points.shares.tolist(), points.updates, strict=True)
    return Verdict(np.sum([share * update for share, update in shares], axis=0))


def median(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The median of each coordinate; every client counts once.

    Needs: the update of each client.
    Source: Yin et al., ICML 2018, definition 1.
    """
    return Verdict(np.median(points.updates, axis=0))
