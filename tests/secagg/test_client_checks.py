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

from secagg import Bounded, Identity, LocalProtocolError, Masking, RemoteProtocolError, Roster
from secagg.crypto import KEY_BYTES, Rng, SigningKey, system_rng
from secagg.masking.choice import least_quorum
from secagg.masking.derived import (
    members_statement,
)
from secagg.masking.messages import (
    Commitments,
    ConsistencyCheckRequest,
    Delivery,
    MaskedInputRequest,
    PairKeyShare,
    ShareKeys,
    ShareKeysRequest,
    SignedUnmaskingRequest,
    Unmasking,
    UnmaskingRequest,
)
from secagg.shamir import PRIME
from secagg.wire import MAX_ID, Task, decode, encode
from tests.secagg.helpers import (
    ANSWER,
    FIVE,
    MIXED,
    REQUEST,
    SMALL_ORDER,
    TASK,
    Play,
    active,
    assert_same_codes,
    changed,
    client_refuses,
    codes_of,
    culprits_named,
    each_request,
    flips,
    identities,
    kind_of,
    mixed_inputs,
    semi_honest,
    with_another_byte,
)

ACTIVE, SEMI_HONEST = FIVE["active"], FIVE["semi-honest"]
SEVEN = active(range(7), MIXED)
"""A = 1, t = m_min = 5."""


def play(scheme: Masking, **more: Any) -> Play:
    """All the cohort; the last vanishes before its masked input."""
    n = scheme.clients
    return Play(scheme, mixed_inputs(range(n)), drop={"masked-input": {n - 1}}, **more)


def refuses(scheme: Masking, round: str, change: Callable[[Any], Any], words: str) -> None:
    client_refuses(play(scheme), round, change, words)


def without(entries: dict[int, Any], *ids: int) -> dict[int, Any]:
    return {v: entry for v, entry in entries.items() if v not in ids}


# The key list


def keys(change: Callable[[dict[int, Any]], dict[int, Any]]) -> Callable[[Any], Any]:
    return lambda request: replace(request, keys=change(request.keys))


def other(entry: tuple[bytes, bytes, bytes], **new: bytes) -> tuple[bytes, bytes, bytes]:
    c_pk, s_pk, signature = entry
    return new.get("c_pk", c_pk), new.get("s_pk", s_pk), new.get("signature", signature)


def test_a_client_refuses_a_key_list_without_its_own_keys(five: Masking) -> None:
    refuses(five, "share-keys", keys(lambda k: without(k, 0)), "own keys")


def test_a_client_refuses_a_key_list_in_which_its_own_keys_were_exchanged(five: Masking) -> None:
    def own(**new: bytes) -> Callable[[Any], Any]:
        return keys(lambda k: k | {0: other(k[0], **new)})

    refuses(five, "share-keys", own(s_pk=bytes(range(32))), "own keys")
    refuses(five, "share-keys", own(c_pk=bytes(range(32))), "own keys")
    refuses(five, "share-keys", keys(lambda k: k | {0: other(k[0], c_pk=k[0][1], s_pk=k[0][0])}), "own keys")


def test_a_client_refuses_a_key_list_of_fewer_than_t(five: Masking) -> None:
    words = "2 clients advertised keys; it takes 3 to 5"
    refuses(five, "share-keys", keys(lambda k: without(k, 2, 3, 4)), words)


def test_a_client_refuses_a_key_list_of_more_than_n(five: Masking) -> None:
    """Two groups of t in it could have no member in common."""
    sixth = bytes(range(32)), bytes(range(1, 33)), b""
    refuses(five, "share-keys", keys(lambda k: k | {5: sixth}), "6 clients advertised keys; it takes 3 to 5")


def test_a_client_goes_on_with_a_key_list_of_t(five: Masking) -> None:
    it = play(five).to("share-keys")
    request = changed(ShareKeysRequest, it.requests[0], keys(lambda k: without(k, 3, 4)))
    assert it.clients[0].receive(request)


def test_a_client_refuses_a_key_list_that_repeats_a_key(five: Masking) -> None:
    def exchanged(key: str, v: int, i: int) -> Callable[[Any], Any]:
        return keys(lambda k: k | {1: other(k[1], **{key: k[v][i]})})

    for repeated in (
        exchanged("c_pk", 2, 0),
        exchanged("s_pk", 2, 1),
        exchanged("c_pk", 2, 1),
        exchanged("s_pk", 1, 0),
        exchanged("c_pk", 0, 1),
    ):
        refuses(five, "share-keys", repeated, "one key twice")


