"""Sessions in which each client deals shares to k neighbours, and sums by whole batches.

Every check that is new with them has a test here that fails when the check is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from secagg import Counts, LocalProtocolError, Masking, RemoteProtocolError, TooFewClients, Weight
from secagg.crypto import Tag, digest
from secagg.graph import Graph
from secagg.masking.derived import shares_statement
from secagg.masking.messages import (
    ConsistencyCheckRequest,
    MaskedInputRequest,
    ShareKeys,
    ShareKeysRequest,
    SignedUnmaskingRequest,
    Unmasking,
    UnmaskingRequest,
)
from secagg.schemes import read_offer
from secagg.wire import decode, encode
from tests.play import Course, Play, assert_same_codes, changed, identities, seeded
from tests.secagg.helpers import (
    MASKING,
    MIXED,
    ROUNDS,
    client_refuses,
    codes_of,
    mixed_inputs,
    semi_honest,
    server_refuses,
)

VECTORS = {"counts": Counts(length=3, maximum=2**40), "weight": Weight(maximum=7)}
every_name = pytest.mark.parametrize("name", MASKING)


def inputs_of(ids: Collection[int]) -> dict[int, Any]:
    return {u: {"counts": [u, 2**40 - u, 7], "weight": 1 + u % 7} for u in ids}


@cache
def sparse(name: str, n: int = 20, corrupt: int = 1, dropout: int = 2, **more: Any) -> Masking:
    scheme = MASKING[name](range(n), VECTORS, corrupt=corrupt, dropout=dropout, graph="sparse", **more)
    assert not scheme.complete
    return scheme


def play(scheme: Masking, drop: Mapping[str, Collection[int]] | None = None, seed: int = 0) -> Play:
    """The same keys for the same seed, and so the same graph."""
    return Play(
        scheme,
        inputs_of(range(scheme.clients)),
        drop=drop,
        rng=lambda u: seeded(1000 * seed + u),
        server_rng=seeded(1000 * seed + 999),
    )


@cache
def _course(offer: bytes) -> Course:
    return Course(play(read_offer(offer)))


def at(scheme: Masking, round: str) -> Play:
    return _course(scheme.offer()).at(round)


def finishes_with(it: Play, survivors: Collection[int]) -> None:
    total = it.finish()
    assert total.survivors == set(survivors)
    assert_same_codes(total.codes, codes_of(it.scheme, it.inputs, survivors))


def strangers(it: Play, u: int = 0) -> list[int]:
    """Clients that are not u's neighbours, nor u."""
    return sorted(set(it.inputs) - it.server._graph.neighbours(u) - {u})


def neighbours(it: Play, u: int = 0) -> list[int]:
    return sorted(it.server._graph.neighbours(u))


# The sum, whoever is lost


@st.composite
def losses(draw: st.DrawFn, most: Callable[[Masking], int]) -> tuple[Masking, dict[str, set[int]], int]:
    """A session, who is lost in which round, `most` of them at most, and the seed of the keys."""
    n, A = draw(st.integers(12, 24), label="n"), draw(st.integers(0, 1), label="A")
    d = draw(st.integers(1, 4), label="d")
    name = draw(st.sampled_from(sorted(MASKING)), label="adversary")
    scheme = sparse(name, n, A, d, prg=draw(st.sampled_from(["aes-128-ctr", "chacha20"]), label="prg"))
    lost = draw(st.lists(st.integers(0, n - 1), unique=True, max_size=most(scheme)), label="lost")
    drop: dict[str, set[int]] = {}
    for u in lost:
        drop.setdefault(draw(st.sampled_from(scheme.rounds), label=f"round of {u}"), set()).add(u)
    return scheme, drop, draw(st.integers(0, 10**6), label="seed")


@settings(max_examples=15)
@given(losses(lambda scheme: scheme.dropout))
def test_whoever_is_lost_of_d_the_sum_is_exact(lost: tuple[Masking, dict[str, set[int]], int]) -> None:
    scheme, drop, seed = lost
    assert scheme.degree - scheme.dropout >= scheme.threshold  # not even by bad luck
    before = scheme.rounds[: scheme.rounds.index("masked-input") + 1]
    gone = set().union(*(drop.get(round, ()) for round in before))
    finishes_with(play(scheme, drop, seed), set(range(scheme.clients)) - gone)


