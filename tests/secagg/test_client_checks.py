"""A dishonest or broken server: a normal session in which one message to client 0 is changed.

Every check of the client has a test here that fails when the check is deleted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from secagg import Bounded, LocalProtocolError, Masking, RemoteProtocolError
from secagg.crypto import KEY_BYTES
from secagg.masking.messages import (
    MaskedInputRequest,
    PairKeyShare,
    ShareKeys,
    ShareKeysRequest,
    Unmasking,
    UnmaskingRequest,
)
from secagg.shamir import PRIME
from secagg.wire import MAX_ID, decode
from tests.secagg.helpers import (
    ANSWER,
    MIXED,
    REQUEST,
    SMALL_ORDER,
    Play,
    assert_same_codes,
    changed,
    client_refuses,
    codes_of,
    culprits_named,
    flips,
    mixed_inputs,
    with_another_byte,
)

ROUNDS = tuple(REQUEST)
FIVE = Masking.for_cohort(5, MIXED)


def play(**more: Any) -> Play:
    """Five clients, threshold three; the last vanishes before its masked input."""
    return Play(FIVE, mixed_inputs(range(5)), drop={"masked-input": {4}}, **more)


def refuses(round: str, change: Callable[[Any], Any], words: str) -> None:
    client_refuses(play(), round, change, words)


def without(entries: dict[int, Any], *ids: int) -> dict[int, Any]:
    return {v: entry for v, entry in entries.items() if v not in ids}


# The key list


def keys(change: Callable[[dict[int, Any]], dict[int, Any]]) -> Callable[[Any], Any]:
    return lambda request: replace(request, keys=change(request.keys))


def test_a_client_refuses_a_key_list_without_its_own_keys() -> None:
    refuses("share-keys", keys(lambda k: without(k, 0)), "own keys")


def test_a_client_refuses_a_key_list_in_which_its_own_keys_were_exchanged() -> None:
    refuses("share-keys", keys(lambda k: k | {0: (k[0][0], bytes(range(32)))}), "own keys")
    refuses("share-keys", keys(lambda k: k | {0: (bytes(range(32)), k[0][1])}), "own keys")
    refuses("share-keys", keys(lambda k: k | {0: k[0][::-1]}), "own keys")


def test_a_client_refuses_a_key_list_of_fewer_than_t() -> None:
    refuses("share-keys", keys(lambda k: without(k, 2, 3, 4)), "2 clients advertised keys; it takes 3 to 5")


def test_a_client_refuses_a_key_list_of_more_than_n() -> None:
    """Two groups of t in it could have no member in common."""
    refuses("share-keys", keys(lambda k: k | {5: (bytes(range(32)), bytes(range(1, 33)))}), "6 clients adv")


def test_a_client_goes_on_with_a_key_list_of_t() -> None:
    it = play().to("share-keys")
    request = changed(ShareKeysRequest, it.requests[0], keys(lambda k: without(k, 3, 4)))
    assert it.clients[0].receive(request)


def test_a_client_refuses_a_key_list_that_repeats_a_key() -> None:
    refuses("share-keys", keys(lambda k: k | {1: (k[2][0], k[1][1])}), "one key twice")
    refuses("share-keys", keys(lambda k: k | {1: (k[1][0], k[2][1])}), "one key twice")
    refuses("share-keys", keys(lambda k: k | {1: (k[2][1], k[1][1])}), "one key twice")
    refuses("share-keys", keys(lambda k: k | {1: (k[1][0], k[1][0])}), "one key twice")
    refuses("share-keys", keys(lambda k: k | {1: (k[0][1], k[1][1])}), "one key twice")


@pytest.mark.parametrize("point", SMALL_ORDER[::3], ids=bytes.hex)
def test_a_client_refuses_a_share_key_of_small_order(point: bytes) -> None:
    refuses("share-keys", keys(lambda k: k | {1: (point, k[1][1])}), "small order")


@pytest.mark.parametrize("point", SMALL_ORDER[::3], ids=bytes.hex)
def test_a_client_refuses_a_mask_key_of_small_order(point: bytes) -> None:
    it = play().to("share-keys")
    shares = it.clients[1].receive(it.requests.pop(1))  # of a client that advertised such a key and goes on
    forged = keys(lambda k: k | {1: (k[1][0], point)})
    it.requests = {u: changed(ShareKeysRequest, m, forged) for u, m in it.requests.items()}
    it.answer().answers[1] = shares
    it.close()
    with pytest.raises(RemoteProtocolError, match="small order"):
        it.clients[0].receive(it.requests[0])


# The shares passed on


def sealed(change: Callable[[dict[int, Any]], dict[int, Any]]) -> Callable[[Any], Any]:
    return lambda request: replace(request, sealed=change(request.sealed))


def test_a_client_refuses_shares_said_to_be_its_own() -> None:
    refuses("masked-input", sealed(lambda e: e | {0: e[1]}), "advertised no keys")


def test_a_client_refuses_shares_from_a_stranger() -> None:
    refuses("masked-input", sealed(lambda e: e | {5: e[1]}), "advertised no keys")


def test_a_client_refuses_shares_from_fewer_than_t() -> None:
    refuses("masked-input", sealed(lambda e: without(e, 2, 3, 4)), "2 clients shared keys, 3 are needed")


def test_a_client_goes_on_with_shares_from_t() -> None:
    it = play().to("masked-input")
    request = changed(MaskedInputRequest, it.requests[0], sealed(lambda e: without(e, 3, 4)))
    assert it.clients[0].receive(request)


@pytest.mark.parametrize("dealer", [1, 4])
def test_a_client_leaves_out_a_share_that_does_not_open(dealer: int) -> None:
    """Of a survivor or of a dropped client: t others suffice, and nobody aborts."""
    it = play().to("masked-input")
    request = it.requests[0]

    def spoil(message: MaskedInputRequest) -> MaskedInputRequest:
        return sealed(lambda e: e | {dealer: next(flips(e[dealer]))})(message)

    it.requests[0] = changed(MaskedInputRequest, request, spoil)
    it.to("unmasking").answer()
    assert decode(Unmasking, it.answers[0]).shares.keys() == set(range(5)) - {dealer}
    assert decode(Unmasking, it.answers[1]).shares.keys() == set(range(5))
    total = it.finish()
    assert_same_codes(total.codes, codes_of(FIVE, it.inputs, {0, 1, 2, 3}))


@pytest.mark.parametrize(("dealer", "holder"), [(1, 2), (0, 1)])
def test_a_share_for_another_holder_or_from_another_dealer_does_not_open(dealer: int, holder: int) -> None:
    """Client 0 is given, as coming from client 1, what `dealer` sealed for `holder`."""
    it = play().to("share-keys").answer()
    other = decode(ShareKeys, it.answers[dealer]).sealed[holder]
    it.close()
    it.requests[0] = changed(MaskedInputRequest, it.requests[0], sealed(lambda e: e | {1: other}))
    it.to("unmasking").answer()
    assert decode(Unmasking, it.answers[0]).shares.keys() == {0, 2, 3, 4}


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="passed on, and the server then names the holder, not the dealer",
)
def test_a_client_leaves_out_a_share_outside_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one dishonest dealer makes the server turn away every honest holder."""
    it = play().to("share-keys")
    with monkeypatch.context() as dishonest:
        dishonest.setattr(
            "secagg.masking.client.share", lambda secret, t, points, rng: dict.fromkeys(points, PRIME)
        )
        dealt = it.clients[1].receive(it.requests.pop(1))
    it.answer().answers[1] = dealt
    it.close()
    it.to("unmasking").answer()
    assert decode(Unmasking, it.answers[0]).shares.keys() == {0, 2, 3, 4}


