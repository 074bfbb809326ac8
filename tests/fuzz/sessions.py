"""Small sessions to spoil: recorded once, a round at a time, and gone on with from any round.

They are played by `Play`, with repeatable randomness, so that a finding is one for good; but for the keys and
ciphertexts of CKKS, for which SEAL takes its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from msgspec.structs import replace

from secagg import Aggregate, LocalProtocolError, Masking, RemoteProtocolError, Scheme, Split, TooFewClients
from secagg.crypto import SecretKey, seal
from secagg.split.derived import seal_data, seal_key, share_digest
from secagg.split.messages import ColumnRequest, DeliverRequest, Received, SeedShare, VectorShare
from secagg.wire import Message, Task, decode, encode, fingerprint, relay_party
from tests.play import Play, cloned, learned
from tests.secagg.helpers import MIXED, SCHEMES, codes_of, mixed_inputs

TAKEN = "taken"
ONE = 0  # the client whose messages are spoiled
# Each can do without one client; against an active server, one may be corrupt.
PLAYED: dict[str, Scheme] = {
    "plain": SCHEMES["plain"](range(3), MIXED),
    "semi-honest": SCHEMES["semi-honest"](range(3), MIXED, corrupt=0, threshold=2),
    "active": SCHEMES["active"](range(4), MIXED, corrupt=1, threshold=3),
}
_WHOLE = {name: MIXED[name] for name in ("counts", "weight")}
CKKS_PLAYED: dict[str, Scheme] = {
    name: SCHEMES[name](range(3), _WHOLE) for name in ("ckks-keep", "ckks-release", "decoys")
}
SPLIT_PLAYED: dict[str, Scheme] = {
    name: SCHEMES[name](range(4), MIXED, corrupt=1, m_min=3) for name in ("split", "split-semi-honest")
}
SIGNED = {"active", "split"}  # where a lie about anything but one's own vectors is seen
_KINDS = (*Message.__subclasses__(), *Task.__subclasses__())
MESSAGES = [kind for kind in _KINDS if kind.__module__.startswith("secagg.")]


class Draws:
    """A generator that a clone continues by itself."""

    def __init__(self, seed: int) -> None:
        self._seed, self._drawn = seed, 0

    def __call__(self, n: int) -> bytes:
        self._drawn += 1
        return hashlib.shake_128(f"{self._seed}/{self._drawn}".encode()).digest(n)


def play(name: str, drop: dict[str, set[int]] | None = None, *, joint: bool = False) -> Play:
    scheme = (PLAYED | CKKS_PLAYED | SPLIT_PLAYED)[name]
    inputs = mixed_inputs(range(scheme.clients))
    if name in CKKS_PLAYED:
        inputs = {u: {vector: x[vector] for vector in _WHOLE} for u, x in inputs.items()}
    return Play(scheme, inputs, drop=drop, rng=Draws, server_rng=Draws(100), joint=joint)


@dataclasses.dataclass(frozen=True)
class Scene:
    """A round: what the server asked, ONE before that reaches it, and the session once all have answered.

    one: who is spoiled, ONE or another client, or a relay.
    """

    name: str
    requests: dict[int, bytes]
    client: Any
    play: Play
    one: int = ONE

    @property
    def number(self) -> int:
        return self.play.scheme.rounds.index(self.play.server.round)


@cache
def sessions() -> list[list[Scene]]:
    """Whole sessions, round by round, and those of masks again, the last client lost after it shared keys."""
    drops: list[tuple[str, dict[str, set[int]]]] = [(name, {}) for name in PLAYED]
    drops += [
        (name, {"masked-input": {scheme.clients - 1}}) for name, scheme in PLAYED.items() if name != "plain"
    ]
    return [recorded(name, drop, ONE) for name, drop in drops]


@cache
def ckks_sessions() -> list[list[Scene]]:
    """One client opens the key that another made, one made it itself; and one sends decoys."""
    return [recorded("ckks-keep", {}, 2), recorded("ckks-release", {}, ONE), recorded("decoys", {}, 2)]


@cache
def split_sessions() -> list[list[Scene]]:
    """Of a client and of a relay."""
    return [recorded(name, {}, one) for name in SPLIT_PLAYED for one in (ONE, relay_party(0))]


def recorded(name: str, drop: dict[str, set[int]], one: int, *, joint: bool = False) -> list[Scene]:
    """The rounds in which that one is asked."""
    session, scenes = play(name, drop, joint=joint), list[Scene]()
    while session.server.result is None:
        requests, client = dict(session.requests), cloned(session.clients[one])
        asked = one in session.server.waiting_for
        session.answer()
        if asked:
            scenes.append(Scene(name, requests, client, session.forked(), one))
        session.close()
    return scenes


@cache
def rounds() -> list[Scene]:
    return [scene for session in sessions() for scene in session]


@cache
def joint_rounds() -> list[Scene]:
    """The first of sessions in which the first answers bring their Joins."""
    return [recorded(name, {}, ONE, joint=True)[0] for name in ("plain", "active", "split")]


@cache
def ckks_rounds() -> list[Scene]:
    return [scene for session in ckks_sessions() for scene in session]


@cache
def split_rounds() -> list[Scene]:
    return [scene for session in split_sessions() for scene in session]


Asked = list[tuple[Any, list[bytes]]]
"""A client as each of its requests reaches it; that request and all after it."""


@cache
def asked() -> Asked:
    return _asked(sessions())


@cache
def ckks_asked() -> Asked:
    return _asked(ckks_sessions())


@cache
def split_asked() -> Asked:
    return _asked(split_sessions())


def _asked(played: list[list[Scene]]) -> Asked:
    return [
        (scene.client, [later.requests[scene.one] for later in session[i:]])
        for session in played
        for i, scene in enumerate(session)
        if i > 0
    ]


def refused(receive: Callable[..., Any], *arguments: Any) -> RemoteProtocolError | None:
    try:
        receive(*arguments)
    except RemoteProtocolError as refusal:
        return refusal
    return None


def client_session(which: int, message: bytes) -> str:
    return goes_on(*asked()[which], message)


def ckks_client_session(which: int, message: bytes) -> str:
    return goes_on(*ckks_asked()[which], message)


def split_party_session(which: int, message: bytes) -> str:
    return goes_on(*split_asked()[which], message)


@cache
def split_shares() -> list[bytes]:
    """What clients 0 and 1 seal to relay 0: vectors, and the seed of dummies."""
    bits = SPLIT_PLAYED["split"].ring_bits()
    sizes = [-(-MIXED[name].length * bits[name] // 8) for name in sorted(MIXED)]
    return [
        encode(VectorShare([], [memoryview(bytes(size)) for size in sizes])),
        encode(SeedShare([], bytes(16))),
    ]


def opened_share(u: int, share: bytes) -> str:
    """Whatever a client has sealed to a relay: it is added, or left out."""
    scene = next(
        s for s in split_rounds() if s.name == "split-semi-honest" and s.play.server.round == "deliver"
    )
    r, relay, c_sk = relay_party(0), cloned(scene.client), SecretKey(bytes(31) + b"1")
    request, sid = decode(DeliverRequest, scene.requests[r]), scene.play.server._sid
    key = seal_key(c_sk.agree(request.keys[0][0]), sid, u, 0, c_sk.public)
    sealed = seal(key, share, seal_data(sid, u, 0))
    one = request.shares[u]
    digests = [share_digest(sealed), *one.digests[1:]]
    one = replace(one, c_pk=c_sk.public, sealed=memoryview(sealed), digests=digests)
    spoiled = replace(request, shares={**request.shares, u: one})
    unusable = decode(Received, relay.receive(encode(spoiled))).unusable
    assert relay.receive(encode(ColumnRequest([v for v in request.shares if v not in unusable])))
    assert unusable in ([], [u])
    return "left out" if unusable else TAKEN


def goes_on(before: Any, requests: list[bytes], message: bytes) -> str:
    """It answers, or is dead; what it has taken, it goes on with, through the true requests that follow. What
    it had answered last it answers again, and has heard none of them.
    """
    client, answers = cloned(before), list[bytes]()
    again = fingerprint(message) == getattr(before, "_asked", None)
    for request in (message, *requests[0 if again else 1 :]):
        refusal = refused(lambda request=request: answers.append(client.receive(request)))
        if refusal is not None:
            assert not refusal.culprits, "a client cannot know that another is at fault"
            with suppress(LocalProtocolError):
                client.receive(request)
                raise AssertionError("a client that had refused went on")
            return str(refusal)
        assert sum(refused(decode, kind, answers[-1]) is None for kind in MESSAGES) == 1, "no message"
    assert client.done
    return TAKEN


def server_session(which: int, message: bytes) -> str:
    return takes(rounds()[which], message)


def joint_server_session(which: int, message: bytes) -> str:
    return takes(joint_rounds()[which], message)


def split_server_session(which: int, message: bytes) -> str:
    return takes(split_rounds()[which], message)


def ckks_server_session(which: int, message: bytes) -> str:
    """What comes of a refusal, test_malformed sees: it takes long."""
    spoiled = ckks_rounds()[which]
    server = cloned(spoiled.play.server)
    refusal = refused(server.receive, spoiled.one, message)
    if refusal is None:
        return takes(spoiled, message)
    assert refusal.culprits == {spoiled.one}
    assert spoiled.one not in server.waiting_for
    return str(refusal)


def takes(spoiled: Scene, message: bytes) -> str:
    """The server refuses and names the sender, or takes it; the others' sum is exact, or there is none.

    What a client may lie about unseen, its own vectors, and without signatures anything, may spoil the sum.
    """
    scene, one = spoiled.play.forked(), spoiled.one
    round, truth = scene.server.round, scene.answers.pop(one)
    refusal = refused(scene.server.receive, one, message)
    assert refusal is None or refusal.culprits == {one}
    unseen = spoiled.name not in SIGNED or round == "masked-input"
    lied = refusal is None and message != truth and unseen
    words = str(refusal) if refusal else TAKEN
    try:
        total = played_out(scene, one)
    except TooFewClients:
        return f"{words}; too few"
    except RemoteProtocolError as error:
        if not lied or (spoiled.name in SIGNED and not error.culprits <= {one}):
            raise AssertionError("the honest suffer, or are blamed") from error
        return f"{words}; {error}"
    if not lied:
        total = learned(total, scene.clients.values())
        sums = {name: list(x) for name, x in (total.codes or total.sum).items()}
        assert sums == honest_sum(spoiled.name, total.survivors), "a wrong sum"
    return words


def played_out(scene: Play, one: int) -> Aggregate:
    """That one goes on as if nothing had been.

    Raises: RemoteProtocolError if any other is refused or refuses.
    """
    scene.forgiven = {one}
    return scene.to("done").server.result


@cache
def honest_sum(name: str, survivors: frozenset[int]) -> dict[str, list[Any]]:
    """Of the survivors' inputs, without any mask."""
    scheme = (PLAYED | CKKS_PLAYED | SPLIT_PLAYED)[name]
    everybody = range(scheme.clients)
    if name in CKKS_PLAYED:
        sums = codes_of(scheme, play(name).inputs, survivors)  # of integers, which are their own codes
    elif isinstance(scheme, Masking | Split):
        sums = codes_of(scheme, mixed_inputs(everybody), survivors)
    else:
        sums = play(name, {"input": set(everybody) - survivors}).finish().sum
    return {name: list(x) for name, x in sums.items()}