@settings(max_examples=20)
@given(losses(lambda scheme: scheme.clients))
def test_whoever_is_lost_the_sum_is_exact_or_there_is_none(
    lost: tuple[Masking, dict[str, set[int]], int],
) -> None:
    """None, where fewer than m_min answer before unmasking, or fewer than t neighbours of somebody then."""
    scheme, drop, seed = lost
    left = set(range(scheme.clients))
    sets = {}
    it = play(scheme, drop, seed)
    for round in scheme.rounds:
        left -= drop.get(round, set())
        sets[round] = frozenset(left)
        needed = scheme.threshold if round == "unmasking" else scheme.m_min
        if len(left) < needed:
            ends_with(it, len(left), needed, round, None)
            return
        if round != "unmasking":
            it.to(scheme.rounds[scheme.rounds.index(round) + 1])
    U2, U3, U4 = sets["share-keys"], sets["masked-input"], sets["unmasking"]
    holding = {v: len(it.server._graph.neighbours(v) & U4) for v in (*sorted(U3), *sorted(U2 - U3))}
    for v, holders in holding.items():
        if holders < scheme.threshold:
            ends_with(it, holders, scheme.threshold, "unmasking", v)
            return
    finishes_with(it, U3)


def ends_with(it: Play, alive: int, needed: int, round: str, of: int | None) -> None:
    with pytest.raises(TooFewClients) as caught:
        it.finish()
    few = caught.value
    assert (few.alive, few.needed, few.round, few.of) == (alive, needed, round, of)
    assert it.server.result is None
    waits = round in ("consistency-check", "unmasking")  # for others of the U3 that was shown
    with pytest.raises(TooFewClients if waits else LocalProtocolError):
        it.server.advance()


@every_name
def test_where_nobody_is_corrupt_d_can_be_lost_too(name: str) -> None:
    finishes_with(play(sparse(name, corrupt=0, dropout=1), {"masked-input": {5}}), set(range(20)) - {5})


def test_fifty_clients_are_summed_on_the_sparse_graph_by_themselves() -> None:
    scheme = semi_honest(range(50), VECTORS, corrupt=1, dropout=4)
    assert not scheme.complete
    drop = {"share-keys": {3}, "masked-input": {17, 41}, "unmasking": {9}}
    finishes_with(play(scheme, drop), set(range(50)) - {3, 17, 41})


@every_name
def test_a_neighbourhood_that_is_lost_after_all_masked_inputs_is_named(name: str) -> None:
    """TooFewClients says of whom too few holders are left."""
    scheme = sparse(name)
    it = at(scheme, "unmasking")
    gone = set(neighbours(it, 5)[: scheme.degree - scheme.threshold + 1])
    it.drop = {"unmasking": gone}
    of = [v for v in range(20) if len(set(neighbours(it, v)) - gone) < scheme.threshold]
    assert 5 in of
    words = f"{scheme.threshold - 1} clients? left in round unmasking that hold shares of client {of[0]}, "
    with pytest.raises(TooFewClients, match=words) as caught:
        it.finish()
    assert caught.value.of == of[0]


def test_a_dealer_whose_neighbours_cannot_use_its_shares_is_named() -> None:
    """Against an active server, and by more holders than can be corrupt."""
    scheme = sparse("active")
    it = at(scheme, "unmasking").answer()
    for u in neighbours(it, 5)[: scheme.degree - scheme.threshold + 1]:
        it.answers[u] = changed(Unmasking, it.answers[u], lambda m: replace(m, shares=less(m.shares, 5)))
    with pytest.raises(
        RemoteProtocolError, match="client 5 dealt shares that its holders cannot use"
    ) as named:
        it.finish()
    assert named.value.culprits == {5}


def less(entries: Mapping[int, Any], *ids: int) -> dict[int, Any]:
    return {v: entry for v, entry in entries.items() if v not in ids}


