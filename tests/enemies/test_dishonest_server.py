"""A dishonest server: a normal session in which one request, to client 0, is changed.

Client 0 refuses, says nothing more and blames nobody but the server; the others go on and their sum is
exact; and with client 5 on its side the server has learned that sum and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from secagg import LocalProtocolError, RemoteProtocolError
from secagg.crypto import Tag, digest
from secagg.masking.derived import (
    members_statement,
)
from secagg.masking.messages import (
    SEALED_BYTES,
    Commitments,
    ConsistencyCheckRequest,
    Delivery,
    MaskedInputRequest,
    SelfMaskShare,
    SignedUnmaskingRequest,
    UnmaskingRequest,
)
from secagg.wire import Task, decode, encode
from tests.enemies.cast import (
    CORRUPT,
    NONCE,
    Change,
    Company,
    Lies,
    Scene,
    assert_exact,
    company,
    each_lie,
    flipped,
    new_keys,
    sign_keys,
    to,
    without,
)

VICTIM = 0
# More have to be there than a secret takes: m_min is 5 where t is 4.
ACTIVE = company("active", threshold=4, m_min=5)
SEMI_HONEST = company("semi-honest", threshold=4, m_min=5)
BOTH = {"active": ACTIVE, "semi-honest": SEMI_HONEST}
FOUR = company("active", threshold=4)  # where t are enough, so that two may be lost
STRANGERS = company("active", threshold=4, small_cohort=True)  # another roster, hence other keys


def entries(field: str, change: Callable[[dict[int, Any]], Mapping[int, Any]]) -> Change:
    """A change of one of a message's mappings."""
    return lambda request: replace(request, **{field: change(getattr(request, field))})


def keys(change: Callable[[dict[int, Any]], Mapping[int, Any]]) -> Change:
    return entries("keys", change)


def dealt(change: Callable[[dict[int, Any]], Mapping[int, Any]]) -> Change:
    return entries("dealt", change)


def shared(change: Callable[[list[int]], list[int]]) -> Change:
    return lambda request: replace(request, shared=change(request.shared))


def signatures(change: Callable[[dict[int, bytes]], Mapping[int, bytes]]) -> Change:
    return entries("signatures", change)


def ascending(entries: dict[int, Any]) -> dict[int, Any]:
    return dict(sorted(entries.items()))


def exchanged(entries: dict[int, Any], u: int, v: int) -> dict[int, Any]:
    return entries | {u: entries[v], v: entries[u]}


def swapped(entry: tuple[bytes, bytes, bytes]) -> tuple[bytes, bytes, bytes]:
    return entry[1], entry[0], entry[2]


def otherwise(delivery: Delivery) -> Delivery:
    """With commitments where there are none, and without them where there are."""
    return replace(delivery, commitments=None if delivery.commitments else Commitments(bytes(32), bytes(32)))


def corrupt_entry(keys: dict[int, Any], c_pk: bytes, s_pk: bytes) -> tuple[bytes, bytes, bytes]:
    """Other keys of client 5, which it signs if anything is signed."""
    return sign_keys(ACTIVE, CORRUPT, c_pk, s_pk) if keys[CORRUPT][2] else (c_pk, s_pk, b"")


def of_another_session(**other: bytes) -> Change:
    """Client 1's keys, signed by it, but for something else."""
    return keys(lambda k: k | {1: sign_keys(ACTIVE, 1, *k[1][:2], **other)})


