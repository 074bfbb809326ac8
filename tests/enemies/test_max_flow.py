"""A server that shows each client another set of survivors, chosen by maximum flow, on the sparse graph.

With checks of the neighbourhood alone (a client counts its own neighbours among the survivors, or takes t
signatures on one set) it obtains t shares of s^SK of every honest neighbour of one client, and t of that
client's b: its vector lies open. The product's clients are shown the same sets, sign them, and are handed
every signature that there is: none unmasks, for m_min of the whole cohort have to sign what it was shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from secagg import Counts, Identity, LocalProtocolError, Masking, RemoteProtocolError, throwaway_identities
from secagg.crypto import Tag, digest, seal, system_rng
from secagg.graph import Graph
from secagg.masking.choice import least_quorum
from secagg.masking.client import (
    AwaitingConsistencyCheck,
    AwaitingSignatures,
    Holding,
    Session,
)
from secagg.masking.derived import (
    commit_shares,
    share_data,
)
from secagg.masking.messages import (
    ConsistencyCheckRequest,
    Delivery,
    PairKeyShare,
    SignedUnmaskingRequest,
)
from secagg.masking.sums import OneSum
from secagg.shamir import SHARE_BYTES
from secagg.states import Terms
from tests.enemies.cast import gullible

matrices = pytest.importorskip("scipy.sparse", reason="scipy comes with scikit-learn, of the fl extra")
csgraph = pytest.importorskip("scipy.sparse.csgraph")

N, A, D = 1000, 100, 300
VICTIM = 0
EVERYBODY = frozenset(range(N))
SID, KEY = digest(Tag.SESSION, b"max flow"), bytes(32)
BOTH_SHARES = (7).to_bytes(SHARE_BYTES, "big") + (8).to_bytes(SHARE_BYTES, "big")  # what every dealer dealt

Views = Mapping[int, frozenset[int]]
"""Honest client -> the U3 it is shown. U1 and U2 are everybody, and nobody is lost."""


class Ring:
    """The permuted ring of 1000, and clients on the server's side, drawn at random; not the victim.

    targets: the victim's honest neighbours, whose s^SK the server is after.
    """

    def __init__(self, k: int, t: int, corrupt: int) -> None:
        self.k, self.t = k, t
        self.graph = Graph(EVERYBODY, N, k, digest(Tag.GRAPH, SID))
        self.near = {u: self.graph.neighbours(u) for u in EVERYBODY}
        drawn = np.random.default_rng(1).choice(np.arange(1, N), corrupt, replace=False)
        self.corrupt = frozenset(drawn.tolist())
        self.honest = sorted(EVERYBODY - self.corrupt)
        self.targets = sorted(self.near[VICTIM] - self.corrupt)

    def isolated(self, views: Views) -> bool:
        """Whether the victim's vector lies open. By counting shares: an honest holder returns that of s^SK of
        whom it was shown as dropped, and that of b of whom it was shown as alive; a corrupt one both. With t
        of s^SK of each of the victim's honest neighbours the server knows every mask of a pair on its vector,
        and with t of its b the last one.
        """
        keys = [sum(w in self.corrupt or v not in views[w] for w in self.near[v]) for v in self.targets]
        own = sum(w in self.corrupt or VICTIM in views[w] for w in self.near[VICTIM])
        return min(keys) >= self.t and own >= self.t

    def pass_in_the_neighbourhood(self, views: Views) -> bool:
        """Whether each client is alive in what it is shown, and at least t of its neighbours are."""
        return all(w in U3 and len(self.near[w] & U3) >= self.t for w, U3 in views.items())


@cache
def ring(k: int, t: int, corrupt: int = A) -> Ring:
    return Ring(k, t, corrupt)


def by_maximum_flow(ring: Ring) -> Views | None:
    """Whom to call dropped to whom: source -> honest holder w, which may be told of k - t neighbours that
    they dropped -> honest neighbour v of the victim -> sink, as many as s^SK of v still takes.

    None if there is no such way.
    """
    source, sink = N, N + 1
    missing = {v: ring.t - len(ring.near[v] & ring.corrupt) for v in ring.targets}
    edges = [(source, w, ring.k - ring.t) for w in ring.honest]
    # Holders and targets are clients both: a target's node is its number beyond the sink.
    node = {v: N + 2 + i for i, v in enumerate(ring.targets)}
    edges += [(w, node[v], 1) for v in ring.targets for w in ring.near[v] - ring.corrupt]
    edges += [(node[v], sink, max(0, missing[v])) for v in ring.targets]
    start, end, capacity = np.array(edges, np.int32).T
    size = N + 2 + len(node)
    network = matrices.csr_matrix((capacity, (start, end)), shape=(size, size), dtype=np.int32)
    found = csgraph.maximum_flow(network, source, sink)
    if found.flow_value < sum(max(0, m) for m in missing.values()):
        return None
    flow = found.flow.tocsr()
    told = {w: flow.indices[flow.indptr[w] : flow.indptr[w + 1]][_positive(flow, w)] for w in ring.honest}
    of_node = {number: v for v, number in node.items()}
    return {w: EVERYBODY - {of_node[number] for number in numbers.tolist()} for w, numbers in told.items()}


def _positive(flow: Any, w: int) -> Any:
    return flow.data[flow.indptr[w] : flow.indptr[w + 1]] > 0


def by_groups(ring: Ring, groups: int) -> Views:
    """As many sets as groups of clients, by their numbers: each group is shown one, in which the victim's
    honest neighbours of all other groups have dropped.
    """
    U3 = [EVERYBODY - {v for v in ring.targets if v % groups != g} for g in range(groups)]
    return {w: U3[w % groups] for w in ring.honest}


# The attack, where the neighbourhood is all that is looked at


@pytest.mark.parametrize(
    ("k", "t", "corrupt", "succeeds"),
    [
        (414, 247, 100, True),
        (398, 223, 50, True),
        (302, 206, 200, True),
        (88, 36, 100, True),
        (48, 27, 100, True),
        (96, 67, 100, False),
        (52, 37, 50, False),
    ],
)
def test_by_maximum_flow_a_client_is_isolated_where_its_neighbourhood_is_all_that_is_checked(
    k: int, t: int, corrupt: int, succeeds: bool
) -> None:
    """At Google's parameters for 1000 clients; where d is small, t is so near k that there is no room."""
    attacked = ring(k, t, corrupt)
    views = by_maximum_flow(attacked)
    assert (views is not None) == succeeds
    if views is not None:
        assert attacked.pass_in_the_neighbourhood(views)
        assert attacked.isolated(views)
        assert not attacked.isolated(dict.fromkeys(attacked.honest, EVERYBODY))


