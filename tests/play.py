"""Whole sessions in this process, played a round at a time: a test can stop at a round, look at either side's
state, change what is said, lose clients, and go on.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any, Self

import msgspec
import numpy as np
import pytest

from secagg import (
    Among,
    Bounded,
    Identity,
    LocalProtocolError,
    RemoteProtocolError,
    Roster,
    throwaway_identities,
)
from secagg import run as run_session
from secagg.aggregate import Aggregate
from secagg.crypto import Rng, system_rng
from secagg.session import Scheme, relays_of
from secagg.states import Kept
from secagg.wire import Message, decode, encode

TASK = b"round 1 of model 0"
RELAYS = 2

Says = Callable[[str, int, bytes], bytes | None]
"""(round, client, message) -> what is said instead; None: nothing."""


def the_truth(round: str, u: int, message: bytes) -> bytes:
    return message


class Session:
    """A server and its clients, relays among them, and what is on its way between them.

    requests: what the server said, not yet read by the clients; answers: the other way round. drop: round ->
    who is never heard from again from that round on. says: what reaches the server in the place of an answer.
    forgiven: clients that may be refused, and may refuse, without an end to the test: `refused` has why the
    server turned one away, `died` why one would not go on. joint: the first request goes out with the offer,
    and each client's first answer brings its Join.
    """

    def __init__(
        self,
        server: Any,
        clients: Mapping[int, Any],
        *,
        drop: Mapping[str, Collection[int]] | None = None,
        says: Says = the_truth,
        forgiven: Collection[int] = (),
        joint: bool = False,
    ) -> None:
        self.server, self.clients = server, dict(clients)
        self.drop, self.says, self.forgiven = drop or {}, says, forgiven
        self.lost: set[int] = set()
        self.refused: dict[int, RemoteProtocolError] = {}
        self.died: dict[int, RemoteProtocolError] = {}
        self.joining = set(self.clients) if joint else set()
        self.requests: dict[int, bytes] = server.open_jointly() if joint else {}
        self.answers: dict[int, bytes] = {
            u: client.start() for u, client in self.clients.items() if u not in self.joining
        }

    def to(self, round: str) -> Self:
        """Play on until that round is open and its requests are on their way, or the session is over."""
        while self.server.round not in (round, "done"):
            self.answer()
            self.close()
        return self

    def answer(self) -> Self:
        """The clients read their requests and answer."""
        self.lost |= set(self.drop.get(self.server.round, ()))
        for u, request in self.requests.items():
            if u in self.lost or u in self.died:
                continue
            try:
                self.answers[u] = self.read(u, request)
            except RemoteProtocolError as refusal:
                self.died[u] = refusal
                if u not in self.forgiven:
                    raise
        self.requests = {}
        return self

    def read(self, u: int, request: bytes) -> bytes:
        """What client u answers."""
        if u not in self.joining:
            return self.clients[u].receive(request)
        self.joining.remove(u)
        return self.clients[u].start_jointly(request)

    def close(self) -> None:
        """The server reads the answers and closes the round."""
        for u, answer in self.answers.items():
            if u not in self.lost:
                self.hear(u, self.says(self.server.round, u, answer))
        self.answers = {}
        self.requests = self.server.advance()

    def hear(self, u: int, message: bytes | None) -> None:
        """The server hears this from u."""
        if message is None:
            return
        try:
            self.server.receive(u, message)
        except RemoteProtocolError as refusal:
            self.refused.setdefault(u, refusal)
            if u not in self.forgiven:
                raise

    def finish(self) -> Aggregate:
        """The result, wherever it is."""
        self.to("done")
        return learned(self.server.result, self.clients.values())

    def forked(self) -> Self:
        """The same session where it is now, to be gone on with apart from this one."""
        new = copy.copy(self)
        new.server, new.clients = cloned(self.server), cloned(self.clients)
        new.answers, new.requests, new.lost = dict(self.answers), dict(self.requests), set(self.lost)
        new.refused, new.died, new.joining = dict(self.refused), dict(self.died), set(self.joining)
        return new


class Play(Session):
    """Of a scheme and its clients' inputs; they have the roster of exactly these clients. Relays are among
    the clients by the ids under which they take part.
    """

    def __init__(
        self,
        scheme: Scheme,
        inputs: Mapping[int, Any],
        *,
        drop: Mapping[str, Collection[int]] | None = None,
        rng: Callable[[int], Rng] = lambda u: system_rng,
        server_rng: Rng = system_rng,
        joint: bool = False,
    ) -> None:
        self.scheme, self.inputs = scheme, inputs
        self.roster, self.identities = identities(inputs)
        server = scheme.server(inputs.keys(), TASK, roster=self.roster, rng=server_rng)
        ready = {u: among(scheme, x) for u, x in inputs.items()}
        clients: dict[int, Any] = {
            u: scheme.client(
                u,
                lambda task, x=x: x,
                rounding_seed=rounding_seed(u),
                identity=self.identities[u],
                rng=rng(u),
            )
            for u, x in ready.items()
        }
        clients |= {
            r: scheme.relay(j, identity=self.identities[r], rng=rng(r))
            for j, r in enumerate(relays_of(scheme))
        }
        super().__init__(server, clients, drop=drop, joint=joint)


class Course:
    """A session that is played once, for tests that begin at one of its rounds: each has its own fork."""

    def __init__(self, play: Play) -> None:
        self._rounds, self._kept = play.scheme.rounds, {(play.scheme.rounds[0], False): play}

    def at(self, round: str, *, answered: bool = False) -> Play:
        """Where that round has been opened, or where all have answered in it besides."""
        if (round, answered) not in self._kept:
            before = self._rounds[self._rounds.index(round) - 1]
            self._kept[round, answered] = (
                self.at(round).answer() if answered else self.at(before, answered=True).to(round)
            )
        return self._kept[round, answered].forked()


# Who takes part


def seeded(seed: int) -> Rng:
    """Repeatable bytes in the place of the operating system's."""
    return np.random.default_rng(seed).bytes


