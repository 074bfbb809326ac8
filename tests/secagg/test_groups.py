"""A cohort cut into groups, each summed apart: the sums, who is in them, and what a client sees to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import (
    Counts,
    LocalProtocolError,
    Masking,
    Policy,
    Private,
    RemoteProtocolError,
    TooFewClients,
    Weight,
    accept,
    run,
)
from secagg.alike import OWN_INPUT, Alike, in_memory
from secagg.crypto import SigningKey
from secagg.graph import ln_above
from secagg.masking.groups import (
    CUT_SIGMA,
    Groups,
    corrupt_in_group,
    cut,
    largest_group,
    least_of_group,
    most_groups,
)
from secagg.masking.messages import (
    ConsistencyCheckRequest,
    MaskedInputRequest,
    SignedUnmaskingRequest,
    Unmasking,
    UnmaskingRequest,
)
from secagg.schemes import read_offer
from secagg.wire import decode, encode
from tests.play import Play, Session, identities, seeded
from tests.secagg.helpers import MASKING, ROUNDS, client_refuses
from tests.secagg.suspended import Suspended, SuspendedServer

SPEC = {"counts": Counts(length=3, maximum=2**40)}
every_name = pytest.mark.parametrize("name", MASKING)


def grouped(name: str, n: int = 18, groups: int = 3, corrupt: int = 1, **more: Any) -> Masking:
    more.setdefault("graph", "complete")
    vectors = more.pop("vectors", SPEC)
    return MASKING[name](range(n), vectors, corrupt=corrupt, dropout=2, groups=groups, **more)


def play(scheme: Masking, drop: Mapping[str, Any] | None = None, seed: int = 0, **more: Any) -> Play:
    inputs = {u: {"counts": [u, 2**40 - u, 7]} for u in range(scheme.clients)}
    return Play(
        scheme, inputs, drop=drop, rng=lambda u: seeded(100 * seed + u), server_rng=seeded(seed), **more
    )


def truth(it: Play, survivors: Any) -> list[int]:
    return np.sum([it.inputs[u]["counts"] for u in survivors], axis=0).tolist()


# The sums


@settings(max_examples=15)
@given(st.data())
@pytest.mark.parametrize("graph", ["complete", "sparse"])
@every_name
def test_each_group_is_summed_whoever_of_it_is_lost_and_none_below_m_g(
    name: str, graph: str, data: st.DataObject
) -> None:
    scheme = grouped(name, 24, data.draw(st.sampled_from([2, 3, 4]), label="groups"), graph=graph)
    assert scheme.complete == (graph == "complete")
    lost = data.draw(st.lists(st.integers(0, 23), unique=True, max_size=5), label="lost")
    drop: dict[str, set[int]] = {}
    for u in lost:
        drop.setdefault(data.draw(st.sampled_from(ROUNDS[name]), label=f"round of {u}"), set()).add(u)
    it = play(scheme, drop, data.draw(st.integers(0, 99), label="seed"))
    try:
        total = it.finish()
    except TooFewClients:
        return  # of the cohort, or of all groups
    order = scheme.rounds.index
    there = {u for u in range(24) if u not in lost} | {
        u for round, some in drop.items() if order(round) > order("masked-input") for u in some
    }
    groups = it.server._cut
    assert set().union(*groups) >= there
    for part in total.parts:
        (group,) = [group for group in groups if part.survivors <= group]
        # All who uploaded, or the group lost so many before that they did not: then it is not opened at all.
        assert part.survivors == group & there
        assert len(part.survivors) >= scheme.groups.m_g
        assert part.sum["counts"].tolist() == truth(it, part.survivors)
    assert total.survivors == frozenset().union(*(part.survivors for part in total.parts))
    assert total.sum["counts"].tolist() == truth(it, total.survivors)
    if not lost:
        assert len(total.parts) == scheme.groups.number


@every_name
def test_of_a_group_that_is_too_small_nobody_gives_a_share(name: str) -> None:
    scheme = grouped(name, 18, 3)
    it = play(scheme).to("masked-input")
    group = sorted(it.server._cut[0])
    it.lost |= set(group[: len(group) - scheme.groups.m_g + 1])
    it.to("unmasking").answer()
    assert it.answers
    for answer in it.answers.values():
        assert not decode(Unmasking, answer).shares.keys() & set(group)
    total = it.finish()
    assert len(total.parts) == 2
    assert not total.survivors & set(group)


@every_name
def test_nor_is_anybody_of_it_asked_for_a_vector(name: str) -> None:
    """Where that is known in time: it would refuse."""
    scheme = grouped(name, 18, 3, threshold=10)
    it = play(scheme).to("share-keys")
    group = sorted(it.server._cut[0])
    it.lost |= set(group[: len(group) - scheme.groups.m_g + 1])
    assert it.to("masked-input").requests.keys() == set(range(18)) - set(group)
    assert len(it.finish().parts) == 2


def test_a_group_of_which_fewer_than_m_g_sign_is_not_opened() -> None:
    """Who has not signed may have seen another U2, and be masked with others than it seems."""
    scheme = grouped("active", 18, 3)
    it = play(scheme).to("consistency-check")
    group = sorted(it.server._cut[0])
    it.lost |= set(group[: len(group) - scheme.groups.m_g + 1])
    total = it.finish()
    assert len(total.parts) == 2
    assert not total.survivors & set(group)


@every_name
def test_where_no_group_is_left_there_is_no_sum(name: str) -> None:
    it = play(grouped(name, m_g=6)).to("masked-input")
    it.lost |= {min(group) for group in it.server._cut}
    with pytest.raises(TooFewClients) as caught:
        it.finish()
    assert (caught.value.alive, caught.value.needed) == (5, 6)


@every_name
def test_a_client_masks_with_all_of_its_group_whoever_holds_its_shares(name: str) -> None:
    """On a sparse graph, too: else those of a group could be told apart by whom they mask with."""
    it = play(grouped(name, 24, 3, graph="sparse")).to("masked-input")
    for u, client in it.clients.items():
        (group,) = [group for group in it.server._cut if u in group]
        session = client._state.session
        assert session.neighbours.keys() == group - {u}
        assert session.holders == it.server._graph.neighbours(u) != group - {u}


def test_noise_is_enough_of_the_honest_of_one_group() -> None:
    private = {"x": Private(length=8, clip=1.0, bits=16, multiplier=1.0)}
    scheme = grouped("semi-honest", 40, 4, corrupt=4, vectors=private)
    assert scheme.sums.corrupt == 4
    assert scheme.calibrations()["x"].honest == scheme.groups.m_g - 4
    assert scheme.calibrations()["x"].clients == 10
    many = grouped("semi-honest", 1000, 4, corrupt=100, vectors=private)
    assert many.sums.corrupt == corrupt_in_group(1000, 100, 4) < 100
    assert many.sums.signed == (many.groups.m_g, many.sums.corrupt, 250)
    assert many.calibrations()["x"].honest == many.groups.m_g - many.sums.corrupt
    # Of unsafe groups nobody honest is sure to be there; so that there is noise at all, it is as of one.
    unsafe = grouped("semi-honest", 40, 8, corrupt=4, vectors=private, unsafe_groups=True)
    assert unsafe.groups.m_g < unsafe.sums.corrupt
    assert unsafe.calibrations()["x"].honest == 1


@pytest.mark.parametrize("graph", ["complete", "sparse"])
@every_name
def test_parties_that_are_thrown_away_after_each_message_sum_the_same_groups(name: str, graph: str) -> None:
    """From tickets and checkpoints alone, in which the cut is not."""
    scheme = grouped(name, 18, 3, graph=graph, cohort=range(18), cut=bytes(32))
    roster, known = identities(range(18)) if name == "active" else (None, dict.fromkeys(range(18)))
    parts = []
    for thrown in (False, True):
        inner: Any = scheme.server(range(18), b"task", roster=roster)
        given = {u: {"counts": [u, 1, 7]} for u in range(18)}
        clients: dict[int, Any] = {
            u: Suspended(scheme, u, lambda task, x=x: x, identity=known[u])
            if thrown
            else scheme.client(u, lambda task, x=x: x, identity=known[u])
            for u, x in given.items()
        }
        server = SuspendedServer(inner, roster=roster) if thrown else inner
        total = Session(server, clients, drop={"share-keys": {1}, "masked-input": {5}}).finish()
        parts.append({part.survivors: part.sum["counts"].tolist() for part in total.parts})
    assert parts[0] == parts[1]
    assert len(parts[0]) > 1


# The numbers


@pytest.mark.parametrize(("n", "A", "number"), [(40, 4, 4), (100, 10, 5), (200, 10, 4), (1000, 30, 10)])
def test_a_g_is_the_least_that_no_group_exceeds_but_for_a_chance_of_2_to_the_minus_128(
    n: int, A: int, number: int
) -> None:
    g = largest_group(n, number)

    def exceeds(a: int) -> Fraction:
        """That more than a are in any group, at most: in integers."""
        ways = sum(math.comb(A, j) * math.comb(n - A, g - j) for j in range(a + 1, min(A, g) + 1))
        return Fraction(number * ways, math.comb(n, g))

    A_g = corrupt_in_group(n, A, number)
    assert exceeds(A_g) <= Fraction(1, 2**CUT_SIGMA)
    assert A_g == 0 or exceeds(A_g - 1) > Fraction(1, 2**CUT_SIGMA)


@given(st.integers(3, 200), st.data())
def test_two_honest_clients_are_in_every_group_that_is_opened(n: int, data: st.DataObject) -> None:
    A, number = data.draw(st.integers(1, n // 3 + 1)), data.draw(st.integers(2, n))
    A_g, g = corrupt_in_group(n, A, number), largest_group(n, number)
    assert least_of_group(n, A, number, "semi-honest") == A_g + 2
    least = least_of_group(n, A, number, "active")
    assert least >= A_g + 2
    # Any two sets of so many have more than A_g in common: honest ones, who saw both.
    assert 2 * least - g > A_g


@pytest.mark.parametrize("adversary", ["active", "semi-honest"])
@pytest.mark.parametrize(
    ("n", "A"), [(40, 4), (1000, 100), (1001, 100), (1999, 30), (3000, 999), (1500, 1499)]
)
def test_the_number_that_a_refusal_names_is_the_largest_that_is_safe(n: int, A: int, adversary: Any) -> None:
    safe = [G for G in range(2, n // 2 + 1) if least_of_group(n, A, G, adversary) <= n // G]
    assert most_groups(n, A, adversary) == max(safe, default=0)


@pytest.mark.parametrize("number", [2, 20, 100_000, 400_000])
def test_an_offer_of_very_many_clients_is_refused_by_few_steps(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers are a stranger's: to try them one by one had kept a client busy for half a minute."""
    offer = msgspec.msgpack.decode(
        Masking.for_cohort(10**6, Counts(length=1, maximum=9), adversary="semi-honest").offer()
    )
    offer = dict(sorted({**offer, "groups": {"number": number, "m_g": 2}}.items()))
    steps = []

    def counted(*numbers: int) -> float:
        steps.append(numbers)
        return ln_above(*numbers)

    monkeypatch.setattr("secagg.masking.groups.ln_above", counted)
    with pytest.raises(RemoteProtocolError, match="the server offers an impossible session"):
        read_offer(msgspec.msgpack.encode(offer))
    assert len(steps) < 1000


