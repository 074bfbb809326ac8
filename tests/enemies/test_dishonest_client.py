"""A dishonest client: a normal session in which one answer, of client 0, is changed.

The server names client 0 and nobody else; it has lost its place, the others go on, and their sum is exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from secagg import LocalProtocolError, RemoteProtocolError, TooFewClients
from secagg.crypto import Tag, digest
from secagg.masking.derived import (
    members_statement,
)
from secagg.masking.messages import (
    AdvertiseKeys,
    Commitments,
    ConsistencyCheck,
    PairKeyShare,
    SelfMaskShare,
    ShareKeys,
    SignedUnmaskingRequest,
)
from secagg.shamir import PRIME, SHARE_BYTES, share
from secagg.wire import decode
from tests.enemies.cast import (
    ACTIVE,
    BOTH,
    CORRUPT,
    Change,
    Company,
    Lies,
    Scene,
    assert_exact,
    company,
    dealing,
    each_lie,
    flipped,
    new_keys,
    of,
    sign_keys,
    signed,
    sum_of,
    without,
)

LIAR = 0
STRANGERS = company("active", threshold=4, small_cohort=True)


def advertised(signer: int = LIAR, **more: Any) -> Change:
    """Client 0's keys with a signature that is not for this session, this roster or from this client."""

    def change(m: Any) -> Any:
        return replace(m, signature=sign_keys(ACTIVE, signer, m.c_pk, m.s_pk, **more)[2])

    return change


def shared(field: str, change: Callable[[dict[int, Any]], dict[int, Any]]) -> Change:
    return lambda m: replace(m, **{field: change(getattr(m, field))})