@pytest.mark.parametrize("point", SMALL_ORDER[::3], ids=bytes.hex)
def test_a_client_refuses_a_share_key_of_small_order(five: Masking, point: bytes) -> None:
    """Of a client that is on the server's side, and signs it."""
    it = play(five).to("share-keys")

    def collude(request: ShareKeysRequest) -> ShareKeysRequest:
        signed = it.advertised(1, point, request.keys[1][1])
        return ShareKeysRequest(request.keys | {1: (signed.c_pk, signed.s_pk, signed.signature)})

    client_refuses(it, "share-keys", collude, "small order")


@pytest.mark.parametrize("point", SMALL_ORDER[::3], ids=bytes.hex)
def test_a_client_refuses_a_mask_key_of_small_order(
    five: Masking, point: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server lets the key of a client on its side pass, which goes on as if nothing were."""
    monkeypatch.setattr("secagg.masking.server.check_public_key", lambda public: None)
    it = play(five).to("advertise-keys").answer()
    it.clients[1]._state.s_sk.public = point
    it.answers[1] = encode(it.advertised(1, it.clients[1]._state.c_sk.public, point))
    client_refuses(it, "masked-input", lambda request: request, "small order")


# The signatures on the keys


def test_a_client_refuses_keys_that_any_other_signature_comes_with() -> None:
    """Its own among them: the server cannot pass its keys on under what it did not sign."""
    for v in range(5):
        forged = keys(lambda k, v=v: k | {v: other(k[v], signature=next(flips(k[v][2])))})
        refuses(ACTIVE, "share-keys", forged, f"keys the server shows for client {v} are not signed by")
    for signature in (b"", bytes(63), bytes(64)):
        forged = keys(lambda k, s=signature: k | {1: other(k[1], signature=s)})
        refuses(ACTIVE, "share-keys", forged, "for client 1 are not signed")


@pytest.mark.parametrize("key", ["c_pk", "s_pk"])
def test_a_client_refuses_a_key_of_the_servers_choice(key: str) -> None:
    """The man in the middle: the key is the server's own, the signature the client's on the one before."""
    forged = keys(lambda k: k | {1: other(k[1], **{key: bytes(range(32))})})
    refuses(ACTIVE, "share-keys", forged, "for client 1 are not signed by that client of this roster")


def test_a_client_refuses_two_clients_keys_in_each_others_place() -> None:
    """A signature is for one id."""
    refuses(ACTIVE, "share-keys", keys(lambda k: k | {1: k[2], 2: k[1]}), "for client 1 are not signed")


def test_a_client_refuses_keys_signed_by_a_key_that_is_not_in_its_roster() -> None:
    it = play(ACTIVE).to("share-keys")
    it.identities = it.identities | {1: outsider(1)}

    def forge(request: ShareKeysRequest) -> ShareKeysRequest:
        signed = it.advertised(1, *request.keys[1][:2])
        return ShareKeysRequest(request.keys | {1: (signed.c_pk, signed.s_pk, signed.signature)})

    client_refuses(it, "share-keys", forge, "for client 1 are not signed")


def outsider(u: int) -> Identity:
    """An identity that is in no roster but its own."""
    key = SigningKey(bytes([7] * 32))
    return Identity(u, Roster(bytes(32), {u: key.public}), key)


def test_a_client_refuses_a_client_that_is_not_in_its_roster() -> None:
    """A server that fills the cohort with clients of its own."""
    it = play(ACTIVE).to("share-keys")
    it.identities = it.identities | {9: outsider(9)}

    def add(request: ShareKeysRequest) -> ShareKeysRequest:
        signed = it.advertised(9, bytes(range(32)), bytes(range(1, 33)))
        return ShareKeysRequest(without(request.keys, 4) | {9: (signed.c_pk, signed.s_pk, signed.signature)})

    client_refuses(it, "share-keys", add, "for client 9 are not signed by that client of this roster")


def same_nonce(n: int) -> bytes:
    return bytes(n)


@pytest.mark.parametrize(
    ("session", "task", "rng"),
    [
        (ACTIVE, TASK, system_rng),
        (ACTIVE, b"another task", same_nonce),
        (active(range(5), MIXED, corrupt=0, threshold=4), TASK, same_nonce),
    ],
    ids=["nonce", "context", "parameters"],
)
def test_a_client_refuses_keys_signed_in_another_session(session: Masking, task: bytes, rng: Rng) -> None:
    """By the same client of the same roster: replayed."""
    before = Play(session, mixed_inputs(range(5)))
    before.server = session.server(range(5), task, roster=before.roster, rng=rng)
    replayed = decode(ShareKeysRequest, before.to("share-keys").requests[0]).keys[1]
    it = play(ACTIVE, server_rng=same_nonce)
    client_refuses(it, "share-keys", keys(lambda k: k | {1: replayed}), "for these parameters and this task")


@pytest.mark.parametrize("field", ["nonce", "task"])
def test_clients_shown_two_tasks_refuse_each_other_before_a_vector_leaves(field: str) -> None:
    """Two of five are sent another model, or another nonce: neither group finds the other's keys signed."""
    it = play(ACTIVE).to("advertise-keys")
    for u in (3, 4):
        it.requests[u] = changed(Task, it.requests[u], lambda m: replace(m, **{field: bytes(range(32))}))
    it.answer()
    it.server._roster = AcceptsAll(it.roster)  # a server that does not mind
    it.close()
    for u, request in it.requests.items():
        with pytest.raises(RemoteProtocolError, match=f"for client {0 if u > 2 else 3} are not signed"):
            it.clients[u].receive(request)


class AcceptsAll:
    def __init__(self, roster: Roster) -> None:
        self.digest = roster.digest

    def signed_by(self, u: int, message: bytes, signature: bytes) -> bool:
        return True


# The shares passed on


def dealt(change: Callable[[dict[int, Any]], dict[int, Any]]) -> Callable[[Any], Any]:
    return lambda request: replace(request, dealt=dict(sorted(change(request.dealt).items())))


def shared(change: Callable[[list[int]], list[int]]) -> Callable[[Any], Any]:
    return lambda request: replace(request, shared=change(request.shared))


def U2_without(*ids: int) -> Callable[[Any], Any]:
    """These shared no keys, and so dealt nothing."""
    return lambda r: MaskedInputRequest([v for v in r.shared if v not in ids], without(r.dealt, *ids))


NOT_ITS_DEALERS = "passes on shares from others than this client's dealers"


@pytest.mark.parametrize("v", [0, 5], ids=["its own", "a stranger's"])
def test_a_client_refuses_shares_that_are_not_from_its_dealers(five: Masking, v: int) -> None:
    refuses(five, "masked-input", dealt(lambda d: d | {v: d[1]}), NOT_ITS_DEALERS)


def test_a_client_refuses_shares_less_than_those_of_all_its_dealers_in_U2(five: Masking) -> None:
    """It would mask for a client of which it holds nothing."""
    refuses(five, "masked-input", dealt(lambda d: without(d, 4)), NOT_ITS_DEALERS)
    refuses(five, "masked-input", dealt(lambda d: {}), NOT_ITS_DEALERS)
    refuses(five, "masked-input", shared(lambda ids: [0, 1, 2, 3]), NOT_ITS_DEALERS)


def test_a_client_refuses_a_U2_with_a_stranger(five: Masking) -> None:
    refuses(five, "masked-input", shared(lambda ids: [*ids, 5]), "as having shared that advertised no keys")


def test_a_client_refuses_a_U2_without_itself(five: Masking) -> None:
    refuses(five, "masked-input", shared(lambda ids: ids[1:]), "counts this client as dropped and asks")


def test_a_client_refuses_a_U2_of_fewer_than_m_min(five: Masking) -> None:
    refuses(five, "masked-input", U2_without(2, 3, 4), "2 clients shared keys, 3 are needed")


def test_a_client_goes_on_with_a_U2_of_m_min(five: Masking) -> None:
    it = play(five).to("masked-input")
    assert it.clients[0].receive(changed(MaskedInputRequest, it.requests[0], U2_without(3, 4)))


def test_m_min_clients_have_to_share_where_it_is_more_than_t() -> None:
    for scheme in (semi_honest(range(5), MIXED, m_min=4), active(range(5), MIXED, corrupt=0, m_min=5)):
        assert scheme.m_min == scheme.threshold + 1
        needed = scheme.m_min
        few = U2_without(*range(needed - 1, 5))
        words = f"{needed - 1} clients shared keys, {needed} are needed"
        client_refuses(Play(scheme, mixed_inputs(range(5))), "masked-input", few, words)
        few = keys(lambda k, needed=needed: without(k, *range(needed - 1, 5)))
        words = f"{needed - 1} clients advertised keys; it takes {needed} to 5"
        client_refuses(Play(scheme, mixed_inputs(range(5))), "share-keys", few, words)


def left_out(scheme: Masking, dealer: int, spoil: Callable[[Delivery], Delivery]) -> None:
    """Client 0 returns no share of this dealer, all others do, and the sum is exact."""
    it = play(scheme).to("masked-input")
    change = dealt(lambda d: d | {dealer: spoil(d[dealer])})
    it.requests[0] = changed(MaskedInputRequest, it.requests[0], change)
    it.to("unmasking").answer()
    assert decode(Unmasking, it.answers[0]).shares.keys() == set(range(5)) - {dealer}
    assert decode(Unmasking, it.answers[1]).shares.keys() == set(range(5))
    total = it.finish()
    assert it.server.unopened == {(0, dealer)}
    assert_same_codes(total.codes, codes_of(scheme, it.inputs, {0, 1, 2, 3}))


@pytest.mark.parametrize("dealer", [1, 4])
def test_a_client_leaves_out_a_share_that_does_not_open(five: Masking, dealer: int) -> None:
    """Of a survivor or of a dropped client: t others suffice, and nobody aborts."""
    left_out(five, dealer, lambda d: replace(d, sealed=next(flips(d.sealed))))


@pytest.mark.parametrize("dealer", [1, 4])
@pytest.mark.parametrize(
    "forged",
    [
        lambda c: Commitments(bytes(32), c.of_mask),
        lambda c: Commitments(c.of_key, bytes(32)),
        lambda c: Commitments(c.of_mask, c.of_key),
    ],
)
def test_a_client_leaves_out_a_share_that_is_not_what_its_dealer_committed_to(
    dealer: int, forged: Callable[[Commitments], Any]
) -> None:
    """Whichever of the two shares is the wrong one: the dealer may not know which will be asked for."""
    left_out(ACTIVE, dealer, lambda d: replace(d, commitments=forged(d.commitments)))


@pytest.mark.parametrize("dealer", [1, 4])
def test_a_client_refuses_commitments_where_there_are_none_and_none_where_there_are(dealer: int) -> None:
    words = "commitments are there against an active server, and only then"
    for scheme, commitments in ((SEMI_HONEST, Commitments(bytes(32), bytes(32))), (ACTIVE, None)):
        change = dealt(lambda d, c=commitments: d | {dealer: replace(d[dealer], commitments=c)})
        refuses(scheme, "masked-input", change, words)


@pytest.mark.parametrize("v", [0, 1, 4])
def test_a_client_refuses_a_signature_where_nothing_is_signed(v: int) -> None:
    change = keys(lambda k: k | {v: other(k[v], signature=bytes(64))})
    refuses(SEMI_HONEST, "share-keys", change, "signed keys in a session where nothing is signed")


@pytest.mark.parametrize(("dealer", "holder"), [(1, 2), (0, 1)])
def test_a_share_for_another_holder_or_from_another_dealer_does_not_open(
    five: Masking, dealer: int, holder: int
) -> None:
    """Client 0 is given, as coming from client 1, what `dealer` sealed for `holder`."""
    it = play(five).to("share-keys").answer()
    stray = decode(ShareKeys, it.answers[dealer]).sealed[holder]
    it.close()
    change = dealt(lambda d: d | {1: replace(d[1], sealed=stray)})
    it.requests[0] = changed(MaskedInputRequest, it.requests[0], change)
    it.to("unmasking").answer()
    assert decode(Unmasking, it.answers[0]).shares.keys() == {0, 2, 3, 4}


@pytest.mark.parametrize("half", [0, 1])
def test_a_client_leaves_out_a_share_outside_the_field(
    five: Masking, half: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one dishonest dealer makes the server turn away every honest holder."""
    it = play(five).to("share-keys")
    made: list[dict[int, int]] = []

    def large(secret: int, t: int, points: list[int], rng: Any) -> dict[int, int]:
        made.append(dict.fromkeys(points, PRIME if len(made) == half else 1))
        return made[-1]

    with monkeypatch.context() as dishonest:
        dishonest.setattr("secagg.masking.client.share", large)
        message = it.clients[1].receive(it.requests.pop(1))
    it.answer().answers[1] = message
    it.close()
    it.to("unmasking").answer()
    assert decode(Unmasking, it.answers[0]).shares.keys() == {0, 2, 3, 4}


# The request to unmask, semi-honest


def dropped(change: Callable[[list[int]], list[int]]) -> Callable[[Any], Any]:
    return lambda request: UnmaskingRequest(change(request.dropped))


def test_a_client_refuses_a_dropped_client_named_twice() -> None:
    refuses(SEMI_HONEST, "unmasking", dropped(lambda ids: [*ids, *ids]), "ids that do not ascend")


def test_a_client_refuses_its_own_id_among_the_dropped() -> None:
    refuses(SEMI_HONEST, "unmasking", dropped(lambda ids: [0, *ids]), "counts this client as dropped")


def test_a_client_refuses_a_dropped_client_that_had_shared_no_keys() -> None:
    refuses(SEMI_HONEST, "unmasking", dropped(lambda ids: [*ids, 5]), "had shared no keys")


def test_a_client_refuses_to_unmask_fewer_than_m_min() -> None:
    words = "2 clients survive, 3 are needed"
    refuses(SEMI_HONEST, "unmasking", dropped(lambda ids: [2, 3, *ids]), words)
    scheme = semi_honest(range(5), MIXED, m_min=4)
    words = "3 clients survive, 4 are needed"
    refuses(scheme, "unmasking", dropped(lambda ids: [3, *ids]), words)


def test_a_client_unmasks_t() -> None:
    it = play(SEMI_HONEST).to("unmasking")
    assert it.clients[0].receive(changed(UnmaskingRequest, it.requests[0], dropped(lambda ids: [3, *ids])))


# The request to sign the survivors, active


def survivors(change: Callable[[list[int]], list[int]]) -> Callable[[Any], Any]:
    return lambda request: ConsistencyCheckRequest(change(request.survivors))


def test_a_client_refuses_a_survivor_named_twice() -> None:
    refuses(ACTIVE, "consistency-check", survivors(lambda ids: [0, 1, 1, 2, 3]), "ids that do not ascend")


def test_a_client_refuses_to_sign_survivors_without_itself() -> None:
    words = "counts this client as dropped"
    refuses(ACTIVE, "consistency-check", survivors(lambda ids: ids[1:]), words)
    refuses(ACTIVE, "consistency-check", survivors(lambda ids: [1, 2, 3, 4]), words)


def test_a_client_refuses_a_survivor_that_had_shared_no_keys() -> None:
    refuses(ACTIVE, "consistency-check", survivors(lambda ids: [*ids, 5]), "had shared no keys")


def test_a_client_refuses_to_sign_fewer_than_m_min() -> None:
    words = "2 clients survive, 3 are needed"
    refuses(ACTIVE, "consistency-check", survivors(lambda ids: [0, 1]), words)
    scheme = active(range(5), MIXED, corrupt=0, threshold=3, m_min=4)
    words = "3 clients survive, 4 are needed"
    refuses(scheme, "consistency-check", survivors(lambda ids: [0, 1, 2]), words)


def test_a_client_signs_t() -> None:
    it = play(ACTIVE).to("consistency-check")
    assert it.clients[0].receive(
        changed(ConsistencyCheckRequest, it.requests[0], survivors(lambda ids: ids[:3]))
    )


# The signatures on the survivors


def signatures(change: Callable[[dict[int, bytes]], dict[int, bytes]]) -> Callable[[Any], Any]:
    return lambda request: SignedUnmaskingRequest(change(request.signatures))


@given(n=st.integers(3, 1000), data=st.data())
def test_as_many_signatures_as_survivors_are_a_quorum_of_any_U1(n: int, data: st.DataObject) -> None:
    """m_min >= t > (n + A) / 2, and |U1| <= n: two of one cohort share more than A signers."""
    corrupt = data.draw(st.integers(0, n - 2))
    least = least_quorum(n, "active", corrupt)
    assert least > (n + corrupt) / 2 >= least - 1 or least == corrupt + 2


def test_a_client_reveals_nothing_without_a_quorum_of_signatures() -> None:
    words = "2 clients signed the survivors this client was shown, 3 are needed"
    refuses(ACTIVE, "unmasking", signatures(lambda s: without(s, 2, 3)), words)
    refuses(ACTIVE, "unmasking", signatures(lambda s: {}), "0 clients signed")


def test_a_client_reveals_shares_to_a_quorum() -> None:
    it = play(ACTIVE).to("unmasking")
    request = changed(SignedUnmaskingRequest, it.requests[0], signatures(lambda s: without(s, 0)))
    assert decode(Unmasking, it.clients[0].receive(request)).shares.keys() == set(range(5))


@pytest.mark.parametrize("lost", [0, 1])
def test_m_min_survivors_have_to_sign_however_small_u1(lost: int) -> None:
    """A U3 is the server's claim: who has not signed may never have been there."""
    needed = SEVEN.m_min

    def unmasking() -> Play:
        it = Play(SEVEN, mixed_inputs(range(7)), drop={"join": set(range(7 - lost, 7))})
        return it.to("unmasking")

    it = unmasking()
    enough = changed(
        SignedUnmaskingRequest, it.requests[0], signatures(lambda s: dict(list(s.items())[:needed]))
    )
    assert it.clients[0].receive(enough)
    few = signatures(lambda s: dict(list(s.items())[: needed - 1]))
    words = f"{needed - 1} clients signed the survivors this client was shown, {needed} are needed"
    client_refuses(unmasking(), "unmasking", few, words)


def test_only_signatures_that_verify_count() -> None:
    """Two of four are forged, by another key, or for another member's name."""
    words = "2 clients signed"
    refuses(ACTIVE, "unmasking", signatures(lambda s: s | {2: s[3], 3: s[2]}), words)
    refuses(ACTIVE, "unmasking", signatures(lambda s: s | {2: b"", 3: next(flips(s[3]))}), words)
    refuses(ACTIVE, "unmasking", signatures(lambda s: without(s, 2, 3) | {7: s[2], 8: s[3]}), words)


def test_only_signatures_of_survivors_count() -> None:
    """Client 4 shared keys and dropped out; on the server's side it signs what it was never asked to."""
    it = play(ACTIVE).to("unmasking")
    signature = it.identities[4].key.sign(it.server._statement)
    words = "2 clients signed"
    client_refuses(it, "unmasking", signatures(lambda s: without(s, 2, 3) | {4: signature}), words)


@pytest.mark.parametrize("other", ["U1", "U2", "U3", "sid", "parameters", "context"])
def test_only_signatures_on_what_the_client_itself_was_shown_count(other: str) -> None:
    """Clients 2 and 3 were shown another set, session, task or number."""
    it = play(ACTIVE).to("unmasking")
    shown = {
        "sid": it.server._sid,
        "parameters": ACTIVE.digest(),
        "context": it.server._context,
        "U1": range(5),
        "U2": range(5),
        "U3": range(4),
    }

    def sign(v: int, statement: dict[str, Any]) -> bytes:
        return it.identities[v].key.sign(members_statement(**statement))

    assert sign(2, shown) == decode(SignedUnmaskingRequest, it.requests[0]).signatures[2]
    different = shown | {other: range(1, 4) if other.startswith("U") else bytes(32)}
    change = signatures(lambda s: s | {v: sign(v, different) for v in (2, 3)})
    client_refuses(it, "unmasking", change, "2 clients signed the survivors")


# What is revealed


def test_a_client_gives_of_every_other_one_share_of_one_kind(five: Masking) -> None:
    it = play(five).to("unmasking").answer()
    shares = decode(Unmasking, it.answers[0]).shares
    assert {v for v, share in shares.items() if isinstance(share, PairKeyShare)} == {4}
    assert shares.keys() == set(range(5))


def test_a_client_asked_a_second_time_gives_nothing() -> None:
    """The same request with another list would bring the server a second kind of share."""
    it = play(SEMI_HONEST).to("unmasking")
    assert it.clients[0].receive(it.requests[0])
    assert it.clients[0].done
    with pytest.raises(LocalProtocolError, match="over"):
        it.clients[0].receive(changed(UnmaskingRequest, it.requests[0], dropped(lambda ids: [1, *ids])))


@pytest.mark.parametrize("round", ["consistency-check", "unmasking"])
def test_a_client_asked_a_second_time_signs_and_gives_nothing(round: str) -> None:
    """An honest client signs one U3: two quorums share one, so that there are no two U3."""
    it = play(ACTIVE).to(round)
    assert it.clients[0].receive(it.requests[0])
    with pytest.raises((LocalProtocolError, RemoteProtocolError), match=r"over|not a signed-unmasking"):
        it.clients[0].receive(it.requests[0])
    with pytest.raises(LocalProtocolError, match="over"):
        it.clients[0].receive(it.requests[0])


# Any bytes at all


@each_request
def test_a_client_refuses_a_request_of_another_round(adversary: str, round: str) -> None:
    for name in REQUEST[adversary].keys() - {round}:
        stray = play(FIVE[adversary]).to(name).requests[0]
        words = f"not a {REQUEST[adversary][round].__struct_config__.tag}"
        client_refuses(play(FIVE[adversary]), round, lambda _, m=stray: m, words)


def test_a_client_refuses_the_last_request_of_the_other_server() -> None:
    """Else a server could unmask without a quorum, by sending the request of the semi-honest protocol."""
    weak = encode(UnmaskingRequest([4]))
    for round in ("consistency-check", "unmasking"):
        refuses(ACTIVE, round, lambda _: weak, f"not a {REQUEST['active'][round].__struct_config__.tag}")
    strong = encode(SignedUnmaskingRequest({}))
    refuses(SEMI_HONEST, "unmasking", lambda _: strong, "not a unmasking-request")


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


@settings(max_examples=40)
@each_request
@given(st.binary(max_size=200))
def test_whatever_the_bytes_a_client_refuses_them(adversary: str, round: str, data: bytes) -> None:
    assert not answers_or_dies(play(FIVE[adversary]).to(round).clients[0], round, data)


@settings(max_examples=100)
@each_request
@given(st.data())
def test_whatever_byte_of_a_request_changes_a_client_answers_or_dies(
    adversary: str, round: str, data: st.DataObject
) -> None:
    it = play(FIVE[adversary]).to(round)
    answers_or_dies(it.clients[0], round, with_another_byte(it.requests[0], data))


# What its own caller gets wrong


@pytest.mark.parametrize("u", [-1, MAX_ID + 1])
def test_an_id_out_of_range_is_refused(u: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"client id {u} is not in 0..{MAX_ID}"):
        SEMI_HONEST.client(u, lambda task: {})


def test_a_short_rounding_seed_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match=f"at least {KEY_BYTES} secret bytes"):
        SEMI_HONEST.client(0, lambda task: {}, rounding_seed=bytes(KEY_BYTES - 1))
    assert SEMI_HONEST.client(0, lambda task: {}, rounding_seed=bytes(KEY_BYTES))


def test_against_an_active_server_a_client_needs_its_roster_and_its_own_key() -> None:
    _, ours = identities(range(5))
    _, others = identities(range(6))
    with pytest.raises(LocalProtocolError, match="a roster of one's own is needed"):
        ACTIVE.client(0, lambda task: {})
    with pytest.raises(LocalProtocolError, match="bound to another roster than this one"):
        ACTIVE.client(0, lambda task: {}, identity=others[0])
    with pytest.raises(LocalProtocolError, match="the identity of client 1 is not that of client 0"):
        ACTIVE.client(0, lambda task: {}, identity=ours[1])
    assert ACTIVE.client(0, lambda task: {}, identity=ours[0])


def test_against_a_semi_honest_server_an_identity_is_not_used() -> None:
    _, others = identities(range(6))
    assert kind_of(SEMI_HONEST) == "semi-honest"
    assert SEMI_HONEST.client(0, lambda task: {}, identity=others[1])


def test_a_vector_against_its_specification_ends_the_session_before_a_key_is_made() -> None:
    scheme = Masking.for_cohort(3, Bounded(length=2, bound=1.0))
    it = Play(scheme, {0: [1.0, float("nan")], 1: [1.0, 1.0], 2: [1.0, 1.0]}).to("advertise-keys")
    with pytest.raises(LocalProtocolError, match="the vector holds nan at coordinate 1"):
        it.clients[0].receive(it.requests[0])
    with pytest.raises(LocalProtocolError, match="over"):
        it.clients[0].receive(it.requests[0])
