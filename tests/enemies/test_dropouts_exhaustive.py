"""Every pattern of dropouts of four clients, and two relays, over all rounds, for every scheme: the exact sum
of the survivors, or TooFewClients in the first round that fewer than enough answered. What sessions have in
common is played once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from secagg import CKKS, Counts, Decoys, Masking, Plain, Split, TooFewClients, Weight
from secagg.session import relays_of
from tests.play import Play
from tests.secagg.helpers import MASKING, SCHEMES

IDS = (0, 3, 7, 200)
VECTORS = {"counts": Counts(length=2, maximum=2**40), "weight": Weight(maximum=9)}
NARROW = VECTORS | {"counts": Counts(length=2, maximum=2**26)}  # sums of decoys have at most 30 bits
GROUPED: Any = {"corrupt": 0, "groups": 2, "public_weights": True}  # of two each, who have to be left
PLAYED: dict[str, Any] = {
    **{name: make(IDS, NARROW if name == "decoys" else VECTORS) for name, make in SCHEMES.items()},
    **{f"{name}, m_min of four": make(IDS, VECTORS, m_min=4) for name, make in MASKING.items()},
    **{f"{name}, two groups": make(IDS, VECTORS, **GROUPED) for name, make in MASKING.items()},
    "ckks-release, m_min of two, unsigned": SCHEMES["ckks-release"](IDS, VECTORS, m_min=2, roster=None),
}


def inputs_of(scheme: Any) -> dict[int, Any]:
    largest = scheme.vectors["counts"].maximum
    return {u: {"counts": [largest - u, u], "weight": 1 + i} for i, u in enumerate(IDS)}


Fates = Mapping[int, str | None]
"""The round from which on each client or relay is never heard from again; None: it stays."""


Cut = Collection[frozenset[int]]
"""The groups that are summed apart; none where there is one sum."""


def alive(scheme: Any, fates: Fates, round: str, cut: Cut = ()) -> set[int]:
    """Who of a group has lost a member by the end of share-keys is asked no more: two have to be left."""
    passed = scheme.rounds[: scheme.rounds.index(round) + 1]
    there = {u for u, fate in fates.items() if fate not in passed}
    if not cut or "share-keys" not in passed:
        return there
    shared = alive(scheme, fates, "share-keys")
    return {u for group in cut if len(group & shared) >= 2 for u in group & there}


def opened(scheme: Any, fates: Fates, round: str, cut: Cut) -> set[int]:
    there = alive(scheme, fates, round, cut)
    return {u for group in cut if len(group & there) >= 2 for u in group}


def enough(scheme: Any, fates: Fates, round: str, cut: Cut) -> tuple[int, int]:
    """(left, needed) in this round."""
    left = alive(scheme, fates, round, cut)
    if isinstance(scheme, Plain):
        return len(left), 1
    if isinstance(scheme, Split):
        relays = left & set(relays_of(scheme))
        if round != "shares" and len(relays) < scheme.relays:
            return len(relays), scheme.relays
        return (len(left - relays), scheme.m_min) if round in ("join", "shares") else (1, 1)
    if isinstance(scheme, Masking) and round == "unmasking":
        return len(left), scheme.threshold
    if cut and round in ("masked-input", "consistency-check") and len(left) >= scheme.m_min:
        return max(len(group & left) for group in cut), 2
    if not isinstance(scheme, CKKS | Decoys) or round != "decrypt":
        return len(left), scheme.m_min
    if scheme.ending == "keep":
        return len(left), 1
    # By the first three, and more than half of them say the same.
    releasers = set(sorted(alive(scheme, fates, scheme.upload_round))[:3])
    return len(left & releasers), len(releasers) // 2 + 1


def due(scheme: Any, fates: Fates, cut: Cut) -> tuple[int, int, str] | dict[str, Any]:
    """(left, needed, round) of the first round with too few, or the survivors and their sum."""
    for round in scheme.rounds:
        left, needed = enough(scheme, fates, round, cut)
        if left < needed:
            return left, needed, round
    summed = alive(scheme, fates, scheme.upload_round) & set(IDS)
    if cut:
        last = "consistency-check" if "consistency-check" in scheme.rounds else "masked-input"
        summed = opened(scheme, fates, last, cut)
    return {"survivors": summed} | {
        name: sum(np.atleast_1d(inputs_of(scheme)[u][name]) for u in summed).tolist() for name in VECTORS
    }


def every_end(play: Play, lost: Mapping[int, str]) -> Iterator[tuple[Fates, Any, Cut]]:
    """Whoever vanishes from this round on, what came of it, and how they were cut. lost: who has by now, and
    when.
    """
    round = play.answer().server.round
    left = [u for u in play.clients if u not in lost]
    for gone in (set(some) for size in range(len(left) + 1) for some in combinations(left, size)):
        fork, fates = play.forked(), {**lost, **dict.fromkeys(gone, round)}
        fork.lost |= gone
        try:
            fork.close()
        except TooFewClients as few:
            yield fates, (few.alive, few.needed, few.round), cut_of(fork)
            continue
        if fork.server.round == "done":
            total = fork.finish()
            sums = {n: sums.tolist() for n, sums in total.sum.items()}
            yield fates, {"survivors": total.survivors} | sums, cut_of(fork)
        else:
            yield from every_end(fork, fates)


def cut_of(play: Play) -> Cut:
    scheme = play.scheme
    return scheme.sums.groups(play.server._cut) if isinstance(scheme, Masking) else ()


@pytest.mark.parametrize("scheme", PLAYED.values(), ids=PLAYED)
def test_whoever_vanishes_when_the_sum_is_exact_or_there_is_none(scheme: Any) -> None:
    ended = sums = 0
    for lost, came, cut in every_end(Play(scheme, inputs_of(scheme)), {}):
        fates = dict.fromkeys([*IDS, *relays_of(scheme)]) | lost
        assert came == due(scheme, fates, cut), fates
        ended, sums = ended + 1, sums + isinstance(came, dict)
    assert ended > sums > 0