@pytest.mark.parametrize(
    ("k", "t", "groups", "neighbours_too"),
    [(414, 247, 3, False), (88, 36, 2, True), (88, 36, 3, False), (48, 27, 5, False)],
)
def test_by_groups_a_client_is_isolated_where_any_t_signatures_on_one_set_will_do(
    k: int, t: int, groups: int, neighbours_too: bool
) -> None:
    """Even where a client also counts its neighbours in that set, at the parameters for an honest server."""
    views = by_groups(ring(k, t), groups)
    signers = Counter(views.values())
    assert len(signers) == groups
    assert min(signers.values()) >= t
    assert all(w in U3 for w, U3 in views.items())
    assert ring(k, t).pass_in_the_neighbourhood(views) == neighbours_too
    assert ring(k, t).isolated(views)


# The product


def test_the_product_does_not_make_such_a_session() -> None:
    roster, _ = throwaway_identities(range(3))
    scheme = Masking.for_cohort(
        N, Counts(length=1, maximum=1), adversary="active", roster=roster, corrupt=A, dropout=D
    )
    assert (scheme.degree, scheme.threshold, scheme.m_min) == (470, 286, 700)
    with pytest.raises(LocalProtocolError, match="it takes 470 neighbours and a threshold of 286"):
        replace(scheme, degree=414, threshold=247)


