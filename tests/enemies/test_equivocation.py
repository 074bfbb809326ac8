"""A server that shows different clients different U1, U2 or U3, in every way there is for a small cohort.

Whatever it shows, and with every signature that the clients on its side can add: the honest clients never
give both kinds of share of one client, all that unmask do so for one U3, and the only sum that can be read
is that of the honest clients in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, combinations, product
from typing import Any

import pytest
from msgspec.structs import replace

from secagg import RemoteProtocolError
from secagg.crypto import SecretKey, is_signature
from secagg.masking.client import (
    AwaitingShareKeys,
)
from secagg.masking.messages import (
    SEALED_BYTES,
    Commitments,
    ConsistencyCheckRequest,
    Delivery,
    MaskedInputRequest,
    PairKeyShare,
    ShareKeys,
    ShareKeysRequest,
    SignedUnmaskingRequest,
)
from secagg.wire import Task, encode
from tests.enemies.cast import NONCE, Company, Scene, believing, company, readable, sign_keys, to, vectors_of
from tests.play import TASK

Ids = frozenset[int]
# Where there is nothing dealt that could be passed on.
GARBAGE = Delivery(bytes(SEALED_BYTES), Commitments(bytes(32), bytes(32)))


@pytest.fixture(autouse=True)
def nothing_computed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same few signatures are verified, and secrets agreed on, in every way there is to show views."""
    monkeypatch.setattr("secagg.identity.is_signature", cache(is_signature))
    monkeypatch.setattr(SecretKey, "agree", cache(SecretKey.agree))


@dataclass(frozen=True)
class View:
    """What one client is shown. keys: which of its two pairs of keys each corrupt client has in it."""

    keys: int
    U1: Ids
    U2: Ids
    U3: Ids

    @property
    def session(self) -> tuple[int, Ids]:
        return self.keys, self.U1


def subsets(of: Collection[int], least: int, holding: int) -> Iterator[Ids]:
    """Those that have a member at least `least` times."""
    return (
        frozenset(chosen)
        for size in range(least, len(of) + 1)
        for chosen in combinations(sorted(of), size)
        if holding in chosen
    )


