"""The numbers of a session are checked once, when they are made, and each of them is in the digest."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from secagg import CKKS, Bounded, Counts, LocalProtocolError, Masking, Plain, Split, TooFewClients, Weight
from secagg.ckks.ring import Ring
from secagg.errors import counted
from secagg.graph import sparsest
from secagg.masking.choice import default_threshold, least_quorum, neighbourhood
from secagg.params import MAX_CLIENTS, MAX_NAME, MAX_VECTORS
from secagg.specs import MAX_LENGTH
from secagg.wire import MAX_ID
from tests.play import Play, identities
from tests.secagg.helpers import ENDINGS, MIXED, SCHEMES, active, keeping, releasing, semi_honest

ONE = Counts(length=1, maximum=1)
ROSTER, _ = identities(range(5))
FIVE_SEMI_HONEST = semi_honest(range(5), ONE)


def changed(**numbers: Any) -> Masking:
    """Parameters that `for_cohort` would not have made."""
    return replace(FIVE_SEMI_HONEST, **numbers)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Masking.for_cohort(0, ONE), f"0 clients is not in 1..{MAX_CLIENTS}"),
        (lambda: Plain.for_cohort(0, ONE), f"0 clients is not in 1..{MAX_CLIENTS}"),
        (lambda: Masking.for_cohort(MAX_CLIENTS + 1, ONE), f"{MAX_CLIENTS + 1} clients is not in"),
        (lambda: Masking.for_cohort(1, ONE), "1 client the sum tells .* small_cohort=True"),
        (lambda: Plain.for_cohort(2, ONE), "2 clients the sum tells .* small_cohort=True"),
        (lambda: Masking.for_cohort(3, {}), f"a session has 1..{MAX_VECTORS} vectors"),
        (lambda: Masking.for_cohort(3, {str(i): ONE for i in range(MAX_VECTORS + 1)}), "has 1..64 vectors"),
        (lambda: Masking.for_cohort(3, {"n" * (MAX_NAME + 1): ONE}), f"at most {MAX_NAME} bytes"),
        (lambda: Masking.for_cohort(3, {"é" * (MAX_NAME // 2 + 1): ONE}), f"at most {MAX_NAME} bytes"),
        (
            lambda: Plain.for_cohort(3, {"v": Weight(maximum=1), "w": Weight(maximum=1)}),
            "at most one weight, not 2",
        ),
        (
            lambda: Plain.for_cohort(3, {c: Counts(length=MAX_LENGTH // 2 + 1, maximum=1) for c in "ab"}),
            f"{2 * (MAX_LENGTH // 2 + 1)} coordinates together",
        ),
        (lambda: Plain.for_cohort(600, Counts(length=1, maximum=2**53 - 1)), "need a ring of 63 bits"),
        (lambda: semi_honest(range(5), ONE, threshold=2), r"threshold 2 is impossible: .* in 3\.\.4"),
        (lambda: semi_honest(range(5), ONE, threshold=6), r"threshold 6 is impossible: .* in 3\.\.5"),
        (
            lambda: semi_honest(range(5), ONE, threshold=4, dropout=2),
            r"threshold 4 .* 5 clients, 1 of them corrupt and 2 dropping out, .*-honest, it is in 3\.\.3",
        ),
        (lambda: semi_honest(range(6), ONE, threshold=3), r"threshold 3 is impossible: .* in 4\.\.5"),
        (
            lambda: semi_honest(range(5), ONE, threshold=3, corrupt=2, dropout=0),
            r"threshold 3 .* 5 clients, 2 of them corrupt and 0 dropping out, .*-honest, it is in 4\.\.5",
        ),
        (
            lambda: active(range(5), ONE, threshold=3, dropout=0),
            r"threshold 3 .* 5 clients, 1 of them corrupt and 0 dropping out, .* active, it is in 4\.\.5",
        ),
        (lambda: active(range(6), ONE, threshold=3, corrupt=0), r"threshold 3 is impossible: .* in 4\.\.5"),
        (lambda: active(range(5), ONE, threshold=6), r"threshold 6 is impossible: .* in 4\.\.5"),
        (lambda: active(range(3), ONE, threshold=1, corrupt=0), r"threshold 1 is impossible: .* in 2\.\.3"),
        (lambda: semi_honest(range(5), ONE, corrupt=-1), "corrupt -1: of 5 clients it is 0 to 4"),
        (lambda: active(range(5), ONE, corrupt=5), "corrupt 5: of 5 clients it is 0 to 4"),
        (lambda: active(range(5), ONE, dropout=-1), "dropout -1: of 5 clients it is 0 to 4"),
        (lambda: semi_honest(range(5), ONE, dropout=5), "dropout 5: of 5 clients it is 0 to 4"),
        (
            lambda: changed(adversary="Active"),
            "no adversary is called 'Active': there are semi-honest and active",
        ),
        (lambda: changed(corrupt=-1), "-1 corrupt clients of 5 is impossible: from 0 to 4"),
        (lambda: changed(corrupt=5), "5 corrupt clients of 5 is impossible: from 0 to 4"),
        (lambda: changed(dropout=-1), "-1 dropouts of 5 clients are impossible: from 0 to 4"),
        (lambda: changed(dropout=5), "5 dropouts of 5 clients are impossible: from 0 to 4"),
        (
            lambda: active(range(5), ONE, corrupt=4),
            "5 clients of whom 4 are corrupt and 0 drop out: 6 would have to be left",
        ),
        (
            lambda: semi_honest(range(6), ONE, dropout=3),
            "6 clients of whom 1 are corrupt and 3 drop out: 4 would have to be left",
        ),
        (
            lambda: semi_honest(range(3), ONE, corrupt=2),
            "3 clients of whom 2 are corrupt and 0 drop out: 4 would have to be left",
        ),
        (lambda: semi_honest(range(5), ONE, m_min=2), "m_min 2 is impossible: from t = 3 to n = 5"),
        (lambda: semi_honest(range(5), ONE, m_min=6), "m_min 6 is impossible: from t = 3 to n = 5"),
        (lambda: active(range(5), ONE, m_min=3), "m_min 3 is impossible: from t = 4 to n = 5"),
        (lambda: active(range(5), ONE, m_min=6), "m_min 6 is impossible: from t = 4 to n = 5"),
        (lambda: semi_honest(range(5), ONE, threshold=3.0), "threshold 3.0 is not an integer"),
        (lambda: semi_honest(range(5), ONE, m_min="4"), "m_min '4' is not an integer"),
        (
            lambda: active(range(5), ONE, corrupt=1.0),
            "corrupt 1.0: a fraction is at least 0 and below 1, a count is a whole number",
        ),
        (lambda: semi_honest(range(5), ONE, corrupt=-0.1), "corrupt -0.1: a fraction is at least 0"),
        (
            lambda: semi_honest(range(5), ONE, dropout=1.0),
            "dropout 1.0: a fraction is at least 0 and below 1, a count is a whole number",
        ),
        (lambda: active(range(5), ONE, dropout=-0.5), "dropout -0.5: a fraction is at least 0"),
        (lambda: semi_honest(range(5), ONE, corrupt=float("nan")), "corrupt nan: a fraction is at least 0"),
        (lambda: semi_honest(range(5), ONE, dropout=float("nan")), "dropout nan: a fraction is at least 0"),
        (lambda: semi_honest(range(5), ONE, dropout="1"), "dropout '1' is not an integer"),
        (
            lambda: semi_honest(range(5), ONE, corrupt=True),
            "corrupt is a number of clients or a fraction, not True",
        ),
        (
            lambda: active(range(5), ONE, dropout=False),
            "dropout is a number of clients or a fraction, not False",
        ),
        (lambda: changed(dropout=1.5), "dropout 1.5 is not an integer"),
        (lambda: changed(degree="4"), "degree '4' is not an integer"),
        (lambda: semi_honest(range(5), ONE, batch=3.0), "batch 3.0 is not an integer"),
        (
            lambda: semi_honest(range(10), ONE, corrupt=4, dropout=6, graph="sparse"),
            "4 corrupt and 6 dropped of 10 clients make 1.00 of the cohort, and at most 0.9 is possible",
        ),
        (
            lambda: active(range(10), ONE, corrupt=4, dropout=0.3, graph="sparse"),
            "4 corrupt and twice 3 dropped of 10 clients make 1.00 of the cohort",
        ),
        (
            lambda: Masking.for_cohort(5, ONE, graph="ring"),
            "no graph is called 'ring': there are auto, complete, sparse",
        ),
        (
            lambda: Masking.for_cohort(5, ONE, prg="rc4"),
            "no PRG is called 'rc4': there are aes-128-ctr and chacha20",
        ),
        (
            lambda: semi_honest(range(20), ONE, graph="sparse", threshold=11),
            "20 clients, 2 of them corrupt and 6 dropping out, and none has a threshold of one's own",
        ),
        (
            lambda: semi_honest(range(5), ONE, graph="sparse", corrupt=0, dropout=2),
            "no sparse graph is good enough for 5 clients, 0 of them corrupt and 2 dropping out",
        ),
        (
            lambda: semi_honest(range(9), ONE, batch=2),
            "a batch of 2 is impossible: with 1 of 9 clients corrupt it has 3 to 9",
        ),
        (lambda: active(range(9), ONE, corrupt=2, batch=3), "batch of 3 is impossible: .* it has 4 to 9"),
        (lambda: semi_honest(range(9), ONE, batch=10), "a batch of 10 is impossible"),
        (lambda: semi_honest(range(9), ONE, corrupt=0, batch=-3), "a batch of -3 is impossible"),
        (lambda: semi_honest(range(9), ONE, corrupt=0, batch=1), "a batch of 1 is impossible: .* has 2 to 9"),
        (lambda: Plain(clients=5.0, vectors={"": ONE}), "clients 5.0 is not an integer"),
        (
            lambda: Masking.for_cohort(5, ONE, adversary="Active", roster=ROSTER),
            "no adversary is called 'Active': there are semi-honest and active",
        ),
        (lambda: Masking.for_cohort(5, ONE, adversary="active"), "bound to a roster, and only then"),
        (
            lambda: Masking(clients=5, vectors={"": ONE}, threshold=3, m_min=3, degree=4, roster=bytes(32)),
            "bound to a roster, and only then",
        ),
        (
            lambda: replace(active(range(5), ONE), roster=bytes(31)),
            "bound to a roster, and only then",
        ),
    ],
)
def test_impossible_numbers_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        make()


KEEP, RELEASE = keeping(range(5), MIXED), releasing(range(5), MIXED)
CKKS_IMPOSSIBLE: dict[str, tuple[Callable[[], Any], str]] = {
    "no clients": (lambda: CKKS.for_cohort(0, ONE), "0 clients is not in"),
    "no clients that release": (
        lambda: CKKS.for_cohort(0, Bounded(length=1, bound=1.0), ending="release"),
        "0 clients is not in",
    ),
    "clients of no number": (lambda: CKKS.for_cohort(5.0, ONE), "clients 5.0 is not an integer"),
    "two clients": (lambda: CKKS.for_cohort(2, ONE), "2 clients the sum tells .* small_cohort=True"),
    "no vectors": (lambda: CKKS.for_cohort(3, {}), f"a session has 1..{MAX_VECTORS} vectors"),
    "m_min of none": (lambda: CKKS.for_cohort(5, ONE, m_min=0), r"m_min 0 is not in 1\.\.5"),
    "m_min above n": (lambda: CKKS.for_cohort(5, ONE, m_min=6), r"m_min 6 is not in 1\.\.5"),
    "m_min of text": (lambda: CKKS.for_cohort(5, ONE, m_min="4"), "m_min '4' is not an integer"),
    "an ending": (
        lambda: CKKS.for_cohort(5, ONE, ending="publish"),
        "no ending is called 'publish': there are keep and release",
    ),
    "an ending, changed": (lambda: replace(KEEP, ending="Keep"), "no ending is called 'Keep'"),
    "an active server": (
        lambda: CKKS.for_cohort(5, ONE, adversary="active", roster=ROSTER),
        "CKKS is not for a server that is active: it decides what is decrypted, .* Against such .*: masking",
    ),
    "an active server, changed": (
        lambda: replace(KEEP, adversary="active"),
        "CKKS is not for a server that is active",
    ),
    "an unknown server": (
        lambda: CKKS.for_cohort(5, ONE, adversary="honest"),
        "CKKS is not for a server that is honest",
    ),
    "flooding of what is kept": (
        lambda: replace(KEEP, flood_bits=40),
        "a sum that clients keep is flooded with 0 bits",
    ),
    "no flooding of what is released": (
        lambda: replace(RELEASE, flood_bits=0),
        "a sum that clients release is flooded with 40 bits",
    ),
    "less flooding": (lambda: replace(RELEASE, flood_bits=39), "release is flooded with 40 bits"),
    "half a roster": (
        lambda: replace(KEEP, roster=bytes(31)),
        "the digest of a roster has 32 bytes, or none",
    ),
    "another degree": (
        lambda: replace(KEEP, degree=2 * KEEP.degree),
        f"degree {2 * KEEP.degree} with primes of .* is not what this session takes: degree {KEEP.degree},",
    ),
    "other primes": (
        lambda: replace(KEEP, prime_bits=[*KEEP.prime_bits, 30]),
        f"is not what this session takes: degree {KEEP.degree}, ",
    ),
    "another scale": (lambda: replace(KEEP, scale=KEEP.scale + 1), f"takes: .* scale {KEEP.scale}$"),
    "the numbers of another ending": (
        lambda: replace(RELEASE, ending="keep", flood_bits=0),
        "is not what this session takes",
    ),
    "the numbers of another cohort": (lambda: replace(KEEP, clients=200), "not what this session takes"),
    **{
        f"{name} of no number": (
            lambda name=name: replace(KEEP, **{name: 1.5}),
            f"{name} 1.5 is not an integer",
        )
        for name in ("degree", "scale", "m_min", "flood_bits")
    },
    "a client without the roster": (
        lambda: KEEP.client(0, lambda task: {}),
        "keys are signed in this session: a roster of one's own is needed",
    ),
    "a client of another roster": (
        lambda: KEEP.client(0, lambda task: {}, identity=identities(range(6))[1][0]),
        "the session is bound to another roster than this one",
    ),
    "a server without the roster": (lambda: KEEP.server(range(5)), "a roster of one's own is needed"),
    "a server of another roster": (
        lambda: KEEP.server(range(5), roster=identities(range(6))[0]),
        "the session is bound to another roster than this one",
    ),
}


@pytest.mark.parametrize(("make", "words"), CKKS_IMPOSSIBLE.values(), ids=CKKS_IMPOSSIBLE)
def test_impossible_numbers_of_ckks_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        make()


def test_where_no_ring_is_large_enough_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all rings that are secure, no cohort and no vectors are too large."""
    for ending in ("keep", "release"):
        widest = {"": Bounded(length=2**20, bound=1.0, bits=32), "w": Counts(length=1, maximum=2**42 - 1)}
        assert CKKS.for_cohort(MAX_CLIENTS, widest, ending=ending).clients == MAX_CLIENTS
        monkeypatch.setattr("secagg.ckks.packing.rings", lambda: iter([Ring(2048, (22,))]))
        with pytest.raises(LocalProtocolError, match="no ring at 128 bits of security is large enough for"):
            CKKS.for_cohort(MAX_CLIENTS - 1, widest, ending=ending)
        monkeypatch.undo()


