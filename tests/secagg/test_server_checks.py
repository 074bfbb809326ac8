"""One dishonest or broken client: a normal session in which one message of client 0 is changed.

Every check of the server has a test here that fails when the check is deleted. Each shows that client 0 is
named and has lost its place, and that the round goes on to the exact sum of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from secagg import LocalProtocolError, Masking, RemoteProtocolError, TooFewClients
from secagg.crypto import PROTOCOL_VERSION
from secagg.masking.derived import (
    members_statement,
)
from secagg.masking.messages import (
    AdvertiseKeys,
    Commitments,
    ConsistencyCheck,
    MaskedInput,
    PairKeyShare,
    SelfMaskShare,
    SignedUnmaskingRequest,
    Unmasking,
)
from secagg.shamir import PRIME
from secagg.shamir import share as honest_share
from secagg.wire import MAX_ID, Join, decode, encode
from tests.secagg.helpers import (
    FIVE,
    MASKING,
    MIXED,
    ROUNDS,
    SMALL_ORDER,
    Play,
    assert_same_codes,
    changed,
    codes_of,
    culprits_named,
    each_round,
    flips,
    identities,
    mixed_inputs,
    server_refuses,
    with_another_byte,
)

ACTIVE, SEMI_HONEST = FIVE["active"], FIVE["semi-honest"]


def play(scheme: Masking) -> Play:
    """Five clients, threshold three; the last vanishes before its masked input."""
    return Play(scheme, mixed_inputs(range(5)), drop={"masked-input": {4}})


def refuses(scheme: Masking, round: str, change: Callable[[Any], Any], words: str) -> None:
    server_refuses(play(scheme), round, change, words)


def finishes_with(it: Play, survivors: set[int]) -> None:
    total = it.finish()
    assert total.survivors == survivors
    assert_same_codes(total.codes, codes_of(it.scheme, it.inputs, survivors))


# Who is spoken to


def test_a_server_refuses_a_cohort_with_a_client_twice(five: Masking) -> None:
    with pytest.raises(LocalProtocolError, match="client 3 stands twice in the cohort"):
        five.server([0, 1, 2, 3, 3], roster=identities(range(5))[0])


@pytest.mark.parametrize("clients", [4, 6])
def test_a_server_refuses_a_cohort_of_another_size(five: Masking, clients: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"a cohort of {clients} clients for parameters made for 5"):
        five.server(range(clients), roster=identities(range(5))[0])


@pytest.mark.parametrize("u", [-1, MAX_ID + 1])
def test_a_server_refuses_an_id_out_of_range(five: Masking, u: int) -> None:
    with pytest.raises(LocalProtocolError, match=rf"client id {u} is not in 0\.\.{MAX_ID}"):
        five.server([0, 1, 2, 3, u], roster=identities(range(5))[0])


def test_against_clients_that_do_not_trust_it_a_server_needs_their_roster() -> None:
    with pytest.raises(LocalProtocolError, match="a roster of one's own is needed"):
        ACTIVE.server(range(5))
    with pytest.raises(LocalProtocolError, match="bound to another roster than this one"):
        ACTIVE.server(range(5), roster=identities(range(6))[0])
    assert SEMI_HONEST.server(range(5), roster=identities(range(6))[0])


def test_a_server_refuses_a_stranger(five: Masking) -> None:
    it = play(five)
    with pytest.raises(RemoteProtocolError, match="client 9 is not expected in round join") as caught:
        it.server.receive(9, it.answers[0])
    assert caught.value.culprits == {9}
    finishes_with(it, {0, 1, 2, 3})


@each_round
def test_a_client_that_says_two_things_in_a_round_is_out(adversary: str, round: str) -> None:
    """What it said first is dropped; its vector alone stays in the sum, from which it cannot be taken."""
    it = play(FIVE[adversary]).to(round).answer()
    first = it.answers.pop(0)
    it.server.receive(0, first)
    with pytest.raises(RemoteProtocolError, match=f"client 0 is not expected in round {round}") as caught:
        it.server.receive(0, first)
    assert caught.value.culprits == {0}
    it.close()
    assert 0 not in it.server.waiting_for
    assert 0 not in it.requests
    summed = round in ("masked-input", "consistency-check", "unmasking")
    finishes_with(it, {0, 1, 2, 3} if summed else {1, 2, 3})


@each_round
def test_a_client_that_says_two_things_does_not_count_in_that_round(adversary: str, round: str) -> None:
    """Three answer, one of them twice: enough for the sum of their vectors, and for nothing else."""
    it = play(FIVE[adversary])
    it.drop = {round: {3, 4}}
    it.to(round).answer()
    for u in (0, 1, 2, 0):
        culprits = culprits_named(lambda m, u=u: it.server.receive(u, m), it.answers[u])
    assert culprits == {0}
    if round == "masked-input":
        it.requests = it.server.advance()
        assert it.requests.keys() == {1, 2}
        return
    with pytest.raises(TooFewClients) as caught:
        it.server.advance()
    assert (caught.value.alive, caught.value.needed, caught.value.round) == (2, 3, round)


def test_a_signature_is_not_passed_on_of_a_client_that_says_two_things() -> None:
    it = play(ACTIVE).to("consistency-check").answer()
    it.server.receive(0, it.answers[0])
    with pytest.raises(RemoteProtocolError, match="client 0 is not expected"):
        it.server.receive(0, it.answers.pop(0))
    it.close()
    for request in it.requests.values():
        assert decode(SignedUnmaskingRequest, request).signatures.keys() == {1, 2, 3}


def test_no_share_is_used_of_a_client_that_says_two_things() -> None:
    """Its first answer was a lie, which a semi-honest server cannot see."""
    it = play(SEMI_HONEST).to("unmasking").answer()
    lie(it, 1, shares_of(1, it)[0] + 1)
    it.server.receive(0, it.answers[0])
    with pytest.raises(RemoteProtocolError, match="client 0 is not expected"):
        it.server.receive(0, it.answers.pop(0))
    finishes_with(it, {0, 1, 2, 3})


@each_round
def test_a_server_refuses_a_client_that_comes_back(adversary: str, round: str) -> None:
    if round == "unmasking":
        return
    it = play(FIVE[adversary]).to(round).answer()
    late = it.answers.pop(0)
    it.close()
    with pytest.raises(RemoteProtocolError, match="client 0 is not expected"):
        it.server.receive(0, late)
    finishes_with(it, {0, 1, 2, 3} if round == "consistency-check" else {1, 2, 3})


def test_a_server_waits_for_those_that_answered_the_round_before(five: Masking) -> None:
    it = play(five)
    assert it.server.waiting_for == {0, 1, 2, 3, 4}
    it.server.receive(0, it.answers.pop(0))
    assert it.server.waiting_for == {1, 2, 3, 4}
    assert it.to("unmasking").server.waiting_for == {0, 1, 2, 3}
    it.finish()
    assert it.server.waiting_for == frozenset()


def test_a_finished_session_takes_nothing_more(five: Masking) -> None:
    it = play(five)
    it.finish()
    with pytest.raises(LocalProtocolError, match="over"):
        it.server.advance()
    with pytest.raises(RemoteProtocolError, match="not expected in round done"):
        it.server.receive(0, encode(Join(1, bytes(32))))


def too_few(it: Play, round: str, answered: int, needed: int) -> None:
    """Only so many answer in this round: before a U3 is shown the session is over for good, then it waits on,
    and is finished with the same U3 once the others answer.
    """
    it.to(round).answer()
    for u in range(answered):
        it.server.receive(u, it.answers[u])
    words = f"{answered} clients left in round {round}, {needed} needed"
    with pytest.raises(TooFewClients, match=words) as caught:
        it.server.advance()
    assert (caught.value.alive, caught.value.needed, caught.value.round) == (answered, needed, round)
    assert caught.value.of is None
    assert it.server.result is None
    late = {u: message for u, message in it.answers.items() if u >= answered}
    if round in ("consistency-check", "unmasking"):
        assert (it.server.round, it.server.waiting_for) == (round, late.keys())
        it.answers = late
        assert it.finish().survivors == {*range(answered), *late}
        return
    with pytest.raises(LocalProtocolError, match="this session is over: make a new one"):
        it.server.advance()
    with pytest.raises(RemoteProtocolError, match="not expected"):
        it.server.receive(answered, late[answered])


@each_round
def test_fewer_than_t_answers_open_nothing(adversary: str, round: str) -> None:
    too_few(play(FIVE[adversary]), round, 2, 3)


@each_round
def test_t_answers_are_enough(adversary: str, round: str) -> None:
    it = play(FIVE[adversary])
    it.drop = {round: {3, 4}}
    finishes_with(it, set(range(5)) if round in ("consistency-check", "unmasking") else {0, 1, 2})


@pytest.mark.parametrize("name", MASKING)
def test_m_min_are_needed_in_every_round_and_t_to_unmask(name: str) -> None:
    """No U1 or U2 is opened in which there could be no U3."""
    scheme = MASKING[name](range(5), MIXED, threshold=3, m_min=4, corrupt=0)
    *before, last = scheme.rounds
    for round in before:
        too_few(Play(scheme, mixed_inputs(range(5))), round, 3, 4)
    too_few(Play(scheme, mixed_inputs(range(5))), last, 2, 3)
    finishes_with(Play(scheme, mixed_inputs(range(5)), drop={"unmasking": {3, 4}}), set(range(5)))


# What is said


def test_a_server_refuses_another_protocol_version(five: Masking) -> None:
    refuses(five, "join", lambda m: replace(m, version=PROTOCOL_VERSION + 1), "this is version 1")


def test_a_server_refuses_other_parameters(five: Masking) -> None:
    refuses(five, "join", lambda m: replace(m, parameters=bytes(32)), "other parameters")


def test_a_server_refuses_one_key_for_both_uses(five: Masking) -> None:
    it = play(five).to("advertise-keys")
    server_refuses(it, "advertise-keys", lambda m: it.advertised(0, m.c_pk, m.c_pk), "already in use")


@pytest.mark.parametrize("mine", [0, 1])
@pytest.mark.parametrize("theirs", ["c_pk", "s_pk"])
def test_a_server_refuses_a_key_of_another_client(five: Masking, mine: int, theirs: str) -> None:
    it = play(five).to("advertise-keys").answer()
    other = decode(AdvertiseKeys, it.answers[1])
    it.server.receive(1, it.answers.pop(1))

    def steal(message: AdvertiseKeys) -> AdvertiseKeys:
        pair = [message.c_pk, message.s_pk]
        pair[mine] = getattr(other, theirs)
        return it.advertised(0, *pair)

    server_refuses(it, "advertise-keys", steal, "already in use")


@pytest.mark.parametrize("point", SMALL_ORDER, ids=bytes.hex)
@pytest.mark.parametrize("key", ["c_pk", "s_pk"])
def test_a_server_refuses_a_key_of_small_order(five: Masking, key: str, point: bytes) -> None:
    """Every other client would fail on it."""
    it = play(five).to("advertise-keys")

    def small(message: AdvertiseKeys) -> AdvertiseKeys:
        pair = {"c_pk": message.c_pk, "s_pk": message.s_pk, key: point}
        return it.advertised(0, **pair)

    server_refuses(it, "advertise-keys", small, "small order")


def test_a_server_refuses_keys_without_their_signature() -> None:
    words = "advertised keys without its signature"
    for forge in (
        lambda m: replace(m, signature=b""),
        lambda m: replace(m, signature=next(flips(m.signature))),
        lambda m: replace(m, s_pk=bytes(range(32))),
        lambda m: replace(m, c_pk=bytes(range(32))),
    ):
        refuses(ACTIVE, "advertise-keys", forge, words)
    it = play(ACTIVE).to("advertise-keys")
    server_refuses(it, "advertise-keys", lambda m: it.advertised(1, m.c_pk, m.s_pk), words)


@pytest.mark.parametrize(
    ("round", "change", "words"),
    [
        ("advertise-keys", lambda m: replace(m, signature=bytes(64)), "advertised signed keys"),
        ("share-keys", lambda m: replace(m, signature=bytes(64)), "committed to shares"),
        ("share-keys", lambda m: replace(m, commitment=bytes(32)), "committed to shares"),
        (
            "share-keys",
            lambda m: replace(m, commitments={1: Commitments(bytes(32), bytes(32))}),
            "committed to shares",
        ),
    ],
)
def test_a_server_refuses_signatures_and_commitments_where_nothing_is_signed(
    round: str, change: Callable[[Any], Any], words: str
) -> None:
    refuses(SEMI_HONEST, round, change, f"{words} in a session where nothing is signed")


def sealed(it: Play, change: Callable[[dict[int, Any]], dict[int, Any]]) -> Callable[[Any], Any]:
    return lambda message: it.shared(0, replace(message, sealed=change(message.sealed)))


@pytest.mark.parametrize(
    "change",
    [lambda e: {v: e[v] for v in (1, 2, 3)}, lambda e: e | {5: e[1]}, lambda e: {0: e[1]} | e],
    ids=["one left out", "a stranger", "its own"],
)
def test_a_server_refuses_shares_for_others_than_the_rest_of_u1(five: Masking, change: Any) -> None:
    it = play(five).to("share-keys")
    words = "shared secrets with others than the clients that are to hold them"
    server_refuses(it, "share-keys", sealed(it, change), words)


def without(entries: Mapping[int, Any], *ids: int) -> dict[int, Any]:
    return {v: entry for v, entry in entries.items() if v not in ids}


@pytest.mark.parametrize(
    "change",
    [
        lambda m: replace(m, commitments={}),
        lambda m: replace(m, commitments=without(m.commitments, 0)),
        lambda m: replace(m, commitments=without(m.commitments, 3)),
        lambda m: replace(m, commitments=m.commitments | {5: m.commitments[1]}),
        lambda m: replace(m, commitment=b""),
        lambda m: replace(m, commitment=m.commitment[:31]),
    ],
    ids=["none", "not its own", "one left out", "a stranger's", "not of b_u", "a short one of b_u"],
)
def test_a_server_refuses_shares_without_a_commitment_to_each(change: Any) -> None:
    it = play(ACTIVE).to("share-keys")
    words = "shared secrets without committing to each share"
    server_refuses(it, "share-keys", lambda m: it.shared(0, change(m)), words)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: replace(m, signature=b""),
        lambda m: replace(m, signature=next(flips(m.signature))),
        lambda m: replace(m, commitment=bytes(32)),
        lambda m: replace(m, commitments=m.commitments | {2: Commitments(bytes(32), bytes(32))}),
        lambda m: replace(m, sealed=m.sealed | {1: next(flips(m.sealed[1]))}),
    ],
    ids=["no signature", "another", "another commitment", "another share's", "another ciphertext"],
)
def test_a_server_refuses_shares_without_their_signature(change: Any) -> None:
    refuses(ACTIVE, "share-keys", change, "shared secrets without its signature")


def test_a_server_refuses_shares_that_another_client_signed() -> None:
    it = play(ACTIVE).to("share-keys")
    server_refuses(it, "share-keys", lambda m: it.shared(1, m), "shared secrets without its signature")


def packed(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Any], Any]:
    return lambda message: MaskedInput(list(map(memoryview, change(list(map(bytes, message.packed))))))


def test_a_server_refuses_a_vector_too_few_or_too_many(five: Masking) -> None:
    refuses(five, "masked-input", packed(lambda v: v[:2]), "2 vectors, the session has 3")
    refuses(five, "masked-input", packed(lambda v: [*v, b"\0"]), "4 vectors, the session has 3")


@pytest.mark.parametrize("i", range(3))
def test_a_server_refuses_a_vector_of_another_size_and_adds_no_other_of_that_upload(
    five: Masking, i: int
) -> None:
    refuses(five, "masked-input", packed(lambda v: [*v[:i], v[i][:-1], *v[i + 1 :]]), "a vector of")
    refuses(five, "masked-input", packed(lambda v: [*v[:i], v[i] + b"\0", *v[i + 1 :]]), "a vector of")


@pytest.mark.parametrize("i", range(3))
def test_a_server_refuses_bits_behind_a_vector_and_adds_no_other_of_that_upload(
    five: Masking, i: int
) -> None:
    assert all(spec.ring_bits(5) * spec.length % 8 for spec in MIXED.values())

    def set_last_bit(vectors: list[bytes]) -> list[bytes]:
        return [*vectors[:i], bytes([*vectors[i][:-1], vectors[i][-1] | 0x80]), *vectors[i + 1 :]]

    refuses(five, "masked-input", packed(set_last_bit), "behind the last")


@pytest.mark.parametrize("signature", [b"", bytes(64)])
def test_a_server_refuses_anything_but_a_signature_on_the_survivors(signature: bytes) -> None:
    words = "did not sign the survivors it was shown"
    refuses(ACTIVE, "consistency-check", lambda _: ConsistencyCheck(signature), words)
    refuses(ACTIVE, "consistency-check", lambda m: ConsistencyCheck(next(flips(m.signature))), words)


@pytest.mark.parametrize(("signer", "U3"), [(1, range(4)), (0, range(3)), (0, range(5))])
def test_a_server_refuses_a_signature_by_another_or_on_other_survivors(signer: int, U3: range) -> None:
    it = play(ACTIVE).to("consistency-check")
    bound = it.server._sid, ACTIVE.digest(), it.server._context, range(5), range(5)
    signature = it.identities[signer].key.sign(members_statement(*bound, U3))
    words = "did not sign the survivors it was shown"
    server_refuses(it, "consistency-check", lambda _: ConsistencyCheck(signature), words)


def shares(change: Callable[[dict[int, Any]], dict[int, Any]]) -> Callable[[Any], Any]:
    return lambda message: Unmasking(change(message.shares))


def test_a_server_refuses_a_share_of_a_stranger(five: Masking) -> None:
    refuses(five, "unmasking", shares(lambda s: s | {5: s[1]}), "a client that dealt none to it")


def test_a_server_refuses_a_share_of_a_survivors_key(five: Masking) -> None:
    refuses(five, "unmasking", shares(lambda s: s | {1: PairKeyShare(s[1].share)}), "wrong kind")


def test_a_server_refuses_a_share_of_a_dropped_clients_mask(five: Masking) -> None:
    refuses(five, "unmasking", shares(lambda s: s | {4: SelfMaskShare(s[4].share)}), "wrong kind")


@pytest.mark.parametrize("value", [PRIME, 2**264 - 1])
def test_a_server_refuses_a_share_outside_the_field_and_takes_no_other_of_that_answer(
    five: Masking, value: int
) -> None:
    large = value.to_bytes(33, "big")
    words = "returned a share that is not an element of the field"
    refuses(five, "unmasking", shares(lambda s: s | {1: SelfMaskShare(large)}), words)
    refuses(five, "unmasking", shares(lambda s: s | {4: PairKeyShare(large)}), words)


@pytest.mark.parametrize("v", [0, 1, 4])
def test_a_server_refuses_another_share_than_was_dealt_and_takes_no_other_of_that_answer(v: int) -> None:
    """Of its own mask, a survivor's mask, a dropped client's key: the dealer's signed commitment shows it."""

    def wrong(s: dict[int, Any]) -> dict[int, Any]:
        share = int.from_bytes(s[v].share, "big") ^ 1
        return s | {v: type(s[v])(share.to_bytes(33, "big"))}

    refuses(ACTIVE, "unmasking", shares(wrong), f"returned another share of client {v} than it was dealt")