class Cohort:
    """Every client up to the keys it advertised, from where each is shown one view after another.

    The states of a client are values: from one of them every continuation can be tried.
    """

    def __init__(self, company: Company, corrupt: Collection[int], pairs: int = 1) -> None:
        self.scheme, self.identities = company.scheme, company.identities
        self.corrupt = frozenset(corrupt)
        self.honest = [u for u in company.cohort if u not in self.corrupt]
        self.states: dict[tuple[int, int], AwaitingShareKeys] = {}
        self.keys: dict[tuple[int, int], tuple[bytes, bytes, bytes]] = {}
        for u, i in product(company.cohort, range(pairs)):
            if i and u not in self.corrupt:
                self.states[u, i], self.keys[u, i] = self.states[u, 0], self.keys[u, 0]
                continue
            client = self.scheme.client(u, lambda task, u=u: vectors_of(u), identity=self.identities[u])
            client.start()
            client.receive(encode(Task(NONCE, TASK)))
            state = client._state
            assert isinstance(state, AwaitingShareKeys)
            self.states[u, i] = state
            self.keys[u, i] = sign_keys(company, u, state.c_sk.public, state.s_sk.public)
        self._dealt: dict[tuple[int, tuple[int, Ids]], tuple[Any, ShareKeys]] = {}
        self._given: dict[Any, dict[int, str] | None] = {}
        self._signed: dict[Any, tuple[Any, bytes]] = {}
        self._near: dict[tuple[int, View], tuple[Ids, Ids]] = {}

    def views(self, u: int, pairs: int = 1) -> list[View]:
        """Every view that client u does not refuse at sight."""
        m_min, n = self.scheme.m_min, range(self.scheme.clients)
        return [
            View(i, U1, U2, U3)
            for i in range(pairs)
            for U1 in subsets(n, m_min, u)
            for U2 in subsets(U1, m_min, u)
            for U3 in subsets(U2, m_min, u)
            if i == 0 or U1 & self.corrupt
        ]

    def dealt(self, u: int, session: tuple[int, Ids]) -> tuple[Any, ShareKeys]:
        if (u, session) not in self._dealt:
            i, U1 = session
            request = ShareKeysRequest({v: self.keys[v, i] for v in sorted(U1)})
            self._dealt[u, session] = self.states[u, i].share_keys(request)
        return self._dealt[u, session]

    def signed(self, u: int, view: View, sessions: tuple[tuple[int, Ids], ...]) -> tuple[Any, bytes]:
        """Client u's state and signature once it has seen U3. sessions: that each honest client is in."""
        if (u, view, sessions) not in self._signed:
            state, _ = self.dealt(u, view.session)
            of = dict(zip(self.honest, sessions, strict=True))
            request = {}
            for v in sorted(self.holders(u, view) - {u}):
                message = self.dealt(v, of.get(v, view.session))[1]
                dealt = u in message.sealed
                request[v] = Delivery(message.sealed[u], message.commitments[u]) if dealt else GARBAGE
            state, _ = state.mask_input(MaskedInputRequest(sorted(view.U2), request), {}, {})
            state, said = state.check(ConsistencyCheckRequest(sorted(view.U3)))
            self._signed[u, view, sessions] = state, said.signature
        return self._signed[u, view, sessions]

    def holders(self, u: int, view: View) -> Ids:
        """Of u's shares, in the U2 it is shown."""
        return self._around(u, view)[0]

    def beside(self, u: int, view: View) -> Ids:
        """With whom u masks."""
        return self._around(u, view)[1]

    def _around(self, u: int, view: View) -> tuple[Ids, Ids]:
        if (u, view) not in self._near:
            session = self.dealt(u, view.session)[0].session
            beside = session.neighbours.keys() & view.U2
            self._near[u, view] = frozenset(session.held(view.U2)), beside
        return self._near[u, view]

    def given(self, u: int, views: dict[int, View]) -> dict[int, str] | None:
        """Dealer -> the kind of its share that client u returns; None if it returns nothing.

        It is handed the signature of every honest client, and that of every corrupt one on what it asks.
        """
        agreeing = frozenset(v for v in views if views[v] == views[u])
        sessions = tuple(views[v].session for v in self.honest)
        memo = (u, views[u], sessions, agreeing)
        if memo not in self._given:
            state, _ = self.signed(u, views[u], sessions)
            signatures = {v: self.signed(v, views[v], sessions)[1] for v in views}
            signatures |= {v: self.identities[v].key.sign(state.statement) for v in self.corrupt}
            try:
                shares = state.unmask(SignedUnmaskingRequest(signatures)).shares
            except RemoteProtocolError:
                self._given[memo] = None
            else:
                self._given[memo] = {
                    v: "s" if isinstance(share, PairKeyShare) else "b" for v, share in shares.items()
                }
        return self._given[memo]

    def learned(self, views: dict[int, View], given: dict[int, dict[int, str]]) -> set[Ids]:
        """With all that was returned, and every share that a corrupt client holds or deals."""
        t, known = self.scheme.threshold, {}
        for kind in "sb":
            known[kind] = self.corrupt | {
                v
                for v in views
                if sum(shares.get(v) == kind for shares in given.values())
                + len(self.corrupt & self.holders(v, views[v]))
                >= t
            }
        beside = {u: self.beside(u, view) for u, view in views.items()}
        sid = {u: view.session for u, view in views.items()}
        return readable(beside, sid, known["s"], known["b"])


def both_kinds(given: dict[int, dict[int, str]]) -> bool:
    """Whether somebody's two secrets were both given shares of."""
    said = set(chain.from_iterable(shares.items() for shares in given.values()))
    return any((v, "s") in said and (v, "b") in said for v, _ in said)


def play(cohort: Cohort, views: dict[int, View]) -> dict[int, dict[int, str]]:
    given = {u: cohort.given(u, views) for u in views}
    return {u: shares for u, shares in given.items() if shares is not None}


def assert_safe(cohort: Cohort, views: dict[int, View]) -> int:
    """How many views were unmasked: one at most."""
    given = play(cohort, views)
    unmasked = len({views[u] for u in given})
    assert unmasked <= 1, views
    assert not both_kinds({u: without(shares, cohort.corrupt) for u, shares in given.items()}), views
    honest = {frozenset(views[u].U3 - cohort.corrupt) for u in given}
    learned = cohort.learned(views, given)
    assert learned <= honest, views
    assert len(learned) <= 1, views
    assert all(len(group) >= cohort.scheme.m_min - len(cohort.corrupt) for group in learned), views
    return unmasked


def without(shares: dict[int, str], ids: Collection[int]) -> dict[int, str]:
    return {v: kind for v, kind in shares.items() if v not in ids}


def every_way(cohort: Cohort, pairs: int = 1) -> Iterator[dict[int, View]]:
    choices = [cohort.views(u, pairs) for u in cohort.honest]
    return (dict(zip(cohort.honest, views, strict=True)) for views in product(*choices))


COHORTS = {
    "four clients, one of them corrupt, with two pairs of keys": (4, 1, 2),
    "five clients, one of them corrupt": (5, 1, 1),
    "five clients, two of them corrupt": (5, 2, 1),
}


