"""Every pattern of dropouts of four clients over all rounds, for every scheme: the exact sum of the
survivors, or TooFewClients in the first round that fewer than enough answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest

from secagg import (
    CKKS,
    Counts,
    Masking,
    Plain,
    Scheme,
    TooFewClients,
    Weight,
    run,
    throwaway_identities,
)
from tests.play import Play
from tests.secagg.helpers import keeping, releasing

IDS = (0, 3, 7, 200)
VECTORS = {"counts": Counts(length=2, maximum=2**40), "weight": Weight(maximum=9)}
INPUTS = {u: {"counts": [2**40 - u, u], "weight": 1 + i} for i, u in enumerate(IDS)}
ROSTER, IDENTITIES = throwaway_identities(IDS)
SCHEMES: dict[str, Scheme] = {
    "plain": Plain.for_cohort(4, VECTORS),
    "masking, semi-honest": Masking.for_cohort(4, VECTORS),
    "masking, active": Masking.for_cohort(4, VECTORS, adversary="active", roster=ROSTER),
}
Fates = Mapping[int, str | None]


def every_fate(scheme: Scheme, first: str | None) -> Iterator[Fates]:
    """The round from which on each client is never heard from again; None: it stays."""
    fates = (*scheme.rounds, None)
    return (dict(zip(IDS, (first, *rest), strict=True)) for rest in product(fates, repeat=3))


def alive(scheme: Scheme, fates: Fates, round: str) -> set[int]:
    passed = scheme.rounds[: scheme.rounds.index(round) + 1]
    return {u for u, fate in fates.items() if fate not in passed}


def needed(scheme: Scheme) -> int:
    return scheme.threshold if isinstance(scheme, Masking) else 1


def expected(scheme: Scheme, fates: Fates) -> tuple[int, int, str] | set[int]:
    """(left, needed, round) of the first round with too few, or the survivors."""
    for round in scheme.rounds:
        if (left := len(alive(scheme, fates, round))) < needed(scheme):
            return left, needed(scheme), round
    return alive(scheme, fates, "input" if isinstance(scheme, Plain) else "masked-input")


def played(scheme: Scheme, fates: Fates) -> tuple[int, int, str] | dict[str, Any]:
    drop: dict[str, set[int]] = {}
    for u, round in fates.items():
        if round is not None:
            drop.setdefault(round, set()).add(u)
    try:
        total = run(scheme, INPUTS, drop=drop, identities=IDENTITIES)
    except TooFewClients as few:
        return few.alive, few.needed, few.round
    return {"survivors": total.survivors} | {name: sums.tolist() for name, sums in total.sum.items()}


@pytest.mark.parametrize(
    ("scheme", "first"),
    [
        pytest.param(scheme, first, id=f"{name}, first: {first}")
        for name, scheme in SCHEMES.items()
        for first in (*scheme.rounds, None)
    ],
)
def test_whoever_vanishes_when_the_sum_is_exact_or_there_is_none(scheme: Scheme, first: str | None) -> None:
    for fates in every_fate(scheme, first):
        due = expected(scheme, fates)
        if isinstance(due, set):
            sums = {name: sum(np.atleast_1d(INPUTS[u][name]) for u in due).tolist() for name in VECTORS}
            assert played(scheme, fates) == {"survivors": due, **sums}, fates
        else:
            assert played(scheme, fates) == due, fates


@pytest.mark.parametrize("adversary", ["semi-honest", "active"])
def test_m_min_masked_inputs_are_needed_where_it_is_more_than_t(adversary: Any) -> None:
    roster = ROSTER if adversary == "active" else None
    scheme = Masking.for_cohort(4, VECTORS, adversary=adversary, roster=roster, m_min=4)
    assert played(scheme, dict.fromkeys(IDS[:1], "masked-input")) == (3, 4, "masked-input")
    assert isinstance(played(scheme, dict.fromkeys(IDS[:1], "unmasking")), dict)


# CKKS, which is slower: what sessions have in common is played once

CKKS_SCHEMES = {
    "kept": keeping(IDS, VECTORS),
    "released": releasing(IDS, VECTORS, m_min=2),
    "released, unsigned": releasing(IDS, VECTORS, roster=None),
}


def every_end(play: Play, lost: Mapping[int, str]) -> Iterator[tuple[Fates, Any]]:
    """Whoever vanishes from this round on, and what came of it. lost: who has by now, and when."""
    round = play.answer().server.round
    left = [u for u in IDS if u not in lost]
    for gone in (set(some) for size in range(len(left) + 1) for some in combinations(left, size)):
        fork, fates = play.forked(), {**lost, **dict.fromkeys(gone, round)}
        fork.lost |= gone
        try:
            fork.close()
        except TooFewClients as few:
            yield fates, (few.alive, few.needed, few.round)
            continue
        if fork.server.round == "done":
            total = fork.finish()
            yield fates, {"survivors": total.survivors} | {n: sums.tolist() for n, sums in total.sum.items()}
        else:
            yield from every_end(fork, fates)


def due_of_ckks(scheme: CKKS, fates: Fates) -> tuple[int, int, str] | set[int]:
    for round in scheme.rounds[:-1]:
        if (left := len(alive(scheme, fates, round))) < scheme.m_min:
            return left, scheme.m_min, round
    summed, left = alive(scheme, fates, "input"), alive(scheme, fates, "decrypt")
    if scheme.ending == "release":  # by the first three, and more than half of them say the same
        releasers = set(sorted(summed)[:3])
        needed, left = len(releasers) // 2 + 1, left & releasers
    else:
        needed = 1
    return summed if len(left) >= needed else (len(left), needed, "decrypt")


@pytest.mark.parametrize("scheme", CKKS_SCHEMES.values(), ids=CKKS_SCHEMES)
def test_whoever_vanishes_of_ckks_the_sum_is_exact_or_there_is_none(scheme: CKKS) -> None:
    ended = sums = 0
    for lost, came in every_end(Play(scheme, INPUTS), {}):
        fates = dict.fromkeys(IDS) | lost
        due = due_of_ckks(scheme, fates)
        if isinstance(due, set):
            total = {name: sum(np.atleast_1d(INPUTS[u][name]) for u in due).tolist() for name in VECTORS}
            assert came == {"survivors": due, **total}, fates
        else:
            assert came == due, fates
        ended, sums = ended + 1, sums + isinstance(due, set)
    assert ended > sums > 20
