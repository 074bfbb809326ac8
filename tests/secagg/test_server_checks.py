"""One dishonest or broken client: a normal session in which one message of client 0 is changed.

Every check of the server has a test here that fails when the check is deleted. Each shows that client 0 is
named and has lost its place, and that the round goes on to the exact sum of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from secagg import LocalProtocolError, Masking, RemoteProtocolError, TooFewClients
from secagg.crypto import PROTOCOL_VERSION
from secagg.masking.messages import (
    AdvertiseKeys,
    MaskedInput,
    PairKeyShare,
    SelfMaskShare,
    ShareKeys,
    Unmasking,
)
from secagg.masking.server import ROUNDS
from secagg.shamir import PRIME
from secagg.wire import Join, decode, encode
from tests.secagg.helpers import (
    MIXED,
    SMALL_ORDER,
    Play,
    assert_same_codes,
    changed,
    codes_of,
    culprits_named,
    mixed_inputs,
    server_refuses,
    with_another_byte,
)

FIVE = Masking.for_cohort(5, MIXED)


def play() -> Play:
    """Five clients, threshold three; the last vanishes before its masked input."""
    return Play(FIVE, mixed_inputs(range(5)), drop={"masked-input": {4}})


def refuses(round: str, change: Callable[[Any], Any], words: str) -> None:
    server_refuses(play(), round, change, words)


# Who is spoken to


def test_a_server_refuses_a_cohort_with_a_client_twice() -> None:
    with pytest.raises(LocalProtocolError, match="twice"):
        FIVE.server([0, 1, 2, 3, 3])


@pytest.mark.parametrize("clients", [4, 6])
def test_a_server_refuses_a_cohort_of_another_size(clients: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"a cohort of {clients} clients for parameters made for 5"):
        FIVE.server(range(clients))


def test_a_server_refuses_a_stranger() -> None:
    it = play()
    with pytest.raises(RemoteProtocolError, match="client 9 is not expected in round join") as caught:
        it.server.receive(9, it.answers[0])
    assert caught.value.culprits == {9}
    assert it.finish().survivors == {0, 1, 2, 3}


@pytest.mark.parametrize("round", ROUNDS)
def test_a_server_refuses_a_second_answer_and_keeps_the_first(round: str) -> None:
    it = play().to(round).answer()
    first = it.answers.pop(0)
    it.server.receive(0, first)
    with pytest.raises(RemoteProtocolError, match=f"client 0 is not expected in round {round}"):
        it.server.receive(0, first)
    total = it.finish()
    assert total.survivors == {0, 1, 2, 3}
    assert_same_codes(total.codes, codes_of(FIVE, it.inputs, total.survivors))


@pytest.mark.parametrize("round", ROUNDS[:-1])
def test_a_server_refuses_a_client_that_comes_back(round: str) -> None:
    it = play().to(round).answer()
    late = it.answers.pop(0)
    it.close()
    with pytest.raises(RemoteProtocolError, match="client 0 is not expected"):
        it.server.receive(0, late)
    total = it.finish()
    assert total.survivors == {1, 2, 3}
    assert_same_codes(total.codes, codes_of(FIVE, it.inputs, total.survivors))


def test_a_server_waits_for_those_that_answered_the_round_before() -> None:
    it = play()
    assert it.server.waiting_for == {0, 1, 2, 3, 4}
    it.server.receive(0, it.answers.pop(0))
    assert it.server.waiting_for == {1, 2, 3, 4}
    assert it.to("unmasking").server.waiting_for == {0, 1, 2, 3}
    it.finish()
    assert it.server.waiting_for == frozenset()


def test_a_finished_session_takes_nothing_more() -> None:
    it = play()
    it.finish()
    with pytest.raises(LocalProtocolError, match="over"):
        it.server.advance()
    with pytest.raises(RemoteProtocolError, match="not expected in round done"):
        it.server.receive(0, encode(Join(1, bytes(32))))


@pytest.mark.parametrize("round", ROUNDS)
def test_fewer_than_t_answers_end_the_session_for_good(round: str) -> None:
    it = play().to(round).answer()
    for u in (0, 1):
        it.server.receive(u, it.answers[u])
    with pytest.raises(TooFewClients, match=f"2 clients left in round {round}, 3 needed") as caught:
        it.server.advance()
    assert (caught.value.alive, caught.value.needed, caught.value.round) == (2, 3, round)
    assert it.server.result is None
    with pytest.raises(LocalProtocolError, match="over"):
        it.server.advance()
    with pytest.raises(RemoteProtocolError, match="not expected"):
        it.server.receive(2, it.answers[2])


@pytest.mark.parametrize("round", ROUNDS)
def test_t_answers_are_enough(round: str) -> None:
    it = play()
    it.drop = {round: {3, 4}}
    total = it.finish()
    assert_same_codes(total.codes, codes_of(FIVE, it.inputs, total.survivors))


# What is said


def test_a_server_refuses_another_protocol_version() -> None:
    refuses("join", lambda m: replace(m, version=PROTOCOL_VERSION + 1), "this is version 1")


def test_a_server_refuses_other_parameters() -> None:
    refuses("join", lambda m: replace(m, parameters=bytes(32)), "other parameters")


def test_a_server_refuses_one_key_for_both_uses() -> None:
    refuses("advertise-keys", lambda m: AdvertiseKeys(m.c_pk, m.c_pk), "already in use")


@pytest.mark.parametrize("mine", [0, 1])
@pytest.mark.parametrize("theirs", ["c_pk", "s_pk"])
def test_a_server_refuses_a_key_of_another_client(mine: int, theirs: str) -> None:
    it = play().to("advertise-keys").answer()
    other = decode(AdvertiseKeys, it.answers[1])
    it.server.receive(1, it.answers.pop(1))

    def steal(message: AdvertiseKeys) -> AdvertiseKeys:
        pair = [message.c_pk, message.s_pk]
        pair[mine] = getattr(other, theirs)
        return AdvertiseKeys(*pair)

    server_refuses(it, "advertise-keys", steal, "already in use")


@pytest.mark.parametrize("point", SMALL_ORDER, ids=bytes.hex)
@pytest.mark.parametrize("key", ["c_pk", "s_pk"])
def test_a_server_refuses_a_key_of_small_order(key: str, point: bytes) -> None:
    """Every other client would fail on it."""
    refuses("advertise-keys", lambda m: replace(m, **{key: point}), "small order")


def sealed(change: Callable[[dict[int, Any]], dict[int, Any]]) -> Callable[[Any], Any]:
    return lambda message: ShareKeys(change(message.sealed))


def test_a_server_refuses_shares_that_leave_out_a_client() -> None:
    refuses("share-keys", sealed(lambda e: {v: e[v] for v in (1, 2, 3)}), "shared secrets with others")


def test_a_server_refuses_shares_for_a_stranger() -> None:
    refuses("share-keys", sealed(lambda e: e | {5: e[1]}), "shared secrets with others")


def test_a_server_refuses_shares_for_their_own_dealer() -> None:
    refuses("share-keys", sealed(lambda e: e | {0: e[1]}), "shared secrets with others")


def packed(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Any], Any]:
    return lambda message: MaskedInput(list(map(memoryview, change(list(map(bytes, message.packed))))))


def test_a_server_refuses_a_vector_too_few_or_too_many() -> None:
    refuses("masked-input", packed(lambda v: v[:2]), "2 vectors, the session has 3")
    refuses("masked-input", packed(lambda v: [*v, b"\0"]), "4 vectors, the session has 3")


@pytest.mark.parametrize("i", range(3))
def test_a_server_refuses_a_vector_of_another_size_and_adds_no_other_of_that_upload(i: int) -> None:
    refuses("masked-input", packed(lambda v: [*v[:i], v[i][:-1], *v[i + 1 :]]), "a vector of")
    refuses("masked-input", packed(lambda v: [*v[:i], v[i] + b"\0", *v[i + 1 :]]), "a vector of")


@pytest.mark.parametrize("i", range(3))
def test_a_server_refuses_bits_behind_a_vector_and_adds_no_other_of_that_upload(i: int) -> None:
    assert all(spec.ring_bits(5) * spec.length % 8 for spec in MIXED.values())

    def set_last_bit(vectors: list[bytes]) -> list[bytes]:
        return [*vectors[:i], bytes([*vectors[i][:-1], vectors[i][-1] | 0x80]), *vectors[i + 1 :]]

    refuses("masked-input", packed(set_last_bit), "behind the last")


def shares(change: Callable[[dict[int, Any]], dict[int, Any]]) -> Callable[[Any], Any]:
    return lambda message: Unmasking(change(message.shares))


def test_a_server_refuses_a_share_of_a_stranger() -> None:
    refuses("unmasking", shares(lambda s: s | {5: s[1]}), "client that shared no keys")


def test_a_server_refuses_a_share_of_a_survivors_key() -> None:
    refuses("unmasking", shares(lambda s: s | {1: PairKeyShare(s[1].share)}), "wrong kind")


def test_a_server_refuses_a_share_of_a_dropped_clients_mask() -> None:
    refuses("unmasking", shares(lambda s: s | {4: SelfMaskShare(s[4].share)}), "wrong kind")


@pytest.mark.parametrize("value", [PRIME, 2**264 - 1])
def test_a_server_refuses_a_share_outside_the_field_and_takes_no_other_of_that_answer(value: int) -> None:
    large = value.to_bytes(33, "big")
    refuses("unmasking", shares(lambda s: s | {1: SelfMaskShare(large)}), "not an element of the field")
    refuses("unmasking", shares(lambda s: s | {4: PairKeyShare(large)}), "not an element of the field")


# What cannot be rebuilt


def shares_of(v: int, it: Play) -> dict[int, int]:
    """Holder -> what it is about to return of v."""
    messages = {u: decode(Unmasking, answer) for u, answer in it.answers.items() if u not in it.lost}
    return {u: int.from_bytes(message.shares[v].share, "big") for u, message in messages.items()}


def lie(it: Play, v: int, value: int) -> None:
    """Client 0 returns this in the place of its share of v."""
    share = (value % PRIME).to_bytes(33, "big")
    it.answers[0] = changed(Unmasking, it.answers[0], shares(lambda s: s | {v: type(s[v])(share)}))


def test_a_wrong_share_of_a_key_is_found_out() -> None:
    it = play().to("unmasking").answer()
    lie(it, 4, shares_of(4, it)[0] + 1)
    with pytest.raises(RemoteProtocolError, match="client 4's key do not give its key") as caught:
        it.finish()
    assert caught.value.culprits == frozenset()  # the dealer or a holder: nothing tells which
    assert it.server.result is None
    with pytest.raises(LocalProtocolError, match="over"):
        it.server.advance()


def test_shares_that_give_more_than_32_bytes_are_found_out() -> None:
    """The points 1, 2, 3 answer for all, and f(0) = 3 f(1) - 3 f(2) + f(3): client 0 can make it 2^256."""
    it = play().to("unmasking").answer()
    f = shares_of(1, it)
    lie(it, 1, f[0] + (2**256 - (3 * f[0] - 3 * f[1] + f[2])) * pow(3, -1, PRIME))
    with pytest.raises(RemoteProtocolError, match="the shares of client 1 do not belong together"):
        it.finish()


@pytest.mark.parametrize("v", [1, 4])
def test_fewer_than_t_shares_of_one_client_give_no_sum(v: int) -> None:
    """Two of four leave out what they hold of one survivor, or of the dropped one."""
    it = play().to("unmasking").answer()
    for u in (0, 2):
        it.answers[u] = changed(
            Unmasking, it.answers[u], shares(lambda s: {w: share for w, share in s.items() if w != v})
        )
    with pytest.raises(TooFewClients) as caught:
        it.finish()
    assert (caught.value.alive, caught.value.needed, caught.value.round) == (2, 3, "unmasking")
    assert it.server.result is None


def test_t_shares_of_each_client_are_enough() -> None:
    it = play().to("unmasking").answer()
    it.answers[0] = changed(Unmasking, it.answers[0], shares(lambda s: {1: s[1]}))
    assert_same_codes(it.finish().codes, codes_of(FIVE, it.inputs, {0, 1, 2, 3}))


# Any bytes at all


@pytest.mark.parametrize("round", ROUNDS)
@pytest.mark.parametrize("other", ROUNDS)
def test_a_server_refuses_an_answer_to_another_round(round: str, other: str) -> None:
    if round != other:
        stray = play().to(other).answer().answers[0]
        refuses(round, lambda _: stray, f"not a {round} message")


@settings(max_examples=60)
@pytest.mark.parametrize("round", ROUNDS)
@given(st.binary(max_size=200))
def test_whatever_the_bytes_a_server_refuses_them_and_goes_on(round: str, data: bytes) -> None:
    refuses(round, lambda _: data, "not a ")


@settings(max_examples=150)
@pytest.mark.parametrize("round", ROUNDS)
@given(st.data())
def test_whatever_byte_of_an_answer_changes_a_server_takes_or_refuses_it(
    round: str, data: st.DataObject
) -> None:
    it = play().to(round).answer()
    message = with_another_byte(it.answers.pop(0), data)
    assert culprits_named(lambda m: it.server.receive(0, m), message) in (None, {0})
    try:
        it.finish()
    except (RemoteProtocolError, TooFewClients):  # masking gives no integrity, but never another error
        assert it.server.result is None
