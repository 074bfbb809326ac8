"""Split, with a server that does not follow the protocol: it gets no column over less than the rules of each
relay allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from secagg import LocalProtocolError, RemoteProtocolError
from secagg.bits import add_packed
from secagg.crypto import SigningKey
from secagg.split.derived import (
    session_id,
    share_digest,
    shares_statement,
)
from secagg.split.messages import (
    Column,
    ColumnRequest,
    DeliverRequest,
    Received,
    RelayKey,
    RelayKeyRequest,
    SplitTask,
)
from secagg.wire import context_of, decode, encode
from tests.enemies.cast_split import (
    FIRST,
    IDS,
    INPUTS,
    PLANTED,
    PLANTED_ELSEWHERE,
    SCHEMES,
    SECOND,
    SMALL,
    at,
    either,
    key_of,
    of_other_terms,
    refuses,
    sid_of,
    with_key,
)
from tests.play import TASK, Play, changed, identities
from tests.secagg.helpers import (
    culprits_named,
    with_another_byte,
)

# A server that shows other keys of relays than theirs

NOT_SIGNED = "the key the server shows for relay 1 is not signed by that relay of this roster"
KEYS: dict[str, tuple[str, Callable[[Play, Any], Any], str]] = {
    "fewer relays": ("both", lambda p, m: replace(m, keys={0: m.keys[0]}), "keys of other relays than the 2"),
    "more relays": ("both", lambda p, m: replace(m, keys={**m.keys, 2: m.keys[1]}), "keys of other relays"),
    "other relays": ("both", lambda p, m: replace(m, keys={0: m.keys[0], 2: m.keys[1]}), "of other relays"),
    "one key for two": ("both", lambda p, m: with_key(m, 1, m.keys[0][0]), "one key for two relays"),
    "a signature": (
        "split-semi-honest",
        lambda p, m: with_key(m, 1, m.keys[1][0], bytes(64)),
        "a relay's key that is signed in a session where nothing is signed",
    ),
    "no signature": ("split", lambda p, m: with_key(m, 1, m.keys[1][0], b""), NOT_SIGNED),
    "a key of the server's": ("split", lambda p, m: with_key(m, 1, PLANTED.public), NOT_SIGNED),
    "signed by a client": (
        "split",
        lambda p, m: with_key(m, 1, PLANTED.public, of_other_terms(p, 0)),
        NOT_SIGNED,
    ),
    "signed by the other relay": (
        "split",
        lambda p, m: with_key(m, 1, PLANTED.public, of_other_terms(p, FIRST)),
        NOT_SIGNED,
    ),
    **{
        f"signed for another {what}": (
            "split",
            lambda p, m, what=what, value=value: with_key(
                m, 1, PLANTED.public, of_other_terms(p, SECOND, **{what: value})
            ),
            NOT_SIGNED,
        )
        for what, value in {
            "parameters": bytes(32),
            "roster": bytes(32),
            "context": bytes(32),
            "nonce": bytes(32),
            "j": 0,
            "pk": PLANTED_ELSEWHERE.public,
        }.items()
    },
}
each_key = pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        pytest.param(name, change, words, id=f"{name}: {what}")
        for what, (where, change, words) in KEYS.items()
        for name in SCHEMES
        if where in ("both", name)
    ],
)


@each_key
def test_a_client_seals_to_keys_of_the_rosters_relays_alone(name: str, change: Any, words: str) -> None:
    """And computes nothing before it has seen them."""
    play, asked = at(name, "shares"), []
    play.clients[0]._vectors = lambda task: asked.append(task) or INPUTS[0]
    refuses(play.clients[0], play.requests[0], SplitTask, lambda m: change(play, m), words)
    assert asked == []


@each_key
def test_a_relay_checks_the_keys_of_all_relays_too(name: str, change: Any, words: str) -> None:
    """Else the session id was of its own choice."""
    play = at(name, "deliver")
    refuses(play.clients[FIRST], play.requests[FIRST], DeliverRequest, lambda m: change(play, m), words)


def test_what_a_relay_signs_for_a_key_is_just_that() -> None:
    """The control: signed by relay 1 for these terms, a key is taken."""
    play = at("split", "shares")
    planted = changed(
        SplitTask,
        play.requests[0],
        lambda m: with_key(m, 1, PLANTED.public, of_other_terms(play, SECOND)),
    )
    assert play.clients[0].receive(planted)


def test_a_relay_is_shown_its_own_key() -> None:
    """One that it has signed in another session would do for clients: what they sealed is opened nowhere."""
    play = at("split", "deliver")
    refuses(
        play.clients[SECOND],
        play.requests[SECOND],
        DeliverRequest,
        lambda m: with_key(m, 1, PLANTED.public, of_other_terms(play, SECOND)),
        "the server shows clients another key of this relay",
    )


@either
def test_a_client_does_not_seal_to_a_key_of_small_order(name: str) -> None:
    play = at(name, "shares")
    signed = of_other_terms(play, SECOND, pk=SMALL) if name == "split" else b""
    refuses(
        play.clients[0],
        play.requests[0],
        SplitTask,
        lambda m: with_key(m, 1, SMALL, signed),
        "a public key of small order",
    )


# A server that delivers what no client has sent for this session and this relay


def in_place_of(message: Any, u: int, **new: Any) -> Any:
    return replace(message, shares={**message.shares, u: replace(message.shares[u], **new)})


def resigned(play: Play, message: Any, u: int, signer: SigningKey, **new: Any) -> Any:
    """u's delivery changed, its digests made to fit, and signed by this key."""
    one = replace(message.shares[u], **new)
    if "digests" not in new:
        one = replace(one, digests=[share_digest(one.sealed), *one.digests[1:]])
    statement = shares_statement(
        sid_of(play), play.scheme.digest(), context_of(TASK), u, one.c_pk, one.digests
    )
    return in_place_of(message, u, **{**new, "digests": one.digests, "signature": signer.sign(statement)})