def packed(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    return lambda m: replace(m, packed=change([bytes(p) for p in m.packed]))


def shares(change: Callable[[dict[int, Any]], dict[int, Any]]) -> Change:
    return lambda m: replace(m, shares=change(m.shares))


def plus_one(given: Any) -> Any:
    value = (int.from_bytes(given.share, "big") + 1) % PRIME
    return type(given)(value.to_bytes(SHARE_BYTES, "big"))


def other_kind(given: Any) -> Any:
    return (PairKeyShare if isinstance(given, SelfMaskShare) else SelfMaskShare)(given.share)


OUTSIDE = PRIME.to_bytes(SHARE_BYTES, "big")
OLD = digest(Tag.ROSTER, b"last year's")
REPLACED_KEYS = "advertised keys without its signature"
NOT_SIGNED = "shared secrets without its signature"

# (sessions in which the check exists, round, what the server says) -> what is changed -> how
LIES: Lies = {
    ("both", "advertise-keys", "already in use"): {"one key twice": lambda m: replace(m, s_pk=m.c_pk)},
    ("both", "advertise-keys", "small order"): {
        "a weak share key": lambda m: replace(m, c_pk=bytes(32)),
        "a weak mask key": lambda m: replace(m, s_pk=bytes(32)),
    },
    ("active", "advertise-keys", REPLACED_KEYS): {
        "no signature": lambda m: replace(m, signature=b""),
        "a wrong signature": lambda m: replace(m, signature=flipped(m.signature)),
        "keys swapped": lambda m: replace(m, c_pk=m.s_pk, s_pk=m.c_pk),
        "other keys": lambda m: replace(m, c_pk=new_keys()[0]),
        "signed by another": advertised(CORRUPT, of=LIAR),
        "signed for another id": advertised(of=1),
        "an old roster": advertised(roster=OLD),
        "another session": advertised(nonce=bytes(32)),
        "another task": advertised(context=bytes(32)),
        "other parameters": advertised(parameters=bytes(32)),
    },
    ("semi-honest", "advertise-keys", "advertised keys signed in a session where nothing is signed"): {
        "a signature": lambda m: replace(m, signature=bytes(64)),
    },
    ("both", "share-keys", "shared secrets with others than the clients that are to hold them"): {
        "a client left out": shared("sealed", lambda s: without(s, 1)),
        "a stranger": shared("sealed", lambda s: s | {77: s[1]}),
        "itself": shared("sealed", lambda s: {LIAR: s[1]} | s),
    },
    ("active", "share-keys", "without committing to each share"): {
        "no commitments": lambda m: replace(m, commitments={}),
        "a commitment left out": shared("commitments", lambda c: without(c, 1)),
        "its own commitment left out": shared("commitments", lambda c: without(c, LIAR)),
        "a commitment to a stranger": shared("commitments", lambda c: c | {77: c[1]}),
        "no commitment of b_u": lambda m: replace(m, commitment=b""),
        "a short commitment of b_u": lambda m: replace(m, commitment=m.commitment[:31]),
    },
    ("active", "share-keys", NOT_SIGNED): {
        "no signature": lambda m: replace(m, signature=b""),
        "another commitment of b_u": lambda m: replace(m, commitment=bytes(32)),
        "commitments exchanged": shared("commitments", lambda c: c | {1: c[2], 2: c[1]}),
        "shares exchanged": shared("sealed", lambda s: s | {1: s[2], 2: s[1]}),
    },
    ("semi-honest", "share-keys", "shared secrets signed in a session where nothing is signed"): {
        "a signature": lambda m: replace(m, signature=bytes(64)),
    },
    ("semi-honest", "share-keys", "committed to shares in a session where nothing is signed"): {
        "a commitment of b_u": lambda m: replace(m, commitment=bytes(32)),
        "commitments": lambda m: replace(m, commitments={1: Commitments(bytes(32), bytes(32))}),
    },
    ("both", "masked-input", "1 vectors, the session has 2"): {"a vector too few": packed(lambda p: p[:1])},
    ("both", "masked-input", "3 vectors, the session has 2"): {
        "a vector too many": packed(lambda p: [*p, p[0]])
    },
    # The first is good in each: half an upload could never be taken out of the sum again.
    ("both", "masked-input", "a vector of 0 bytes"): {
        "a vector too short": packed(lambda p: [p[0], p[1][:-1]])
    },
    ("both", "masked-input", "a vector of 2 bytes"): {
        "a vector too long": packed(lambda p: [p[0], p[1] + b"\0"])
    },
    ("both", "masked-input", "bits behind the last"): {"bits too many": packed(lambda p: [p[0], b"\xff"])},
    ("active", "consistency-check", "did not sign the survivors"): {
        "no signature": lambda m: ConsistencyCheck(b""),
        "a wrong signature": lambda m: ConsistencyCheck(flipped(m.signature)),
    },
    ("both", "unmasking", "a client that dealt none to it"): {
        "a stranger's share": shares(lambda s: s | {77: s[1]})
    },
    ("both", "unmasking", "the wrong kind"): {
        "its own key": shares(lambda s: s | {LIAR: other_kind(s[LIAR])}),
        "a survivor's key": shares(lambda s: s | {1: other_kind(s[1])}),
        "a lost one's mask": shares(lambda s: s | {4: other_kind(s[4])}),
    },
    ("both", "unmasking", "returned a share that is not an element of the field"): {
        "a mask's share outside the field": shares(lambda s: s | {1: SelfMaskShare(OUTSIDE)}),
        "a key's share outside the field": shares(lambda s: s | {4: PairKeyShare(b"\xff" * SHARE_BYTES)}),
    },
    ("active", "unmasking", "another share of client 1 than it was dealt"): {
        "a wrong share of a mask": shares(lambda s: s | {1: plus_one(s[1])}),
        "two dealers' shares exchanged": shares(lambda s: s | {1: s[2], 2: s[1]}),
    },
    ("active", "unmasking", "another share of client 4 than it was dealt"): {
        "a wrong share of a key": shares(lambda s: s | {4: plus_one(s[4])}),
    },
    ("active", "unmasking", "another share of client 0 than it was dealt"): {
        "a wrong share of its own mask": shares(lambda s: s | {LIAR: plus_one(s[LIAR])}),
    },
}


@each_lie(LIES, BOTH)
def test_a_liar_is_named_and_the_others_go_on(
    company: Company, round: str, change: Change, words: str
) -> None:
    """Client 4 is lost before its masked input, so that there are shares of both kinds."""
    scene = Scene(company, says=of(LIAR, round, change), drop={"masked-input": {4}}).play()
    assert_named(scene, round, words)


def assert_named(scene: Scene, round: str, words: str) -> None:
    refusal = scene.refused[LIAR]
    assert re.search(f"client 0, {round}: .*{words}", str(refusal)), refusal
    assert refusal.culprits == {LIAR}
    assert scene.refused.keys() == {LIAR}
    assert not scene.died
    lost = {4} if round in ("consistency-check", "unmasking") else {LIAR, 4}
    survivors = set(range(6)) - lost
    assert_exact(scene.total, survivors)
    assert scene.learned(CORRUPT) == {frozenset(survivors - {CORRUPT})}


@pytest.mark.parametrize("company", BOTH.values(), ids=BOTH)
@pytest.mark.parametrize(("mine", "theirs"), [("c_pk", "s_pk"), ("s_pk", "s_pk"), ("s_pk", "c_pk")])
def test_a_client_with_the_key_of_another_is_named(company: Company, mine: str, theirs: str) -> None:
    scene = Scene(company).to("advertise-keys").answer()
    stolen = getattr(decode(AdvertiseKeys, scene.answers[0]), theirs)
    scene.lie(1, lambda m: replace(m, **{mine: stolen})).play()
    assert "client 1, advertise-keys: advertised a key that is already in use" in str(scene.refused[1])
    assert scene.refused[1].culprits == {1}
    assert_exact(scene.total, {0, 2, 3, 4, 5})


def test_a_client_that_the_roster_does_not_list_is_named() -> None:
    stranger = {LIAR: STRANGERS.identities[LIAR]}
    key = type(stranger[LIAR])(LIAR, replace_digest(STRANGERS), stranger[LIAR].key)
    scene = Scene(ACTIVE, identities={LIAR: key}).play()
    assert scene.refused[LIAR].culprits == {LIAR}
    assert REPLACED_KEYS in str(scene.refused[LIAR])
    assert_exact(scene.total, range(1, 6))


def replace_digest(strangers: Company) -> Any:
    """The strangers' roster under the digest of the right one."""
    return type(strangers.roster)(ACTIVE.roster.digest, strangers.roster.keys)


def members(**other: Any) -> Callable[[Scene], bytes]:
    """A survivor's statement, but for something."""

    def statement(scene: Scene) -> bytes:
        server, U1 = scene.inner, set(scene.inner._keys)
        right = {
            "sid": server._sid,
            "parameters": server._digest,
            "context": server._context,
            "U1": U1,
            "U2": set(server._U2),
            "U3": set(server._U3),
        }
        return members_statement(**(right | other))

    return statement


STATEMENTS = {
    "another session": members(sid=bytes(32)),
    "other parameters": members(parameters=bytes(32)),
    "another context": members(context=bytes(32)),
    "another U1": members(U1={0, 1, 2, 3, 5}),
    "another U2": members(U2={0, 1, 2, 3, 5}),
    "another U3": members(U3={0, 1, 2, 3}),
}


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_a_client_that_signs_anything_but_the_survivors_it_was_shown_is_named(statement: Any) -> None:
    scene = Scene(ACTIVE, drop={"masked-input": {4}}).to("consistency-check").answer()
    signature = ACTIVE.identities[LIAR].key.sign(statement(scene))
    scene.lie(LIAR, lambda m: ConsistencyCheck(signature)).play()
    assert_named(scene, "consistency-check", "did not sign the survivors it was shown")


def test_the_right_statement_signed_by_another_is_refused() -> None:
    scene = Scene(ACTIVE, drop={"masked-input": {4}}).to("consistency-check").answer()
    signature = ACTIVE.identities[CORRUPT].key.sign(members()(scene))
    scene.lie(LIAR, lambda m: ConsistencyCheck(signature)).play()
    assert_named(scene, "consistency-check", "did not sign")


# Out of turn


OLD_SESSIONS = {name: Scene(who).play().server.view.received for name, who in BOTH.items()}


@pytest.mark.parametrize(
    ("round", "words"),
    [
        ("share-keys", NOT_SIGNED),
        ("consistency-check", "did not sign"),
        ("unmasking", "the wrong kind|another share"),
    ],
)
def test_an_answer_of_an_earlier_session_is_refused(round: str, words: str) -> None:
    """Of the same clients, parameters, task and nonce: the session id has all fresh keys in it."""
    old = next(m for now, u, m in OLD_SESSIONS["active"] if (now, u) == (round, LIAR))
    scene = Scene(ACTIVE, says=of(LIAR, round, lambda m: old), drop={"masked-input": {4}}).play()
    assert_named(scene, round, words)


def test_keys_of_an_earlier_session_are_refused() -> None:
    old = Scene(ACTIVE, nonce=bytes(32)).play().message("advertise-keys", LIAR)
    scene = Scene(ACTIVE, says=of(LIAR, "advertise-keys", lambda m: old), drop={"masked-input": {4}})
    assert_named(scene.play(), "advertise-keys", REPLACED_KEYS)


def says_another_thing_too(scene: Scene) -> None:
    """Besides what it says; the same twice would be a network's doing."""
    scene.hear(LIAR, scene.answers[LIAR])
    scene.answers[LIAR] += b"\0"


@pytest.mark.parametrize("round", ACTIVE.scheme.rounds)
def test_a_client_that_answers_twice_does_not_count_in_that_round(round: str) -> None:
    """Four answer, one of them twice: enough for the sum of their vectors, and for nothing else."""
    scene = Scene(ACTIVE, drop={round: {4, 5}}).to(round).answer()
    says_another_thing_too(scene)
    scene.close()
    assert scene.refused[LIAR].culprits == {LIAR}
    if round == "masked-input":
        assert scene.requests.keys() == {1, 2, 3}
        return
    assert isinstance(scene.ended, TooFewClients)
    assert (scene.ended.alive, scene.ended.needed, scene.ended.round) == (3, 4, round)


def test_a_signature_is_not_passed_on_of_a_client_that_answers_twice() -> None:
    scene = Scene(ACTIVE).to("consistency-check").answer()
    says_another_thing_too(scene)
    scene.close()
    assert scene.requests.keys() == set(range(1, 6))
    for request in scene.requests.values():
        assert decode(SignedUnmaskingRequest, request).signatures.keys() == set(range(1, 6))


def test_no_share_is_used_of_a_client_that_answers_twice() -> None:
    """Its first answer was a lie, which a semi-honest server cannot see."""
    scene = Scene(BOTH["semi-honest"]).to("unmasking").answer()
    scene.lie(LIAR, shares(lambda s: s | {1: plus_one(s[1])}))
    says_another_thing_too(scene)
    assert_exact(scene.play().total, range(6))


@pytest.mark.parametrize("adversary", BOTH)
def test_fewer_than_m_min_open_nothing_and_a_sum_that_may_be_signed_is_waited_for(adversary: str) -> None:
    """Before a U3 is shown the session is over for good; then it is finished with the same U3, or never. To
    unmask, t are enough.
    """
    who = company(adversary, threshold=4, m_min=5)
    for round in who.scheme.rounds:
        few, needed = (3, 4) if round == "unmasking" else (4, 5)
        scene = Scene(who).to(round).answer()
        late = {u: scene.answers.pop(u) for u in range(few, 6)}
        scene.close()
        assert isinstance(scene.ended, TooFewClients)
        assert (scene.ended.alive, scene.ended.needed, scene.ended.round) == (few, needed, round)
        assert (scene.ended.of, scene.total) == (None, None)
        if round in ("consistency-check", "unmasking"):
            assert (scene.server.round, scene.server.waiting_for) == (round, late.keys())
            scene.ended, scene.answers = None, late
            scene.close()
            assert_exact(scene.play().total, range(6))
            continue
        with pytest.raises(LocalProtocolError, match="this session is over: make a new one"):
            scene.server.advance()
        with pytest.raises(RemoteProtocolError, match="not expected"):
            scene.server.receive(few, late[few])
    assert_exact(Scene(who, drop={"unmasking": {4, 5}}).play().total, range(6))


# A dishonest dealer: the message is well signed, and what is sealed in it is not what it should be


def deal(company: Company, change: Callable[[Scene], bytes], **more: Any) -> Scene:
    """A session in which client 0 deals dishonestly."""
    scene = Scene(company, **more).to("share-keys").answer()
    scene.answers[LIAR] = change(scene)
    return scene.play()


def other_secret(half: str, secret: int = 7) -> Callable[[Scene], bytes]:
    """Shares, well dealt, of another s_u^SK or another b_u."""
    dealt = share(secret, 4, range(1, 7))

    def change(v: int, both: bytes) -> bytes:
        new = dealt[v + 1].to_bytes(SHARE_BYTES, "big")
        return new + both[SHARE_BYTES:] if half == "key" else both[:SHARE_BYTES] + new

    return lambda scene: dealing(scene, LIAR, change)


def only(half: str, value: int, holders: set[int]) -> Callable[[Scene], bytes]:
    """One value as the share of these holders."""
    new = value.to_bytes(SHARE_BYTES, "big")

    def change(v: int, both: bytes) -> bytes:
        if v not in holders:
            return both
        return new + both[SHARE_BYTES:] if half == "key" else both[:SHARE_BYTES] + new

    return lambda scene: dealing(scene, LIAR, change)


def resigned(change: Change) -> Callable[[Scene], bytes]:
    return lambda scene: signed(scene, LIAR, change(decode(ShareKeys, scene.answers[LIAR])))


DEALT_WRONG = {
    "another key": (other_secret("key"), {LIAR}, "client 0 dealt shares of another key"),
    "another mask": (other_secret("mask"), set(), "client 0 dealt shares of another mask"),
    "one wrong share of a key": (only("key", 7, {1}), {LIAR}, "client 0 dealt shares of another key"),
    "one wrong share of a mask": (only("mask", 7, {1}), set(), "client 0 dealt shares of another mask"),
    "a key above 32 bytes": (other_secret("key", PRIME - 1), {LIAR}, "client 0 do not belong together"),
    "a mask above 32 bytes": (other_secret("mask", PRIME - 1), set(), "client 0 do not belong together"),
    "another commitment of b_u": (
        resigned(lambda m: replace(m, commitment=bytes(32))),
        set(),
        "client 0 dealt shares of another mask",
    ),
}


@pytest.mark.parametrize(("lie", "lost", "words"), DEALT_WRONG.values(), ids=DEALT_WRONG)
def test_a_dealer_of_useless_shares_is_named_and_the_session_fails(lie: Any, lost: Any, words: str) -> None:
    """Holder 0 does not unmask, so that the shares it dealt to others are those that count."""
    drop = {"masked-input": lost} if lost else {"unmasking": {LIAR}}
    scene = deal(ACTIVE, lie, drop=drop)
    assert isinstance(scene.ended, RemoteProtocolError)
    assert words in str(scene.ended)
    assert scene.ended.culprits == {LIAR}
    assert not scene.refused
    assert not scene.died
    assert scene.total is None


@pytest.mark.parametrize("lie", ["another key", "one wrong share of a key", "a key above 32 bytes"])
def test_useless_shares_of_a_key_that_nobody_needs_harm_nobody(lie: str) -> None:
    assert_exact(deal(ACTIVE, DEALT_WRONG[lie][0]).total, range(6))


@pytest.mark.parametrize("lie", ["another mask", "one wrong share of a mask", "another commitment of b_u"])
def test_useless_shares_of_a_mask_that_nobody_needs_harm_nobody(lie: str) -> None:
    assert_exact(deal(ACTIVE, DEALT_WRONG[lie][0], drop={"masked-input": {LIAR}}).total, range(1, 6))


def test_without_commitments_a_wrong_share_of_a_key_ends_the_session_and_names_nobody() -> None:
    """Semi-honest: it may be the holder or the dealer."""
    lie = of(LIAR, "unmasking", shares(lambda s: s | {4: plus_one(s[4])}))
    scene = Scene(BOTH["semi-honest"], says=lie, drop={"masked-input": {4}}).play()
    assert "client 4 dealt shares of another key" in str(scene.ended)
    assert isinstance(scene.ended, RemoteProtocolError)
    assert scene.ended.culprits == frozenset()
    assert scene.total is None


def test_without_commitments_shares_above_32_bytes_end_the_session_and_name_nobody() -> None:
    scene = deal(BOTH["semi-honest"], other_secret("key", PRIME - 1), drop={"masked-input": {LIAR}})
    assert isinstance(scene.ended, RemoteProtocolError)
    assert scene.ended.culprits == frozenset()


def test_without_commitments_a_wrong_share_of_a_mask_makes_the_sum_wrong() -> None:
    """Why they are there: masking gives no integrity, and here not even a culprit."""
    lie = of(LIAR, "unmasking", shares(lambda s: s | {1: plus_one(s[1])}))
    scene = Scene(BOTH["semi-honest"], says=lie).play()
    assert scene.total is not None
    assert {name: codes.tolist() for name, codes in scene.total.codes.items()} != sum_of(range(6))


UNOPENED = {
    "a share that does not open": (
        resigned(shared("sealed", lambda s: s | {1: flipped(s[1])})),
        {(1, LIAR)},
        "both",
    ),
    "shares addressed to each other": (
        resigned(shared("sealed", lambda s: s | {1: s[2], 2: s[1]})),
        {(1, LIAR), (2, LIAR)},
        "both",
    ),
    "a share of the key outside the field": (only("key", PRIME, {1}), {(1, LIAR)}, "both"),
    "a share of the mask outside the field": (only("mask", PRIME, {1}), {(1, LIAR)}, "both"),
    "another commitment": (
        resigned(shared("commitments", lambda c: c | {1: c[2]})),
        {(1, LIAR)},
        "active",
    ),
    "another commitment of the key's share alone": (
        resigned(shared("commitments", lambda c: c | {1: replace(c[1], of_key=bytes(32))})),
        {(1, LIAR)},
        "active",
    ),
    "another commitment of the mask's share alone": (
        resigned(shared("commitments", lambda c: c | {1: replace(c[1], of_mask=bytes(32))})),
        {(1, LIAR)},
        "active",
    ),
}


@pytest.mark.parametrize(
    ("company", "lie", "pairs", "lost"),
    [
        pytest.param(who, lie, pairs, lost, id=f"{adversary}: {what}, dealer lost: {bool(lost)}")
        for what, (lie, pairs, where) in UNOPENED.items()
        for adversary, who in BOTH.items()
        if where in ("both", adversary)
        for lost in (set(), {LIAR})
        if len(pairs | lost) < 3
    ],
)
def test_a_share_that_its_holder_cannot_use_is_reported_and_blames_no_holder(
    company: Company, lie: Any, pairs: Any, lost: set[int]
) -> None:
    scene = deal(company, lie, drop={"masked-input": lost})
    assert scene.server.unopened == pairs  # through what records it
    assert not scene.refused
    assert not scene.died
    assert_exact(scene.total, set(range(6)) - lost)
    assert scene.learned(CORRUPT) == {frozenset(range(5)) - lost}


@pytest.mark.parametrize("company", BOTH.values(), ids=BOTH)
def test_a_dealer_whose_shares_nobody_can_use_is_reported_by_every_holder_and_no_holder_blamed(
    company: Company,
) -> None:
    scene = deal(company, only("mask", PRIME, set(range(6))))
    assert scene.inner.unopened == {(holder, LIAR) for holder in range(1, 6)}
    assert not scene.refused
    assert not scene.died
    assert scene.total is None
    assert scene.learned(CORRUPT) == set()


def test_a_dealer_whom_more_holders_report_than_can_be_corrupt_is_named() -> None:
    """One of five reports is an honest holder's: one client ends the session, and must not do so unseen."""
    scene = deal(ACTIVE, only("mask", PRIME, set(range(6))))
    assert isinstance(scene.ended, RemoteProtocolError)
    assert scene.ended.culprits == {LIAR}
    # Where nothing is signed nobody knows what it dealt.
    unsigned = deal(BOTH["semi-honest"], only("mask", PRIME, set(range(6)))).ended
    assert isinstance(unsigned, TooFewClients)
    assert (unsigned.of, unsigned.unusable) == (LIAR, set(range(1, 6)))


def test_a_holder_that_returns_nothing_is_no_evidence_against_the_dealers() -> None:
    scene = Scene(ACTIVE, says=of(LIAR, "unmasking", shares(lambda s: {}))).play()
    assert scene.inner.unopened == {(LIAR, v) for v in range(6)}
    assert_exact(scene.total, range(6))


def test_too_few_usable_shares_end_the_session_with_nothing_learned() -> None:
    """Two vanish and a corrupt one holds back a share: no more reports than can be lies, so that it is either
    the dealer or the holder, who are both told to the operator.
    """
    silent = of(0, "unmasking", shares(lambda s: without(s, 3)))
    scene = Scene(ACTIVE, says=silent, drop={"unmasking": {4, 5}}).play()
    assert isinstance(scene.ended, TooFewClients)
    assert (scene.ended.alive, scene.ended.needed, scene.ended.round) == (3, 4, "unmasking")
    assert (scene.ended.of, scene.ended.unusable) == (3, {0})
    assert "(client 3 is at fault, or these, who could use none: 0)" in str(scene.ended)
    assert scene.total is None
    assert scene.learned(CORRUPT) <= {frozenset(range(5))}  # the sum of all others, with its own share
