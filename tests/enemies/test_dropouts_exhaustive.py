"""Every pattern of dropouts of four clients over all rounds, for every scheme: the exact sum of the
survivors, or TooFewClients in the first round that fewer than enough answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import pytest

from secagg import (
    Counts,
    Masking,
    Plain,
    Scheme,
    TooFewClients,
    Weight,
    run,
    throwaway_identities,
)

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
