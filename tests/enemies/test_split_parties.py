"""Split, with a relay that lies, which spoils the sum and opens nothing, and a client that lies, which spoils
its own share in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from secagg import RemoteProtocolError, TooFewClients
from secagg.crypto import SecretKey
from secagg.errors import RelayLost
from secagg.split.derived import (
    column_statement,
    seal_key,
)
from secagg.split.messages import (
    Column,
    Received,
    RelayKey,
    SeedShare,
    Shares,
    VectorShare,
    sizes_of_shares,
)
from secagg.wire import Message, decode, encode
from tests.enemies.cast_split import (
    FIRST,
    IDS,
    INPUTS,
    SCHEMES,
    SECOND,
    SMALL,
    VECTORS,
    at,
    either,
    exact,
    key_of,
    of_other_terms,
    sid_of,
)
from tests.play import Play, changed

# Relays that lie to the server

OWN = SecretKey(bytes([3] * 32))


def shown(play: Play, **other: Any) -> RelayKey:
    """A key of relay 0's, signed by it, or by whom it says."""
    signer = other.pop("signer", FIRST)
    pk = other.get("pk", OWN.public)
    return RelayKey(pk, of_other_terms(play, signer, **{"j": 0, "pk": pk, **other}))


def column_of(play: Play, column: Any, *, signer: int = FIRST, **other: Any) -> Column:
    said = {
        "sid": sid_of(play),
        "j": 0,
        "added": {u: play.server._digests[u] for u in play.server._chosen},
        "packed": column.packed,
    }
    return Column(column.packed, key_of(signer).sign(column_statement(**{**said, **other})))


LYING: dict[str, tuple[str, str, Callable[[Play, Any], Any], str]] = {
    "a key of small order": ("both", "relay-keys", lambda p, m: RelayKey(SMALL, b""), "of small order"),
    "no signature of its key": (
        "split",
        "relay-keys",
        lambda p, m: RelayKey(m.pk, b""),
        "a key not signed by it",
    ),
    "a key signed by the other relay": (
        "split",
        "relay-keys",
        lambda p, m: shown(p, signer=SECOND),
        "showed a key not signed by it",
    ),
    "a key signed as the other relay's": (
        "split",
        "relay-keys",
        lambda p, m: shown(p, j=1),
        "showed a key not signed by it",
    ),
    "a key signed for another session": (
        "split",
        "relay-keys",
        lambda p, m: shown(p, nonce=bytes(32)),
        "showed a key not signed by it",
    ),
    "a signature of its key": (
        "split-semi-honest",
        "relay-keys",
        lambda p, m: RelayKey(m.pk, bytes(64)),
        "showed a key signed in a session where nothing is signed",
    ),
    "a share that it was not sent": (
        "both",
        "deliver",
        lambda p, m: Received([9]),
        "could not use a share that it was not sent",
    ),
    "a vector less": (
        "split-semi-honest",
        "columns",
        lambda p, m: replace(m, packed=m.packed[1:]),
        "1 vectors, the session has 2",
    ),
    "a short vector": (
        "both",
        "columns",
        lambda p, m: replace(m, packed=[m.packed[0], m.packed[1][1:]]),
        "a vector of 10 bytes, not 11",
    ),
    "bits behind a vector": (
        "both",
        "columns",
        lambda p, m: replace(m, packed=[bytes(m.packed[0])[:-1] + b"\xff", m.packed[1]]),
        "bits behind the last coordinate are set",
    ),
    "a signature of its column": (
        "split-semi-honest",
        "columns",
        lambda p, m: replace(m, signature=bytes(64)),
        "a column that is signed in a session where nothing is signed",
    ),
    "no signature of its column": (
        "split",
        "columns",
        lambda p, m: replace(m, signature=b""),
        "a column not signed by it",
    ),
    "a column of a smaller set": (
        "split",
        "columns",
        lambda p, m: column_of(p, m, added={u: p.server._digests[u] for u in range(4)}),
        "a column not signed by it",
    ),
    "a column of other shares": (
        "split",
        "columns",
        lambda p, m: column_of(p, m, added={u: [bytes(32), bytes(32)] for u in IDS}),
        "a column not signed by it",
    ),
    "a column signed by the other relay": (
        "split",
        "columns",
        lambda p, m: column_of(p, m, signer=SECOND),
        "a column not signed by it",
    ),
    "a column as the other relay's": (
        "split",
        "columns",
        lambda p, m: column_of(p, m, j=1),
        "a column not signed by it",
    ),
    "a column of another session": (
        "split",
        "columns",
        lambda p, m: column_of(p, m, sid=bytes(32)),
        "a column not signed by it",
    ),
    "another column than it has signed": (
        "split",
        "columns",
        lambda p, m: replace(m, packed=[bytes(len(m.packed[0])), m.packed[1]]),
        "a column not signed by it",
    ),
}
SAYS: dict[str, type[Message]] = {"relay-keys": RelayKey, "deliver": Received, "columns": Column}


