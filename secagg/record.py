"""Instruments: what the server saw, byte for byte, on which leakage is measured; and what a client said."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from secagg.encoding import Clipping
from secagg.errors import ClientId
from secagg.session import Aggregate, ClientSession, ServerSession
from secagg.wire import Raw


@dataclass
class ServerView:
    """received, sent: (round, client, message) in order. aggregate: the result, once there is one."""

    received: list[tuple[str, ClientId, bytes]] = field(default_factory=list, repr=False)
    sent: list[tuple[str, ClientId, bytes]] = field(default_factory=list, repr=False)
    aggregate: Aggregate | None = None


class Around:
    """A server session that does what the one inside it does."""

    def __init__(self, session: ServerSession) -> None:
        self._session = session

    def receive(self, sender: ClientId, message: Raw) -> None:
        self._session.receive(sender, message)

    @property
    def round(self) -> str:
        return self._session.round

    @property
    def waiting_for(self) -> frozenset[ClientId]:
        return self._session.waiting_for

    @property
    def result(self) -> Aggregate | None:
        return self._session.result

    @property
    def unopened(self) -> Collection[tuple[ClientId, ClientId]]:
        return self._session.unopened

    @property
    def caught(self) -> Mapping[ClientId, str]:
        return self._session.caught


class Recorded(Around):
    """A server session that remembers everything said to it and by it."""

    def __init__(self, session: ServerSession) -> None:
        super().__init__(session)
        self.view = ServerView()

    def receive(self, sender: ClientId, message: Raw) -> None:
        self.view.received.append((self.round, sender, bytes(message)))
        super().receive(sender, message)

    def advance(self) -> dict[ClientId, bytes]:
        requests = self._session.advance()
        self.view.sent += [(self.round, u, message) for u, message in requests.items()]
        self.view.aggregate = self.result
        return requests


Rule = Callable[[str, ClientId, bytes], bytes | None]
"""(round, client, request) -> the request to send instead; None to send nothing."""


class Tampered(Around):
    """A malicious server: one that follows the protocol but for what it sends. For tests.

    rule: applied to every request.
    """

    def __init__(self, session: ServerSession, rule: Rule) -> None:
        super().__init__(session)
        self._rule = rule

    def advance(self) -> dict[ClientId, bytes]:
        requests = self._session.advance()
        changed = {u: self._rule(self._session.round, u, message) for u, message in requests.items()}
        return {u: message for u, message in changed.items() if message is not None}


class RecordedClient:
    """A client session that remembers what it said: `said` holds its messages in order."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self.said: list[bytes] = []

    def start(self) -> bytes:
        self.said.append(self._session.start())
        return self.said[-1]

    def receive(self, message: Raw) -> bytes | None:
        reply = self._session.receive(message)
        if reply is not None:
            self.said.append(reply)
        return reply

    @property
    def done(self) -> bool:
        return self._session.done

    @property
    def clipping(self) -> Mapping[str, Clipping]:
        return self._session.clipping

    @property
    def result(self) -> Aggregate | None:
        return self._session.result