# The request to unmask


def dropped(change: Callable[[list[int]], list[int]]) -> Callable[[Any], Any]:
    return lambda request: UnmaskingRequest(change(request.dropped))


def test_a_client_refuses_a_dropped_client_named_twice() -> None:
    refuses("unmasking", dropped(lambda ids: [*ids, *ids]), "dropped client twice")


def test_a_client_refuses_its_own_id_among_the_dropped() -> None:
    refuses("unmasking", dropped(lambda ids: [*ids, 0]), "counts this client as dropped")


def test_a_client_refuses_a_dropped_client_that_had_shared_no_keys() -> None:
    refuses("unmasking", dropped(lambda ids: [*ids, 5]), "had shared no keys")


def test_a_client_refuses_to_unmask_fewer_than_t() -> None:
    refuses("unmasking", dropped(lambda ids: [*ids, 2, 3]), "2 clients survive, 3 are needed")


def test_a_client_unmasks_t() -> None:
    it = play().to("unmasking")
    assert it.clients[0].receive(changed(UnmaskingRequest, it.requests[0], dropped(lambda ids: [*ids, 3])))


def test_a_client_gives_of_every_other_one_share_of_one_kind() -> None:
    it = play().to("unmasking").answer()
    shares = decode(Unmasking, it.answers[0]).shares
    assert {v for v, share in shares.items() if isinstance(share, PairKeyShare)} == {4}
    assert shares.keys() == set(range(5))