@lru_cache(maxsize=256)
def _identities(ids: frozenset[int]) -> tuple[Roster, dict[int, Identity]]:
    return throwaway_identities(ids, seeded(len(ids)), relays=RELAYS)


def identities(ids: Collection[int]) -> tuple[Roster, dict[int, Identity]]:
    """The roster of exactly these clients, and of as many relays as the schemes here take that have any, the
    same at every call, and their keys.
    """
    return _identities(frozenset(ids))


def among(scheme: Any, inputs: Any) -> Any:
    """A client's vectors as it gives them in this scheme: where decoys are sent, among the largest."""
    if not (candidates := getattr(scheme, "candidates", 0)):
        return inputs
    worst = {
        name: np.full(spec.length, -spec.bound if isinstance(spec, Bounded) else spec.maximum)
        for name, spec in scheme.vectors.items()
    }
    return Among(inputs, [worst] * (candidates - 1))


def rounding_seed(u: int) -> bytes:
    return hashlib.sha256(b"rounding of %d" % u).digest()


# What is said


def changed(kind: type[Message], message: bytes, change: Callable[[Any], Message | bytes]) -> bytes:
    """The message, decoded, changed and encoded again; a change may also give bytes of its own."""
    new = change(decode(kind, message))
    return new if isinstance(new, bytes) else encode(new)


# What comes of it


def assert_same_codes(actual: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)


def learned(result: Aggregate | None, clients: Collection[Any]) -> Aggregate:
    """The result of a session, wherever it is: the server's; or where clients keep it, theirs, all alike."""
    assert result is not None
    told = [client.result for client in clients if client.result is not None]
    if not told:
        return result
    assert {own.survivors for own in told} == {result.survivors}
    for own in told:
        assert_same_codes(own.codes, told[0].codes)
    name = next(iter(told[0].codes))
    for shown in (result.codes, result.sum, result.mean, result.error_bound):
        for look in (lambda shown=shown: shown[name], lambda shown=shown: list(shown), shown.__len__):
            with pytest.raises(LocalProtocolError, match="the clients keep this sum: the server never has"):
                look()
    return told[0]


class Remembering:
    """A scheme that remembers the clients and the server it made."""

    def __init__(self, scheme: Scheme) -> None:
        self._scheme, self.made, self.serving = scheme, list[Any](), None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheme, name)

    def client(self, *arguments: Any, **more: Any) -> Any:
        self.made.append(self._scheme.client(*arguments, **more))
        return self.made[-1]

    def server(self, *arguments: Any, **more: Any) -> Any:
        self.serving = self._scheme.server(*arguments, **more)
        return self.serving


def run(scheme: Scheme, inputs: Mapping[int, Any], **more: Any) -> Aggregate:
    """`secagg.run`, whose result is that of whoever learns it; nobody else does."""
    remembering: Any = Remembering(scheme)
    ready = {
        u: (lambda task, x=x: among(scheme, x(task))) if callable(x) else among(scheme, x)
        for u, x in inputs.items()
    }
    total = run_session(remembering, ready, **more)
    assert learned(remembering.serving.result, remembering.made) is total
    return total


# A session again from where it is


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
    if isinstance(value, Kept):  # of which a server adds to some in place
        return msgspec.structs.replace(
            value, **{name: cloned(getattr(value, name)) for name in value.__struct_fields__}
        )
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