# (sessions in which the check exists, round, what client 0 says) -> what is changed -> how
LIES: Lies = {
    ("both", "share-keys", "own keys"): {
        "own keys missing": keys(lambda k: without(k, 0)),
        "own keys swapped": keys(lambda k: k | {0: swapped(k[0])}),
        "own keys another's": keys(lambda k: exchanged(k, 0, 1)),
        "own mask key another": keys(lambda k: k | {0: (k[0][0], new_keys()[0], k[0][2])}),
    },
    ("both", "share-keys", "4 clients advertised keys; it takes 5 to 6"): {
        "fewer than m_min": keys(lambda k: without(k, 1, 2)),
    },
    ("both", "share-keys", "7 clients advertised keys; it takes 5 to 6"): {
        "more than n": keys(lambda k: k | {6: (*new_keys(), k[1][2])}),
    },
    ("both", "share-keys", "one key twice"): {
        "two clients with the same keys": keys(lambda k: k | {2: k[1]}),
        "one client's encryption key another's mask key": keys(
            lambda k: k | {5: corrupt_entry(k, k[1][1], k[5][1])}
        ),
        "a client with one key for both uses": keys(lambda k: k | {5: corrupt_entry(k, k[5][0], k[5][0])}),
    },
    ("both", "share-keys", "small order"): {
        "an encryption key of small order": keys(lambda k: k | {5: corrupt_entry(k, bytes(32), k[5][1])}),
    },
    ("semi-honest", "share-keys", "keys that are signed in a session where nothing is signed"): {
        f"a signature of client {v}": keys(lambda k, v=v: k | {v: (*k[v][:2], bytes(64))}) for v in (0, 1, 5)
    },
    ("active", "share-keys", "for client 1 are not signed by that client of this roster"): {
        "keys swapped": keys(lambda k: k | {1: swapped(k[1])}),
        "keys of two clients exchanged": keys(lambda k: exchanged(k, 1, 2)),
        "another encryption key": keys(lambda k: k | {1: (new_keys()[0], *k[1][1:])}),
        "another mask key": keys(lambda k: k | {1: (k[1][0], new_keys()[0], k[1][2])}),
        "no signature": keys(lambda k: k | {1: (*k[1][:2], b"")}),
        "signed by another client": keys(lambda k: k | {1: sign_keys(ACTIVE, 5, *k[1][:2], of=1)}),
        "signed for another id": keys(lambda k: k | {1: sign_keys(ACTIVE, 1, *k[1][:2], of=2)}),
        "a key that is not the roster's": keys(
            lambda k: k | {1: sign_keys(STRANGERS, 1, *k[1][:2], roster=ACTIVE.scheme.roster)}
        ),
        "signed under an old roster": of_another_session(roster=digest(Tag.ROSTER, b"last year's")),
        "signed in another session": of_another_session(nonce=bytes(32)),
        "signed in another round of training": of_another_session(
            context=digest(Tag.CONTEXT, b"round 2 of model 0")
        ),
        "signed for other parameters": of_another_session(parameters=STRANGERS.scheme.digest()),
    },
    ("active", "share-keys", "for client 0 are not signed"): {
        "a wrong signature, of its own keys": keys(lambda k: k | {0: (*k[0][:2], flipped(k[0][2]))}),
    },
    ("active", "share-keys", "for client 5 are not signed"): {
        "a wrong signature, of the last client": keys(lambda k: k | {5: (*k[5][:2], flipped(k[5][2]))}),
    },
    ("active", "share-keys", "for client 77 are not signed"): {
        "a client that is not in the roster": keys(
            lambda k: without(k, 1) | {77: sign_keys(ACTIVE, 5, *new_keys(), of=77)}
        ),
    },
    ("both", "masked-input", "shares from others than this client's dealers"): {
        "own shares": dealt(lambda d: {0: d[1]} | d),
        "a stranger's shares": dealt(lambda d: d | {77: d[1]}),
        "a dealer's shares missing": dealt(lambda d: without(d, 1)),
        "a dealer missing": shared(lambda ids: [0, 2, 3, 4, 5]),
    },
    ("both", "masked-input", "a client as having shared that advertised no keys"): {
        "a stranger": shared(lambda ids: [*ids, 77]),
    },
    ("both", "masked-input", "counts this client as dropped and asks it all the same"): {
        "itself missing": shared(lambda ids: ids[1:]),
    },
    ("both", "masked-input", "ids that do not ascend"): {
        "one client twice": shared(lambda ids: [0, 0, *ids[1:]]),
    },
    ("both", "masked-input", "4 clients shared keys, 5 are needed"): {
        "fewer than m_min": lambda r: MaskedInputRequest([0, 3, 4, 5], without(r.dealt, 1, 2)),
    },
    ("both", "masked-input", "commitments are there against an active server, and only then"): {
        f"commitments of client {v} added, or left out": dealt(lambda d, v=v: d | {v: otherwise(d[v])})
        for v in (1, 5)
    },
    ("active", "consistency-check", "counts this client as dropped and asks it all the same"): {
        "own id dropped": lambda request: ConsistencyCheckRequest([1, 2, 3, 4, 5]),
    },
    ("active", "consistency-check", "ids that do not ascend"): {
        "a survivor twice": lambda request: ConsistencyCheckRequest([0, 1, 2, 3, 3]),
    },
    ("active", "consistency-check", "survivor that had shared no keys"): {
        "an unknown survivor": lambda request: ConsistencyCheckRequest([0, 1, 2, 3, 77]),
    },
    ("active", "consistency-check", "4 clients survive, 5 are needed"): {
        "fewer survivors than m_min": lambda request: ConsistencyCheckRequest([0, 1, 2, 3]),
    },
    ("active", "unmasking", "not a signed-unmasking-request"): {
        "a set, as of a server that is trusted": lambda request: encode(UnmaskingRequest([1])),
    },
    ("active", "unmasking", "0 clients signed the survivors this client was shown, 5 are needed"): {
        "no signatures": lambda request: SignedUnmaskingRequest({}),
    },
    ("active", "unmasking", "1 clients signed"): {
        "one signature many times": signatures(lambda s: dict.fromkeys(s, s[5])),
    },
    ("active", "unmasking", "4 clients signed .* 5 are needed"): {
        "too few signatures": signatures(lambda s: without(s, 1, 2)),
        "wrong signatures": signatures(lambda s: s | {v: flipped(s[v]) for v in (1, 2)}),
        "signatures under ids that signed nothing": signatures(
            lambda s: without(s, 1, 2) | {v + 70: s[v] for v in (1, 2)}
        ),
    },
    ("semi-honest", "unmasking", "not a unmasking-request"): {
        "signatures, as of one that is not": lambda request: encode(SignedUnmaskingRequest({})),
    },
    ("semi-honest", "unmasking", "counts this client as dropped and asks it all the same"): {
        "own id dropped": lambda request: UnmaskingRequest([0]),
    },
    ("semi-honest", "unmasking", "ids that do not ascend"): {
        "a dropped id twice": lambda request: UnmaskingRequest([1, 1]),
    },
    ("semi-honest", "unmasking", "dropped client that had shared no keys"): {
        "an unknown id dropped": lambda request: UnmaskingRequest([77]),
    },
    ("semi-honest", "unmasking", "4 clients survive, 5 are needed"): {
        "too few left": lambda request: UnmaskingRequest([1, 2]),
    },
}


