"""Whom a server that keeps to the rule for sums of like vectors leaves out: secagg/planning.py."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from itertools import chain, combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import Counts, Masking, RemoteProtocolError, TooFewClients, run, throwaway_identities
from secagg.alike import OWN_INPUT, Alike, Class, in_memory, may_be_signed
from secagg.bits import pack
from secagg.crypto import SigningKey
from secagg.masking.uploads import Uploads
from secagg.planning import Plan, in_whole, largest

Members = frozenset[int]
SPEC = Counts(length=2, maximum=1000)
ROSTER, IDENTITIES = throwaway_identities(range(12))
SERVER = SigningKey(bytes(range(32)))


def masking(n: int, adversary: str, **more: Any) -> Masking:
    roster = ROSTER if adversary == "active" else None
    if "groups" in more:
        more |= {"cohort": range(n), "cut": bytes(32)}
    return Masking.for_cohort(n, SPEC, adversary=adversary, roster=roster, corrupt=1, **more)


SCHEMES = [
    masking(6, "semi-honest"),
    masking(7, "active", threshold=5, dropout=2),
    masking(10, "semi-honest", groups=2),
    masking(12, "semi-honest", groups=3, unsafe_groups=True, m_g=2),
    masking(10, "active", groups=2),
    masking(12, "active", groups=2),  # of four of six there is one sum
]


def subsets(of: Collection[int], least: int) -> list[Members]:
    """The largest first."""
    sizes = range(len(of), least - 1, -1)
    return list(map(frozenset, chain.from_iterable(combinations(sorted(of), size) for size in sizes)))


# One sum


@given(
    st.integers(3, 7),
    st.lists(st.frozensets(st.integers(0, 8), min_size=1), max_size=2, unique=True),
    st.integers(1, 4),
    st.integers(1, 2),
    st.data(),
)
def test_no_larger_set_may_be_signed(
    n: int, signed: list[Members], difference: int, most: int, data: st.DataObject
) -> None:
    """Of all there are."""
    arrived = data.draw(st.permutations(range(n)))

    def may_be(some: Members) -> bool:
        return may_be_signed(signed, some, difference, most=most)

    chosen = largest(arrived, signed, difference, lambda a, b: len(a ^ b), most=most)
    assert not chosen or may_be(chosen)
    assert len(chosen) == next((len(some) for some in subsets(arrived, 1) if may_be(some)), 0)


@given(st.frozensets(st.integers(0, 9)), st.sampled_from([1, 2, 3, 5]))
def test_in_whole_batches_is_who_is_in_none_that_lacks_somebody(there: Members, size: int) -> None:
    batches = [frozenset(range(start, start + size)) for start in range(0, 10, size)]
    assert in_whole(batches, there) == frozenset().union(*(batch for batch in batches if batch <= there))
    assert in_whole((), there) == there


def test_where_the_rule_leaves_too_few_the_largest_part_of_them_says_so() -> None:
    """None that is left can be opened; each part that is too small anyway counts for nothing."""
    like = Alike(lambda task: OWN_INPUT, in_memory(), SERVER).of(b"")
    assert like is not None
    parts = [frozenset(range(4)), frozenset(range(4, 9)), frozenset(range(9, 15))]
    earlier = [[], [frozenset(map(like.name, parts[1]))], [frozenset(map(like.name, parts[2]))]]
    plan = Plan(like, parts, earlier, 4, 1)
    with pytest.raises(TooFewClients) as caught:
        plan.summed([0, 1, 2, *range(4, 8), *range(9, 14)], 4, "masked-input")
    assert (caught.value.alive, caught.value.needed, caught.value.too_near) == (3, 4, 2)
    assert plan.summed([0, 1, 2], 3, "masked-input") == {0, 1, 2}
    # Or, where one can be opened, all that are left together.
    with pytest.raises(TooFewClients) as caught:
        plan.summed(range(8), 8, "masked-input")
    assert (caught.value.alive, caught.value.needed, caught.value.too_near) == (7, 8, 1)
    assert plan.summed(range(8), 7, "masked-input") == set(range(7))


# Many, of groups, over a history


class Parties:
    """The rule of every client and of the server, over sessions of one scheme, without the sessions."""

    def __init__(self, scheme: Masking) -> None:
        self.scheme, self.sums = scheme, scheme.sums
        self.cut = self.sums.cut(bytes(32), range(scheme.clients))
        keys = {u: IDENTITIES[u].key for u in range(scheme.clients)}
        self.rules = {
            u: Alike(lambda task: OWN_INPUT, in_memory(), key, ROSTER)
            for u, key in ({None: SERVER} | keys).items()
        }

    def like(self, u: int | None) -> Class:
        like = self.rules[u].of(b"", self.scheme.signed)
        assert like is not None
        return like

    def may_be_opened(self, some: Members) -> bool:
        """Whether the server, which has signed all that anybody has, would sign this; it does not."""

        def unkept(decide: Any) -> None:
            self.rules[None].record(lambda entries: [decide(entries), None][1])

        like = Alike(lambda task: OWN_INPUT, unkept, SERVER, ROSTER).of(b"", self.scheme.signed)
        try:
            self.sums.sign_alike(like, some, (), self.cut)
        except RemoteProtocolError:
            return False
        return True

    def sign(self, u: int | None, U3: Members) -> None:
        """As the client does, of its own part where others sign, too; of all parts where nobody does."""
        for part in self.sums.opened(self.cut, U3):
            if u is None or u in part or self.scheme.adversary == "semi-honest":
                self.sums.sign_alike(self.like(u), part & U3, (), self.cut)


def added(plan: Plan, order: Sequence[int], U3: Members) -> None:
    """The uploads that were kept apart sum to just these, of each part that is opened."""
    for part, earlier in zip(plan.parts, plan.earlier_among(order), strict=True):
        uploads = Uploads(lambda: {"": np.zeros(1, np.uint64)}, {"": 12}, (), earlier, plan.spare)
        for u in order:
            if u in part:
                uploads.add(u, {"": pack(np.array([2**u], np.uint64), 12)})
        if len(part & U3) >= plan.least:
            assert uploads.close(part & U3)[""].tolist() == [sum(2**u for u in part & U3)]


@settings(max_examples=60)
@given(st.sampled_from(SCHEMES), st.data())
def test_clients_sign_what_a_server_plans_and_it_leaves_out_as_few_as_can_be(
    scheme: Masking, data: st.DataObject
) -> None:
    parties, n = Parties(scheme), scheme.clients
    for _ in range(data.draw(st.integers(1, 5), label="sessions")):
        order = data.draw(st.permutations(range(n)), label="order")
        lost = data.draw(st.one_of(st.just(frozenset()), st.frozensets(st.integers(0, n - 1), max_size=4)))
        there = [u for u in order if u not in lost]
        plan = parties.sums.plan(parties.like(None), (), parties.cut)
        came = [part & set(there) for part in parties.cut]
        best = [
            next((len(some) for some in subsets(part, plan.least) if parties.may_be_opened(some)), 0)
            for part in came
        ]
        most = sum(max(size, min(len(part), plan.least - 1)) for size, part in zip(best, came, strict=True))
        try:
            U3 = plan.summed(there, scheme.m_min, "masked-input")
        except TooFewClients:
            assert not any(best) or most < scheme.m_min
            continue
        if len(there) < scheme.m_min or max(map(len, came)) < plan.least:
            assert set(there) == U3  # too few by themselves
            continue
        if U3 is None:
            assert not any(best)
            continue
        assert len(U3) == most >= scheme.m_min
        added(plan, there, U3)
        parties.sign(None, U3)
        for u in data.draw(st.sets(st.sampled_from(sorted(U3))), label="signing"):
            parties.sign(u, U3)


@pytest.mark.parametrize("adversary", ["active", "semi-honest"])
def test_who_is_of_a_group_that_may_not_be_opened_still_helps_to_open_another(adversary: str) -> None:
    """All of it but m_g - 1 are left out: without them too few of the cohort would be left."""
    scheme = masking(12, adversary, groups=2, threshold=7)
    closed, opened = scheme.sums.cut(b"", range(12))
    a, b, c, d, *_ = closed
    records: dict[int | None, Any] = {u: in_memory() for u in (*range(12), None)}
    servers: list[Any] = []

    def summed(task: bytes, lost: set[int]) -> Any:
        rule = partial(Alike, lambda task: OWN_INPUT)
        keys = {None: SERVER} | {u: IDENTITIES[u].key for u in range(12)}
        return run(
            scheme,
            {u: [u, u * u] for u in range(12)},
            task=task,
            drop={"masked-input": lost},
            identities=IDENTITIES,
            alike={u: rule(records[u], key, ROSTER) for u, key in keys.items()},
            instrument=lambda session: servers.append(session) or session,
        )

    assert summed(b"1", set()).survivors == closed | opened
    summed(b"2", {a, b, c})
    total = summed(b"3", {a, d})
    assert total.survivors == opened
    assert total.sum[""].tolist() == [sum(opened), sum(u * u for u in opened)]
    U3 = servers[-1]._U3
    assert opened <= U3
    assert len(U3 & closed) == scheme.groups.m_g - 1
