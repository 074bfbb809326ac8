"""Small sessions to spoil: recorded once, a round at a time, and gone on with from any round.

They are played by `Play`, with repeatable randomness, so that a finding is one for good.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from secagg import Aggregate, LocalProtocolError, Masking, RemoteProtocolError, Scheme, TooFewClients
from secagg.wire import Message, decode
from tests.secagg.helpers import MIXED, SCHEMES, Play, codes_of, mixed_inputs

TAKEN = "taken"
ONE = 0  # the client whose messages are spoiled
# Each can do without one client; against an active server, one may be corrupt.
PLAYED: dict[str, Scheme] = {
    "plain": SCHEMES["plain"](range(3), MIXED),
    "semi-honest": SCHEMES["semi-honest"](range(3), MIXED, corrupt=0, threshold=2),
    "active": SCHEMES["active"](range(4), MIXED, corrupt=1, threshold=3),
}
SIGNED = {"active"}  # where a lie about anything but one's own vectors is seen
MESSAGES = [kind for kind in Message.__subclasses__() if kind.__module__.startswith("secagg.")]


def cloned(value: Any) -> Any:
    """A copy of a session, which itself refuses to be copied, with all that it may change."""
    match value:
        case np.ndarray() | set():
            return value.copy()
        case dict():
            return {key: cloned(entry) for key, entry in value.items()}
        case list():
            return [cloned(entry) for entry in value]
    if not type(value).__module__.startswith(("secagg.", "transport.", "tests.")):
        return value
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        names = list(getattr(value, "__dict__", ()))
    if not names:
        return value  # a message, or a key: never changed
    new = object.__new__(type(value))
    for name in names:
        object.__setattr__(new, name, cloned(getattr(value, name)))
    return new


class Draws:
    """A generator that a clone continues by itself."""

    def __init__(self, seed: int) -> None:
        self._seed, self._drawn = seed, 0

    def __call__(self, n: int) -> bytes:
        self._drawn += 1
        return hashlib.shake_128(f"{self._seed}/{self._drawn}".encode()).digest(n)


def play(name: str, drop: dict[str, set[int]] | None = None) -> Play:
    inputs = mixed_inputs(range(PLAYED[name].clients))
    return Play(PLAYED[name], inputs, drop=drop, rng=Draws, server_rng=Draws(100))


def forked(play: Play) -> Play:
    new = copy.copy(play)
    new.server, new.clients = cloned(play.server), cloned(play.clients)
    new.answers, new.requests, new.lost = dict(play.answers), dict(play.requests), set(play.lost)
    return new


@dataclasses.dataclass(frozen=True)
class Scene:
    """A round: what the server asked, ONE before that reaches it, and the session once all have answered."""

    name: str
    requests: dict[int, bytes]
    client: Any
    play: Play

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
    played = []
    for name, drop in drops:
        session, scenes = play(name, drop), list[Scene]()
        while session.server.result is None:
            requests, client = dict(session.requests), cloned(session.clients[ONE])
            scenes.append(Scene(name, requests, client, forked(session.answer())))
            session.close()
        played.append(scenes)
    return played


@cache
def rounds() -> list[Scene]:
    return [scene for session in sessions() for scene in session]


@cache
def asked() -> list[tuple[Any, list[bytes]]]:
    """Client ONE as each of its requests reaches it; that request and all after it."""
    return [
        (scene.client, [later.requests[ONE] for later in session[i:]])
        for session in sessions()
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
    """It answers, or is dead; what it has taken, it goes on with, through the true requests that follow."""
    before, requests = asked()[which]
    client, answers = cloned(before), list[bytes]()
    for request in (message, *requests[1:]):
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
    """The server refuses and names the sender, or takes it; the others' sum is exact, or there is none.

    What a client may lie about unseen, its own vectors, and without signatures anything, may spoil the sum.
    """
    spoiled = rounds()[which]
    scene = forked(spoiled.play)
    round, truth = scene.server.round, scene.answers.pop(ONE)
    refusal = refused(scene.server.receive, ONE, message)
    assert refusal is None or refusal.culprits == {ONE}
    unseen = spoiled.name not in SIGNED or round == "masked-input"
    lied = refusal is None and message != truth and unseen
    words = str(refusal) if refusal else TAKEN
    try:
        total = played_out(scene)
    except TooFewClients:
        return f"{words}; too few"
    except RemoteProtocolError as error:
        if not lied or (spoiled.name in SIGNED and not error.culprits <= {ONE}):
            raise AssertionError("the honest suffer, or are blamed") from error
        return f"{words}; {error}"
    if not lied:
        sums = {name: list(x) for name, x in (total.codes or total.sum).items()}
        assert sums == honest_sum(spoiled.name, total.survivors), "a wrong sum"
    return words


def played_out(scene: Play) -> Aggregate:
    """Client ONE goes on as if nothing had been.

    Raises: RemoteProtocolError if any other is refused or refuses.
    """
    while scene.server.result is None:
        for u, message in scene.answers.items():
            refusal = refused(scene.server.receive, u, message)
            if refusal is not None and u != ONE:
                raise refusal
        scene.lost |= set(scene.drop.get(scene.server.round, ()))
        scene.answers, requests = {}, scene.server.advance()
        scene.lost |= set(scene.drop.get(scene.server.round, ()))
        for u in requests.keys() - scene.lost:
            try:
                scene.answers[u] = scene.clients[u].receive(requests[u])
            except RemoteProtocolError:
                if u != ONE:
                    raise
    return scene.server.result


@cache
def honest_sum(name: str, survivors: frozenset[int]) -> dict[str, list[Any]]:
    """Of the survivors' inputs, without any mask."""
    scheme = PLAYED[name]
    everybody = range(scheme.clients)
    if isinstance(scheme, Masking):
        sums = codes_of(scheme, mixed_inputs(everybody), survivors)
    else:
        sums = play(name, {"input": set(everybody) - survivors}).finish().sum
    return {name: list(x) for name, x in sums.items()}