@pytest.mark.parametrize(
    ("name", "round", "change", "words"),
    [
        pytest.param(name, round, change, words, id=f"{name}: {what}")
        for what, (where, round, change, words) in LYING.items()
        for name in SCHEMES
        if where in ("both", name)
    ],
)
def test_a_server_refuses_what_a_relay_may_not_say_and_there_is_no_sum(
    name: str, round: str, change: Any, words: str
) -> None:
    play = at(name, round, answered=True)
    answer = play.answers.pop(FIRST)
    lie = changed(SAYS[round], answer, lambda m: change(play, m))
    with pytest.raises(RemoteProtocolError, match=f"relay 0, {round}: .*{words}") as caught:
        play.server.receive(FIRST, lie)
    assert caught.value.culprits == {FIRST}
    with pytest.raises(RelayLost, match=f"relay 0 is gone in round {round}"):
        play.close()
    assert play.server.result is None


@either
def test_a_relay_may_not_show_the_other_relays_key(name: str) -> None:
    play = at(name, "relay-keys", answered=True)
    copied = decode(RelayKey, play.answers[FIRST]).pk
    said = shown(play, signer=SECOND, j=1, pk=copied) if name == "split" else RelayKey(copied, b"")
    play.server.receive(FIRST, play.answers[FIRST])
    with pytest.raises(RemoteProtocolError, match="relay 1, relay-keys: showed a key that is already in use"):
        play.server.receive(SECOND, encode(said))


@pytest.mark.parametrize("when", ["added", "in the last vector", "signed"])
def test_of_a_column_that_is_refused_nothing_is_added(when: str) -> None:
    play = at("split", "columns", answered=True)
    column, before = decode(Column, play.answers[FIRST]), play.server._total["counts"].copy()
    spoilt = [column.packed[0], bytes(11)[: 10 if when == "in the last vector" else 11]]
    with pytest.raises(RemoteProtocolError):
        play.server.receive(FIRST, encode(Column(spoilt, column.signature)))
    assert np.array_equal(play.server._total["counts"], before)


def test_a_lying_relay_spoils_the_sum_and_nobody_can_tell() -> None:
    """It adds 1 to a coordinate, and signs that: what was promised is that it opens nothing."""
    play = at("split", "columns", answered=True)
    column = decode(Column, play.answers[FIRST])
    first = bytearray(column.packed[0])
    first[0] ^= 1
    spoilt = replace(column, packed=[bytes(first), column.packed[1]])
    play.answers[FIRST] = encode(column_of(play, spoilt))
    total = play.finish()
    right = sum(np.array(INPUTS[u]["counts"]) for u in IDS)
    assert abs(total.sum["counts"] - right).tolist() == [1, 0, 0]
    assert total.survivors == set(IDS)


@either
def test_a_relay_that_can_use_no_share_ends_the_session(name: str) -> None:
    play = at(name, "deliver", answered=True)
    play.answers[FIRST] = encode(Received(list(IDS)))
    with pytest.raises(TooFewClients, match="0 clients left in round deliver, 4 needed: no sum, nothing rev"):
        play.close()


# Clients that lie

SHARED: dict[str, tuple[str, Callable[[Play, Any], Any], str]] = {
    "a share less": ("both", lambda p, m: replace(m, sealed=m.sealed[1:]), "of other sizes than the sess"),
    "a share more": ("both", lambda p, m: replace(m, sealed=[*m.sealed, m.sealed[0]]), "of other sizes"),
    "shares the other way round": ("both", lambda p, m: replace(m, sealed=m.sealed[::-1]), "of other sizes"),
    "a byte less": ("both", lambda p, m: replace(m, sealed=[m.sealed[0][1:], m.sealed[1]]), "of other sizes"),
    "a byte more": (
        "both",
        lambda p, m: replace(m, sealed=[m.sealed[0], bytes(m.sealed[1]) + b"\0"]),
        "shares of other sizes than the session's",
    ),
    "a key of small order": ("both", lambda p, m: replace(m, c_pk=SMALL), "a public key of small order"),
    "no signature": ("split", lambda p, m: replace(m, signature=b""), "shares not signed by it"),
    "another key than signed": ("split", lambda p, m: replace(m, c_pk=OWN.public), "shares not signed by it"),
    "another share than signed": (
        "split",
        lambda p, m: replace(m, sealed=[m.sealed[0], bytes(len(m.sealed[1]))]),
        "shares not signed by it",
    ),
    "another's shares": (
        "split",
        lambda p, m: decode(Shares, p.answers[2]),
        "shares not signed by it",
    ),
    "a signature": (
        "split-semi-honest",
        lambda p, m: replace(m, signature=bytes(64)),
        "shares signed in a session where nothing is signed",
    ),
}


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        pytest.param(name, change, words, id=f"{name}: {what}")
        for what, (where, change, words) in SHARED.items()
        for name in SCHEMES
        if where in ("both", name)
    ],
)
def test_a_server_refuses_shares_that_are_none_and_sums_the_others(
    name: str, change: Any, words: str
) -> None:
    play = at(name, "shares", answered=True)
    answer = play.answers.pop(0)
    with pytest.raises(RemoteProtocolError, match=f"client 0, shares: .*{words}") as caught:
        play.server.receive(0, changed(Shares, answer, lambda m: change(play, m)))
    assert caught.value.culprits == {0}
    exact(play, {1, 2, 3, 4, 5})