@each_lie(LIES, BOTH)
def test_a_client_refuses_a_lie_and_the_others_go_on(
    company: Company, round: str, change: Change, words: str
) -> None:
    assert_refused(Scene(company, asks=to(VICTIM, round, change, company.scheme)), round, words)


def assert_refused(scene: Scene, round: str, words: str) -> None:
    """Client 0 says why and nothing more, blames no client, and is dead; the others' sum is exact."""
    scene.to(round)
    request = scene.requests[VICTIM]
    scene.play()
    assert re.search(words, str(scene.died[VICTIM])), scene.died[VICTIM]
    assert scene.died.keys() == {VICTIM}
    assert scene.died[VICTIM].culprits == frozenset()
    assert VICTIM not in scene.said(round)
    with pytest.raises(LocalProtocolError, match="over"):
        scene.clients[VICTIM].receive(request)
    lost = set() if round in ("consistency-check", "unmasking") else {VICTIM}
    survivors = set(scene.clients) - lost
    assert_exact(scene.total, survivors)
    assert scene.learned(CORRUPT) == {frozenset(survivors - {CORRUPT})}


@pytest.mark.parametrize("company", BOTH.values(), ids=BOTH)
def test_a_session_without_a_lie_is_not_refused(company: Company) -> None:
    scene = Scene(company).play()
    assert not scene.died
    assert not scene.refused
    assert_exact(scene.total, range(6))
    assert scene.learned(CORRUPT) == {frozenset(range(5))}


def test_a_survivor_dropped_before_is_refused() -> None:
    """It is in U1 but not in U2: it shared no secrets."""
    lie = to(VICTIM, "consistency-check", lambda r: ConsistencyCheckRequest([0, 1, 2, 3, 4]), FOUR.scheme)
    scene = Scene(FOUR, asks=lie, drop={"share-keys": {4}}).play()
    assert "survivor that had shared no keys" in str(scene.died[VICTIM])
    assert_exact(scene.total, {0, 1, 2, 3, 5})


def test_a_dropped_id_that_had_shared_no_keys_is_refused() -> None:
    company = BOTH["semi-honest"]
    lie = to(VICTIM, "unmasking", lambda r: UnmaskingRequest([4]), company.scheme)
    scene = Scene(company, asks=lie, drop={"share-keys": {4}}).play()
    assert "dropped client that had shared no keys" in str(scene.died[VICTIM])
    assert_exact(scene.total, {0, 1, 2, 3, 5})