@every_name
def test_impossible_groups_are_refused_with_the_number_that_fails(name: str) -> None:
    with pytest.raises(
        LocalProtocolError,
        match=r"8 groups of 40 clients have 5 each.* up to 4 .*Use 6 at most \(groups=6\).*unsafe_groups",
    ):
        grouped(name, 40, 8, corrupt=4)
    unsafe = grouped(name, 40, 8, corrupt=4, unsafe_groups=True)
    assert "UNSAFE GROUPS" in unsafe.explain()
    assert "of an unsafe group the server" in unsafe.against
    assert "group and no single vector" in grouped(name).against
    assert len(play(unsafe).finish().parts) == 8
    assert grouped(name, 40, 6, corrupt=4).groups.number == 6
    # Said of groups that are none, it changes no number.
    needless = grouped(name, 40, 4, corrupt=4, unsafe_groups=True)
    assert needless.groups.m_g == grouped(name, 40, 4, corrupt=4).groups.m_g
    for m_g in (3, 11):
        words = f"m_g {m_g} is impossible: of groups of 10 clients it is in"
        with pytest.raises(LocalProtocolError, match=words):
            grouped(name, 40, 4, corrupt=4, m_g=m_g)
    for number in (1, 41):
        with pytest.raises(LocalProtocolError, match="cannot be: from 2 to 40"):
            grouped(name, 40, number, unsafe_groups=True)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"batch": 3}, "by groups or by batches"),
        ({"blank": 0.1}, "blanks are for one sum"),
        ({"vectors": SPEC | {"w": Weight(maximum=3)}}, "of each group the sum of weights would be known"),
        ({"cohort": [0, 1]}, "18 different ids"),
        ({"cut": b"short"}, "a cut is drawn from 32 bytes"),
        ({"cut": bytes(32)}, "one of its cohort: name that, too"),
        ({"cohort": [*range(17), 2**31 - 1]}, "18 different ids in order"),
        ({"public_weights": 1}, "a flag of groups, public_weights, is a bool"),
        ({"unsafe_groups": 1}, "a flag of groups, unsafe, is a bool"),
    ],
)
def test_what_does_not_go_with_groups_is_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        grouped("semi-honest", **more)


