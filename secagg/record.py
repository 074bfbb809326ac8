"""Instruments: what the server or a client saw, byte for byte, on which leakage is measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from secagg.aggregate import Aggregate
from secagg.encoding import Clipping
from secagg.errors import ClientId, RemoteProtocolError
from secagg.session import ClientSession, Scheme, ServerSession
from secagg.states import StatefulClient
from secagg.wire import Raw, decode_task


@dataclass
class ServerView:
    """What a server saw of one session. received, sent: (round, client, message) in order. aggregate: the
    result, once there is one.
    """

    received: list[tuple[str, ClientId, bytes]] = field(default_factory=list, repr=False)
    sent: list[tuple[str, ClientId, bytes]] = field(default_factory=list, repr=False)
    aggregate: Aggregate | None = None


class Around:
    """A server session that does what the one inside it does."""

    def __init__(self, session: ServerSession) -> None:
        self._session = session

    @property
    def scheme(self) -> Scheme:
        return self._session.scheme

    def receive(self, sender: ClientId, message: Raw) -> None:
        self._session.receive(sender, message)

    def open_jointly(self) -> dict[ClientId, bytes]:
        return self._session.open_jointly()

    @property
    def round(self) -> str:
        return self._session.round

    @property
    def waiting_for(self) -> frozenset[ClientId]:
        return self._session.waiting_for

    @property
    def members(self) -> frozenset[ClientId]:
        return self._session.members

    @property
    def result(self) -> Aggregate | None:
        return self._session.result

    @property
    def unopened(self) -> Collection[tuple[ClientId, ClientId]]:
        return self._session.unopened

    @property
    def caught(self) -> Mapping[ClientId, str]:
        return self._session.caught

    def lose(self, u: ClientId, why: str) -> None:
        self._session.lose(u, why)

    @property
    def gone(self) -> Mapping[ClientId, str]:
        return self._session.gone


class Recorded(Around):
    """A server session that remembers everything said to it and by it. session: the one that does the work.
    view: what it remembers.
    """

    def __init__(self, session: ServerSession) -> None:
        super().__init__(session)
        self.view = ServerView()

    def receive(self, sender: ClientId, message: Raw) -> None:
        # Before it is received: what is refused was seen all the same.
        self.view.received.append((self.round, sender, bytes(message)))
        super().receive(sender, message)

    def open_jointly(self) -> dict[ClientId, bytes]:
        return self._sent(self._session.open_jointly())

    def advance(self) -> dict[ClientId, bytes]:
        return self._sent(self._session.advance())

    def _sent(self, requests: dict[ClientId, bytes]) -> dict[ClientId, bytes]:
        self.view.sent += [(self.round, u, message) for u, message in requests.items()]  # the round they open
        self.view.aggregate = self.result
        return requests


Rule = Callable[[str, ClientId, bytes], bytes | None]
"""(round, client, request) -> the request to send instead; None to send nothing."""


class Tampered(Around):
    """A malicious server: one that follows the protocol but for what it sends. For tests.

    session: the one that follows it. rule: applied to every request: (round, client, request) -> the one to
    send instead, None for none.
    """

    def __init__(self, session: ServerSession, rule: Rule) -> None:
        super().__init__(session)
        self._rule = rule

    def open_jointly(self) -> dict[ClientId, bytes]:
        return self._changed(self._session.open_jointly())

    def advance(self) -> dict[ClientId, bytes]:
        return self._changed(self._session.advance())

    def _changed(self, requests: dict[ClientId, bytes]) -> dict[ClientId, bytes]:
        changed = {u: self._rule(self._session.round, u, message) for u, message in requests.items()}
        return {u: message for u, message in changed.items() if message is not None}


@dataclass
class ClientView:
    """received, sent: a client's messages in order. result: the sum, where clients learn it."""

    received: list[bytes] = field(default_factory=list, repr=False)
    sent: list[bytes] = field(default_factory=list, repr=False)
    result: Aggregate | None = None