def signed_for(play: Play, message: Any, **other: Any) -> Any:
    """Client 2's delivery, signed by it for something else."""
    one = message.shares[2]
    said = {
        "sid": sid_of(play),
        "parameters": play.scheme.digest(),
        "context": context_of(TASK),
        "u": 2,
        "c_pk": one.c_pk,
        "digests": one.digests,
    }
    return in_place_of(message, 2, signature=key_of(2).sign(shares_statement(**{**said, **other})))


def to_the_other(play: Play, u: int) -> memoryview:
    """u's share for relay 1."""
    return decode(DeliverRequest, play.requests[SECOND]).shares[u].sealed


FORGED: dict[str, tuple[str, Callable[[Play, Any], Any]]] = {
    "another's share": ("both", lambda p, m: in_place_of(m, 2, sealed=m.shares[0].sealed)),
    "another's delivery": ("both", lambda p, m: replace(m, shares={**m.shares, 2: m.shares[0]})),
    "another's key": ("both", lambda p, m: in_place_of(m, 2, c_pk=m.shares[0].c_pk)),
    "the share for the other relay": (
        "both",
        lambda p, m: in_place_of(m, 2, sealed=to_the_other(p, 2)),
    ),
    "the shares in another order": (
        "both",
        lambda p, m: in_place_of(m, 2, sealed=to_the_other(p, 2), digests=m.shares[2].digests[::-1]),
    ),
    "a bit of it flipped": (
        "both",
        lambda p, m: in_place_of(m, 2, sealed=bytes(m.shares[2].sealed)[:-1] + b"\0"),
    ),
    "another digest than the share's": (
        "split-semi-honest",
        lambda p, m: in_place_of(m, 2, digests=[bytes(32), m.shares[2].digests[1]]),
    ),
    "signed, and another digest than the share's": (
        "split",
        lambda p, m: resigned(p, m, 2, key_of(2), digests=[bytes(32), m.shares[2].digests[1]]),
    ),
    "no digests": ("both", lambda p, m: in_place_of(m, 2, digests=[])),
    "a digest more": ("both", lambda p, m: in_place_of(m, 2, digests=[*m.shares[2].digests, bytes(32)])),
    "a key of small order": ("both", lambda p, m: in_place_of(m, 2, c_pk=SMALL)),
    "a signature": ("split-semi-honest", lambda p, m: in_place_of(m, 2, signature=bytes(64))),
    "no signature": ("split", lambda p, m: in_place_of(m, 2, signature=b"")),
    "signed by the server": ("split", lambda p, m: resigned(p, m, 2, SigningKey(bytes(32)))),
    "signed by another client": ("split", lambda p, m: resigned(p, m, 2, key_of(0))),
    "another digest for the other relay": (
        "split",
        lambda p, m: in_place_of(m, 2, digests=[m.shares[2].digests[0], bytes(32)]),
    ),
    "signed, and sealed to another": (
        "split",
        lambda p, m: resigned(p, m, 2, key_of(2), sealed=m.shares[0].sealed),
    ),
    "signed, and of a key of small order": ("split", lambda p, m: resigned(p, m, 2, key_of(2), c_pk=SMALL)),
    "signed, and with a digest more": (
        "split",
        lambda p, m: resigned(p, m, 2, key_of(2), digests=[*m.shares[2].digests, bytes(32)]),
    ),
    **{
        f"signed for another {what}": (
            "split",
            lambda p, m, what=what, value=value: signed_for(p, m, **{what: value}),
        )
        for what, value in {
            "sid": bytes(32),
            "parameters": bytes(32),
            "context": bytes(32),
            "u": 0,
            "c_pk": bytes(32),
        }.items()
    },
}
each_forgery = pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param(name, change, id=f"{name}: {what}")
        for what, (where, change) in FORGED.items()
        for name in SCHEMES
        if where in ("both", name)
    ],
)