@pytest.mark.parametrize("company", BOTH.values(), ids=BOTH)
def test_a_mask_key_of_small_order_is_refused_before_the_masked_input_leaves(company: Company) -> None:
    """Such a key shares no secret: the mask with its owner would be known to all."""
    change = keys(lambda k: k | {5: corrupt_entry(k, k[5][0], bytes(32))})
    scene = Scene(company, asks=to(VICTIM, "share-keys", change, company.scheme)).to("share-keys")
    client = scene.clients[VICTIM]
    assert client.receive(scene.requests[VICTIM]) is not None
    commitments = Commitments(bytes(32), bytes(32)) if company is ACTIVE else None
    garbage = Delivery(bytes(SEALED_BYTES), commitments)
    with pytest.raises(RemoteProtocolError, match="small order"):
        client.receive(encode(MaskedInputRequest(list(range(6)), dict.fromkeys(range(1, 6), garbage))))


# Signatures that do not count


def test_a_signature_counts_only_from_a_survivor() -> None:
    """Three of four survivors have signed, and so has client 4, which the server counts as dropped."""
    scene = Scene(FOUR, drop={"masked-input": {4}, "consistency-check": {1}}).to("unmasking")
    statement = scene.clients[VICTIM]._state.statement
    late = FOUR.identities[4].key.sign(statement)
    request = decode(SignedUnmaskingRequest, scene.requests[VICTIM])
    with pytest.raises(RemoteProtocolError, match="3 clients signed"):
        scene.clients[VICTIM].receive(
            encode(SignedUnmaskingRequest(ascending(without(request.signatures, 3) | {4: late})))
        )
    scene.requests.pop(VICTIM)
    assert scene.play().total is None
    assert scene.learned(CORRUPT) == set()


def other_statements(scene: Scene) -> dict[str, bytes]:
    """What a survivor might have signed in another session, round, context, or of other sets."""
    server, everyone = scene.inner, set(range(6))
    sid, parameters, context = server._sid, server._digest, server._context
    return {
        "another session": members_statement(bytes(32), parameters, context, everyone, everyone, everyone),
        "other parameters": members_statement(sid, bytes(32), context, everyone, everyone, everyone),
        "another context": members_statement(sid, parameters, bytes(32), everyone, everyone, everyone),
        "another U1": members_statement(sid, parameters, context, everyone - {4}, everyone, everyone),
        "another U2": members_statement(sid, parameters, context, everyone, everyone - {4}, everyone),
        "another U3": members_statement(sid, parameters, context, everyone, everyone, everyone - {4}),
    }


OTHERS = ["another session", "other parameters", "another context", "another U1", "another U2", "another U3"]


@pytest.mark.parametrize("what", OTHERS)
def test_a_signature_on_anything_else_does_not_count(what: str) -> None:
    scene = Scene(ACTIVE).to("unmasking")
    statement = other_statements(scene)[what]
    request = decode(SignedUnmaskingRequest, scene.requests[VICTIM])
    replayed = {v: ACTIVE.identities[v].key.sign(statement) for v in (1, 2)}
    scene.requests[VICTIM] = encode(SignedUnmaskingRequest(request.signatures | replayed))
    assert_refused(scene, "unmasking", "4 clients signed .* 5 are needed")


def test_a_signature_of_another_round_does_not_count() -> None:
    """What the clients signed when they advertised and shared keys, shown again as their consent."""
    scene = Scene(ACTIVE).to("unmasking")
    replayed = {v: scene.message("advertise-keys", v).signature for v in (1, 2)}
    replayed |= {v: scene.message("share-keys", v).signature for v in (3, 4)}
    request = decode(SignedUnmaskingRequest, scene.requests[VICTIM])
    scene.requests[VICTIM] = encode(SignedUnmaskingRequest(request.signatures | replayed))
    assert_refused(scene, "unmasking", "2 clients signed .* 5 are needed")


# Shares that do not open: nobody leaves, the pair is reported, t others suffice


def tampered(delivery: Any, at: int) -> Any:
    return replace(delivery, sealed=flipped(delivery.sealed, at))


# what is changed -> (sessions in which it can be, how, whose shares are of no use)
SEALED: dict[str, tuple[str, Change, set[int]]] = {
    "a tampered tag": ("both", dealt(lambda d: d | {1: tampered(d[1], -1)}), {1}),
    "a tampered nonce": ("both", dealt(lambda d: d | {1: tampered(d[1], 0)}), {1}),
    "a tampered share": ("both", dealt(lambda d: d | {1: tampered(d[1], 20)}), {1}),
    "another pair's ciphertexts": ("both", dealt(lambda d: exchanged(d, 1, 2)), {1, 2}),
    "another commitment of a share": (
        "active",
        dealt(lambda d: d | {1: replace(d[1], commitments=d[2].commitments)}),
        {1},
    ),
}