class Clients:
    """Every honest client of a ring after its masked input has left, in states of the product, with its own
    key; what it was dealt is made for those of whom it is asked.
    """

    def __init__(self, ring: Ring, views: Views) -> None:
        self.ring, self.views = ring, views
        self.roster, self.identities = _identities()
        quorum = max(N - D, least_quorum(N, "active", A))
        parameters: Any = SimpleNamespace(
            threshold=ring.t,
            m_min=quorum,
            corrupt=A,
            digest=lambda: bytes(32),
            batches=lambda roster: [],
        )
        parameters.sums = OneSum(parameters)
        self.m_min = quorum
        self.states: dict[int, AwaitingSignatures] = {}
        self.signatures: dict[int, bytes] = {}
        for w, U3 in views.items():
            identity = self.identities[w]
            terms = Terms(w, parameters, bytes(32), bytes(32), identity)
            beside = dict.fromkeys(ring.near[w], b"")
            session = Session(terms, SID, EVERYBODY, beside, ring.near[w], [EVERYBODY])
            dealers = sorted(ring.near[w])
            holding = Holding(session, EVERYBODY, dealers, dict.fromkeys(dealers, KEY), {}, b"")
            state = AwaitingConsistencyCheck(holding, identity)
            self.states[w], said = state.check(ConsistencyCheckRequest(sorted(U3)))
            self.signatures[w] = said.signature

    def statements(self) -> Counter[bytes]:
        return Counter(state.statement for state in self.states.values())

    def unmask(self, w: int, *, believing: bool = False) -> dict[int, str]:
        """Dealer -> the kind of its share that w returns, handed the signature of every honest client, and of
        every corrupt one on exactly what w signed. believing: w takes any signature for a good one.
        """
        state = self.states[w]
        identity, session = state.identity, state.holding.session
        if believing:
            identity = Identity(w, gullible(identity.roster), identity.key)
        dealt = {
            v: Delivery(seal(KEY, BOTH_SHARES, share_data(SID, v, w), system_rng), commitments)
            for v in state.holding.holders
            for commitments in [commit_shares(SID, v, w, BOTH_SHARES)]
        }
        holding = Holding(session, EVERYBODY, state.holding.holders, state.holding.incoming, dealt, b"")
        forged = {v: self.identities[v].key.sign(state.statement) for v in self.ring.corrupt}
        request = SignedUnmaskingRequest(dict(sorted((self.signatures | forged).items())))
        reply = AwaitingSignatures(holding, identity, state.U3, state.statement).unmask(request)
        return {v: "s" if isinstance(share, PairKeyShare) else "b" for v, share in reply.shares.items()}


@cache
def _identities() -> tuple[Any, dict[int, Identity]]:
    return throwaway_identities(range(N))


def refuse(clients: Clients, some: Sequence[int]) -> None:
    """No statement has m_min signers, whatever the corrupt sign; and those that are asked find it out."""
    signed = clients.statements()
    assert max(signed.values()) + A < clients.m_min
    for w in some:
        # The corrupt count for w as far as they are in the set that it was shown.
        count = signed[clients.states[w].statement] + len(clients.ring.corrupt & clients.views[w])
        with pytest.raises(
            RemoteProtocolError, match=f"^{count} clients signed .* {clients.m_min} are needed"
        ):
            clients.unmask(w)


def some_of(ring: Ring) -> list[int]:
    """The victim, neighbours of its, whose keys the server is after, and clients that are far from it."""
    far = [w for w in ring.honest if w not in ring.near[VICTIM] and w != VICTIM]
    return [VICTIM, *ring.targets[::150], *far[::250]]


def test_shown_the_views_of_the_maximum_flow_the_products_clients_do_not_unmask() -> None:
    attacked = ring(414, 247)
    views = by_maximum_flow(attacked)
    assert views is not None
    clients, asked = Clients(attacked, views), some_of(attacked)
    assert len(clients.states) == N - A
    refuse(clients, asked)
    # The control: if they did, they would return what the server counts on.
    for w in asked:
        kinds = clients.unmask(w, believing=True)
        assert kinds == {v: "b" if v in views[w] else "s" for v in attacked.near[w]}


@pytest.mark.parametrize("groups", [2, 5])
def test_shown_several_global_sets_the_products_clients_do_not_unmask(groups: int) -> None:
    attacked = ring(414, 247)
    clients = Clients(attacked, by_groups(attacked, groups))
    assert len(clients.statements()) == groups
    assert min(clients.statements().values()) + A >= attacked.t  # enough for a rule of any t signatures
    refuse(clients, some_of(attacked)[::2])


@pytest.mark.parametrize("minority", [100, 101])
def test_of_two_sets_only_the_one_that_m_min_sign_is_unmasked(minority: int) -> None:
    """However the server divides the honest, who sign once each: m_min is above (n + A) / 2."""
    attacked = ring(414, 247)
    large, small = EVERYBODY - set(attacked.targets[:100]), EVERYBODY - set(attacked.targets[100:200])
    honest = [w for w in attacked.honest if w in large & small]
    clients = Clients(attacked, {w: small if i < minority else large for i, w in enumerate(honest)})
    assert len(honest) == clients.m_min == 700
    assert 2 * clients.m_min > N + A
    signers = {honest[0]: minority or 700, honest[-1]: 700 - minority}
    for w, count in signers.items():
        if count + A >= clients.m_min:
            assert set(clients.unmask(w)) == attacked.near[w]
            continue
        with pytest.raises(RemoteProtocolError, match=rf"^{count + A} clients signed .* 700 are needed"):
            clients.unmask(w)


def test_shown_one_set_the_products_clients_unmask_it() -> None:
    attacked = ring(414, 247)
    clients = Clients(attacked, dict.fromkeys(attacked.honest, EVERYBODY))
    for w in some_of(attacked)[::2]:
        assert clients.unmask(w) == dict.fromkeys(attacked.near[w], "b")