@every_name
def test_each_deals_to_its_neighbours_and_returns_of_them_alone(name: str) -> None:
    it = at(sparse(name), "share-keys").answer()
    dealt = {u: decode(ShareKeys, answer) for u, answer in it.answers.items()}
    for u, message in dealt.items():
        assert set(message.sealed) == it.server._graph.neighbours(u)
        assert set(message.commitments) == (set(message.sealed) if name == "active" else set())
    it.to("masked-input")
    for u, request in it.requests.items():
        asked = decode(MaskedInputRequest, request)
        assert asked.shared == list(range(20))
        assert set(asked.dealt) == it.server._graph.neighbours(u)
    it.to("unmasking").answer()
    for u, answer in it.answers.items():
        assert set(decode(Unmasking, answer).shares) == it.server._graph.neighbours(u)
    finishes_with(it, range(20))


@pytest.mark.parametrize("graph", ["complete", "sparse"])
@pytest.mark.parametrize("prg", ["aes-128-ctr", "chacha20"])
@every_name
def test_either_prg_masks_and_unmasks(name: str, prg: Any, graph: Any) -> None:
    scheme = MASKING[name](range(14), MIXED, corrupt=1, dropout=3, graph=graph, prg=prg)
    it = Play(scheme, mixed_inputs(range(14)), drop={"share-keys": {2}, "masked-input": {5, 9}})
    finishes_with(it, set(range(14)) - {2, 5, 9})


@every_name
def test_parties_with_two_prgs_do_not_meet(name: str) -> None:
    it = play(sparse(name))
    other = sparse(name, prg="chacha20").client(
        0, lambda task: it.inputs[0], identity=identities(range(20))[1][0]
    )
    with pytest.raises(RemoteProtocolError, match="other parameters than this session's"):
        it.server.receive(0, other.start())


# What a client refuses