@each_forgery
def test_a_relay_uses_no_share_but_those_that_clients_have_sent_to_it_in_this_session(
    name: str, change: Any
) -> None:
    """It says whose it cannot use, adds the others', and those alone."""
    play = at(name, "deliver")
    said = changed(DeliverRequest, play.requests[FIRST], lambda m: change(play, m))
    assert decode(Received, play.clients[FIRST].receive(said)).unusable == [2]
    for members in (list(IDS), [0, 1, 2, 3]):
        relay = play.forked().clients[FIRST]
        with pytest.raises(RemoteProtocolError, match="asks for shares that this relay did not get, or can"):
            relay.receive(encode(ColumnRequest(members)))
    play.requests[FIRST] = b""
    assert play.clients[FIRST].receive(encode(ColumnRequest([0, 1, 3, 4, 5])))


def test_a_server_cannot_forge_all_shares_but_one() -> None:
    """The victim's and its own, of clients that it invented: none of them is in the relay's roster."""
    play = at("split", "deliver")

    def forged(message: Any) -> Any:
        ids = [0, *range(1000, 1005)]
        shares = dict.fromkeys(ids, message.shares[0])
        for u in ids[1:]:
            shares |= resigned(play, replace(message, shares=shares), u, SigningKey(bytes(32))).shares
        return replace(message, shares=dict(sorted(shares.items())))

    said = changed(DeliverRequest, play.requests[FIRST], forged)
    relay = play.clients[FIRST]
    assert decode(Received, relay.receive(said)).unusable == list(range(1000, 1005))
    with pytest.raises(RemoteProtocolError, match="asks for a sum of 1 clients, 4 are needed"):
        relay.receive(encode(ColumnRequest([0])))


def test_shares_of_an_earlier_session_are_of_no_use() -> None:
    """Same task, same clients, same relays: another sid, and the key that opens them is gone."""
    earlier, play = Play(SCHEMES["split"], INPUTS).to("deliver"), at("split", "deliver")
    old = decode(DeliverRequest, earlier.requests[FIRST])
    said = changed(DeliverRequest, play.requests[FIRST], lambda m: replace(m, shares=old.shares))
    assert decode(Received, play.clients[FIRST].receive(said)).unusable == list(IDS)