@pytest.mark.parametrize(("n", "A", "pairs"), COHORTS.values(), ids=COHORTS)
def test_whatever_views_are_shown_no_client_gives_itself_away_and_one_U3_is_unmasked(
    n: int, A: int, pairs: int
) -> None:
    cohort = Cohort(company("active", clients=n, corrupt=A), range(n - A, n), pairs)
    unmasked = [assert_safe(cohort, views) for views in every_way(cohort, pairs)]
    assert len(unmasked) == len(cohort.views(0, pairs)) ** (n - A)
    assert max(unmasked) == 1


def two_sets(cohort: Cohort) -> Iterator[dict[int, View]]:
    """Every way to show each honest client one of two U3 that it is in."""
    everybody = frozenset(range(cohort.scheme.clients))
    least = [everybody, *(everybody - {v} for v in sorted(everybody))]
    for U3s in combinations(least, 2):
        shown = [[View(0, everybody, everybody, U3) for U3 in U3s if u in U3] for u in cohort.honest]
        for views in product(*shown):
            yield dict(zip(cohort.honest, views, strict=True))


# k = 4, t = 3, m_min = 6
SPARSE = {"clients": 7, "corrupt": 1, "dropout": 1, "graph": "sparse"}


def test_on_the_sparse_graph_no_client_gives_itself_away_to_two_sets() -> None:
    cohort, unmasked = Cohort(company("active", **SPARSE), {6}), 0
    assert not cohort.scheme.complete
    for views in two_sets(cohort):
        unmasked += assert_safe(cohort, views)
    assert unmasked > 0


def test_on_the_sparse_graph_without_the_signatures_two_sets_are_unmasked() -> None:
    """The control."""
    honest = company("active", **SPARSE)
    deaf = Company(honest.scheme, {u: believing(honest, u) for u in honest.cohort})
    cohort = Cohort(deaf, {6})
    found = [play(cohort, views) for views in two_sets(cohort)]
    assert any(both_kinds({u: without(shares, {6}) for u, shares in given.items()}) for given in found)


def test_without_the_signatures_the_same_search_finds_a_client_that_gives_itself_away() -> None:
    """The control: two groups unmask two sets, and one client's two secrets are given shares of."""
    honest = company("active", clients=4, corrupt=1)
    deaf = Company(honest.scheme, {u: believing(honest, u) for u in honest.cohort})
    cohort = Cohort(deaf, {3})
    found = [play(cohort, views) for views in every_way(cohort)]
    assert any(both_kinds({u: without(shares, {3}) for u, shares in given.items()}) for given in found)


def test_with_more_corrupt_clients_than_assumed_the_same_search_reads_what_it_should_not() -> None:
    """The control of the spy: A is 1 and three are corrupt, so that one honest client has no company."""
    cohort = Cohort(company("active", clients=4, corrupt=1), {1, 2, 3})
    learned = [cohort.learned(views, play(cohort, views)) for views in every_way(cohort)]
    assert {frozenset({0})} in learned


@pytest.mark.parametrize("U3", [{1, 2, 3}, {0}, {0, 1}, {0, 1, 7}, set()], ids=str)
def test_a_view_that_is_not_among_them_is_refused_at_sight(U3: set[int]) -> None:
    cohort = Cohort(company("active", clients=4, corrupt=1), {3})
    everyone = frozenset(range(4))
    view = View(0, everyone, everyone, frozenset(U3))
    with pytest.raises(RemoteProtocolError):
        cohort.signed(0, view, ((0, everyone),) * 3)


# The same through whole sessions: what the others make of a client that was shown something else

SIX = company("active", threshold=4)


@pytest.mark.parametrize("U3", [{0, 1, 2, 3}, {0, 2, 3, 4, 5}, {0, 1, 2, 3, 4}], ids=str)
def test_a_client_shown_another_U3_does_not_unmask_and_the_server_alone_is_to_blame(U3: set[int]) -> None:
    lie = to(0, "consistency-check", lambda r: ConsistencyCheckRequest(sorted(U3)), SIX.scheme)
    scene = Scene(SIX, asks=lie).play()
    assert scene.refused[0].culprits == {0}  # of what reached the server; who lied is the server itself
    assert 0 not in scene.said("unmasking")
    assert scene.total is not None
    assert scene.learned(5) == {frozenset(range(5))}


def test_a_cohort_shown_two_U3_by_halves_gives_nothing() -> None:
    def lie(round: str, u: int, request: bytes) -> bytes:
        if round != "consistency-check":
            return request
        return encode(ConsistencyCheckRequest([0, 1, 2, 3] if u < 3 else [0, 2, 3, 4, 5]))

    scene = Scene(SIX, asks=lie).to("unmasking")
    assert scene.play().total is None
    assert not scene.said("unmasking")
    assert scene.learned(5) == set()


