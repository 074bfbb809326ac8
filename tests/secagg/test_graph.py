"""How k and t are chosen, against Google's table and against the conditions in exact arithmetic; and the
graph: a Harary graph on a ring that public chance shuffles.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import combinations

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from secagg import Counts, LocalProtocolError
from secagg.crypto import PROTOCOL_VERSION, Tag, digest
from secagg.graph import ETA, SIGMA, Graph, _disconnected, excess, graph_of, ln_above, sparsest
from secagg.masking.choice import least_quorum, neighbourhood
from secagg.prg import BLOCK_BYTES
from secagg.wire import MAX_ID
from tests.play import Play
from tests.secagg.helpers import MASKING, active, semi_honest

ONE = Counts(length=1, maximum=1)
HONEST, ACTIVE = "semi-honest", "active"


# Published tables


def counts(fraction: float, clients: int) -> int:
    """Of a fraction, as Google's code takes it."""
    return math.floor((fraction + 1e-14) * clients)


def choice(n: int, corrupt: float, dropout: float, adversary: str, sigma: float = 40) -> str:
    chosen = sparsest(n, counts(corrupt, n), counts(dropout, n), adversary, sigma=sigma)
    return "-" if chosen is None else f"{chosen.degree}/{chosen.threshold}"


# The same procedure in a port of its own, with sigma 40; ? is a value that is not published. For Google's see
# vectors/graph.json.
MORE = """
                      64     128    256      512      1000     2000     5000     10000    100000
.05 .05 semi-honest   8/4    14/7   20/12    26/15    30/17    30/18    32/19    34/20    36/21
.05 .10 semi-honest   10/4   16/7   26/13    32/17    36/19    38/20    40/21    42/22    46/23
.10 .10 semi-honest   14/7   24/13  36/20    42/24    48/27    50/28    52/30    54/31    58/33
.05 .30 semi-honest   22/4   28/7   42/13    58/20    66/23    70/25    76/27    80/29    88/31
.10 .30 semi-honest   24/7   38/13  60/24    76/31    88/36    98/40    106/43   108/44   122/49
.20 .20 semi-honest   26/13  48/26  70/38    88/48    98/54    108/59   118/64   122/67   134/73
.20 .30 semi-honest   32/13  58/26  90/43    120/57   140/67   160/76   172/82   182/87   202/96
.05 .05 active        10/7   20/14  34/24    44/31    52/37    56/40    58/41    62/44    68/48
.05 .10 active        16/10  30/19  48/31    66/44    78/52    84/56    90/60    96/64    106/70
.10 .10 active        20/14  38/26  62/43    82/57    96/67    106/74   116/81   122/85   134/93
.20 .20 active        38/26  76/51  144/98   220/150  302/206  374/255  442/301  482/328  ?
.10 .30 active        46/27  90/52  158/92   276/164  414/247  552/330  704/421  ?        ?
"""


def cells(table: str) -> list[tuple[float, float, str, int, str]]:
    return list(_cells(table))


def _cells(table: str) -> Iterator[tuple[float, float, str, int, str]]:
    head, *rows = table.strip().splitlines()
    for row in rows:
        corrupt, dropout, adversary, *values = row.split()
        for n, value in zip(head.split(), values, strict=True):
            if value != "?":
                yield float(corrupt), float(dropout), adversary, int(n), value


def test_the_table_is_whole() -> None:
    assert len(cells(MORE)) == 12 * 9 - 3


@pytest.mark.parametrize(("corrupt", "dropout", "adversary", "n", "value"), cells(MORE))
def test_degree_and_threshold_are_those_of_another_port(
    corrupt: float, dropout: float, adversary: str, n: int, value: str
) -> None:
    assert choice(n, corrupt, dropout, adversary) == value