def test_a_server_refuses_the_share_of_one_client_as_that_of_another() -> None:
    words = "returned another share of client 1 than it was dealt"
    refuses(ACTIVE, "unmasking", shares(lambda s: s | {1: s[2]}), words)


# What cannot be rebuilt


def shares_of(v: int, it: Play) -> dict[int, int]:
    """Holder -> what it is about to return of v."""
    messages = {u: decode(Unmasking, answer) for u, answer in it.answers.items() if u not in it.lost}
    return {u: int.from_bytes(message.shares[v].share, "big") for u, message in messages.items()}


def lie(it: Play, v: int, value: int) -> None:
    """Client 0 returns this in the place of its share of v."""
    share = (value % PRIME).to_bytes(33, "big")
    it.answers[0] = changed(Unmasking, it.answers[0], shares(lambda s: s | {v: type(s[v])(share)}))


def no_sum(it: Play, words: str, culprits: set[int]) -> None:
    with pytest.raises(RemoteProtocolError, match=words) as caught:
        it.finish()
    assert caught.value.culprits == culprits
    assert it.server.result is None
    with pytest.raises(LocalProtocolError, match="over"):
        it.server.advance()


def test_a_wrong_share_of_a_key_is_found_out() -> None:
    """Without commitments the dealer or a holder may have lied: nobody is named."""
    it = play(SEMI_HONEST).to("unmasking").answer()
    lie(it, 4, shares_of(4, it)[0] + 1)
    no_sum(it, "client 4 dealt shares of another key", set())