def test_a_client_asked_a_second_time_gives_nothing() -> None:
    """The same request with another list would bring the server a second kind of share."""
    it = play().to("unmasking")
    assert it.clients[0].receive(it.requests[0])
    assert it.clients[0].done
    with pytest.raises(LocalProtocolError, match="over"):
        it.clients[0].receive(changed(UnmaskingRequest, it.requests[0], dropped(lambda ids: [*ids, 1])))


# Any bytes at all


@pytest.mark.parametrize("round", ROUNDS)
@pytest.mark.parametrize("other", ROUNDS)
def test_a_client_refuses_a_request_of_another_round(round: str, other: str) -> None:
    if round != other:
        stray = play().to(other).requests[0]
        client_refuses(play(), round, lambda _: stray, f"not a {REQUEST[round].__struct_config__.tag}")


def answers_or_dies(client: Any, round: str, message: bytes) -> bool:
    """Whether the client answers; a refusal names nobody and is final."""
    replies: list[bytes] = []
    culprits = culprits_named(lambda m: replies.append(client.receive(m)), message)
    if culprits is None:
        return bool(decode(ANSWER[round], replies[0]))
    assert culprits == frozenset()
    assert not client.done
    with pytest.raises(LocalProtocolError, match="over"):
        client.receive(message)
    return False


@settings(max_examples=60)
@pytest.mark.parametrize("round", ROUNDS)
@given(st.binary(max_size=200))
def test_whatever_the_bytes_a_client_refuses_them(round: str, data: bytes) -> None:
    assert not answers_or_dies(play().to(round).clients[0], round, data)


@settings(max_examples=150)
@pytest.mark.parametrize("round", ROUNDS)
@given(st.data())
def test_whatever_byte_of_a_request_changes_a_client_answers_or_dies(round: str, data: st.DataObject) -> None:
    it = play().to(round)
    answers_or_dies(it.clients[0], round, with_another_byte(it.requests[0], data))


# What its own caller gets wrong


@pytest.mark.parametrize("u", [-1, MAX_ID + 1])
def test_an_id_out_of_range_is_refused(u: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"client id {u} is not in"):
        FIVE.client(u, lambda task: {})


def test_a_short_rounding_seed_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match=f"at least {KEY_BYTES} secret bytes"):
        FIVE.client(0, lambda task: {}, rounding_seed=bytes(KEY_BYTES - 1))
    assert FIVE.client(0, lambda task: {}, rounding_seed=bytes(KEY_BYTES))


def test_a_vector_against_its_specification_ends_the_session_before_a_key_is_made() -> None:
    scheme = Masking.for_cohort(3, Bounded(length=2, bound=1.0))
    it = Play(scheme, {0: [1.0, float("nan")], 1: [1.0, 1.0], 2: [1.0, 1.0]}).to("advertise-keys")
    with pytest.raises(LocalProtocolError, match="the vector holds nan at coordinate 1"):
        it.clients[0].receive(it.requests[0])
    with pytest.raises(LocalProtocolError, match="over"):
        it.clients[0].receive(it.requests[0])