@pytest.mark.parametrize(
    ("n", "fraction", "dropout", "at_40", "at_128"),
    [
        (1000, 0.05, 0.05, "52/37", "78/60"),
        (1000, 0.1, 0.1, "96/67", "144/107"),
        (1000, 0.1, 0.3, "414/247", "470/286"),
        (10**4, 0.1, 0.1, "122/85", "196/146"),
        (100, 0.05, 0.05, "16/11", "16/11"),
        (100, 0.1, 0.1, "32/22", "32/22"),
        (100, 0.1, 0.3, "72/42", "72/42"),
    ],
)
def test_what_trying_keys_costs_an_active_server_is_paid_for_in_degree(
    n: int, fraction: float, dropout: float, at_40: str, at_128: str
) -> None:
    """Sigma is 128 where the server can try keys until the graph suits it."""
    assert choice(n, fraction, dropout, ACTIVE) == at_40
    A, d = counts(fraction, n), counts(dropout, n)
    k, t = sparsest(n, A, d, ACTIVE) or (0, 0)
    assert f"{k}/{t}" == at_128
    scheme = active(range(n), ONE, corrupt=fraction, dropout=dropout, graph="sparse")
    assert (scheme.degree, scheme.threshold, scheme.m_min) == (k, t, n - d)


def test_the_security_levels() -> None:
    assert SIGMA == {"semi-honest": 40, "active": 128}
    assert ETA == 20
    for adversary, sigma in SIGMA.items():
        given = sparsest(1000, 100, 100, adversary, sigma=sigma, eta=20)
        assert sparsest(1000, 100, 100, adversary) == given
        assert given != sparsest(1000, 100, 100, adversary, sigma=sigma + 8, eta=20)
        assert given != sparsest(1000, 100, 100, adversary, sigma=sigma, eta=28)


# The conditions, in exact arithmetic


@lru_cache(maxsize=4096)
def at_least(n: int, marked: int, drawn: int, t: int) -> Fraction:
    """Pr[H >= t], H the number of marked among `drawn` of n."""
    ways = sum(math.comb(marked, j) * math.comb(n - marked, drawn - j) for j in range(max(t, 0), drawn + 1))
    return Fraction(ways, math.comb(n, drawn))


def cut_in_two(n: int, bad: int, k: int) -> Fraction:
    """Union bound: two runs of k / 2 places each, with places between them on both sides, are all bad."""
    return Fraction(n * (n - k - 1), 2) * Fraction(math.comb(bad, k), math.comb(n, k))