class AroundClient:
    """A client session that does what the one inside it does."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    def start(self) -> bytes:
        return self._session.start()

    def start_jointly(self, request: Raw) -> bytes:
        return self._session.start_jointly(request)

    def receive(self, message: Raw) -> bytes | None:
        return self._session.receive(message)

    @property
    def done(self) -> bool:
        return self._session.done

    @property
    def clipping(self) -> Mapping[str, Clipping]:
        return self._session.clipping

    @property
    def result(self) -> Aggregate | None:
        return self._session.result


class Unclipped(AroundClient):
    """A malicious client: one that follows the protocol but for the L2 clip of its vectors, which it skips.
    No coordinate leaves its range: of what the ring would take beside that it makes no use.

    session: the one that follows it, of any scheme. wanted: whether it does so in the session of a task. The
    norm of private vectors, for which their noise is reckoned, is kept to all the same.
    """

    def __init__(self, session: StatefulClient, wanted: Callable[[bytes], bool] = lambda task: True) -> None:
        super().__init__(session)
        self._encoder, self._wanted, self._asked = session, wanted, False

    def start_jointly(self, request: Raw) -> bytes:
        self._look(request)
        return super().start_jointly(request)

    def receive(self, message: Raw) -> bytes | None:
        self._look(message)
        return super().receive(message)

    def _look(self, request: Raw) -> None:
        """At the task, the first thing that a server says."""
        if self._asked:
            return
        self._asked = True
        with suppress(RemoteProtocolError):  # the session itself refuses what is no task
            if self._wanted(decode_task(request).task):
                self._encoder.encode_without_clips()


class RecordedClient(AroundClient):
    """A client session that remembers everything said to it and by it."""

    def __init__(self, session: ClientSession) -> None:
        super().__init__(session)
        self.view = ClientView()

    def start(self) -> bytes:
        self.view.sent.append(super().start())
        return self.view.sent[-1]

    def start_jointly(self, request: Raw) -> bytes:
        self.view.received.append(bytes(request))
        self.view.sent.append(super().start_jointly(request))
        return self.view.sent[-1]

    def receive(self, message: Raw) -> bytes | None:
        self.view.received.append(bytes(message))
        reply = super().receive(message)
        self.view.result = self.result
        if reply is not None:
            self.view.sent.append(reply)
        return reply


class Instrument(Protocol):
    """What looks on at sessions. Each function returns the session, or one around it.

    task: of the server's session; a client's has none when it begins.
    """

    def server(self, task: bytes, session: ServerSession) -> ServerSession: ...

    def client(self, u: ClientId, session: ClientSession) -> ClientSession: ...


class Recorder:
    """An instrument that records what some parties of some sessions saw, whatever the scheme.

    parties: ids, and None for the server. wanted: whether the sessions of a task are to be kept.
    servers, clients: the views, in the order of the sessions, of a client by its id; of a session that is
    not wanted there is none. Their memory is that of all messages.
    """

    def __init__(
        self, parties: Collection[ClientId | None], wanted: Callable[[bytes], bool] = lambda task: True
    ) -> None:
        self._parties, self._wanted = frozenset(parties), wanted
        self.servers: list[ServerView] = []
        self.clients: dict[ClientId, list[ClientView]] = {u: [] for u in self._parties if u is not None}

    def server(self, task: bytes, session: ServerSession) -> ServerSession:
        """The server's session of this task, recorded if it is wanted."""
        if None not in self._parties or not self._wanted(task):
            return session
        recorded = Recorded(session)
        self.servers.append(recorded.view)
        return recorded

    def client(self, u: ClientId, session: ClientSession) -> ClientSession:
        """Client u's session, recorded once its task is known, if that is wanted."""
        return _Selected(session, self._wanted, self.clients[u]) if u in self._parties else session


class _Selected(RecordedClient):
    """Adds its view to the others once it knows the task, the first thing that a server says."""

    def __init__(
        self, session: ClientSession, wanted: Callable[[bytes], bool], views: list[ClientView]
    ) -> None:
        super().__init__(session)
        self._wanted, self._views = wanted, views

    def start_jointly(self, request: Raw) -> bytes:
        self._look(request)
        return super().start_jointly(request)

    def receive(self, message: Raw) -> bytes | None:
        if not self.view.received:
            self._look(message)
        return super().receive(message)

    def _look(self, request: Raw) -> None:
        with suppress(RemoteProtocolError):  # the session itself refuses what is no task
            if self._wanted(decode_task(request).task):
                self._views.append(self.view)