IDS = tuple(range(18))


@pytest.mark.parametrize(
    "cohort",
    [
        list(IDS),
        IDS[::-1],
        (0, *IDS[:-1]),
        (False, *IDS[1:]),
        (-1, *IDS[1:]),
        (*IDS[:-1], 2**31 - 1),
        IDS[1:],
    ],
    ids=["a list", "descending", "one twice", "a bool", "below", "above", "one fewer"],
)
def test_a_cohort_that_is_cut_is_n_ids_in_order(cohort: Any) -> None:
    Groups(number=3, m_g=4, cohort=IDS).check(18, 1, "active")
    with pytest.raises(LocalProtocolError, match="the cohort that is cut is 18 different ids in order"):
        Groups(number=3, m_g=4, cohort=cohort).check(18, 1, "active")


def test_numbers_of_groups_are_sent_as_ints_whatever_they_were_given_as() -> None:
    assert grouped("semi-honest", cohort=IDS[::-1]).offer() == grouped("semi-honest", cohort=IDS).offer()
    assert grouped("semi-honest", m_g=np.int64(5)).offer() == grouped("semi-honest", m_g=5).offer()
    with pytest.raises(LocalProtocolError, match=r"m_g 4\.5"):
        grouped("semi-honest", m_g=4.5)
    with pytest.raises(LocalProtocolError, match="a cut is drawn from 32 bytes"):
        grouped("semi-honest", cohort=range(18), cut="x" * 32)  # type: ignore[arg-type]


