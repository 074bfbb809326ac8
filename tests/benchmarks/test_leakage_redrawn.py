"""Groups that are drawn anew: how often two rounds are too near, and how few tell all that is constant."""

from __future__ import annotations

from collections import defaultdict
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import harness
from benchmarks.harness import NoControlError, Row
from benchmarks.leakage import redrawn
from benchmarks.leakage.redrawn import REDRAWN, STAYS, Setup, too_near
from secagg import LocalProtocolError, RemoteProtocolError
from secagg.alike import OWN_INPUT, Alike, in_memory
from secagg.crypto import SigningKey
from secagg.masking.groups import Groups
from tests.benchmarks.cases import shown

FULL = harness.read("leakage", "redrawn")["rows"]


def by_setup(rows: list[Row]) -> dict[tuple[Any, ...], list[Row]]:
    by = defaultdict(list)
    for row in rows:
        by[row["groups_are"], row["clients"], row["groups"], row["lost"]].append(row)
    return by


def signs_both(a: frozenset[int], b: frozenset[int], A_g: int) -> bool:
    like = Alike(lambda task: OWN_INPUT, in_memory(), SigningKey(bytes(32))).of(b"")
    assert like is not None
    like.sign(a, A_g, ())
    try:
        like.sign(b, A_g, ())
    except RemoteProtocolError:
        return False
    return True


@given(st.integers(0, 2**32), st.sampled_from([(12, 3, 0.0), (12, 3, 0.25), (20, 8, 0.1), (40, 10, 0.0)]))
def test_two_rounds_are_too_near_where_some_client_does_not_sign_both(
    seed: int, at: tuple[int, int, float]
) -> None:
    setup = Setup(*at, REDRAWN)
    rounds = setup.rounds(np.random.default_rng(seed))
    first, second = next(rounds), next(rounds)
    refused = any(a & b and not signs_both(a, b, setup.A_g) for a, b in product(first, second))
    assert too_near(first, second, setup.A_g) is refused
    assert all(len(some) >= setup.m_g for some in (*first, *second))


@pytest.mark.parametrize(("lost", "groups_are"), [*product((0.0, 0.1), (REDRAWN, STAYS))])
def test_a_round_is_of_all_that_are_left_in_groups_of_which_enough_are(lost: float, groups_are: str) -> None:
    rounds = Setup(40, 5, lost, groups_are).rounds(np.random.default_rng(1))
    first, second = next(rounds), next(rounds)
    assert len(frozenset[int]().union(*first)) <= 40 * (1 - lost)
    assert (first == second) is (groups_are == STAYS and not lost)


def test_groups_are_safe_where_a_run_takes_them() -> None:
    told = {(row["clients"], row["groups"]): row["safe"] for row in FULL}
    for (clients, number), safe in told.items():
        m_g, refused = Setup(clients, number, 0.0, STAYS).m_g, False
        try:
            Groups(number=number, m_g=m_g).check(clients, clients // 10, "active")
        except LocalProtocolError:
            refused = True
        assert safe is not refused


def test_a_small_one_is_shown_beside_groups_that_stay() -> None:
    rows = [row for row in redrawn.run_case(20, 5, 0.1, 0, 5) if not isinstance(row, str)]
    assert {row["groups_are"] for row in rows} == {REDRAWN, STAYS}
    shown(redrawn, rows)
    with pytest.raises(NoControlError):
        redrawn.CONTROL.check([row for row in rows if row["groups_are"] == REDRAWN])


def test_what_follows_of_all_takes_as_many_independent_sums_as_there_are_clients() -> None:
    """A round of which nobody is lost has G - 1 that the first has not: all of its sums are one of all."""
    for row in FULL:
        if not row["lost"] and row["rounds"] is not None:
            assert row["rounds"] * (row["groups"] - 1) >= row["clients"] - 1


def test_the_committed_rows_show_what_is_claimed() -> None:
    by = by_setup(FULL)

    def near(groups_are: str, clients: int, groups: int, lost: float = 0.0) -> float:
        return redrawn.percent(by[groups_are, clients, groups, lost])

    assert {sum(row["pairs"] for row in some) for some in by.values()} == {2000}
    assert [near(REDRAWN, 40, groups) for groups in (4, 5)] == [0, 0.25]
    assert [round(near(REDRAWN, 40, groups)) for groups in (8, 10, 20)] == [45, 99, 100]
    after = [{row["rounds"] for row in by[REDRAWN, 40, groups, 0.0]} for groups in (4, 5, 8, 10, 20)]
    assert after == [{13}, {10}, {6}, {5}, {3}]
    late = [
        row["rounds"] - (row["clients"] - 1) / (row["groups"] - 1)
        for row in FULL
        if row["groups_are"] == REDRAWN and not row["lost"]
    ]
    assert max(late) < 2
    stay = [row for row in FULL if row["groups_are"] == STAYS]
    assert {(row["near"], row["rounds"]) for row in stay if not row["lost"]} == {(0, None)}
    lost = {at: some for at, some in by.items() if at[0] == STAYS and at[3]}
    told = {at[1:3]: [row["rounds"] for row in some] for at, some in lost.items()}
    known = [each for some in told.values() for each in some if each is not None]
    assert (min(known), max(known)) == (19, 61)
    whole = {at for at, some in told.items() if None in some}
    assert whole == {(20, 5), (20, 8), (20, 10), (40, 20), (100, 8)}
    for clients, groups in whole:
        assert Setup(clients, groups, 0.1, STAYS).m_g >= clients // groups
    assert sum(near(*at[:3], lost=at[3]) > 50 for at in lost) == 11