@either
@pytest.mark.parametrize("count", [3, 7])
def test_a_relay_opens_no_fewer_shares_than_it_adds_and_no_more_than_there_are_clients(
    name: str, count: int
) -> None:
    def some(message: Any) -> Any:
        one = message.shares[0]
        return replace(message, shares={u: message.shares.get(u, one) for u in range(count)})

    play = at(name, "deliver")
    words = f"shares of {count} clients; it takes 4 to 6"
    refuses(play.clients[FIRST], play.requests[FIRST], DeliverRequest, some, words)


# A server that asks for other sums


@either
@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([0, 1, 2], "asks for a sum of 3 clients, 4 are needed"),
        ([], "asks for a sum of 0 clients, 4 are needed"),
        ([0, 1, 2, 3, 9], "asks for shares that this relay did not get, or cannot use"),
    ],
)
def test_a_relay_adds_no_sum_of_fewer_or_of_others(name: str, members: list[int], words: str) -> None:
    play = at(name, "columns")
    refuses(play.clients[FIRST], play.requests[FIRST], ColumnRequest, lambda m: ColumnRequest(members), words)


@either
def test_the_same_set_again_gets_the_same_bytes_and_another_one_none(name: str) -> None:
    play = at(name, "columns")
    relay, request = play.clients[FIRST], play.requests[FIRST]
    column = relay.receive(request)
    assert relay.done
    assert [relay.receive(request) for _ in range(3)] == [column] * 3
    with pytest.raises(RemoteProtocolError, match="asks for the sum of another set of clients, too"):
        relay.receive(encode(ColumnRequest([0, 1, 2, 3, 4])))
    with pytest.raises(LocalProtocolError, match="this session is over"):
        relay.receive(request)


def test_a_relay_adds_once_for_a_context_whatever_the_session() -> None:
    """The first session may have come to nothing at the server. On record before the column leaves."""
    kept: list[bytes] = []

    def once(context: bytes) -> None:
        if context in kept:
            raise RemoteProtocolError("this relay has added for that task")
        kept.append(context)

    def recording(play: Play) -> Play:
        play.clients[FIRST] = play.scheme.relay(0, identity=identities(IDS)[1][FIRST], once=once)
        play.answers[FIRST] = play.clients[FIRST].start()
        return play.to("columns")

    first = recording(Play(SCHEMES["split"], INPUTS))
    assert kept == []
    assert first.clients[FIRST].receive(first.requests[FIRST])
    assert kept == [context_of(TASK)]
    second = recording(Play(SCHEMES["split"], INPUTS))
    with pytest.raises(RemoteProtocolError, match="has added for that task"):
        second.clients[FIRST].receive(second.requests[FIRST])
    with pytest.raises(LocalProtocolError, match="this session is over"):
        second.clients[FIRST].receive(second.requests[FIRST])


def test_two_sets_to_two_relays_give_uniform_noise() -> None:
    """The sum of the columns is no sum of any of the clients; over one set it is (the control)."""
    sums = {
        tuple(sum(np.array(INPUTS[u]["large"]) for u in some)): some
        for some in chain.from_iterable(combinations(IDS, k) for k in range(1, 7))
    }
    read: dict[bool, Any] = {}
    for alike in (True, False):
        play, total = at("split", "columns"), np.zeros(2, np.uint64)
        for r, members in ((FIRST, [0, 1, 2, 3, 4]), (SECOND, [0, 1, 2, 3, 4] if alike else [0, 1, 2, 3])):
            column = decode(Column, play.clients[r].receive(encode(ColumnRequest(members))))
            add_packed(total, column.packed[1], play.scheme.ring_bits()["large"])
        read[alike] = sums.get(tuple(int(x) for x in total % 2 ** play.scheme.ring_bits()["large"]))
    assert read == {True: (0, 1, 2, 3, 4), False: None}


