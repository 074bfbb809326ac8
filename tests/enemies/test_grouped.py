"""A server that sums groups apart and would read less than the sum of one: it shows its victim another U2 or
another cut, makes the cut itself, or asks for several sums of one group.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import partial
from itertools import combinations, product
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import (
    CKKS,
    Counts,
    LocalProtocolError,
    Masking,
    RemoteProtocolError,
    TooFewClients,
    run,
    throwaway_identities,
)
from secagg.alike import OWN_INPUT, Alike, Class, in_memory
from secagg.graph import shuffled
from secagg.masking import groups
from secagg.masking.messages import MaskedInputRequest
from secagg.record import AroundClient
from secagg.wire import Join, Raw, decode, encode
from tests.enemies.cast import (
    Company,
    Scene,
    company,
    gullible,
    readable,
    sum_of,
    to,
    without,
)
from tests.play import seeded

Ids = frozenset[int]
CORRUPT = 11


def twelve(**more: Any) -> Company:
    """Two groups of six, one of all twelve corrupt: four of a group have to be left, or sign."""
    return company("active", clients=12, corrupt=1, groups=2, public_weights=True, seed=1, **more)


SAFE, UNSAFE = twelve(), twelve(unsafe_groups=True, m_g=3)


# Another U2


def shown_another_U2(who: Company, lost: int, least: int) -> tuple[Scene, int]:
    """The victim is shown `least` of its group: the corrupt one, those whom the server will call lost, and as
    many others as it takes. All others are shown what there is.
    """

    def asks(round: str, u: int, request: bytes) -> bytes:
        if (round, u) != ("masked-input", victim):
            return request
        heard = decode(MaskedInputRequest, request)
        return encode(
            MaskedInputRequest([v for v in heard.shared if v not in hidden], without(heard.dealt, *hidden))
        )

    victim = -1
    scene = Scene(who, asks=asks, seed=5)
    scene.to("share-keys").answer()
    group = next(group for group in scene.inner._cut if CORRUPT in group)
    victim, *others = sorted(group - {CORRUPT})
    hidden = others[least - 2 :]
    scene.close()
    scene.answer()
    scene.lost |= set(others[:lost])
    return scene.play(), victim


def test_at_a_plus_two_a_group_gives_its_victim_away() -> None:
    """The control, as an unsafe group: the victim masked with one who is corrupt, and one who is said to be
    lost; the others sign that.
    """
    assert UNSAFE.scheme.groups.m_g == UNSAFE.scheme.sums.corrupt + 2
    scene, victim = shown_another_U2(UNSAFE, 1, 3)
    spy = scene.spy(CORRUPT)
    assert frozenset({victim}) in spy.learned()
    assert spy.read({victim}) == sum_of([victim])


@pytest.mark.parametrize("lost", [1, 2])
def test_at_m_g_it_does_not(lost: int) -> None:
    scheme = SAFE.scheme
    scene, victim = shown_another_U2(SAFE, lost, scheme.groups.m_g)
    assert victim in scene.said("masked-input")
    group = scene.inner._cut[[CORRUPT in group for group in scene.inner._cut].index(True)]
    assert scene.total is not None
    opened = [part.survivors for part in scene.total.parts]
    # Those who signed were all but the victim and the lost: too few of this group where two are lost.
    assert [group in {g for g in scene.inner._cut if some <= g} for some in opened].count(True) == 2 - lost
    learned = scene.learned(CORRUPT)
    assert all(len(some) >= scheme.groups.m_g - scheme.sums.corrupt for some in learned)
    assert (victim in frozenset[int]().union(*learned)) is False
    assert frozenset(set(range(12)) - group) in learned


def test_nor_is_a_smaller_u2_taken() -> None:
    scene, victim = shown_another_U2(SAFE, 1, 3)
    assert "3 clients of this one's group shared keys, 4 are needed" in str(scene.died[victim])
    assert victim not in scene.said("masked-input")


def subsets(of: Collection[int], least: int, holding: Collection[int] = ()) -> list[Ids]:
    return [
        frozenset(some)
        for size in range(least, len(of) + 1)
        for some in combinations(sorted(of), size)
        if set(holding) <= set(some)
    ]


def read_of_a_group(m_g: int, corrupt: Ids, U2: Ids, U3: Ids, shown: dict[int, Ids]) -> set[Ids]:
    """What is read of one group, all of whose honest members have uploaded. shown: to each, as U2; who was
    shown what is signed, signs it.
    """
    signed = {v for v in U3 if v in corrupt or shown[v] == U2}
    if len(signed) < m_g:
        return set()
    return readable(shown, dict.fromkeys(shown, "sid"), corrupt | (U2 - U3), corrupt | U3)


@pytest.mark.parametrize(("g", "A_g"), [(4, 1), (5, 1), (5, 2)])
def test_whatever_U2_each_is_shown_a_sum_has_m_g_less_a_g_honest_clients(g: int, A_g: int) -> None:
    m_g = max(A_g + 2, (g + A_g) // 2 + 1)
    group, corrupt = frozenset(range(g)), frozenset(range(g - A_g, g))
    seen = 0
    for U2 in subsets(group, m_g):
        for U3 in subsets(U2, m_g):
            for views in product(*(subsets(group, m_g, {v}) for v in sorted(group - corrupt))):
                read = read_of_a_group(m_g, corrupt, U2, U3, dict(enumerate(views)))
                assert all(len(some) >= m_g - A_g for some in read), (U2, U3, views)
                seen += bool(read)
    assert seen


@given(st.data())
def test_so_it_is_of_larger_groups(data: st.DataObject) -> None:
    g = data.draw(st.integers(4, 12))
    A_g = data.draw(st.integers(0, g - 3))
    m_g = max(A_g + 2, (g + A_g) // 2 + 1)
    group, corrupt = frozenset(range(g)), frozenset(range(g - A_g, g))

    def drawn(of: Ids, least: int, holding: Ids = frozenset()) -> Ids:
        size = data.draw(st.integers(least, len(of)))
        order = data.draw(st.permutations(sorted(of - holding)))
        return holding | set(order[: size - len(holding)])

    U2 = drawn(group, m_g)
    U3 = drawn(U2, m_g)
    signing = drawn(U3, m_g)  # else nothing is opened
    shown = {v: U2 if v in signing else drawn(group, m_g, frozenset({v})) for v in group - corrupt}
    read = read_of_a_group(m_g, corrupt, U2, U3, shown)
    assert all(len(some) >= m_g - A_g for some in read)


@pytest.mark.parametrize(("g", "A_g"), [(5, 1), (6, 1), (7, 1), (7, 2), (20, 4)])
def test_with_one_fewer_it_does_not_hold(g: int, A_g: int) -> None:
    """The control: least_of_group gives away nothing."""
    m_g = (g + A_g) // 2
    assert m_g >= A_g + 2
    group, corrupt, lost = frozenset(range(g)), frozenset(range(A_g)), set(range(A_g + 1, m_g))
    shown = dict.fromkeys(group - corrupt, group)
    shown[A_g] = corrupt | {A_g} | lost
    assert len(shown[A_g]) == m_g
    assert frozenset({A_g}) in read_of_a_group(m_g, corrupt, group, group - lost, shown)


# Another cut


def test_a_client_shown_another_U1_is_cut_apart_and_nothing_of_it_opens() -> None:
    lie = to(0, "share-keys", lambda r: type(r)(without(r.keys, 1)), SAFE.scheme)
    scene = Scene(SAFE, asks=lie, seed=5).play()
    assert "with others than the clients that are to hold them" in str(scene.refused[0])
    assert scene.total is not None
    assert 0 not in frozenset[int]().union(*scene.learned(CORRUPT))


def test_a_client_offered_another_cut_is_in_a_session_of_its_own() -> None:
    """Whatever its server lets pass: what it signs is of other parameters."""
    other = msgspec.structs.replace(SAFE.scheme.groups, cohort=tuple(range(12)), seed=bytes(32))
    scheme = msgspec.structs.replace(SAFE.scheme, groups=other)

    def says(round: str, u: int, message: bytes) -> bytes:
        joined = Join(decode(Join, message).version, SAFE.scheme.digest()) if round == "join" else None
        return message if joined is None else encode(joined)

    scene = Scene(SAFE, says=says, schemes={0: scheme}, server_roster=gullible(SAFE.roster), seed=5).play()
    assert scene.total is None
    assert scene.died.keys() == set(range(12))
    assert {"are not signed by that client of this roster" in str(no) for no in scene.died.values()} == {True}
    assert scene.learned(CORRUPT) == set()


# A cut of the server's making


def fitted(seed: bytes, corrupt: list[int], n: int, number: int) -> tuple[int, ...]:
    """A cohort of a long roster in which the corrupt have the ranks that would be in the first group, if
    places followed from the seed alone: between two of them as many others as that takes.
    """
    ranks = sorted(shuffled(range(n), n, seed)[: n // number])[: len(corrupt)]
    chosen: list[int] = []
    for rank, u in zip(ranks, corrupt, strict=True):
        after = chosen[-1] + 1 if chosen else 0
        chosen += [*range(after, after + rank - len(chosen)), u]
    return (*chosen, *range(corrupt[-1] + 1, corrupt[-1] + 1 + n - len(chosen)))


def test_no_cohort_is_chosen_for_a_seed() -> None:
    n, number, corrupt = 60, 3, [100 * j for j in range(1, 9)]
    packed = 0
    for i in range(100):
        seed = seeded(i)(32)
        cohort = fitted(seed, corrupt, n, number)
        assert len(set(cohort)) == n
        assert set(corrupt) <= set(shuffled(cohort, n, seed)[: n // number])  # the control
        cut = groups.cut(cohort, n, number, seed)
        packed += any(set(corrupt) <= group for group in cut)
        # Nor for anything else that follows from the seed: clients of the same ranks stand otherwise.
        ranks = [{cohort.index(u) for u in group} for group in cut]
        assert ranks != [set(group) for group in groups.cut(tuple(range(n)), n, number, seed)]
    assert packed == 0  # of 100 that are drawn one in 66 times


@pytest.mark.parametrize("sigma", [1, 2, 3, 5, 8])
def test_a_cut_that_suits_comes_as_rarely_as_the_bound_says(
    sigma: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In full, for so few bits: every way in which the corrupt can stand; and as often as seeds give it."""
    monkeypatch.setattr(groups, "CUT_SIGMA", sigma)
    n, A, number = 12, 5, 3
    A_g = groups.corrupt_in_group.__wrapped__(n, A, number)
    ways = list(combinations(range(n), A))
    suit = sum(any(sum(j // 4 == i for j in some) > A_g for i in range(number)) for some in ways)
    assert suit <= len(ways) * 2.0**-sigma
    p, tries, found = suit / len(ways), 2000, 0
    for i in range(tries):
        cut = groups.cut(tuple(range(n)), n, number, i.to_bytes(32, "big"))
        found += any(len(group & set(range(A))) > A_g for group in cut)
    assert abs(found - p * tries) <= 5 * math.sqrt(p * (1 - p) * tries)


# Several sums of one group


@pytest.mark.parametrize("rule", [False, True])
def test_of_a_group_of_which_little_more_than_half_is_left_there_is_one_sum_or_three_give_a_client_away(
    rule: bool,
) -> None:
    """Four of six with one corrupt: no client signs more than two of the three, and any two differ by three
    honest clients or more.
    """
    roster, known = throwaway_identities(range(12), seeded(1))
    alike = {u: Alike(lambda task: OWN_INPUT, in_memory(), known[u].key, roster) for u in range(12)}
    spec = Counts(length=2, maximum=1000)
    make = partial(Masking.for_cohort, 12, spec, roster=roster, corrupt=1, groups=2)
    scheme = make(cohort=range(12), cut=bytes(32))
    group = next(group for group in scheme.sums.cut(b"", range(12)) if CORRUPT in group)
    a, b, c, d, u = sorted(group - {CORRUPT})

    def summed(task: bytes, lost: set[int]) -> np.ndarray[Any, Any]:
        total = run(
            scheme,
            {v: [v, v * v] for v in range(12)},
            task=task,
            identities=known,
            alike={v: alike[v] for v in range(12) if rule and v != CORRUPT},
            drop={"masked-input": lost},
        )
        (part,) = [part for part in total.parts if part.survivors <= group]
        assert part.survivors == group - lost
        return part.sum[""]

    first = summed(b"1", {c, d})
    assert (summed(b"1 again", {c, d}) == first).all()
    if rule:
        with pytest.raises(RemoteProtocolError, match="too near"):
            summed(b"2", {a, b})
    else:
        alone = first + summed(b"2", {a, b}) - summed(b"3", {u})
        assert alone.tolist() == [2 * u + CORRUPT, 2 * u**2 + CORRUPT**2]


def test_where_more_is_left_there_are_two() -> None:
    """Of seven with one corrupt 2 x 5 is above 7 + 1 + 1, and of eight 2 x 5 is not above 8 + 1 + 1."""
    roster, known = throwaway_identities(range(30), seeded(1))
    for n, part in ((14, False), (16, True)):
        scheme = Masking.for_cohort(n, Counts(length=1, maximum=1), roster=roster, corrupt=1, groups=2)
        assert scheme.groups.m_g == 5
        like = Alike(lambda task: OWN_INPUT, in_memory(), known[0].key, roster).of(b"", scheme.signed)
        assert like is not None
        assert like.part is part


# Sums of other frames


class Unasked(AroundClient):
    """A client that the server calls lost once it has its vector: others sign the sum that it is in."""

    def receive(self, message: Raw) -> bytes | None:
        return None if b"consistency-check-request" in bytes(message[:40]) else super().receive(message)


@pytest.mark.parametrize("leaving", [False, True])
@pytest.mark.parametrize("apart", ["groups", "a small cohort", "who decrypt alone"])
def test_who_has_uploaded_signs_no_sum_of_another_frame_or_three_give_a_client_away(
    apart: str, leaving: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server alone. Of two sums of all, a third is the sum of the difference but for the victim: no client
    signs more than two, nor two cuts, and all quorums are there. Whoever signs the third, or decrypts it,
    uploads to the first. And those whose own group is not opened sign for it, too.
    """
    if not leaving:  # the control: it is not enough to see to what one signs
        monkeypatch.setattr(Class, "leave", lambda like, cut=(): None)
    n, spec = 15 if apart == "groups" else 13, Counts(length=2, maximum=1000)
    roster, known = throwaway_identities(range(n), seeded(1))
    alike: dict[int | None, Alike] = {}
    make = partial(Masking.for_cohort, vectors=spec, roster=roster, corrupt=1)

    def begin() -> None:
        for u in range(n):
            alike[u] = Alike(lambda task: OWN_INPUT, in_memory(), known[u].key, roster)

    def summed(
        scheme: Any, lost: Collection[int] = (), unasked: Collection[int] = (), ids: Collection[int] = ()
    ) -> Any:
        there, task = ids or range(n), b"%d" % len(lost)
        return run(
            scheme,
            {v: [v, v * v] for v in there},
            task=task,
            identities=known,
            alike={v: alike[v] for v in there},
            drop={"masked-input": lost, "consistency-check": unasked} if lost or unasked else {},
            listen=lambda v, client: Unasked(client) if v in unasked else client,
        ).sum[""]

    if apart == "groups":
        everybody = make(n, threshold=9)
        groups = make(n, threshold=9, groups=3, cohort=range(n), cut=bytes(32))
        (victim, *others), *more = (sorted(group) for group in groups.sums.cut(b"", range(n)))
        too_few = {u for group in more for u in group[: groups.groups.m_g - 1]}
        third = partial(summed, groups, set(range(n)) - {*others, *too_few})
    else:
        everybody, victim, others = make(n), 3, [0, 1, 2]
        third = partial(
            summed, make(3) if apart == "a small cohort" else CKKS.for_cohort(3, spec), ids=others
        )
    less = {victim, *others}
    first = partial(summed, everybody, unasked=less)
    if leaving:
        for one, other in ((third, first), (first, third)):
            begin()
            one()
            with pytest.raises(RemoteProtocolError, match="too near"):
                other()
    else:
        begin()
        alone = first() - summed(everybody, less) - third()
        assert alone.tolist() == [victim, victim**2]


@pytest.mark.parametrize("first", ["all", "groups"])
def test_a_server_that_plans_knows_of_an_upload_that_came_to_nothing(first: str) -> None:
    n, lost = 12, range(6)
    roster, known = throwaway_identities(range(n), seeded(1))
    rules: dict[int | None, Alike] = {
        u: Alike(lambda task: OWN_INPUT, in_memory(), known[u or 0].key, roster) for u in (*range(n), None)
    }
    make = partial(Masking.for_cohort, n, Counts(length=1, maximum=1), roster=roster, corrupt=1)
    sessions = {"all": make(), "groups": make(groups=2, cohort=range(n), cut=bytes(32))}
    summed = partial(run, inputs={v: [1] for v in range(n)}, identities=known, alike=rules)
    with pytest.raises(TooFewClients):
        summed(sessions.pop(first), drop={"masked-input": lost})
    (other,) = sessions.values()
    with pytest.raises(LocalProtocolError, match="would sign none that those who are left can give"):
        summed(other, task=b"2")