@pytest.mark.parametrize("make", ENDINGS.values(), ids=ENDINGS)
def test_the_numbers_of_ckks(make: Any) -> None:
    """More than half of the cohort are decrypted unless another number is given; a roster is bound."""
    assert [make(range(n), ONE).m_min for n in (3, 4, 5, 6, 100)] == [2, 3, 3, 4, 51]
    assert [make(range(n), ONE, small_cohort=True).m_min for n in (1, 2)] == [1, 2]
    scheme = make(range(9), ONE, m_min=np.int64(7))
    assert (scheme.m_min, type(scheme.m_min)) == (7, int)
    assert scheme.adversary == "semi-honest"
    assert scheme.roster == identities(range(9))[0].digest
    assert make(range(9), ONE, roster=None).roster == b""
    assert scheme.flood_bits == (40 if scheme.ending == "release" else 0)


@pytest.mark.parametrize("make", ENDINGS.values(), ids=ENDINGS)
def test_the_explanation_of_ckks_says_what_it_rests_on(make: Any) -> None:
    scheme = make(range(5), MIXED)
    text = scheme.explain()
    for words in (
        f"ckks, 5 clients, who {scheme.ending} the sum",
        "counts: 3 integers up to 9, exact",
        f"ring of degree {scheme.degree}, modulus {sum(scheme.prime_bits)} bits",
        "128 bits of security",
        f"1 ciphertext of {scheme.plan.ring.ciphertext_bytes} bytes a client",
        "against an honest-but-curious server with no client on its side; not a right sum where a client",
    ):
        assert words in text, words
    kept = "(the sum of all codes is exact), but with probability 2^-40; the server never sees it" in text
    released = "three clients, flooded" in text and "bits of statistical security for the key" in text
    assert (kept, released) == ((True, False) if scheme.ending == "keep" else (False, True))
    assert text.endswith("; keys are signed")
    assert "KEYS ARE NOT SIGNED: the server could put in" in make(range(5), MIXED, roster=None).explain()


