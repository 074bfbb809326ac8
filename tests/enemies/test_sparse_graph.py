"""A dishonest server on the sparse graph: what lies about a client's neighbours gain it, or about others, or
about who they are; and what clients on its side are worth, by where they stand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import combinations
from typing import Any

import pytest
from msgspec.structs import replace

from secagg import LocalProtocolError, Masking, Policy, RemoteProtocolError, TooFewClients
from secagg.masking.messages import (
    SEALED_BYTES,
    Commitments,
    ConsistencyCheckRequest,
    Delivery,
    MaskedInputRequest,
    ShareKeysRequest,
    SignedUnmaskingRequest,
    Unmasking,
    UnmaskingRequest,
)
from secagg.schemes import accept
from secagg.wire import decode, encode
from tests.enemies.cast import (
    Company,
    Scene,
    assert_exact,
    company,
    new_keys,
    sign_keys,
    sum_of,
    to,
    without,
)

# A = 1 and d = 2: k = 6, t = 4 against an active server; k = 4, t = 2 against one that is not.
NUMBERS = {"clients": 14, "corrupt": 1, "dropout": 2, "graph": "sparse", "seed": 1}
ACTIVE, SEMI_HONEST = company("active", **NUMBERS), company("semi-honest", **NUMBERS)
BOTH = {"active": ACTIVE, "semi-honest": SEMI_HONEST}
VICTIM, CORRUPT = 0, 13
EVERYBODY = frozenset(range(14))

each = pytest.mark.parametrize("who", BOTH.values(), ids=BOTH)


def staged(who: Company, **more: Any) -> Scene:
    """With the same draws, and so the same graph, each time."""
    return Scene(who, seed=2, **more)


def near(scene: Scene, u: int = VICTIM) -> list[int]:
    return sorted(scene.inner._graph.neighbours(u))


def far(scene: Scene, u: int = VICTIM) -> list[int]:
    """Who is neither u nor beside it."""
    return sorted(EVERYBODY - set(near(scene, u)) - {u})


@cache
def recorded(adversary: str, late: frozenset[int] = frozenset()) -> Scene:
    """A normal session. late: counted as dropped, and their masked inputs arrive all the same."""
    scene = staged(BOTH[adversary]).to("masked-input").answer()
    uploads = {u: scene.answers.pop(u) for u in late}
    scene.play()
    assert_exact(scene.total, EVERYBODY - late)
    scene.server.view.received += [("masked-input", u, upload) for u, upload in uploads.items()]
    return scene


# Clients on the server's side


@pytest.mark.parametrize("late", [frozenset(), frozenset({1}), frozenset({1, 4})], ids=len)
@pytest.mark.parametrize("adversary", BOTH)
def test_with_A_clients_on_its_side_the_server_learns_the_sum_of_the_others(
    adversary: str, late: frozenset[int]
) -> None:
    scene = recorded(adversary, late)
    for colluder in EVERYBODY:
        spy, others = scene.spy(colluder), EVERYBODY - late - {colluder}
        assert spy.learned() == {others}
        assert spy.read(others) == sum_of(others)


@pytest.mark.parametrize("adversary", BOTH)
def test_with_enough_of_its_neighbours_on_its_side_it_opens_a_client(adversary: str) -> None:
    """The control: with t of them both secrets, and the masks are those with its neighbours and no other."""
    scene = recorded(adversary)
    for u in (0, 5, 12):
        t = scene.scheme.threshold
        spy = scene.spy(*near(scene, u)[:t])
        assert frozenset({u}) in spy.learned()
        assert spy.read({u}) == sum_of({u})
        strangers = scene.spy(*far(scene, u)[:t])
        assert frozenset({u}) not in strangers.learned()


@pytest.mark.parametrize("adversary", BOTH)
def test_fewer_than_t_of_its_neighbours_do_not_open_a_client_that_was_lost(adversary: str) -> None:
    """Its key was rebuilt, its mask is not; more than A are on the server's side here."""
    scene = recorded(adversary, frozenset({1, 4}))
    for u in (1, 4):
        for colluders in combinations(near(scene, u), scene.scheme.threshold - 1):
            assert not any(u in group for group in scene.learned(*colluders))
        assert frozenset({u}) in scene.learned(*near(scene, u)[: scene.scheme.threshold])


@pytest.mark.parametrize("adversary", BOTH)
def test_whoever_surrounds_a_client_reads_it(adversary: str) -> None:
    """Of a survivor b is returned to the server, and the masks left are those with its neighbours."""
    scene = recorded(adversary)
    assert frozenset({VICTIM}) in scene.learned(*near(scene))


# Lies about keys