def test_shares_that_give_more_than_32_bytes_are_found_out() -> None:
    """The points 1, 2, 3 answer for all, and f(0) = 3 f(1) - 3 f(2) + f(3): client 0 can make it 2^256."""
    it = play(SEMI_HONEST).to("unmasking").answer()
    f = shares_of(1, it)
    lie(it, 1, f[0] + (2**256 - (3 * f[0] - 3 * f[1] + f[2])) * pow(3, -1, PRIME))
    no_sum(it, "the shares of client 1 do not belong together", set())


def dealt_by(it: Play, dealer: int, half: int, share: Any, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Played to the end of unmasking; the dealer made its first (key) or second (mask) shares otherwise."""
    it.to("share-keys")
    calls = []

    def dishonest(secret: int, *args: Any) -> dict[int, int]:
        calls.append(secret)
        return (share if len(calls) - 1 == half else honest_share)(secret, *args)

    with monkeypatch.context() as patch:
        patch.setattr("secagg.masking.client.share", dishonest)
        message = it.clients[dealer].receive(it.requests.pop(dealer))
    it.answer().answers[dealer] = message
    return it.to("unmasking").answer()


@pytest.mark.parametrize(("dealer", "half", "words"), [(4, 0, "another key"), (1, 1, "another mask")])
def test_a_dealer_of_shares_of_another_secret_is_named(
    dealer: int, half: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the holders return is what it committed to; what that gives is not."""

    def other(secret: int, *args: Any) -> dict[int, int]:
        return honest_share(secret ^ 1, *args)

    it = dealt_by(play(ACTIVE), dealer, half, other, monkeypatch)
    no_sum(it, f"client {dealer} dealt shares of {words}", {dealer})


@pytest.mark.parametrize(("dealer", "half"), [(4, 0), (1, 1)])
@pytest.mark.parametrize("adversary", FIVE)
def test_a_dealer_of_shares_that_give_no_secret_is_named_if_it_signed_them(
    adversary: str, dealer: int, half: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def constant(secret: int, t: int, points: list[int], rng: Any) -> dict[int, int]:
        return dict.fromkeys(points, PRIME - 1)

    it = dealt_by(play(FIVE[adversary]), dealer, half, constant, monkeypatch)
    culprits = {dealer} if adversary == "active" else set()
    no_sum(it, f"the shares of client {dealer} do not belong together", culprits)


@pytest.mark.parametrize("v", [1, 4])
def test_fewer_than_t_shares_of_one_client_give_no_sum(five: Masking, v: int) -> None:
    """Two of four leave out what they hold of one survivor, or of the dropped one."""
    it = play(five).to("unmasking").answer()
    for u in (0, 2):
        it.answers[u] = changed(Unmasking, it.answers[u], shares(lambda s: without(s, v)))
    if five.adversary == "active":  # two reports, and nobody is corrupt here: the dealer is to blame
        with pytest.raises(RemoteProtocolError, match="its holders cannot use") as named:
            it.finish()
        assert named.value.culprits == {v}
    else:
        with pytest.raises(TooFewClients) as caught:
            it.finish()
        assert (caught.value.alive, caught.value.needed, caught.value.round) == (2, 3, "unmasking")
        assert caught.value.of == v
    assert it.server.result is None
    assert it.server.unopened == {(0, v), (2, v)}


def test_t_shares_of_each_client_are_enough(five: Masking) -> None:
    it = play(five).to("unmasking").answer()
    it.answers[0] = changed(Unmasking, it.answers[0], shares(lambda s: {1: s[1]}))
    finishes_with(it, {0, 1, 2, 3})
    assert it.server.unopened == {(0, v) for v in (0, 2, 3, 4)}


# Any bytes at all


@each_round
def test_a_server_refuses_an_answer_to_another_round(adversary: str, round: str) -> None:
    for other in ROUNDS[adversary]:
        if round != other:
            stray = play(FIVE[adversary]).to(other).answer().answers[0]
            refuses(FIVE[adversary], round, lambda _, m=stray: m, f"not a {round} message")


@settings(max_examples=40)
@each_round
@given(st.binary(max_size=200))
def test_whatever_the_bytes_a_server_refuses_them_and_goes_on(
    adversary: str, round: str, data: bytes
) -> None:
    refuses(FIVE[adversary], round, lambda _: data, "not a ")


@settings(max_examples=100)
@each_round
@given(st.data())
def test_whatever_byte_of_an_answer_changes_a_server_takes_or_refuses_it(
    adversary: str, round: str, data: st.DataObject
) -> None:
    it = play(FIVE[adversary]).to(round).answer()
    message = with_another_byte(it.answers.pop(0), data)
    assert culprits_named(lambda m: it.server.receive(0, m), message) in (None, {0})
    try:
        it.finish()
    except (RemoteProtocolError, TooFewClients):  # masking gives no integrity, but never another error
        assert it.server.result is None