# Other terms


@pytest.mark.parametrize(
    "other",
    [{"m_min": 5}, {"corrupt": 2}, {"prg": "chacha20"}, {"small_cohort": True}],
    ids=lambda other: next(iter(other)),
)
def test_relays_and_clients_of_other_parameters_do_not_get_to_a_sum(other: dict[str, Any]) -> None:
    """What a server offers relays, it offers clients: a key signed for other parameters is none."""
    play = Play(SCHEMES["split"], INPUTS)
    liar = replace(play.scheme, **other)
    play.clients[FIRST] = liar.relay(0, identity=identities(IDS)[1][FIRST])
    with pytest.raises(RemoteProtocolError, match="relay 0, join: joined with other parameters"):
        play.server.receive(FIRST, play.clients[FIRST].start())
    request = RelayKeyRequest(bytes(32), context_of(TASK))
    answer = decode(RelayKey, play.clients[FIRST].receive(encode(request)))
    later = at("split", "shares")
    refuses(
        later.clients[0],
        later.requests[0],
        SplitTask,
        lambda m: with_key(m, 0, answer.pk, answer.signature),
        "shows for relay 0 is not signed by that relay",
    )


def test_another_context_for_relays_than_for_clients_is_seen_by_clients() -> None:
    play = Play(SCHEMES["split"], INPUTS).to("relay-keys")
    for r in (FIRST, SECOND):
        other = changed(RelayKeyRequest, play.requests[r], lambda m: replace(m, context=bytes(32)))
        answer = decode(RelayKey, play.clients[r].receive(other))
        with pytest.raises(RemoteProtocolError, match="showed a key not signed by it"):
            play.server.receive(r, encode(answer))


# Whatever bytes


def relays_requests(name: str) -> Iterator[tuple[Any, bytes]]:
    for round in ("relay-keys", "deliver", "columns"):
        play = at(name, round)
        yield play.clients[FIRST], play.requests[FIRST]


@settings(max_examples=150)
@given(st.data())
def test_whatever_bytes_arrive_nothing_else_is_raised(data: st.DataObject) -> None:
    """At a relay, a client or the server, one byte changed: taken, or a RemoteProtocolError that names
    nobody, or at the server its sender.
    """
    name = data.draw(st.sampled_from(list(SCHEMES)))
    round = data.draw(st.sampled_from(["relay-keys", "shares", "deliver", "columns"]))
    u = 0 if round == "shares" else FIRST
    play = at(name, round)
    request = with_another_byte(play.requests[u], data)
    assert culprits_named(play.clients[u].receive, request) in (None, frozenset())
    play = at(name, round, answered=True)
    answer = with_another_byte(play.answers[u], data)
    assert culprits_named(lambda raw: play.server.receive(u, raw), answer) in (None, {u})


@pytest.mark.parametrize("length", [0, 1, 7, 12, 27])
def test_a_seal_that_is_too_short_to_be_one_is_refused_as_a_message(length: int) -> None:
    play = at("split-semi-honest", "deliver")

    def short(message: Any) -> Any:
        sealed = bytes(length)
        digests = [share_digest(sealed), message.shares[0].digests[1]]
        return in_place_of(message, 0, sealed=sealed, digests=digests)

    refuses(play.clients[FIRST], play.requests[FIRST], DeliverRequest, short, "not a deliver-request message")


def test_a_session_id_is_fresh_for_every_relay() -> None:
    keys = {0: (b"a" * 32, b""), 1: (b"b" * 32, b"")}
    sids = {
        session_id(b"n", b"p", b"c", keys),
        session_id(b"m", b"p", b"c", keys),
        session_id(b"n", b"q", b"c", keys),
        session_id(b"n", b"p", b"d", keys),
        session_id(b"n", b"p", b"c", {0: keys[1], 1: keys[0]}),
        session_id(b"n", b"p", b"c", {**keys, 1: (b"c" * 32, b"")}),
    }
    assert len(sids) == 6