def test_a_client_verifies_the_keys_of_all_and_not_of_its_neighbours_alone() -> None:
    """Before the graph is drawn: who is beside it is what the keys decide."""
    for v in EVERYBODY - {VICTIM}:

        def lie(request: Any, v: int = v) -> Any:
            return replace(request, keys=request.keys | {v: (*new_keys(), request.keys[v][2])})

        client = staged(ACTIVE, asks=to(VICTIM, "share-keys", lie, ACTIVE.scheme)).to("share-keys").answer()
        assert f"for client {v} are not signed by that client of this roster" in str(client.died[VICTIM])
        assert client.died[VICTIM].culprits == frozenset()


def test_U1_is_not_padded_with_invented_clients() -> None:
    """Which could all be the victim's neighbours. The two that are lost leave their places empty instead."""

    def pad(*ids: int) -> Callable[[Any], Any]:
        def lie(request: ShareKeysRequest) -> ShareKeysRequest:
            invented = {v: sign_keys(ACTIVE, CORRUPT, *new_keys(), of=v) for v in ids}
            return ShareKeysRequest(dict(sorted((request.keys | invented).items())))

        return lie

    lost = {"advertise-keys": {3, 4}}
    for ids, words in (
        ((3,), "for client 3 are not signed by that client of this roster"),
        ((3, 4), "for client 3 are not signed"),
        ((77,), "for client 77 are not signed"),
        ((3, 4, 77), "15 clients advertised keys; it takes 12 to 14"),
    ):
        scene = staged(ACTIVE, asks=to(VICTIM, "share-keys", pad(*ids), ACTIVE.scheme), drop=lost)
        scene.to("share-keys").answer()
        assert words in str(scene.died[VICTIM])


@each
def test_a_client_shown_another_U1_has_another_graph_and_shares_no_mask(who: Company) -> None:
    """Here the server lets pass what the client deals to its own neighbours; nobody else has these."""
    scene = staged(who, asks=to(VICTIM, "share-keys", less_client(5), who.scheme)).to("share-keys").answer()
    lonely, others = (scene.clients[u]._state.session for u in (VICTIM, 1))
    assert lonely.sid != others.sid
    graphs = [who.scheme.graph(session.sid, session.U1) for session in (lonely, others)]
    assert all(
        session.neighbours.keys() == graph.neighbours(u)
        for u, session, graph in zip((VICTIM, 1), (lonely, others), graphs, strict=True)
    )
    seen = [[graph.neighbours(u) for u in EVERYBODY - {5}] for graph in graphs]
    assert seen[0] != [beside - {5} for beside in seen[1]]
    scene.close()
    assert "with others than the clients that are to hold them" in str(scene.refused[VICTIM])
    scene.play()
    assert_exact(scene.total, EVERYBODY - {VICTIM})


def less_client(v: int) -> Callable[[ShareKeysRequest], ShareKeysRequest]:
    return lambda request: ShareKeysRequest(without(request.keys, v))


def test_a_client_shown_another_U1_is_never_unmasked() -> None:
    """However a server goes on with it alone: its statement is one that nobody else signs."""
    lie = to(VICTIM, "share-keys", less_client(5), ACTIVE.scheme)
    scene = staged(ACTIVE, asks=lie).to("share-keys").answer()
    client = scene.clients[VICTIM]
    own = client._state.session
    scene.to("unmasking")
    U2, garbage = sorted(own.U1), Delivery(bytes(SEALED_BYTES), Commitments(bytes(32), bytes(32)))
    dealers = sorted(own.neighbours)
    assert client.receive(encode(MaskedInputRequest(U2, dict.fromkeys(dealers, garbage))))
    assert client.receive(encode(ConsistencyCheckRequest(U2)))
    theirs = scene.requests[1]
    assert len(decode(SignedUnmaskingRequest, theirs).signatures) == 13
    with pytest.raises(RemoteProtocolError, match="0 clients signed the survivors this client was shown, 12"):
        client.receive(theirs)


# Lies about who is there


@pytest.mark.parametrize("place", ["beside it", "elsewhere"])
def test_a_client_shown_another_U3_does_not_unmask(place: str) -> None:
    """Wherever the one stands that is dropped to this client alone."""
    scene = staged(ACTIVE).to("consistency-check")
    v = near(scene)[0] if place == "beside it" else far(scene)[0]
    scene.requests[VICTIM] = encode(ConsistencyCheckRequest(sorted(EVERYBODY - {v})))
    scene.answer()
    scene.close()
    assert "did not sign the survivors it was shown" in str(scene.refused[VICTIM])
    request = next(iter(scene.requests.values()))
    with pytest.raises(RemoteProtocolError, match="0 clients signed the survivors this client was shown"):
        scene.clients[VICTIM].receive(request)
    scene.play()
    assert VICTIM not in scene.said("unmasking")
    assert scene.learned(CORRUPT) == {EVERYBODY - {CORRUPT}}