def vector(play: Play, **new: Any) -> bytes:
    bits = play.scheme.ring_bits()
    packed = [bytes(-(-spec.length * bits[name] // 8)) for name, spec in VECTORS.items()]
    return encode(VectorShare(new.get("like", []), new.get("packed", packed)))


GARBAGE: dict[str, Callable[[Play, bytes], bytes]] = {
    "nothing": lambda p, share: bytes(len(share)),
    "a message of another kind": lambda p, share: encode(SeedShare([], bytes(16))).ljust(len(share), b"\0"),
    "bits behind the last coordinate": lambda p, share: vector(p, packed=[b"\xff" * 3, bytes(11)]),
    "a vector too long, another too short": lambda p, share: vector(p, packed=[bytes(4), bytes(10)]),
    "one vector for two": lambda p, share: vector(p, packed=[bytes(16)]),
    "three for two, as long as a tag": lambda p, share: vector(p, packed=[bytes(3), bytes(11), bytes(16)]),
}


@either
@pytest.mark.parametrize("change", GARBAGE.values(), ids=GARBAGE)
def test_a_client_whose_share_is_garbage_is_found_before_any_column(name: str, change: Any) -> None:
    """Sealed and signed as it should be, and of the right size: the relay that opens it reports it, the pair
    is named, and the others' sum is exact.
    """
    play = at(name, "shares")
    client, cut = play.clients[0], play.clients[0]._cut

    def spoilt(*given: Any) -> list[bytes]:
        shares = cut(*given)
        shares[0] = change(play, shares[0])
        return list(shares)

    client._cut = spoilt
    play.answer()
    due = sizes_of_shares(play.scheme, 2, 0)[0]
    assert len(decode(Shares, play.answers[0]).sealed[0]) in due
    total = play.to("columns")
    assert total.server.unopened == {(FIRST, 0)}
    exact(play, {1, 2, 3, 4, 5})


@either
@pytest.mark.parametrize("both", [True, False])
def test_a_client_that_sealed_to_no_relays_key_is_named_with_each_that_could_not_open(
    name: str, both: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = at(name, "shares")

    def another(secret: bytes, sid: bytes, u: int, j: int, c_pk: bytes) -> bytes:
        return seal_key(bytes(32) if u == 0 and (both or j == 1) else secret, sid, u, j, c_pk)

    monkeypatch.setattr("secagg.split.client.seal_key", another)
    play.to("columns")
    assert play.server.unopened == {(SECOND, 0), *([(FIRST, 0)] if both else [])}
    exact(play, {1, 2, 3, 4, 5})


def test_too_many_clients_with_garbage_are_too_few_for_a_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    play = at("split", "shares")
    monkeypatch.setattr(
        "secagg.split.client.seal_key",
        lambda secret, sid, u, j, c_pk: bytes(32) if u < 3 else seal_key(secret, sid, u, j, c_pk),
    )
    with pytest.raises(TooFewClients, match="3 clients left in round deliver, 4 needed: no sum"):
        play.to("columns")


# Out of turn


@either
def test_a_relay_that_speaks_while_clients_share_is_lost(name: str) -> None:
    play = at(name, "shares", answered=True)
    with pytest.raises(RemoteProtocolError, match="relay 0 is not expected in round shares"):
        play.server.receive(FIRST, encode(Received([])))
    with pytest.raises(RelayLost, match="relay 0 is gone in round shares"):
        play.close()


@either
@pytest.mark.parametrize("round", ["deliver", "columns"])
def test_a_client_that_speaks_after_it_has_shared_is_in_the_sum(name: str, round: str) -> None:
    """What relays hold of it is not taken back."""
    play = at(name, round)
    with pytest.raises(RemoteProtocolError, match=f"client 0 is not expected in round {round}"):
        play.server.receive(0, b"more")
    exact(play, IDS)


@either
def test_who_has_shared_is_a_member_that_nothing_is_asked_of(name: str) -> None:
    members = {round: at(name, round).server for round in SCHEMES[name].rounds}
    both = {FIRST, SECOND}
    assert {round: server.waiting_for for round, server in members.items()} == {
        "join": {*IDS, *both},
        "relay-keys": both,
        "shares": set(IDS),
        "deliver": both,
        "columns": both,
    }
    assert all(server.members == {*IDS, *both} for server in members.values())
    play = at(name, "shares", answered=True)
    del play.answers[3]
    play.close()
    assert play.server.members == {0, 1, 2, 4, 5, *both}
