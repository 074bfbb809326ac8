"""The numbers of a session are checked once; a client takes what its own rules allow and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import Bounded, Counts, LocalProtocolError, Masking, Plain, Policy, RemoteProtocolError, Weight
from secagg.encoding import MAX_LENGTH
from secagg.params import MAX_CLIENTS, MAX_NAME, MAX_VECTORS
from secagg.policy import MAX_OFFER_BYTES, read_offer
from secagg.session import Scheme
from tests.secagg.helpers import MIXED, Play, with_another_byte

ONE = Counts(length=1, maximum=1)
OFFERS = [
    Masking.for_cohort(5, MIXED),
    Masking.for_cohort(5, MIXED, threshold=5),
    Masking.for_cohort(2, ONE, small_cohort=True),
    Plain.for_cohort(5, MIXED),
    Plain.for_cohort(5, Bounded(length=3, bound=0.5, clip=2.0)),
]


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
        (lambda: Masking.for_cohort(5, ONE, threshold=2), r"threshold 2 is impossible: .* in 3\.\.5"),
        (lambda: Masking.for_cohort(5, ONE, threshold=6), r"threshold 6 is impossible: .* in 3\.\.5"),
        (lambda: Masking.for_cohort(6, ONE, threshold=3), r"threshold 3 is impossible: .* in 4\.\.6"),
    ],
)
def test_impossible_numbers_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        make()


def test_the_largest_numbers_are_possible() -> None:
    names = {f"{i:0{MAX_NAME}}": ONE for i in range(MAX_VECTORS)}
    assert Masking.for_cohort(MAX_CLIENTS, names).threshold == MAX_CLIENTS // 2 + 1
    for spec in (Counts(length=MAX_LENGTH, maximum=1), Bounded(length=MAX_LENGTH, bound=1.0)):
        assert Plain.for_cohort(3, spec).vectors[""].length == MAX_LENGTH


@pytest.mark.parametrize(("clients", "threshold"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (100, 51)])
def test_the_threshold_is_the_smallest_majority_unless_it_is_given(clients: int, threshold: int) -> None:
    small = clients < 3
    assert Masking.for_cohort(clients, ONE, small_cohort=small).threshold == threshold
    assert Masking.for_cohort(clients, ONE, threshold=clients, small_cohort=small).threshold == clients


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


@pytest.mark.parametrize("make", [Masking, Plain])
@pytest.mark.parametrize(("clients", "length"), [(3, 5000), (60, 1)])
def test_no_message_of_a_client_is_larger_than_the_largest_upload(
    make: Any, clients: int, length: int
) -> None:
    scheme = make.for_cohort(clients, Counts(length=length, maximum=2**50))
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


# The client's policy


@pytest.mark.parametrize("scheme", OFFERS, ids=str)
def test_an_offer_is_read_back_as_the_parameters_it_was_made_from(scheme: Masking | Plain) -> None:
    assert read_offer(scheme.offer()) == scheme
    assert Policy(frozenset({"masking", "plain"}), smallest_cohort=1).accept(scheme.offer()) == scheme


@pytest.mark.xfail(strict=True, raises=RemoteProtocolError, reason="an int bound is offered as an int")
@pytest.mark.parametrize("numbers", [{"bound": 1}, {"bound": 1.0, "clip": 2}])
def test_a_whole_number_as_a_bound_is_offered_as_any_other(numbers: dict[str, Any]) -> None:
    scheme = Masking.for_cohort(5, Bounded(length=3, **numbers))
    assert read_offer(scheme.offer()) == scheme


def test_plain_is_refused_unless_the_client_means_it() -> None:
    offer = Plain.for_cohort(5, ONE).offer()
    with pytest.raises(
        RemoteProtocolError, match="offers the scheme plain; this client accepts only masking"
    ):
        Policy().accept(offer)
    assert Policy(schemes=frozenset({"plain"})).accept(offer) == Plain.for_cohort(5, ONE)


def test_a_small_cohort_is_refused_whatever_the_server_says_of_experiments() -> None:
    offer = Masking.for_cohort(2, ONE, small_cohort=True).offer()
    with pytest.raises(RemoteProtocolError, match="cohort of 2; this client takes part from 3"):
        Policy().accept(offer)
    offer = Masking.for_cohort(3, ONE).offer()
    assert Policy().accept(offer) == Masking.for_cohort(3, ONE)
    with pytest.raises(RemoteProtocolError, match="cohort of 5; this client takes part from 6"):
        Policy(smallest_cohort=6).accept(Masking.for_cohort(5, ONE).offer())


def forged(scheme: Scheme, /, **changes: Any) -> bytes:
    """An offer no `Parameters` object can be made for."""
    return msgspec.msgpack.encode(msgspec.msgpack.decode(scheme.offer()) | changes, order="sorted")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clients": 0}, "impossible session: 0 clients"),
        ({"threshold": 2}, "impossible session: threshold 2"),
        ({"clients": 2}, "impossible session: with 2 clients"),
        ({"vectors": {}}, "impossible session: a session has"),
        ({"vectors": {"": {"kind": "weight", "maximum": 0}}}, "impossible session: maximum weight 0"),
        ({"vectors": {"": {"kind": "median", "maximum": 1}}}, "not the parameters of a session: Invalid"),
        ({"scheme": "none"}, "not the parameters of a session: Invalid"),
        ({"clients": "5"}, "not the parameters of a session: Expected `int`"),
        ({"clients": 5.0}, "."),
        ({"extra": 1}, "not the parameters of a session: Object contains unknown field"),
    ],
)
def test_an_impossible_offer_is_refused(changes: dict[str, Any], words: str) -> None:
    scheme = Masking.for_cohort(5, ONE)
    assert forged(scheme) == scheme.offer()
    with pytest.raises(RemoteProtocolError, match=words) as caught:
        read_offer(forged(scheme, **changes))
    assert caught.value.culprits == frozenset()


def test_an_offer_without_a_field_is_refused_even_where_it_has_a_default() -> None:
    fields = msgspec.msgpack.decode(Masking.for_cohort(5, ONE).offer())
    del fields["small_cohort"]
    with pytest.raises(RemoteProtocolError, match="not canonical"):
        read_offer(msgspec.msgpack.encode(fields, order="sorted"))


def test_an_offer_in_another_order_is_refused() -> None:
    fields = msgspec.msgpack.decode(Masking.for_cohort(5, ONE).offer())
    with pytest.raises(RemoteProtocolError, match="not canonical"):
        read_offer(msgspec.msgpack.encode(dict(reversed(fields.items()))))


def test_an_offer_that_is_too_long_is_not_even_read() -> None:
    with pytest.raises(RemoteProtocolError, match=f"{MAX_OFFER_BYTES + 1} bytes; at most {MAX_OFFER_BYTES}"):
        read_offer(bytes(MAX_OFFER_BYTES + 1))
    with pytest.raises(RemoteProtocolError, match="not the parameters"):
        read_offer(bytes(MAX_OFFER_BYTES))


def test_the_longest_possible_offer_is_short_enough() -> None:
    names = {f"{i:0{MAX_NAME}}": Bounded(length=99_999, bound=1 / 3, bits=32, clip=1 / 3) for i in range(64)}
    assert read_offer(Masking.for_cohort(1000, names).offer()).names == sorted(names)


@given(st.binary())
def test_whatever_the_bytes_an_offer_is_read_or_refused(data: bytes) -> None:
    with suppress(RemoteProtocolError):
        assert read_offer(data).offer() == data


@given(st.sampled_from(OFFERS), st.data())
def test_whatever_byte_of_an_offer_changes_it_is_read_or_refused(scheme: Scheme, data: st.DataObject) -> None:
    offer = with_another_byte(scheme.offer(), data)
    with suppress(RemoteProtocolError):
        assert read_offer(offer).offer() == offer