@every_name
@pytest.mark.parametrize("short", [0, 1])
def test_a_client_refuses_a_U1_that_leaves_it_fewer_than_t_holders(
    name: str, short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mask could not be taken off again. By bad luck, that is made here."""
    scheme = sparse(name)
    left = scheme.threshold - short

    class Unlucky(Graph):
        def holders(self, u: int) -> frozenset[int]:
            return frozenset(sorted(self.neighbours(u))[:left])

    it = at(scheme, "share-keys")
    monkeypatch.setattr(
        Masking, "graph", lambda self, sid, U1: Unlucky(U1, 20, self.degree, digest(Tag.GRAPH, sid))
    )
    if not short:
        assert len(decode(ShareKeys, it.clients[0].receive(it.requests[0])).sealed) == left
        return
    words = f"{left} clients are left to hold this one's shares; it takes {scheme.threshold}"
    client_refuses(it, "share-keys", lambda request: request, words)


def U2_without(*ids: int) -> Callable[[Any], Any]:
    return lambda r: MaskedInputRequest([v for v in r.shared if v not in ids], less(r.dealt, *ids))


def test_a_client_refuses_a_U2_that_leaves_it_fewer_than_t_holders() -> None:
    """Of a cohort in which d can be more than k - t: the server says that it is neighbours who were lost."""
    scheme = sparse("semi-honest", 56, 6, 16)
    t = scheme.threshold
    assert scheme.degree - scheme.dropout < t
    it = at(scheme, "masked-input")
    near = neighbours(it)
    words = f"{t - 1} clients are left to hold this one's shares; it takes {t}"
    client_refuses(it, "masked-input", U2_without(*near[t - 1 :]), words)
    just_enough = U2_without(*neighbours(it, 1)[t:])
    assert it.clients[1].receive(changed(MaskedInputRequest, it.requests[1], just_enough))


NOT_ITS_DEALERS = "passes on shares from others than this client's dealers"


def dealt(change: Callable[[dict[int, Any]], dict[int, Any]]) -> Callable[[Any], Any]:
    return lambda request: replace(request, dealt=dict(sorted(change(request.dealt).items())))


@every_name
def test_a_client_refuses_shares_from_others_than_its_neighbours(name: str) -> None:
    for change in (
        lambda d, near, far: d | {far[0]: d[near[0]]},
        lambda d, near, far: d | {0: d[near[0]]},
        lambda d, near, far: less(d, near[0]),
        lambda d, near, far: less(d, near[0]) | {far[0]: d[near[0]]},
        lambda d, near, far: {},
        lambda d, near, far: d | {20: d[near[0]]},
    ):
        it = at(sparse(name), "masked-input")
        near, far = neighbours(it), strangers(it)
        client_refuses(
            it, "masked-input", dealt(lambda d, c=change, n=near, f=far: c(d, n, f)), NOT_ITS_DEALERS
        )


@every_name
def test_a_client_refuses_a_U2_that_is_not_one(name: str) -> None:
    def shared(change: Callable[[list[int]], list[int]]) -> Callable[[Any], Any]:
        return lambda request: replace(request, shared=change(request.shared))

    for change, words in (
        (lambda ids, near, far: [*ids, 20], "as having shared that advertised no keys"),
        (lambda ids, near, far: ids[1:], "counts this client as dropped and asks it all the same"),
        (
            lambda ids, near, far: [u for u in ids if u not in far[:3]],
            "17 clients shared keys, 18 are needed",
        ),
        (lambda ids, near, far: [u for u in ids if u != near[0]], NOT_ITS_DEALERS),
        (lambda ids, near, far: [ids[1], ids[0], *ids[2:]], "ids that do not ascend"),
        (lambda ids, near, far: [*ids, ids[-1]], "ids that do not ascend"),
    ):
        it = at(sparse(name), "masked-input")
        near, far = neighbours(it), strangers(it)
        client_refuses(it, "masked-input", shared(lambda ids, c=change, n=near, f=far: c(ids, n, f)), words)


@every_name
def test_a_client_takes_a_U2_that_lacks_up_to_d(name: str) -> None:
    it = at(sparse(name), "masked-input")
    far, near = strangers(it)[0], neighbours(it)[0]
    request = changed(MaskedInputRequest, it.requests[0], U2_without(far, near))
    assert it.clients[0].receive(request)


@every_name
def test_m_min_of_the_whole_cohort_have_to_be_there_and_not_of_the_neighbours(name: str) -> None:
    """All the neighbours are; three others are not."""
    scheme = sparse(name)
    assert scheme.m_min == 18 > scheme.degree
    it = at(scheme, "share-keys")
    words = "17 clients advertised keys; it takes 18 to 20"
    client_refuses(it, "share-keys", lambda r: ShareKeysRequest(less(r.keys, 17, 18, 19)), words)
    round = "consistency-check" if name == "active" else "unmasking"
    it = at(scheme, round)
    far = strangers(it)[:3]

    def lost(request: Any) -> Any:
        if name == "semi-honest":
            return UnmaskingRequest(far)
        return ConsistencyCheckRequest([u for u in request.survivors if u not in far])

    client_refuses(it, round, lost, "17 clients survive, 18 are needed")


def test_m_min_of_the_whole_cohort_have_to_sign_and_not_of_the_neighbours() -> None:
    for missing in (2, 3):
        it = at(sparse("active"), "unmasking")
        far = strangers(it)[:missing]

        def few(request: Any, far: list[int] = far) -> Any:
            return replace(request, signatures=less(request.signatures, *far))

        if missing == 3:
            words = "17 clients signed the survivors this client was shown, 18 are needed"
            client_refuses(it, "unmasking", few, words)
        else:
            request = changed(SignedUnmaskingRequest, it.requests[0], few)
            assert set(decode(Unmasking, it.clients[0].receive(request)).shares) == set(neighbours(it))


# What the server refuses


def signed(it: Play, u: int, message: ShareKeys) -> ShareKeys:
    """What a client that lies signs all the same: its roster binds it to its key, not to the truth."""
    if it.scheme.adversary != "active":
        return message
    return replace(message, signature=it.identities[u].key.sign(shares_statement(it.server._sid, u, message)))


@every_name
@pytest.mark.parametrize("what", ["a stranger", "a neighbour less", "a stranger instead", "itself", "nobody"])
def test_a_server_refuses_shares_for_others_than_the_neighbours(name: str, what: str) -> None:
    it = at(sparse(name), "share-keys")
    near, far = neighbours(it), strangers(it)

    def change(entries: dict[int, Any]) -> dict[int, Any]:
        some = entries[near[0]]
        changed = {
            "a stranger": entries | {far[0]: some},
            "a neighbour less": less(entries, near[0]),
            "a stranger instead": less(entries, near[0]) | {far[0]: some},
            "itself": entries | {0: some},
            "nobody": {},
        }
        return dict(sorted(changed[what].items()))

    def dealing_otherwise(message: ShareKeys) -> ShareKeys:
        return signed(it, 0, replace(message, sealed=change(message.sealed)))

    def committing_otherwise(message: ShareKeys) -> ShareKeys:
        return signed(it, 0, replace(message, commitments=change(message.commitments)))

    words = "shared secrets with others than the clients that are to hold them"
    server_refuses(it, "share-keys", dealing_otherwise, words)
    if name == "active":
        it = at(sparse(name), "share-keys")
        near, far = neighbours(it), strangers(it)
        server_refuses(it, "share-keys", committing_otherwise, "without committing to each share")


@every_name
def test_a_server_refuses_a_share_of_a_client_that_dealt_none_to_its_holder(name: str) -> None:
    """Else one client has a say in secrets it holds nothing of."""
    for stranger in ("itself", "another", "one that is not there"):
        it = at(sparse(name), "unmasking")
        v = {"itself": 0, "another": strangers(it)[0], "one that is not there": 20}[stranger]

        def add(message: Unmasking, v: int = v) -> Unmasking:
            some = next(iter(message.shares.values()))
            return Unmasking(dict(sorted((message.shares | {v: some}).items())))

        server_refuses(it, "unmasking", add, "returned a share of a client that dealt none to it")


@every_name
def test_a_server_refuses_a_share_of_a_neighbour_that_shared_no_keys(name: str) -> None:
    v = 5
    it = play(sparse(name), {"share-keys": {v}}).to("unmasking")
    u = neighbours(it, v)[0]
    answer = it.answer().answers.pop(u)

    def add(message: Unmasking) -> Unmasking:
        some = next(iter(message.shares.values()))
        return Unmasking(dict(sorted((message.shares | {v: some}).items())))

    with pytest.raises(RemoteProtocolError, match="a share of a client that dealt none to it") as caught:
        it.server.receive(u, changed(Unmasking, answer, add))
    assert caught.value.culprits == {u}
    finishes_with(it, set(range(20)) - {v})


# Batches


def batched(name: str, graph: str = "complete") -> Masking:
    """Batches 0..2, 3..5, 6..8 and 9..11; one of them can be lost."""
    numbers = {"corrupt": 1, "dropout": 3, "batch": 3, "graph": graph}
    return MASKING[name](range(12), VECTORS, **numbers)


@settings(max_examples=5)
@given(st.data())
@pytest.mark.parametrize("graph", ["complete", "sparse"])
@every_name
def test_a_batch_is_summed_whole_or_not_at_all(name: str, graph: str, data: st.DataObject) -> None:
    """In whatever order the masked inputs come, and whoever of one batch is lost when."""
    first = 3 * data.draw(st.integers(0, 3), label="batch")
    lost = data.draw(st.sets(st.integers(first, first + 2), min_size=1), label="lost")
    round = data.draw(st.sampled_from(ROUNDS[name]), label="round")
    it = play(batched(name, graph), {round: lost}).to("masked-input").answer()
    order = [u for u in data.draw(st.permutations(range(12)), label="order") if u not in it.lost]
    came: dict[int, set[int]] = {}
    for u in order:
        it.server.receive(u, it.answers.pop(u))
        came.setdefault(u // 3, set()).add(u)
        # One accumulator more for each batch that has begun to come and is not whole.
        (uploads,) = it.server._uploads
        assert len(uploads._parts) == sum(len(members) < 3 for members in came.values())
    it.requests = it.server.advance()
    assert not it.server._uploads
    early = ROUNDS[name].index(round) <= ROUNDS[name].index("masked-input")
    finishes_with(it, set(range(12)) - (set(range(first, first + 3)) if early else set()))


@every_name
def test_what_is_left_over_joins_the_last_batch(name: str) -> None:
    scheme = MASKING[name](range(11), VECTORS, corrupt=1, dropout=3, batch=3)
    assert scheme.batches(None) == [set(range(3)), set(range(3, 6)), set(range(6, 11))]
    finishes_with(play(scheme, {"masked-input": {1}}), range(3, 11))
    with pytest.raises(TooFewClients) as caught:
        play(scheme, {"masked-input": {1, 10}}).finish()
    assert (caught.value.alive, caught.value.round) == (3, "masked-input")


@every_name
def test_batches_that_cannot_be_made_whole_end_the_session(name: str) -> None:
    with pytest.raises(TooFewClients) as caught:
        play(batched(name), {"masked-input": {0, 4, 8}}).finish()
    few = caught.value
    assert (few.alive, few.needed, few.round) == (3, batched(name).m_min, "masked-input")


@pytest.mark.parametrize("round", ["join", "advertise-keys", "share-keys"])
@pytest.mark.parametrize("name", MASKING)
def test_batches_that_can_no_longer_be_whole_end_the_session_before_a_vector_is_asked_for(
    name: str, round: str
) -> None:
    it = play(batched(name), {round: {0, 4, 8}})
    with pytest.raises(TooFewClients) as caught:
        it.finish()
    assert (caught.value.alive, caught.value.round) == (3, round)


PART, OWN = (f"the server sums a part of a batch, clients {ids}" for ids in ("3 to 5", "0 to 2"))


@pytest.mark.parametrize("graph", ["complete", "sparse"])
def test_a_client_signs_no_part_of_a_batch(graph: str) -> None:
    def without(*ids: int) -> Callable[[Any], Any]:
        return lambda r: ConsistencyCheckRequest([u for u in r.survivors if u not in ids])

    scheme = batched("active", graph)
    for part in ({5}, {3, 4}, {4}):
        client_refuses(at(scheme, "consistency-check"), "consistency-check", without(*part), PART)
    it = at(scheme, "consistency-check")
    assert it.clients[0].receive(changed(ConsistencyCheckRequest, it.requests[0], without(3, 4, 5)))
    client_refuses(at(scheme, "consistency-check"), "consistency-check", without(1, 2), OWN)


@pytest.mark.parametrize("graph", ["complete", "sparse"])
def test_a_client_unmasks_no_part_of_a_batch(graph: str) -> None:
    scheme = batched("semi-honest", graph)
    for part in ([5], [3, 4], [4]):
        client_refuses(
            at(scheme, "unmasking"), "unmasking", lambda r, part=part: UnmaskingRequest(part), PART
        )
    it = at(scheme, "unmasking")
    assert it.clients[0].receive(encode(UnmaskingRequest([3, 4, 5])))
    client_refuses(at(scheme, "unmasking"), "unmasking", lambda r: UnmaskingRequest([1, 2]), OWN)


def test_by_batches_the_cohort_is_the_whole_roster() -> None:
    """Else two sessions at once could each sum a part of a batch."""
    roster, ours = identities(range(21))
    scheme = Masking.for_cohort(20, VECTORS, adversary="active", roster=roster, corrupt=1, batch=4)
    for make in (
        lambda scheme: scheme.server(range(20), roster=roster),
        lambda scheme: scheme.client(0, lambda task: {}, identity=ours[0]),
    ):
        with pytest.raises(LocalProtocolError, match="is the whole roster, 21 clients, not 20"):
            make(scheme)
        assert make(replace(scheme, batch=0))
    words = "by batches, the cohort is the whole roster; where there is none, clients 0 to n - 1"
    for name in MASKING:
        scheme, listed = batched(name), identities(range(12))[0]
        assert scheme.server(range(12), roster=listed)
        with pytest.raises(LocalProtocolError, match=words):
            scheme.server(range(1, 13), roster=listed)


@every_name
@pytest.mark.parametrize("round", ["join", "advertise-keys", "share-keys", "masked-input"])
def test_a_session_ends_as_soon_as_the_batches_that_can_still_be_whole_are_too_few(
    name: str, round: str
) -> None:
    scheme = batched(name)
    finishes_with(play(scheme, {round: {0, 1}}), range(3, 12))
    with pytest.raises(TooFewClients) as caught:
        play(scheme, {round: {0, 3}}).finish()
    few = caught.value
    assert scheme.m_min > 6
    assert (few.alive, few.needed, few.round, few.of) == (6, scheme.m_min, round, None)