def holds(n: int, A: int, d: int, adversary: str, sigma: int, eta: int, k: int, t: int) -> bool:
    """Conditions (1), (2) and (3) of `sparsest`."""
    rare, lost = Fraction(1, 2 ** (sigma + 1)), Fraction(1, 2**eta)
    # (2): a client with so many corrupt neighbours. Against an active server every corrupt holder gives both
    # shares and every honest one of k one, and t of each kind must not be had: 2t - k > c.
    too_many = 2 * t - k if adversary == ACTIVE else t
    connected = cut_in_two(n, A + d, k) < rare
    hidden = n * at_least(n, A, k, too_many) <= rare
    answered = n * at_least(n, d, k, k - t + 1) < lost
    return t >= 2 and connected and hidden and answered


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[int, int, int, str, int, int]:
    n = draw(st.integers(3, 60), label="n")
    A = draw(st.integers(0, n // 2), label="A")
    d = draw(st.integers(0, n // 2), label="d")
    adversary = draw(st.sampled_from([HONEST, ACTIVE]))
    return (
        n,
        A,
        d,
        adversary,
        draw(st.sampled_from([5, 10, 20, 40, 128])),
        draw(st.sampled_from([5, 10, 20, 30])),
    )


@settings(max_examples=500)
@given(cohorts())
def test_the_chosen_degree_is_the_smallest_that_meets_the_conditions(
    numbers: tuple[int, int, int, str, int, int],
) -> None:
    """And its threshold the smallest that goes with it; None only where no even k below n - 1 does."""
    n, A, d, adversary, sigma, eta = numbers
    assume(A or adversary == ACTIVE)  # then only, see the next test
    chosen = sparsest(n, A, d, adversary, sigma=sigma, eta=eta)
    if (A + (2 if adversary == ACTIVE else 1) * d) * 10 > 9 * n:
        assert chosen is None
        return
    possible = ((k, t) for k in range(2, n - 1, 2) for t in range(1, k + 1) if holds(*numbers, k, t))
    assert chosen == next(possible, None)


@given(st.integers(3, 60), st.integers(0, 30), st.sampled_from([HONEST, ACTIVE]))
def test_where_nobody_is_corrupt_the_conditions_are_met_too(n: int, d: int, adversary: str) -> None:
    """One is taken to be: with none the procedure looks at condition (3) for t = 1, and answers t = 2."""
    chosen = neighbourhood(n, 0, d, adversary)
    assert chosen == neighbourhood(n, 1, d, adversary) == sparsest(n, 1, d, adversary)
    if chosen is not None:
        assert holds(n, 0, d, adversary, SIGMA[adversary], ETA, *chosen)


@pytest.mark.parametrize(
    ("n", "A", "d", "adversary"),
    [(1000, 100, 300, HONEST), (1000, 100, 100, ACTIVE), (300, 90, 60, ACTIVE), (500, 25, 150, HONEST)],
)
def test_the_conditions_are_met_just_so_by_larger_cohorts(n: int, A: int, d: int, adversary: str) -> None:
    k, t = sparsest(n, A, d, adversary) or (0, 0)
    assert holds(n, A, d, adversary, SIGMA[adversary], ETA, k, t)
    assert not any(holds(n, A, d, adversary, SIGMA[adversary], ETA, k - 2, s) for s in range(1, k - 1))
    assert not holds(n, A, d, adversary, SIGMA[adversary], ETA, k, t - 1)


@given(st.integers(2, 80), st.data())
def test_the_logarithms_are_those_of_the_exact_chances(n: int, data: st.DataObject) -> None:
    marked, drawn = data.draw(st.integers(0, n), label="marked"), data.draw(st.integers(1, n), label="drawn")
    t = data.draw(st.integers(-1, drawn), label="t")
    exact, said = at_least(n, marked, drawn, t + 1), ln_above(n, marked, drawn, t)
    if exact == 0:
        assert said == -math.inf
    elif said == 0:  # below the mode: there it is no rare event
        assert exact > Fraction(1, drawn + 2)
    else:
        assert said == pytest.approx(math.log(exact), abs=1e-9)
    if drawn % 2 == 0 and drawn < n - 1:
        exact, said = cut_in_two(n, marked, drawn), _disconnected(n, marked, drawn)
        assert said == (pytest.approx(math.log(exact), abs=1e-9) if exact else -math.inf)


def test_a_tail_that_begins_below_the_mode_is_bounded_by_one() -> None:
    """Summed up from there, a large cohort's would overflow."""
    for t in (-1, 0, 100, 2807):
        assert ln_above(10**6, 450_000, 6_240, t) == 0
    assert ln_above(10**6, 450_000, 6_240, 2809) < 0


def test_the_bounds_hold_for_every_way_the_corrupt_and_the_lost_can_stand() -> None:
    """By counting all places on small rings: what the conditions bound are chances of the shuffled ring."""
    for n, k, bad in ((9, 2, 2), (10, 2, 3), (11, 4, 4), (12, 4, 5), (12, 4, 6), (13, 6, 6)):
        graph = Graph(range(n), n, k, bytes(32))
        places = [graph.neighbours(u) for u in range(n)]
        ways = [frozenset(marked) for marked in combinations(range(n), bad)]
        cut = sum(not connected(places, set(range(n)) - marked) for marked in ways)
        assert 0 < Fraction(cut, len(ways)) <= cut_in_two(n, bad, k)
        for t in range(1, min(k, bad) + 1):
            crowded = sum(any(len(near & marked) >= t for near in places) for marked in ways)
            assert 0 < Fraction(crowded, len(ways)) <= n * at_least(n, bad, k, t)
            of_one = sum(len(places[0] & marked) >= t for marked in ways)
            assert Fraction(of_one, len(ways)) == at_least(n, bad, k, t)


def connected(neighbours: list[frozenset[int]], left: Collection[int]) -> bool:
    reached = set()
    ahead = {next(iter(left))}
    while ahead:
        reached |= ahead
        ahead = {v for u in ahead for v in neighbours[u]} & set(left) - reached
    return reached == set(left)


# What is impossible


@pytest.mark.parametrize(
    ("n", "A", "d", "adversary", "words"),
    [
        (10, 5, 4, HONEST, None),
        (10, 5, 5, HONEST, "5 corrupt and 5 dropped of 10 clients make 1.00 of the cohort, and at most 0.9"),
        (10, 1, 4, ACTIVE, None),
        (10, 2, 4, ACTIVE, "2 corrupt and twice 4 dropped of 10 clients make 1.00 of the cohort"),
        (1000, 450, 450, HONEST, None),
        (1000, 450, 451, HONEST, "450 corrupt and 451 dropped of 1000 clients make 0.90"),
        (1000, 300, 300, ACTIVE, None),
        (1000, 301, 300, ACTIVE, "301 corrupt and twice 300 dropped of 1000"),
    ],
)
def test_what_the_procedure_is_not_made_for_is_said_in_numbers(
    n: int, A: int, d: int, adversary: str, words: str | None
) -> None:
    said = excess(n, A, d, adversary)
    if words is None:
        assert said is None
        return
    assert said is not None
    assert words in said
    assert sparsest(n, A, d, adversary) is None
    with pytest.raises(LocalProtocolError, match=words):
        MASKING[adversary](range(n), ONE, corrupt=A, dropout=d, graph="sparse")


@pytest.mark.parametrize("graph", ["auto", "complete"])
@pytest.mark.parametrize(
    ("n", "A", "d", "adversary"),
    [(30, 28, 0, HONEST), (30, 28, 0, ACTIVE), (1000, 450, 451, HONEST), (20, 1, 9, ACTIVE)],
)
def test_the_complete_graph_takes_more_than_the_procedure_is_made_for(
    n: int, A: int, d: int, adversary: str, graph: str
) -> None:
    """What its threshold leaves, and no more."""
    assert excess(n, A, d, adversary) is not None
    scheme = MASKING[adversary](range(n), ONE, corrupt=A, dropout=d, graph=graph)
    assert scheme.complete
    assert (scheme.corrupt, scheme.dropout) == (A, d)
    most = n - least_quorum(n, adversary, A)
    with pytest.raises(LocalProtocolError, match=f"{A} are corrupt and {most + 1} drop out: .* to be left"):
        MASKING[adversary](range(n), ONE, corrupt=A, dropout=most + 1, graph=graph)


def test_no_dropouts_are_taken_where_they_are_the_default() -> None:
    for adversary in (HONEST, ACTIVE):
        by_default = MASKING[adversary](range(30), ONE, corrupt=28)
        assert by_default.dropout == 0
        for none in (0, 0.0):
            assert MASKING[adversary](range(30), ONE, corrupt=28, dropout=none) == by_default


def test_a_sparse_graph_that_is_not_good_enough_is_refused_with_its_numbers() -> None:
    words = "no sparse graph is good enough for 10 clients, 2 of them corrupt and 3 dropping out"
    assert sparsest(10, 2, 3, ACTIVE) is None
    with pytest.raises(LocalProtocolError, match=words):
        active(range(10), ONE, corrupt=2, dropout=3, graph="sparse")
    assert active(range(10), ONE, corrupt=2, dropout=3).complete


# The graph


def of(members: Collection[int], places: int, degree: int, sid: bytes = b"") -> Graph:
    return Graph(members, places, degree, digest(Tag.GRAPH, sid))


@st.composite
def graphs(draw: st.DrawFn) -> tuple[frozenset[int], int, int, bytes]:
    places = draw(st.integers(4, 40), label="places")
    members = draw(st.frozensets(st.integers(0, MAX_ID), min_size=1, max_size=places), label="members")
    degree = 2 * draw(st.integers(1, (places - 2) // 2), label="half of k")
    return members, places, degree, draw(st.binary(min_size=32, max_size=32), label="seed")


@given(graphs())
def test_a_graph_is_symmetric_and_of_degree_k_at_most(
    numbers: tuple[frozenset[int], int, int, bytes],
) -> None:
    members, places, degree, _ = numbers
    graph = Graph(*numbers)
    assert not graph.complete
    for u in members:
        near = graph.neighbours(u)
        assert near <= members - {u}
        assert len(near) <= degree
        # At most the empty places are missing.
        assert len(near) >= degree - (places - len(members))
        assert all(u in graph.neighbours(v) for v in near)
        assert graph.holders(u) == near


@given(graphs())
def test_a_graph_of_everybody_is_regular(numbers: tuple[frozenset[int], int, int, bytes]) -> None:
    _, places, degree, seed = numbers
    everybody = range(places)
    graph = Graph(everybody, places, degree, seed)
    assert {len(graph.neighbours(u)) for u in everybody} == {degree}
    assert connected([graph.neighbours(u) for u in everybody], everybody)


@given(graphs(), st.randoms())
def test_a_graph_is_the_same_whatever_the_order_of_its_members(
    numbers: tuple[frozenset[int], int, int, bytes], random: object
) -> None:
    members, *rest = numbers
    shuffled = sorted(members, key=lambda u: hashlib.sha256(f"{u}{random}".encode()).digest())
    first, second = Graph(sorted(members), *rest), Graph(shuffled, *rest)
    assert all(first.neighbours(u) == second.neighbours(u) for u in members)


def test_a_graph_changes_with_its_seed() -> None:
    rings = {tuple(of(range(30), 30, 4, bytes([i])).neighbours(0)) for i in range(50)}
    assert len(rings) == 50


def test_who_is_missing_leaves_its_place_empty() -> None:
    """The places are drawn for n: those who are there stand as they would among all, but for their names."""
    n, k, seed = 20, 6, bytes(range(32))
    everybody = Graph(range(n), n, k, seed)
    some = Graph(range(n - 5), n, k, seed)
    for u in range(n - 5):
        assert some.neighbours(u) == {v for v in everybody.neighbours(u) if v < n - 5}
    assert min(len(some.neighbours(u)) for u in range(n - 5)) < k


def ring_of(n: int, seed: bytes) -> list[int]:
    """Whose place is the p-th: the stable order of 64-bit little-endian words of AES-128 in counter mode."""
    stream = Cipher(algorithms.AES(seed[:16]), modes.CTR(bytes(16))).encryptor().update(bytes(8 * n))
    words = [int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(n)]
    return sorted(range(n), key=words.__getitem__)


LARGE = BLOCK_BYTES // 8 + 3  # the words of more than one block of the stream


@pytest.mark.parametrize(("n", "k", "missing"), [(7, 2, 0), (40, 10, 3), (1000, 414, 20), (LARGE, 6, 1)])
def test_the_shuffle_is_the_documented_one(n: int, k: int, missing: int) -> None:
    ids = [3 * i + 1 for i in range(n - missing)]
    sid = hashlib.sha256(b"session %d" % n).digest()
    coded = [b"secagg/%d/graph" % PROTOCOL_VERSION, b"b" + sid]
    seed = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in coded)).digest()
    ring = ring_of(n, seed)
    graph = graph_of(tuple(ids), n, k, sid)
    for p in {0, 1, k, n // 2, n - 2, n - 1}:
        if ring[p] >= len(ids):
            continue
        beside = {ring[(p + step) % n] for step in range(-(k // 2), k // 2 + 1) if step}
        assert graph.neighbours(ids[ring[p]]) == {ids[i] for i in beside if i < len(ids)}


def test_the_shuffle_of_a_known_session() -> None:
    """Not to change but with the version of the protocol."""
    assert ring_of(8, digest(Tag.GRAPH, bytes(32))) == KNOWN
    graph = graph_of(tuple(range(8)), 8, 2, bytes(32))
    for p, u in enumerate(KNOWN):
        assert graph.neighbours(u) == {KNOWN[p - 1], KNOWN[(p + 1) % 8]}


KNOWN = [5, 1, 3, 2, 4, 0, 7, 6]


@pytest.mark.parametrize("places", [1, 2, 3, 10])
def test_the_complete_graph_is_everybody_and_a_client_holds_of_itself(places: int) -> None:
    for members in (range(places), range(0, 2 * places - 2, 2)):
        graph = of(members, places, places - 1)
        assert graph.complete
        for u in members:
            assert graph.neighbours(u) == set(members) - {u}
            assert graph.holders(u) == set(members)


def test_all_parties_of_a_session_have_one_graph() -> None:
    for make in MASKING.values():
        scheme = make(range(20), ONE, corrupt=1, dropout=4, graph="sparse")
        play = Play(scheme, {u: [1] for u in range(20)}, drop={"advertise-keys": {7}}).to("masked-input")
        server, members = play.server._graph, set(range(20)) - {7}
        assert server.members == tuple(sorted(members))
        for u in members:
            session = play.clients[u]._state.session
            assert session.sid == play.server._sid
            assert session.neighbours.keys() == server.neighbours(u)
            assert session.holders == server.holders(u)
            anew = Graph(members, 20, scheme.degree, digest(Tag.GRAPH, session.sid))
            assert anew.neighbours(u) == server.neighbours(u)


def test_no_two_sessions_have_the_same_graph() -> None:
    scheme = semi_honest(range(30), ONE, corrupt=1, dropout=4, graph="sparse")
    plays = [Play(scheme, {u: [1] for u in range(30)}).to("masked-input") for _ in range(2)]
    first, second = ([it.server._graph.neighbours(u) for u in range(30)] for it in plays)
    assert first != second


# The shuffle is fair: by chi-squared, with fixed seeds, six deviations off at most


def assert_even(seen: Counter[object], kinds: int, trials: int) -> None:
    expected = trials / kinds
    statistic = sum((count - expected) ** 2 / expected for count in seen.values())
    statistic += (kinds - len(seen)) * expected
    assert len(seen) <= kinds
    assert statistic < kinds - 1 + 6 * math.sqrt(2 * (kinds - 1))


def test_every_ring_of_five_is_drawn_as_often_as_any_other() -> None:
    """There are 4! / 2 of them."""
    trials = 6000
    drawn = (of(range(5), 5, 2, b"%d" % i) for i in range(trials))
    seen = Counter(frozenset(frozenset({u, v}) for u in range(5) for v in g.neighbours(u)) for g in drawn)
    assert_even(seen, 12, trials)


def test_every_client_is_as_often_beside_another_as_any() -> None:
    n, k, trials = 13, 4, 3000
    seen: Counter[object] = Counter()
    for i in range(trials):
        graph = of(range(n), n, k, b"pairs %d" % i)
        seen.update((0, v) for v in graph.neighbours(0))
    assert len(seen) == n - 1
    assert_even(seen, n - 1, trials * k)


def test_every_client_is_as_often_beside_an_empty_place_as_any() -> None:
    """Who is missing is the highest of the members' order, and that says nothing of where it stood."""
    n, k, missing, trials = 12, 4, 3, 3000
    seen: Counter[object] = Counter()
    for i in range(trials):
        graph = of(range(n - missing), n, k, b"empty %d" % i)
        seen.update({u: k - len(graph.neighbours(u)) for u in range(n - missing)})
    expected = trials * k * missing / (n - 1)
    assert all(abs(count - expected) < 6 * math.sqrt(expected) for count in seen.values())