def test_neighbours_that_a_server_calls_dropped_leave_the_victim_summed_with_all_others() -> None:
    """It picks who is lost, within d: two of the victim's neighbours, whose vectors it has all the same."""
    for pair in ((0, 1), (0, 5), (2, 3)):
        scene = staged(ACTIVE).to("masked-input").answer()
        lost = {near(scene)[i] for i in pair}
        late = {u: scene.answers.pop(u) for u in lost}
        scene.play()
        assert_exact(scene.total, EVERYBODY - lost)
        scene.server.view.received += [("masked-input", u, upload) for u, upload in late.items()]
        colluder = next(v for v in near(scene) if v not in lost)
        assert scene.learned(colluder) == {EVERYBODY - lost - {colluder}}


@each
def test_more_than_d_are_not_called_dropped(who: Company) -> None:
    scene = staged(who).to(who.scheme.rounds[4])
    lost = near(scene)[:3]
    for u in EVERYBODY - set(lost):
        survivors = ConsistencyCheckRequest(sorted(EVERYBODY - set(lost)))
        scene.requests[u] = encode(survivors if who is ACTIVE else UnmaskingRequest(lost))
    scene.answer()
    assert {u for u in EVERYBODY - set(lost) if "11 clients survive, 12 are" in str(scene.died.get(u))} == (
        EVERYBODY - set(lost)
    )
    assert scene.learned(CORRUPT) == set()


def test_a_semi_honest_sessions_neighbours_alone_could_be_told_two_things() -> None:
    """The control: nothing is signed there, so that a server that lies gets both shares of one client."""
    scene = staged(SEMI_HONEST).to("unmasking")
    v = next(v for v in near(scene) if v != CORRUPT)
    first, *rest = (u for u in near(scene, v))
    scene.requests[first] = encode(UnmaskingRequest([v]))
    scene.answer()
    kinds = {u: type(decode(Unmasking, scene.answers[u]).shares[v]).__name__ for u in (first, *rest)}
    assert set(kinds.values()) == {"PairKeyShare", "SelfMaskShare"}


# Batches


def in_batches(adversary: Any, **more: Any) -> Company:
    numbers = {"clients": 12, "corrupt": 1, "dropout": 3, "batch": 3} | more
    return company(adversary, **numbers)


@pytest.mark.parametrize("graph", ["complete", "sparse"])
@pytest.mark.parametrize("adversary", BOTH)
def test_a_server_that_ignores_batches_is_refused_by_every_client(
    adversary: str, graph: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = in_batches(adversary, graph=graph)
    with monkeypatch.context() as dishonest:
        dishonest.setattr(Masking, "batches", lambda self, roster: [])
        scene = staged(who, drop={"masked-input": {4}})
    scene.play()
    assert set(scene.died) == set(range(12)) - {4}
    assert {str(why) for why in scene.died.values()} == {"the server sums a part of a batch, clients 3 to 5"}
    assert isinstance(scene.ended, TooFewClients)
    assert scene.learned(11) == set()


def test_a_cohort_that_cuts_a_batch_of_the_roster_is_refused_before_anything_is_said() -> None:
    """A server that asks eleven of the twelve in the roster; in a second session it could ask the rest."""
    who = company("active", clients=11, listed=12, corrupt=1, dropout=3, batch=3)
    words = "by batches the cohort is the whole roster, 12 clients, not 11"
    with pytest.raises(LocalProtocolError, match=words):
        who.scheme.server(who.cohort, roster=who.roster)
    for u in who.cohort:
        with pytest.raises(LocalProtocolError, match=words):
            who.scheme.client(u, lambda task: {}, identity=who.identities[u])
    refused = "a cohort of 11 from a roster of 12 clients: by batches it is the whole"
    with pytest.raises(RemoteProtocolError, match=f"the server sums by batches {refused} roster"):
        accept(Policy(corrupt=1, dropout=3), who.scheme.offer(), who.roster)


@pytest.mark.parametrize("graph", ["complete", "sparse"])
@pytest.mark.parametrize("adversary", BOTH)
def test_who_is_lost_takes_its_batch_out_of_the_sum_and_nothing_is_learned_of_it(
    adversary: str, graph: str
) -> None:
    scene = Scene(in_batches(adversary, graph=graph), drop={"masked-input": {4}}).play()
    left = frozenset(range(12)) - {3, 4, 5}
    assert_exact(scene.total, left)
    assert not scene.died
    assert scene.learned(11) == {left - {11}}
