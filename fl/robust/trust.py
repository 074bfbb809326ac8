"""Rules that hold parts against what the server has of its own: data, or what it remembers of who sent them.

Who sees only sums can hold these against its own data too, but leaves out an attacker with all who are in its
sum.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fl.robust.points import Bench, Memory, Points, Unfit, Verdict
from secagg.errors import ClientId

Vector = NDArray[np.float64]

FORGETTING = 0.9
"""Of what is remembered of a client, what still counts in the next round that it takes part in."""
OUTLYING = 2.0
"""Medians of the distances to the median update, beyond which a part speaks against its members."""
NEWCOMER = 0.5
"""The reputation of whom nothing is known, and the least that counts."""


def fltrust(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The mean of what points where the server's own training does, by how much, at its length; every client
    counts once.

    The cosine to the server's update, 0 where it is negative, is a part's weight, and its change is brought
    to the norm of the server's. Where nobody points that way the model stays as it is. O(P d), and the
    server trains as one client more.

    Needs: the update of each client, root data of the server.
    Source: Cao et al., FLTrust, NDSS 2021, equations 1 to 3 and algorithm 2.

    Raises: Unfit without root data.
    """
    if bench.root is None:
        raise Unfit("fltrust compares updates with the server's own: give it root data (--root)")
    still = bench.origin
    own, changes = bench.root() - still, points.updates - still  # (d,), (P, d)
    lengths, length = np.linalg.norm(changes, axis=1), float(np.linalg.norm(own))
    # A change of nothing has no direction: it is as one at a right angle.
    apart = np.where(lengths > 0, lengths, np.inf)
    trust = np.maximum(changes @ own, 0.0) / (apart * (length or np.inf))  # ReLU of the cosine, (P,)
    if not trust.any():
        return Verdict(still, _none_of(trust))
    factors = trust / trust.sum() * length / apart
    return Verdict(still + factors @ changes, _none_of(trust))


def weighting_by_test(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The mean of all, weighted by how much better than chance each alone makes the model on validation data.

    The weight of a part is the accuracy with it alone less that of guessing, and 0 below: the number of
    examples that it declares does not count. Where nobody is better than chance the model stays as it is.
    P evaluations.

    Needs: the update of each client, validation data of the server.
    Source: Ma et al., On Safeguarding Privacy and Security in the Framework of Federated Learning, IEEE
    Network 2020, figure 6; the subtraction of chance is ours.

    Raises: Unfit without validation data.
    """
    score = _score(bench, "test-weighting")
    better = np.array([score(bench.after(update)) for update in points.updates]) - bench.chance
    weights = np.maximum(better, 0.0)
    if not weights.any():
        return Verdict(bench.origin, _none_of(weights))
    return Verdict(weights / weights.sum() @ points.updates, _none_of(weights))


def leave_one_out(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The mean, weighted by their examples, of all without whom the validation accuracy is no higher.

    Each part is judged beside all others, attackers too: where one of these ruins the model all the same, no
    other shows. P + 1 evaluations, O(P d) beside them, and a few times the memory of the updates.

    Needs: the update of each client, validation data of the server.
    Source: Fang et al., USENIX Security 2020, section 5.1 (ERR), with every part of negative influence in
    place of a fixed number.

    Raises: Unfit without validation data.
    """
    score, shares = _score(bench, "leave-one-out"), points.shares
    weighted = shares[:, None] * points.updates
    everyone = score(bench.after(weighted.sum(axis=0)))
    rest = 1.0 - shares
    # Sums of those before and after, not the sum of all less one: beside an update of 1e30 nothing of the
    # others is left in float64.
    before = np.vstack([np.zeros_like(weighted[:1]), np.cumsum(weighted[:-1], axis=0)])
    after = np.vstack([np.cumsum(weighted[:0:-1], axis=0)[::-1], np.zeros_like(weighted[:1])])
    kept = np.array(
        [
            left <= 0 or score(bench.after((one + other) / left)) <= everyone
            for left, one, other in zip(rest, before, after, strict=True)
        ]
    )
    counted = np.where(kept, points.weights, 0.0)
    if not counted.any():
        return Verdict(bench.origin, _none_of(counted))
    return Verdict(counted[kept] / counted.sum() @ points.updates[kept], _none_of(counted))


def reputation(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """The mean, weighted by examples and by what the rounds so far say of who sent each part.

    A round speaks for the members of a part that lies within twice the median distance of all parts to
    their median, and against those of one beyond. A client's reputation is the mean of a beta distribution,
    (good + 1) / (good + bad + 2), where older rounds count less; whoever stands below that of a newcomer, a
    half, has weight 0. Clients that were not asked keep theirs. An attacker that behaves well for some rounds
    has credit for about as many. O(P d).

    Needs: the update of each client, who sent it, in every round.
    Source: Jøsang and Ismail, The Beta Reputation System, Bled eConference 2002, with its forgetting factor;
    the evidence is ours: the distance to the median of each coordinate (Yin et al., ICML 2018).
    """
    distances = np.linalg.norm(points.updates - np.median(points.updates, axis=0), axis=1)  # (P,)
    inside = distances <= OUTLYING * np.median(distances)
    known = _Records.of(memory)
    for members, good in zip(points.members, inside.tolist(), strict=True):
        for u in members:
            known.add(u, good)
    stands = np.array([np.mean([known.reputation(u) for u in members]) for members in points.members])
    weights = np.where(stands >= NEWCOMER, stands * points.weights, 0.0)
    if not weights.any():
        return Verdict(bench.origin, _none_of(weights), known.memory)
    return Verdict(weights / weights.sum() @ points.updates, _none_of(weights), known.memory)


class _Records:
    """Client -> what speaks for it and against it."""

    def __init__(self, records: dict[ClientId, tuple[float, float]]) -> None:
        self._records = records

    @classmethod
    def of(cls, memory: Memory) -> _Records:
        """As `memory` gave it; nothing in the first round."""
        if not memory:
            return cls({})
        clients = memory["clients"].astype(np.int64).tolist()
        evidence = zip(memory["good"].tolist(), memory["bad"].tolist(), strict=True)
        return cls(dict(zip(clients, evidence, strict=True)))

    @property
    def memory(self) -> Memory:
        """Three arrays side by side, (clients ever seen,): float64 holds any id below 2^53."""
        clients = sorted(self._records)
        good, bad = zip(*(self._records[u] for u in clients), strict=True)
        return {"clients": np.array(clients, np.float64), "good": np.array(good), "bad": np.array(bad)}

    def add(self, u: ClientId, good: bool) -> None:
        before, against = self._records.get(u, (0.0, 0.0))
        self._records[u] = FORGETTING * before + good, FORGETTING * against + (not good)

    def reputation(self, u: ClientId) -> float:
        good, bad = self._records[u]
        return (good + 1) / (good + bad + 2)


def _score(bench: Bench, name: str) -> Callable[[Vector], float]:
    if bench.score is None:
        raise Unfit(f"{name} measures models on validation data of the server: give some (--validation)")
    return bench.score


def _none_of(weights: NDArray[np.generic]) -> frozenset[int]:
    """The rows of no weight."""
    return frozenset(np.flatnonzero(weights == 0).tolist())