def U2_without_1(request: MaskedInputRequest) -> MaskedInputRequest:
    shared = [v for v in request.shared if v != 1]
    return MaskedInputRequest(shared, without_dealer(request.dealt, 1))


def test_a_client_shown_another_U2_does_not_sign_what_the_others_sign() -> None:
    lie = to(0, "masked-input", U2_without_1, SIX.scheme)
    scene = Scene(SIX, asks=lie).play()
    assert "survivor that had shared no keys" in str(scene.died[0])
    assert scene.learned(5) == set()


def without_dealer(dealt: dict[int, Any], v: int) -> dict[int, Any]:
    return {u: delivery for u, delivery in dealt.items() if u != v}


def test_a_client_shown_another_U1_is_in_a_session_of_its_own() -> None:
    lie = to(0, "share-keys", lambda r: replace(r, keys=without_dealer(r.keys, 1)), SIX.scheme)
    scene = Scene(SIX, asks=lie).play()
    assert "with others than the clients that are to hold them" in str(scene.refused[0])
    assert scene.learned(5) == {frozenset(range(1, 5))}


def test_the_sum_that_is_read_has_m_min_clients_less_A_whoever_else_the_roster_lists() -> None:
    """A server that asks more of the roster than n: client 4 is in a second session with the same nonce, in
    which it is dropped and its s^SK rebuilt; in the first it is shown as a survivor and is none.
    """
    who = company("active", clients=7, listed=11, corrupt=1, m_min=6)
    CORRUPT, ghost, first, second = 10, 4, (0, 1, 2, 3), (5, 6, 7, 8, 9)
    cohort = Company(who.scheme, who.identities)
    stage = _Two(cohort, CORRUPT)
    there = stage.play({ghost, *second, CORRUPT}, U3={*second, CORRUPT})
    here = stage.play({ghost, *first, CORRUPT}, U3={ghost, *first, CORRUPT}, absent={ghost})
    known = {kind: {CORRUPT} | there[kind] | here[kind] for kind in "sb"}
    everyone = frozenset({ghost, *first, CORRUPT})
    learned = readable(dict.fromkeys(first, everyone), dict.fromkeys(first, "here"), known["s"], known["b"])
    assert all(len(group) >= who.scheme.m_min - who.scheme.corrupt for group in learned)


class _Two:
    """Sessions of one server that share its nonce, and in which a client is shown as it advertised itself."""

    def __init__(self, company: Company, corrupt: int) -> None:
        self.company, self.corrupt = company, corrupt
        self.states: dict[int, AwaitingShareKeys] = {}
        self.keys: dict[int, tuple[bytes, bytes, bytes]] = {}
        for u, identity in company.identities.items():
            client = company.scheme.client(u, lambda task, u=u: vectors_of(u), identity=identity)
            client.start()
            client.receive(encode(Task(NONCE, TASK)))
            state = client._state
            assert isinstance(state, AwaitingShareKeys)
            self.states[u] = state
            self.keys[u] = sign_keys(company, u, state.c_sk.public, state.s_sk.public)

    def play(self, U1: set[int], U3: set[int], absent: Collection[int] = ()) -> dict[str, set[int]]:
        """Whose s^SK and whose b the server then has shares enough of. absent: shown, but not there."""
        request = ShareKeysRequest({v: self.keys[v] for v in sorted(U1)})
        there = U1 - set(absent)
        dealt = {u: self.states[u].share_keys(request) for u in there}
        signed = {}
        for u, (state, _) in dealt.items():
            sealed = {
                v: Delivery(dealt[v][1].sealed[u], dealt[v][1].commitments[u]) if v in there else GARBAGE
                for v in U1 - {u}
            }
            masked, _ = state.mask_input(MaskedInputRequest(sorted(U1), sealed), {}, {})
            if u in U3:
                signed[u] = masked.check(ConsistencyCheckRequest(sorted(U3)))
        signatures = {u: said.signature for u, (_, said) in signed.items()}
        known: dict[str, list[int]] = {"s": [], "b": []}
        for state, _ in signed.values():
            try:
                reply = state.unmask(SignedUnmaskingRequest(signatures))
            except RemoteProtocolError:
                continue
            for v, share in reply.shares.items():
                known["s" if isinstance(share, PairKeyShare) else "b"].append(v)
        t = self.company.scheme.threshold
        return {kind: {v for v in ids if ids.count(v) >= t} for kind, ids in known.items()}