@pytest.mark.parametrize(
    ("company", "change", "dealers"),
    [
        pytest.param(company, change, dealers, id=f"{adversary}: {what}")
        for what, (where, change, dealers) in SEALED.items()
        for adversary, company in BOTH.items()
        if where in ("both", adversary)
    ],
)
def test_shares_that_do_not_open_abort_nobody_and_are_reported(
    company: Company, change: Change, dealers: set[int]
) -> None:
    scene = Scene(company, asks=to(VICTIM, "masked-input", change, company.scheme)).play()
    assert not scene.died
    assert not scene.refused
    assert scene.inner.unopened == {(VICTIM, dealer) for dealer in dealers}
    assert_exact(scene.total, range(6))
    assert scene.learned(CORRUPT) == {frozenset(range(5))}


@pytest.mark.parametrize("company", BOTH.values(), ids=BOTH)
def test_a_share_sealed_for_another_does_not_open(company: Company) -> None:
    """What client 1 dealt to client 2, passed on to client 0."""
    scene = Scene(company).to("masked-input")
    there, here = (decode_dealt(scene, u) for u in (2, VICTIM))
    scene.requests[VICTIM] = encode(replace(here, dealt=here.dealt | {1: there.dealt[1]}))
    scene.play()
    assert scene.inner.unopened == {(VICTIM, 1)}
    assert_exact(scene.total, range(6))


def decode_dealt(scene: Scene, u: int) -> MaskedInputRequest:
    return decode(MaskedInputRequest, scene.requests[u])


@pytest.mark.parametrize("company", BOTH.values(), ids=BOTH)
def test_a_share_of_another_session_does_not_open(company: Company) -> None:
    """Not even one of the same clients under the same nonce and task."""
    old = decode_dealt(Scene(company).to("masked-input"), VICTIM)
    scene = Scene(company, asks=to(VICTIM, "masked-input", lambda request: old, company.scheme)).play()
    assert scene.inner.unopened == {(VICTIM, v) for v in range(1, 6)}
    assert_exact(scene.total, range(6))


# Asked twice


def test_a_second_set_to_sign_is_refused() -> None:
    """A client that has signed one U3 takes signatures for it and no other request."""
    scene = Scene(ACTIVE).to("consistency-check")
    request = scene.requests[VICTIM]
    assert scene.clients[VICTIM].receive(request) is not None
    with pytest.raises(RemoteProtocolError, match="not a signed-unmasking-request"):
        scene.clients[VICTIM].receive(encode(ConsistencyCheckRequest([0, 1, 2, 3])))


# Replay of a whole request of another session


@pytest.mark.parametrize(
    ("adversary", "round", "words"),
    [
        ("active", "share-keys", "own keys"),
        ("semi-honest", "share-keys", "own keys"),
        ("active", "unmasking", "0 clients signed"),
    ],
)
def test_a_request_of_an_earlier_session_is_refused(adversary: str, round: str, words: str) -> None:
    """The same clients, parameters, task and even nonce: only the clients' keys are fresh."""
    company = BOTH[adversary]
    old = Scene(company).to(round).requests[VICTIM]
    assert_refused(Scene(company, asks=to(VICTIM, round, lambda r: old, company.scheme)), round, words)


def test_a_server_cannot_pass_its_own_share_off_as_a_clients() -> None:
    """The reply holds one share of each client of U2, of one kind: both of one client cannot be said."""
    scene = Scene(ACTIVE, drop={"masked-input": {4}}).play()
    for u in (0, 1, 2, 3, 5):
        shares = scene.message("unmasking", u).shares
        assert shares.keys() == set(range(6))
        assert {v for v, share in shares.items() if isinstance(share, SelfMaskShare)} == {0, 1, 2, 3, 5}


def test_the_nonce_of_this_cast_is_the_one_it_sends() -> None:
    """Else every signature made here for another session would be one for another nonce as well."""
    scene = Scene(ACTIVE).to("advertise-keys")
    assert decode(Task, scene.requests[0]).nonce == NONCE
    scene.to("share-keys")
    assert len(scene.requests) == 6
