"""The numbers of a session are checked once, when they are made, and each of them is in the digest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import Bounded, Counts, LocalProtocolError, Masking, Plain, Weight
from secagg.encoding import MAX_LENGTH
from secagg.masking import default_threshold, least_threshold
from secagg.params import MAX_CLIENTS, MAX_NAME, MAX_VECTORS
from tests.secagg.helpers import MIXED, SCHEMES, Play, active, identities, semi_honest

ONE = Counts(length=1, maximum=1)
ROSTER, _ = identities(range(5))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Masking.for_cohort(0, ONE), f"0 clients is not in 1..{MAX_CLIENTS}"),
        (lambda: Masking.for_cohort(MAX_CLIENTS + 1, ONE), f"{MAX_CLIENTS + 1} clients is not in"),
        (lambda: Masking.for_cohort(1, ONE), "1 clients the sum tells .* small_cohort=True"),
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
        (lambda: semi_honest(range(5), ONE, threshold=2), r"threshold 2 is impossible: .* in 3\.\.5"),
        (lambda: semi_honest(range(5), ONE, threshold=6), r"threshold 6 is impossible: .* in 3\.\.5"),
        (lambda: semi_honest(range(6), ONE, threshold=3), r"threshold 3 is impossible: .* in 4\.\.6"),
        (
            lambda: semi_honest(range(5), ONE, threshold=3, corrupt=2),
            r"threshold 3 .* 5 clients, 2 of them corrupt, and the server semi-honest, it is in 4\.\.5",
        ),
        (
            lambda: active(range(5), ONE, threshold=3),
            r"threshold 3 .* 5 clients, 1 of them corrupt, and the server active, it is in 4\.\.5",
        ),
        (lambda: active(range(6), ONE, threshold=3, corrupt=0), r"threshold 3 is impossible: .* in 4\.\.6"),
        (lambda: active(range(5), ONE, threshold=6), r"threshold 6 is impossible: .* in 4\.\.5"),
        (lambda: active(range(3), ONE, threshold=1, corrupt=0), r"threshold 1 is impossible: .* in 2\.\.3"),
        (
            lambda: semi_honest(range(5), ONE, corrupt=-1),
            "-1 corrupt clients of 5 is impossible: from 0 to 4",
        ),
        (lambda: active(range(5), ONE, corrupt=-1), "-1 corrupt clients of 5 is impossible: from 0 to 4"),
        (lambda: active(range(5), ONE, corrupt=5), "5 corrupt clients of 5 is impossible: from 0 to 4"),
        (
            lambda: active(range(5), ONE, corrupt=4),
            "5 clients of whom 4 are corrupt: a threshold of 6 would be needed",
        ),
        (
            lambda: semi_honest(range(3), ONE, corrupt=2),
            "3 clients of whom 2 are corrupt: a threshold of 4 would be needed",
        ),
        (
            lambda: active(range(1), ONE, small_cohort=True),
            "1 clients of whom 0 are corrupt: a threshold of 2 would be needed",
        ),
        (lambda: semi_honest(range(5), ONE, m_min=2), "m_min 2 is impossible: from t = 3 to n = 5"),
        (lambda: semi_honest(range(5), ONE, m_min=6), "m_min 6 is impossible: from t = 3 to n = 5"),
        (lambda: active(range(5), ONE, m_min=3), "m_min 3 is impossible: from t = 4 to n = 5"),
        (lambda: active(range(5), ONE, m_min=6), "m_min 6 is impossible: from t = 4 to n = 5"),
        (lambda: semi_honest(range(5), ONE, threshold=3.0), "threshold 3.0 is not an integer"),
        (lambda: semi_honest(range(5), ONE, m_min="4"), "m_min '4' is not an integer"),
        (lambda: active(range(5), ONE, corrupt=1.0, threshold=4), "corrupt 1.0 is not an integer"),
        (lambda: Plain(clients=5.0, vectors={"": ONE}), "clients 5.0 is not an integer"),
        (
            lambda: Masking.for_cohort(5, ONE, adversary="Active", roster=ROSTER),
            "no adversary is called 'Active'",
        ),
        (lambda: Masking.for_cohort(5, ONE, adversary="active"), "bound to a roster, and only then"),
        (
            lambda: Masking(clients=5, vectors={"": ONE}, threshold=3, m_min=3, roster=bytes(32)),
            "bound to a roster, and only then",
        ),
        (
            lambda: msgspec.structs.replace(active(range(5), ONE), roster=bytes(31)),
            "bound to a roster, and only then",
        ),
    ],
)
def test_impossible_numbers_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        make()


def test_the_largest_numbers_are_possible() -> None:
    names = {f"{i:0{MAX_NAME}}": ONE for i in range(MAX_VECTORS)}
    scheme = Masking.for_cohort(MAX_CLIENTS, names, m_min=MAX_CLIENTS)
    assert (scheme.threshold, scheme.m_min) == (MAX_CLIENTS // 2 + 1, MAX_CLIENTS)
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
    assert least_threshold(n, "semi-honest", A) == least(lambda t: 2 * t > n, of_honest_inputs)
    assert least_threshold(n, "active", A) == least(lambda t: 2 * t > n + A, lambda t: t - A >= 2)


@pytest.mark.parametrize(
    ("clients", "semi_honest", "active"),
    [(3, 2, 3), (4, 3, 3), (5, 3, 4), (6, 4, 5), (7, 4, 5), (20, 11, 14), (100, 51, 67), (300, 151, 201)],
)
def test_the_default_threshold_is_that_of_the_paper(clients: int, semi_honest: int, active: int) -> None:
    """Half of the cohort against an honest server, two thirds against one that is not (A = 1)."""
    assert default_threshold(clients) == semi_honest
    assert default_threshold(clients, "active", 1) == active


@pytest.mark.parametrize(
    ("clients", "corrupt", "threshold"), [(9, 2, 7), (9, 4, 7), (9, 5, 8), (9, 7, 9), (20, 12, 17), (2, 0, 2)]
)
def test_the_default_threshold_rises_with_the_corrupt(clients: int, corrupt: int, threshold: int) -> None:
    scheme = active(range(clients), ONE, corrupt=corrupt, small_cohort=clients < 3)
    assert scheme.threshold == scheme.m_min == threshold


def test_the_default_corrupt_is_one_against_an_active_server() -> None:
    assert [semi_honest(range(n), ONE).corrupt for n in (3, 9)] == [0, 0]
    assert [active(range(n), ONE).corrupt for n in (3, 9)] == [1, 1]
    assert active(range(2), ONE, small_cohort=True).corrupt == 0


def test_numbers_that_are_given_are_taken() -> None:
    for make in (semi_honest, active):
        scheme = make(range(9), ONE, corrupt=2, threshold=np.int64(8), m_min=np.uint8(9))
        assert (scheme.corrupt, scheme.threshold, scheme.m_min) == (2, 8, 9)
        assert {type(scheme.threshold), type(scheme.m_min)} == {int}


def test_the_roster_is_bound_only_against_an_active_server() -> None:
    assert active(range(5), ONE).roster == ROSTER.digest
    assert semi_honest(range(5), ONE, roster=ROSTER).roster == b""


@pytest.mark.parametrize("scheme", [Masking, Plain])
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
        Masking.for_cohort(5, spec, corrupt=1),
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
        *(
            Masking.for_cohort(5, msgspec.structs.replace(spec, **other))
            for other in ({"length": 5}, {"bound": 2.0}, {"bits": 9}, {"clip": None}, {"clip": 1.0})
        ),
    ]
    assert len({scheme.digest() for scheme in schemes}) == len(schemes)


def test_the_order_of_the_vectors_changes_nothing() -> None:
    other = Masking.for_cohort(5, dict(reversed(MIXED.items())))
    assert other.digest() == Masking.for_cohort(5, MIXED).digest()
    assert other.names == sorted(MIXED)


@pytest.mark.parametrize("make", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize(("clients", "length"), [(3, 5000), (60, 1)])
def test_no_message_of_a_client_is_larger_than_the_largest_upload(
    make: Any, clients: int, length: int
) -> None:
    scheme = make(range(clients), Counts(length=length, maximum=2**50))
    play = Play(scheme, {u: np.full(length, u) for u in range(clients)})
    sizes: list[int] = []
    for round in scheme.rounds:
        sizes += map(len, play.to(round).answer().answers.values())
    assert max(sizes) <= scheme.largest_upload


def test_the_explanation_says_what_is_sent_and_what_is_not_promised() -> None:
    text = Masking.for_cohort(5, {**MIXED, "": Bounded(length=3, bound=0.5, clip=2.0)}).explain()
    for words in (
        "5 clients, threshold 3",
        "honest-but-curious",
        "up to 2 clients may vanish",
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
        "up to 2 clients may vanish",
        "at most the sum of a U3 of 8 or more",
        "not promised: one malicious model sent to everybody",
        "masking gives no integrity",
    ):
        assert words in text


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "\ud800"])
def test_a_name_that_cannot_be_shown_is_refused(name: str) -> None:
    with pytest.raises(LocalProtocolError, match="printable"):
        Masking.for_cohort(3, {name: Counts(length=1, maximum=1)})


def test_whether_a_cohort_may_be_small_is_yes_or_no() -> None:
    """As 1 it would be offered as a number, which the other end refuses."""
    with pytest.raises(LocalProtocolError, match="True or False"):
        Masking.for_cohort(3, Counts(length=1, maximum=1), small_cohort=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("corrupt", ["x", 1.5])
def test_a_number_that_is_none_is_refused_before_anything_follows_from_it(corrupt: object) -> None:
    with pytest.raises(LocalProtocolError, match=r"corrupt .* is not an integer"):
        Masking.for_cohort(3, Counts(length=1, maximum=1), corrupt=corrupt)  # type: ignore[arg-type]