@every_name
def test_an_offer_without_groups_says_nothing_of_them(name: str) -> None:
    plain = MASKING[name](range(6), SPEC)
    assert b"groups" not in plain.offer()
    offer = grouped(name).offer()
    assert read_offer(offer).offer() == offer


# The cut


@given(st.integers(2, 60), st.data())
def test_a_cut_has_everybody_once_in_groups_that_differ_by_one_at_most(n: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(2, n))
    members = data.draw(st.sets(st.integers(0, 10**6), min_size=1, max_size=n))
    groups = cut(tuple(sorted(members)), n, number, data.draw(st.binary(min_size=32, max_size=32)))
    assert len(groups) == number
    assert sorted(u for group in groups for u in group) == sorted(members)
    if len(members) == n:
        assert {len(group) for group in groups} <= {n // number, largest_group(n, number)}


def test_a_later_session_is_cut_as_an_earlier_one_and_else_anew() -> None:
    first = play(grouped("semi-honest", cohort=range(18)), seed=1)
    total = first.finish()
    again = grouped("semi-honest", cohort=range(18), cut=total.cut)
    later = play(again, {"join": {3}}, seed=2)
    other = play(grouped("semi-honest", cohort=range(18)), seed=3)
    for it in (later, other):
        it.finish()
    assert later.server.result.cut == total.cut
    assert later.server._cut == first.server._cut != other.server._cut


def test_a_server_cuts_no_cohort_but_its_own() -> None:
    scheme = grouped("semi-honest", cohort=range(1, 19))
    with pytest.raises(LocalProtocolError, match="another than the one that is cut"):
        scheme.server(range(18))


# What a client sees to


def test_a_client_takes_no_groups_that_its_policy_does_not_name() -> None:
    scheme = grouped("semi-honest", public_weights=True)
    mine: dict[str, Any] = {"adversary": "semi-honest", "corrupt": 1, "dropout": 2, "graph": "complete"}
    for more, words in (
        ({}, "this client is summed with all. If you mean it: smallest_group=6 and public_weights=True"),
        (
            {"smallest_group": 7},
            "this client takes groups of 7 or more. If you mean it: smallest_group=6 and",
        ),
        ({"smallest_group": 7, "public_weights": True}, "If you mean it: smallest_group=6$"),
        ({"smallest_group": 6}, "weights for public.* If you mean it: public_weights=True$"),
    ):
        with pytest.raises(RemoteProtocolError, match=words):
            accept(Policy(**mine, **more), scheme.offer())
    taken = Policy(**mine, smallest_group=6, public_weights=True)
    assert accept(taken, scheme.offer()) == scheme
    weighted = grouped("semi-honest", public_weights=True, vectors=SPEC | {"w": Weight(maximum=3)})
    assert accept(taken, weighted.offer()) == weighted
    unsafe = grouped("semi-honest", 18, 9, unsafe_groups=True)
    with pytest.raises(RemoteProtocolError, match=r"unsafe groups.* If you mean it: unsafe_groups=True$"):
        accept(Policy(**mine, smallest_group=2), unsafe.offer())
    experimental = Policy(**mine, smallest_group=2, unsafe_groups=True)
    assert accept(experimental, unsafe.offer()) == unsafe
    fewer = grouped("semi-honest", 18, 9, unsafe_groups=True, m_g=1)
    with pytest.raises(RemoteProtocolError, match=r"by this client's policy it takes 2, .*\(m_g=2\)"):
        accept(experimental, fewer.offer())


@every_name
def test_a_client_masks_with_no_fewer_than_m_g_of_its_group(name: str) -> None:
    scheme = grouped(name)
    it = play(scheme).to("masked-input")
    (group,) = [group for group in it.server._cut if 0 in group]
    gone = sorted(group - {0})[: len(group) - scheme.groups.m_g + 1]

    def without(request: MaskedInputRequest) -> MaskedInputRequest:
        return MaskedInputRequest(
            [v for v in request.shared if v not in gone],
            {v: dealt for v, dealt in request.dealt.items() if v not in gone},
        )

    client_refuses(it, "masked-input", without, "of this one's group shared keys")


@every_name
def test_a_client_helps_to_no_sum_where_no_group_is_whole_enough(name: str) -> None:
    scheme = grouped(name, m_g=6)
    it = play(scheme)
    round = "consistency-check" if name == "active" else "unmasking"
    it.to(round)
    lost = {min(group - {0}) for group in it.server._cut}

    def thinned(request: Any) -> Any:
        if name == "active":
            return ConsistencyCheckRequest([u for u in request.survivors if u not in lost])
        return UnmaskingRequest(sorted(lost))

    client_refuses(it, round, thinned, "no group has 6 survivors")


def test_a_client_counts_the_signatures_of_each_group() -> None:
    scheme = grouped("active")
    it = play(scheme).to("unmasking")
    group = it.server._cut[0]
    (reader,) = sorted(it.server._cut[1])[:1]
    request = decode(SignedUnmaskingRequest, it.requests[reader])
    few = sorted(group)[scheme.groups.m_g - 1 :]
    left = {v: signature for v, signature in request.signatures.items() if v not in few}
    shares = decode(Unmasking, it.clients[reader].receive(encode(SignedUnmaskingRequest(left)))).shares
    assert shares
    assert not shares.keys() & group


def test_a_client_is_cut_with_its_cohort_alone() -> None:
    scheme = grouped("semi-honest", 6, 2, cohort=range(6), corrupt=0)
    it = play(scheme).to("share-keys")

    def strange(request: Any) -> Any:
        keys = {(77 if v == 5 else v): entry for v, entry in request.keys.items()}
        return type(request)(keys)

    client_refuses(it, "share-keys", strange, "not of the cohort it cuts")


@every_name
def test_like_vectors_are_summed_by_one_cut_alone(name: str) -> None:
    """Two cuts of one cohort tell more than either: of 18 clients often one alone. With five of six left
    there could be two sums.
    """
    scheme = grouped(name, cohort=range(18), m_g=5)
    roster, known = identities(range(18))
    rules: dict[Any, Any] = {
        u: Alike(lambda task: OWN_INPUT, in_memory(), known[u].key, roster) for u in range(18)
    }

    def session(scheme: Masking, drop: Any = None) -> list[frozenset[int]]:
        given = {u: {"counts": [u, 1, 7]} for u in range(18)}
        total = run(scheme, given, identities=known, alike=rules, drop=drop)
        cuts.append(total.cut)
        return [part.survivors for part in total.parts]

    cuts: list[bytes] = []
    whole = session(scheme)
    with pytest.raises(RemoteProtocolError, match="too near"):
        session(scheme)
    again = grouped(name, cohort=range(18), m_g=5, cut=cuts[0])
    assert session(again) == whole
    # Of one group another set, which differs by one: nobody of it helps.
    with pytest.raises(RemoteProtocolError, match="too near"):
        session(again, {"masked-input": {5}})
    # Nor does one of them to a sum of all, beside those of groups.
    with pytest.raises(RemoteProtocolError, match="too near"):
        session(MASKING[name](range(18), SPEC, corrupt=1, dropout=2, graph="complete"))


def like_sessions(scheme: Masking) -> list[Session]:
    """Two of the same vectors: one that is over, and one in which 5 is lost. The server has no rule."""
    roster, known = identities(range(18)) if scheme.adversary == "active" else (None, {})
    rules = {
        u: Alike(lambda task: OWN_INPUT, in_memory(), SigningKey(bytes([u]) * 32), roster) for u in range(18)
    }
    sessions = []
    for lost in (set[int](), {5}):
        clients = {
            u: scheme.client(
                u, lambda task, u=u: {"counts": [u, 1, 7]}, alike=rules[u], identity=known.get(u)
            )
            for u in range(18)
        }
        drop = {"masked-input": lost}
        server = scheme.server(range(18), roster=roster)
        sessions.append(Session(server, clients, drop=drop, forgiven=range(18)))
        if not lost:
            assert len(sessions[0].finish().parts) == 3
    return sessions


def test_nobody_opens_a_group_of_others_beside_a_like_sum_of_it() -> None:
    """Where nothing is signed, the shares of those who are in other groups are enough."""
    _, second = like_sessions(grouped("semi-honest", cohort=range(18), cut=bytes(32)))
    with pytest.raises(TooFewClients):
        second.finish()
    assert second.died.keys() == set(range(18)) - {5}
    assert {"too near" in str(refusal) for refusal in second.died.values()} == {True}


def test_where_members_sign_a_group_that_refuses_keeps_no_other_from_its_sum() -> None:
    first, second = like_sessions(grouped("active", cohort=range(18), cut=bytes(32), threshold=10, m_g=5))
    (of_5,) = [part.survivors for part in first.server.result.parts if 5 in part.survivors]
    others = {part.survivors for part in first.server.result.parts} - {of_5}
    assert {part.survivors for part in second.finish().parts} == others
    assert second.died.keys() == of_5 - {5}


@every_name
def test_a_server_that_plans_asks_for_no_group_that_clients_would_refuse(name: str) -> None:
    roster, known = identities(range(18))
    given = {u: {"counts": [u, 1, 7]} for u in range(18)}
    rules: dict[Any, Any] = {
        u: Alike(lambda task: OWN_INPUT, in_memory(), known[u or 0].key, roster) for u in (*range(18), None)
    }
    # Of six with one corrupt and four left an active server has one sum: then ten of all must be enough.
    more = {"threshold": 10} if name == "active" else {}
    scheme = grouped(name, cohort=range(18), **more)
    total = run(scheme, given, identities=known, alike=rules)
    again = grouped(name, cohort=range(18), cut=total.cut, **more)
    later = run(again, given, identities=known, alike=rules, drop={"masked-input": {5}})
    (of_5,) = [part.survivors for part in total.parts if 5 in part.survivors]
    others = {part.survivors for part in total.parts} - {of_5}
    new = {part.survivors for part in later.parts} - others
    assert others <= {part.survivors for part in later.parts}
    # Left out, or where m_g lets it with so many fewer that two honest ones make the difference.
    assert all(some < of_5 and len(of_5 - some) >= scheme.sums.corrupt + 2 for some in new)
    with pytest.raises(LocalProtocolError, match=r"cut=\)"):
        run(scheme, given, identities=known, alike=rules)


def test_a_cohort_that_no_client_could_be_told_is_refused_before_it_is_offered() -> None:
    ids = range(10**6, 10**6 + 13_200)
    scheme = Masking.for_cohort(len(ids), Counts(length=1, maximum=1), corrupt=10, groups=100, cohort=ids)
    with pytest.raises(RemoteProtocolError, match="bytes; at most 65536 are read"):
        read_offer(scheme.offer())
    with pytest.raises(LocalProtocolError, match="the cohort that is cut is too large to be named"):
        scheme.server(ids)