def test_the_largest_numbers_are_possible() -> None:
    names = {f"{i:0{MAX_NAME}}": ONE for i in range(MAX_VECTORS)}
    scheme = Masking.for_cohort(MAX_CLIENTS, names, m_min=MAX_CLIENTS, graph="complete")
    assert (scheme.threshold, scheme.m_min) == (MAX_CLIENTS // 2 + 1, MAX_CLIENTS)
    scheme = Masking.for_cohort(MAX_CLIENTS, names, m_min=MAX_CLIENTS)
    assert (scheme.degree, scheme.threshold, scheme.m_min) == (130, 52, MAX_CLIENTS)
    scheme = Masking.for_cohort(MAX_CLIENTS, ONE, adversary="active", roster=ROSTER, corrupt=MAX_CLIENTS - 2)
    assert scheme.threshold == scheme.m_min == MAX_CLIENTS
    for spec in (Counts(length=MAX_LENGTH, maximum=1), Bounded(length=MAX_LENGTH, bound=1.0)):
        assert Plain.for_cohort(3, spec).vectors[""].length == MAX_LENGTH


@given(st.integers(1, 400), st.integers(0, 400))
def test_the_least_threshold_is_the_least_number_that_meets_the_conditions(n: int, A: int) -> None:
    """In integers, by trying: 2 t > n + A (n, where the server is honest), and t - A >= 2 where A counts."""

    def least(*conditions: Callable[[int], bool]) -> int:
        return next(t for t in range(1, 1000) if all(holds(t) for holds in conditions))

    of_honest_inputs = (lambda t: t - A >= 2) if A else (lambda t: True)
    assert least_quorum(n, "semi-honest", A) == least(lambda t: 2 * t > n, of_honest_inputs)
    if n > 1:  # one client is an experiment
        assert least_quorum(n, "active", A) == least(lambda t: 2 * t > n + A, lambda t: t - A >= 2)


@pytest.mark.parametrize(
    ("clients", "semi_honest", "active"),
    [(3, 3, 3), (4, 3, 3), (5, 3, 4), (6, 4, 5), (7, 4, 5), (20, 11, 14), (100, 51, 67), (300, 151, 201)],
)
def test_the_default_threshold_is_that_of_the_paper(clients: int, semi_honest: int, active: int) -> None:
    """Half of the cohort against an honest server, two thirds against one that is not (A = 1)."""
    assert default_threshold(clients, "semi-honest", 1, 0) == semi_honest
    assert default_threshold(clients, "active", 1, 0) == active


@pytest.mark.parametrize(
    ("clients", "corrupt", "threshold"), [(9, 2, 7), (9, 4, 7), (9, 5, 8), (9, 7, 9), (20, 12, 17), (2, 0, 2)]
)
def test_the_default_threshold_rises_with_the_corrupt(clients: int, corrupt: int, threshold: int) -> None:
    scheme = active(range(clients), ONE, corrupt=corrupt, small_cohort=clients < 3)
    assert scheme.threshold == scheme.m_min == threshold


@pytest.mark.parametrize(
    ("dropout", "threshold"), [(0, 14), (6, 14), (7, 11), (8, 11), (0.3, 14), (0.35, 11), (0.4, 11)]
)
def test_the_default_threshold_gives_way_to_more_dropouts_than_a_third(
    dropout: float, threshold: int
) -> None:
    """Above (20 + 1) / 2 it stays."""
    scheme = active(range(20), ONE, corrupt=1, dropout=dropout)
    assert scheme.threshold == scheme.m_min == threshold
    assert threshold <= 20 - scheme.dropout


# A and d: numbers, or fractions of the cohort


@pytest.mark.parametrize(
    ("clients", "corrupt"), [(1, 0), (2, 0), (3, 1), (9, 1), (10, 1), (19, 1), (20, 2), (49, 4), (1000, 100)]
)
def test_a_tenth_of_the_cohort_is_taken_to_be_corrupt_and_one_client_at_least(
    clients: int, corrupt: int
) -> None:
    """But of two, who know each other's input anyway."""
    assert semi_honest(range(clients), ONE, small_cohort=True).corrupt == corrupt
    assert active(range(clients), ONE, small_cohort=True).corrupt == corrupt


@pytest.mark.parametrize(
    ("fraction", "clients", "counted"),
    [(0.3, 10, 3), (0.1, 30, 3), (0.29, 100, 29), (0.07, 100, 7), (0.299, 10, 2), (0.34, 9, 3), (0.05, 9, 0)],
)
def test_a_fraction_is_counted_as_googles_code_counts_it(fraction: float, clients: int, counted: int) -> None:
    """Rounded down, but not by what a float lacks: 0.29 * 100 is 28.999999999999996."""
    scheme = semi_honest(range(clients), ONE, corrupt=fraction, dropout=fraction, graph="complete")
    assert (scheme.corrupt, scheme.dropout) == (max(counted, 1), counted)


def test_a_fraction_is_of_the_roster_where_there_is_one() -> None:
    """The server chooses who of the roster is asked: all that are corrupt in it may be in the cohort."""
    listed, _ = identities(range(60))

    def A(adversary: Any, **numbers: Any) -> int:
        return Masking.for_cohort(20, ONE, adversary=adversary, roster=listed, **numbers).corrupt

    assert A("active") == A("active", corrupt=0.1) == 6
    assert A("active", corrupt=0.2) == 12
    assert A("active", corrupt=2) == 2
    assert A("semi-honest", corrupt=0.1) == 2
    assert Masking.for_cohort(60, ONE, adversary="active", roster=ROSTER, corrupt=0.1).corrupt == 6
    with pytest.raises(LocalProtocolError, match=r"20 clients of whom 19 are corrupt .* left"):
        A("active", corrupt=0.32)


def test_none_corrupt_is_said_as_a_number() -> None:
    assert semi_honest(range(5), ONE, corrupt=0).corrupt == active(range(5), ONE, corrupt=0).corrupt == 0
    assert semi_honest(range(5), ONE, corrupt=0.0).corrupt == 1
    assert semi_honest(range(5), ONE, corrupt=0.0, dropout=0.0).dropout == 0


@given(st.integers(3, 200), st.sampled_from(["semi-honest", "active"]), st.integers(0, 200))
def test_the_default_dropout_is_three_tenths_or_as_many_as_can_be(n: int, adversary: Any, A: int) -> None:
    """By trying: the largest d of at most 0.3 n that leaves a quorum and is within what is reckoned for."""
    weight = 2 if adversary == "active" else 1

    def possible(d: int) -> bool:
        return n - d >= least_quorum(n, adversary, A) and 10 * (A + weight * d) <= 9 * n

    roster = identities(range(3))[0] if adversary == "active" else None
    if n <= A or least_quorum(n, adversary, A) > n:
        with pytest.raises(LocalProtocolError):
            Masking.for_cohort(n, ONE, adversary=adversary, roster=roster, corrupt=A)
        return
    d = Masking.for_cohort(n, ONE, adversary=adversary, roster=roster, corrupt=A).dropout
    assert d == max((d for d in range(3 * n // 10 + 1) if possible(d)), default=0)


def test_where_a_threshold_is_given_as_many_may_drop_out_as_it_leaves() -> None:
    for t, d in ((3, 2), (4, 1), (5, 0)):
        assert semi_honest(range(5), ONE, corrupt=0, threshold=t).dropout == min(d, 1)
    assert [semi_honest(range(10), ONE, threshold=t).dropout for t in (6, 7, 8, 10)] == [3, 3, 2, 0]


# The graph


def test_auto_is_the_sparse_graph_from_fifty_clients_on_where_it_saves_half() -> None:
    for n in (*range(3, 75), 99, 100, 150, 399, 400, 401, 1000):
        for adversary in ("semi-honest", "active"):
            for corrupt, dropout in ((None, None), (1, None), (0, 0), (0.05, 0.05), (0.1, 0.2)):
                numbers = {"adversary": adversary, "corrupt": corrupt, "dropout": dropout}
                numbers["roster"] = ROSTER if adversary == "active" else None
                auto, complete = (
                    Masking.for_cohort(n, ONE, graph=graph, **numbers) for graph in ("auto", "complete")
                )
                assert complete.complete
                assert complete.degree == n - 1
                sparse = neighbourhood(n, auto.corrupt, auto.dropout, adversary)
                if n >= 50 and sparse is not None and 2 * sparse.degree < n:
                    assert (auto.degree, auto.threshold) == sparse
                    assert auto == Masking.for_cohort(n, ONE, graph="sparse", **numbers)
                else:
                    assert auto == complete


def test_what_auto_chooses() -> None:
    def degree(n: int, adversary: Any = "semi-honest", **numbers: Any) -> int:
        roster = ROSTER if adversary == "active" else None
        return Masking.for_cohort(n, ONE, adversary=adversary, roster=roster, **numbers).degree

    assert [degree(n, corrupt=1, dropout=1) for n in (49, 50)] == [48, 4]
    assert [degree(n) for n in (49, 50, 60)] == [48, 22, 24]
    assert [degree(n, "active") for n in (100, 900, 920, 940, 1000)] == [99, 434, 440, 448, 470]
    assert degree(1000) == 88
    assert degree(100, corrupt=1, dropout=1, threshold=70) == 99


def test_on_the_sparse_graph_only_the_numbers_that_follow_are_possible() -> None:
    scheme = semi_honest(range(20), ONE, corrupt=1, dropout=2, graph="sparse")
    assert (scheme.degree, scheme.threshold, scheme.m_min) == (4, 2, 18)
    for other in ({"degree": 2}, {"degree": 5}, {"degree": 6}, {"threshold": 3}, {"threshold": 1}):
        with pytest.raises(LocalProtocolError, match="it takes 4 neighbours and a threshold of 2"):
            replace(scheme, **other)
    for m_min in (17, 21, 0):
        with pytest.raises(LocalProtocolError, match=f"m_min {m_min} .* on this sparse graph from 18 to 20"):
            replace(scheme, m_min=m_min)
    assert replace(scheme, m_min=20).m_min == 20
    # Of other A, d, n or adversary other numbers follow.
    with pytest.raises(LocalProtocolError, match=r"2 of them corrupt .* 6 neighbours and a threshold of 3"):
        replace(scheme, corrupt=2)
    with pytest.raises(LocalProtocolError, match=r"3 dropping out, .* 6 neighbours and a threshold of 2"):
        replace(scheme, dropout=3, m_min=20)
    with pytest.raises(LocalProtocolError, match="server active, it takes 6 neighbours and a threshold of 4"):
        replace(scheme, adversary="active", roster=ROSTER.digest)
    with pytest.raises(
        LocalProtocolError, match=r"degree 2 .* 5 clients, .* only the complete graph will do, with 4"
    ):
        replace(FIVE_SEMI_HONEST, degree=2)


def test_on_the_sparse_graph_m_min_is_what_is_left_and_a_quorum_at_least() -> None:
    for n in range(10, 40):
        for adversary in ("semi-honest", "active"):
            for A, d in ((1, 1), (1, n // 3), (2, n // 2)):
                if sparsest(n, A, d, adversary) is None or least_quorum(n, adversary, A) > n - d:
                    continue
                roster = ROSTER if adversary == "active" else None
                scheme = Masking.for_cohort(
                    n, ONE, adversary=adversary, roster=roster, corrupt=A, dropout=d, graph="sparse"
                )
                assert scheme.m_min == n - d >= least_quorum(n, adversary, A)


def test_numbers_that_are_given_are_taken() -> None:
    for make in (semi_honest, active):
        scheme = make(range(9), ONE, corrupt=2, threshold=np.int64(8), m_min=np.uint8(9))
        assert (scheme.corrupt, scheme.threshold, scheme.m_min) == (2, 8, 9)
        assert {type(scheme.threshold), type(scheme.m_min)} == {int}


def test_the_roster_is_bound_only_against_an_active_server() -> None:
    assert active(range(5), ONE).roster == ROSTER.digest
    assert semi_honest(range(5), ONE, roster=ROSTER).roster == b""


@pytest.mark.parametrize("scheme", [Masking, Plain, CKKS, Split])
def test_a_bare_specification_is_the_one_unnamed_vector(scheme: Any) -> None:
    assert scheme.for_cohort(3, ONE) == scheme.for_cohort(3, {"": ONE})


def test_a_digest_differs_when_any_number_differs() -> None:
    spec = Bounded(length=4, bound=1.0, bits=8, clip=2.0)
    schemes = [
        Masking.for_cohort(5, spec),
        Plain.for_cohort(5, spec),
        Masking.for_cohort(4, spec),
        Masking.for_cohort(5, spec, threshold=4),
        Masking.for_cohort(5, spec, m_min=4),
        Masking.for_cohort(5, spec, corrupt=0),
        Masking.for_cohort(5, spec, dropout=0),
        Masking.for_cohort(5, spec, batch=3),
        Masking.for_cohort(5, spec, batch=4),
        Masking.for_cohort(5, spec, prg="chacha20"),
        Masking.for_cohort(12, spec, corrupt=1, dropout=2),
        Masking.for_cohort(12, spec, corrupt=1, dropout=2, graph="sparse"),
        Masking.for_cohort(12, spec, corrupt=1, dropout=1, graph="sparse"),
        active(range(5), spec),
        active(range(5), spec, m_min=5),
        active(range(5), spec, threshold=5),
        active(range(5), spec, corrupt=0, threshold=4),
        Masking.for_cohort(5, spec, adversary="active", roster=identities(range(6))[0]),
        Masking.for_cohort(5, spec, small_cohort=True),
        Masking.for_cohort(5, {"name": spec}),
        Masking.for_cohort(5, Counts(length=4, maximum=1)),
        Masking.for_cohort(5, Counts(length=4, maximum=2)),
        Masking.for_cohort(5, Weight(maximum=1)),
        CKKS.for_cohort(5, spec),
        CKKS.for_cohort(5, spec, ending="release"),
        CKKS.for_cohort(5, spec, m_min=4),
        CKKS.for_cohort(5, spec, roster=ROSTER),
        CKKS.for_cohort(5, spec, roster=identities(range(6))[0]),
        CKKS.for_cohort(5, spec, small_cohort=True),
        CKKS.for_cohort(4, spec, m_min=3),
        CKKS.for_cohort(5, {"name": spec}),
        *(
            scheme.for_cohort(5, replace(spec, **other))
            for scheme in (Masking, CKKS)
            for other in ({"length": 5}, {"bound": 2.0}, {"bits": 9}, {"clip": None}, {"clip": 1.0})
        ),
    ]
    assert len({scheme.digest() for scheme in schemes}) == len(schemes)


@pytest.mark.parametrize("scheme", [Masking, Plain, CKKS, Split])
def test_the_order_of_the_vectors_changes_nothing(scheme: Any) -> None:
    other = scheme.for_cohort(5, dict(reversed(MIXED.items())))
    assert other.digest() == scheme.for_cohort(5, MIXED).digest()
    assert other.names == sorted(MIXED)


@pytest.mark.parametrize("make", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize(("clients", "length"), [(3, 5000), (20, 1)])
def test_no_message_of_a_client_is_larger_than_the_largest_upload(
    make: Any, clients: int, length: int
) -> None:
    maximum = 2**20 if make is SCHEMES["decoys"] else 2**50  # the sum of decoys has at most 30 bits
    scheme = make(range(clients), Counts(length=length, maximum=maximum))
    play = Play(scheme, {u: np.full(length, u) for u in range(clients)})
    sizes: list[int] = []
    for round in scheme.rounds:
        sizes += map(len, play.to(round).answer().answers.values())
    assert max(sizes) <= scheme.largest_upload


def test_the_explanation_says_what_is_sent_and_what_is_not_promised() -> None:
    text = Masking.for_cohort(5, {**MIXED, "": Bounded(length=3, bound=0.5, clip=2.0)}).explain()
    for words in (
        "5 clients, threshold 3, complete graph, honest-but-curious server",
        "up to 2 clients may vanish, in any round; with fewer than 3 left there is no sum",
        "the server, with fewer than 3 clients on its side, learns the survivors' sum, no more",
        "not promised: anything against a server that breaks the protocol",
        "counts: 3 integers up to 9, exact; summed in Z_2^6",
        "update: 5 numbers in ±1, 8 bits each; summed in Z_2^11",
        "(unnamed): 3 numbers in ±0.5, L2 clip 2, 16 bits each; summed in Z_2^19",
        "masking gives no integrity",
    ):
        assert words in text
    assert "NOTHING IS PROTECTED" in Plain.for_cohort(5, MIXED).explain()
    text = active(range(9), MIXED, corrupt=2, m_min=8).explain()
    for words in (
        "9 clients, threshold 7, complete graph, active server, 2 corrupt clients assumed",
        "survivors signed by a quorum",
        "up to 2 clients may vanish, in any round, 1 of them before unmasking",
        "the server, whatever it does, learns sums of 6 or more honest clients",
        "not promised: one malicious model sent to everybody, or malice spread over rounds",
        "masking gives no integrity",
    ):
        assert words in text
    assert "batches" not in text
    assert "sybils" not in text
    assert "masks are streams" not in text
    assert "masks are streams of chacha20" in active(range(9), MIXED, prg="chacha20").explain()


def test_the_explanation_of_a_sparse_graph_says_what_it_rests_on() -> None:
    """The complete graph would withstand more: on the draw, who can try draws, who picks the lost, and A."""
    text = active(range(60), MIXED, corrupt=2, dropout=5, graph="sparse").explain()
    k, t = sparsest(60, 2, 5, "active")
    for words in (
        f"60 clients, threshold {t}, sparse graph of {k} neighbours each, active server, 2 corrupt",
        "up to 5 clients may vanish, in any round (5 before unmasking); then there is a sum",
        "in all but 2^-20 of the sessions",
        "whatever the server does, a session unmasks one U3 of 55 or more, signed by so many",
        "but for a chance of 2^-128 over the draw of neighbours, with 2 corrupt and 5 lost, no client loses",
        "both its masks, and the honest are summed as one",
        # grinding
        "the draw is a hash of all keys; server and corrupt clients can try keys until it suits them",
        "of 2^80 tries, all fail but for a chance of 2^-48",
        # who picks the dropouts
        "losses that do not look at the graph; an active server picks who is lost: then a client is summed",
        f"with {t} of its neighbours at least, less the corrupt among them",
        "sybils: if more than 2 clients are the server's or invented, none of this holds",
        "not promised: one malicious model sent to everybody",
    ):
        assert words in text
    text = semi_honest(range(60), MIXED, corrupt=2, dropout=5, m_min=58, graph="sparse").explain()
    k, t = sparsest(60, 2, 5, "semi-honest")
    for words in (
        f"60 clients, threshold {t}, sparse graph of {k} neighbours each, honest-but-curious server",
        "up to 5 clients may vanish, in any round (2 before unmasking)",
        "a chance of 2^-40 over the draw of neighbours, with 2 corrupt and 5 lost, the server and they learn",
        "the sum of all honest survivors, no more",
        "for losses that do not look at the graph, and for a server and clients that follow the protocol",
        "sybils: if more than 2",
        "not promised: anything against a server that breaks the protocol",
    ):
        assert words in text
    assert "2^-128" not in text
    assert "signed" not in text


def test_the_explanation_says_that_batches_are_whole() -> None:
    for make, n, size, m_min, spare in (
        (semi_honest, 12, 4, 7, 1),
        (active, 12, 4, 9, 0),
        (semi_honest, 11, 4, 6, 0),  # the last batch has seven
        (semi_honest, 13, 3, 7, 1),  # the last has four, and with it a second would be too many
    ):
        scheme = make(range(n), MIXED, batch=size)
        assert scheme.m_min == m_min
        text = scheme.explain()
        assert f"summed by whole batches of {size} clients, in the order of ids" in text
        assert (
            f"takes its batch out of the sum, and up to {counted(spare, 'batch', 'batches')} may go" in text
        )
        assert "tell no two honest clients of a batch apart" in text


# Batches


@given(st.integers(3, 60), st.data())
def test_batches_are_a_partition_in_the_order_of_ids(n: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(2, n), label="size")
    ids = data.draw(st.sets(st.integers(0, MAX_ID), min_size=n, max_size=n), label="ids")
    roster: Any = SimpleNamespace(keys=dict.fromkeys(ids))
    scheme = semi_honest(range(n), ONE, corrupt=0, batch=size)
    for everybody, batches in (
        (sorted(ids), scheme.batches(roster)),
        (list(range(n)), scheme.batches(None)),
    ):
        assert [u for batch in batches for u in sorted(batch)] == everybody
        assert {len(batch) for batch in batches[:-1]} <= {size}
        assert size <= len(batches[-1]) < 2 * size


def test_without_batches_there_is_no_partition() -> None:
    assert semi_honest(range(9), ONE).batches(None) == []
    assert active(range(9), ONE).batches(identities(range(9))[0]) == []


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "\ud800"])
def test_a_name_that_cannot_be_shown_is_refused(name: str) -> None:
    with pytest.raises(LocalProtocolError, match="printable"):
        Masking.for_cohort(3, {name: Counts(length=1, maximum=1)})


def test_whether_a_cohort_may_be_small_is_yes_or_no() -> None:
    """As 1 it would be offered as a number, which the other end refuses."""
    with pytest.raises(LocalProtocolError, match="True or False"):
        Masking.for_cohort(3, Counts(length=1, maximum=1), small_cohort=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("corrupt", ["x", (1,)])
def test_a_number_that_is_none_is_refused_before_anything_follows_from_it(corrupt: object) -> None:
    with pytest.raises(LocalProtocolError, match=r"corrupt .* is not an integer"):
        Masking.for_cohort(3, Counts(length=1, maximum=1), corrupt=corrupt)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "text"), [(0, "0 batches"), (1, "1 batch"), (2, "2 batches")])
def test_one_is_no_plural(count: int, text: str) -> None:
    assert counted(count, "batch", "batches") == text


def test_too_few_may_be_one() -> None:
    assert str(TooFewClients(1, 3, "join")).startswith("1 client left in round join, 3 needed")
