"""The server's end of sessions of any scheme.

The clock is here: a round closes when everybody it waits for has answered, has vanished, or is late.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from secagg import (
    Aggregate,
    LocalProtocolError,
    Masking,
    RemoteProtocolError,
    Scheme,
    SecAggError,
    ServerSession,
)
from secagg.encoding import Vectors
from secagg.errors import ClientId
from secagg.parallel import Executor
from secagg.wire import Raw
from transport.frames import (
    CHUNK_BYTES,
    SESSION_BYTES,
    TRANSPORT_VERSION,
    Announce,
    Chunk,
    ClientFrame,
    Close,
    End,
    Hello,
    Incoming,
    Leave,
    Offer,
    Outgoing,
    Pull,
    Refuse,
    decode_from_client,
    reason,
)
from transport.keys import Readers, read_private, read_public
from transport.roster import Roster
from transport.roster import read as read_roster
from transport.router import Router

MAX_STAGED = 3  # uploads on their way in at once, whatever the cohort: the server's memory stands by this
STALL_SECONDS = 20.0
JOIN_BYTES = 1024  # more than any client's first message has
TICK_SECONDS = 0.25

DEADLINES: Mapping[str, float] = {"join": 60.0, "advertise-keys": 600.0, "input": 600.0}
"""Seconds a round may take. Clients train in the first round after joining; all others have OTHER_ROUNDS."""
OTHER_ROUNDS = 120.0


@dataclass(frozen=True)
class RoundReport:
    """One closed round, as the server saw it.

    alive: who answered, the paper's U1, U2, U3. lost: who did not, answered wrongly, or was lost after its
    answer, and why. up, down: bytes of the protocol's messages from and to each client. wire_up, wire_down:
    bytes of all frames. seconds: from the round's opening to the next one's. unopened: (holder, dealer) of
    shares that could not be used.
    """

    round: str
    alive: frozenset[ClientId]
    lost: Mapping[ClientId, str]
    up: Mapping[ClientId, int]
    down: Mapping[ClientId, int]
    wire_up: int
    wire_down: int
    seconds: float
    unopened: frozenset[tuple[ClientId, ClientId]] = frozenset()


Watch = Callable[[RoundReport], None]


def serve(
    bind: str,
    key: str | Path,
    roster: str | Path,
    roster_key: str | Path | None = None,
    *,
    readers: Readers = "owner",
) -> Cohort:
    """Listen for the clients of a roster.

    bind: a ZeroMQ address, "tcp://*:5555"; "tcp://127.0.0.1:*" takes a free port. key: the server's private
    key file. roster: the signed roster. roster_key: the public key it must be signed with, `<roster>.pub`
    unless given. readers: who may read the key's file, "owner", "group" or "all".

    Raises: TransportError if a file or the address is not right, with what to do.
    """
    signer = read_public(roster_key if roster_key is not None else f"{roster}.pub", "roster")
    listed = read_roster(roster, signer)
    return Cohort(Router(bind, read_private(key, "server", readers=readers), listed), listed)


class Cohort:
    """The clients of a roster, as this server reaches them. A context that closes the socket."""

    def __init__(self, router: Router, roster: Roster) -> None:
        self._router, self.roster = router, roster
        self._running: _Running | None = None

    @property
    def endpoint(self) -> str:
        """Where clients connect, the port filled in."""
        return self._router.endpoint

    @property
    def connected(self) -> frozenset[ClientId]:
        return self._router.connected

    def aggregate(
        self,
        scheme: Scheme | Vectors,
        task: bytes = b"",
        *,
        clients: Collection[ClientId] | None = None,
        deadlines: Mapping[str, float] | None = None,
        watch: Watch | None = None,
        executor: Executor | None = None,
    ) -> Aggregate:
        """One session with the whole roster; whoever is not there is dropped from it.

        scheme: or the vectors alone: masking with this roster, against an active server. clients: with these
        of the roster alone; the others wait for the next. deadlines: round -> seconds, instead of those of
        DEADLINES. watch: called after each round; a SecAggError that it raises ends the session before its
        next round opens. executor: of processes or threads, in which to unmask; None: here, one thing after
        the other.

        Raises: TooFewClients; RemoteProtocolError where returned shares contradict each other;
        LocalProtocolError if the scheme is for another number of clients, or no such round exists.
        """
        cohort = self.roster.clients.keys() if clients is None else set(clients)
        if strangers := cohort - self.roster.clients.keys():
            raise LocalProtocolError(f"client {min(strangers)} is not in the roster")
        if isinstance(scheme, Mapping):
            scheme = Masking.for_cohort(len(cohort), scheme, roster=self.roster.identities)
        limits = {name: DEADLINES.get(name, OTHER_ROUNDS) for name in scheme.rounds}
        if unknown := (deadlines or {}).keys() - limits.keys():
            raise LocalProtocolError(f"no round {min(unknown)!r}; the rounds are {', '.join(scheme.rounds)}")
        limits |= deadlines or {}
        session = scheme.server(cohort, task, roster=self.roster.identities, executor=executor)
        running = self._running = _Running(
            self._router, scheme, session, frozenset(cohort), wire=self._router.traffic
        )
        for u in self.connected & running.cohort:
            self._router.send(u, running.offer)
        try:
            while session.result is None:
                self._round(running, limits[session.round], watch)
        except SecAggError as error:
            running.end(running.joined - running.lost.keys(), str(error))
            raise
        finally:
            self._running = None
        running.end(running.joined - running.lost.keys(), "")
        return session.result

    def _round(self, running: _Running, limit: float, watch: Watch | None) -> None:
        """Wait for the answers, close the round, and send what opens the next."""
        session, closing, end = running.session, running.session.round, time.monotonic() + limit
        try:
            while (left := end - time.monotonic()) > 0 and running.waiting_for:
                self._listen(min(left, TICK_SECONDS))
                running.stage_uploads(left)
            for u in session.waiting_for - running.lost.keys():
                running.lose(u, "vanished" if u in self._router.gone else "late")
            requests = session.advance()
            for u, why in session.caught.items():
                running.lose(u, why)
        finally:
            if watch is not None:
                watch(running.report(closing))
        running.open_round(requests)
        if requests:  # else the session is over
            for u in running.joined - running.lost.keys() - requests.keys():
                running.lose(u, "not summed: its batch is not whole")

    def _listen(self, seconds: float) -> None:
        running = self._running
        for u, route, parts in self._router.receive(seconds):
            try:
                frame, payload = decode_from_client(parts)
                if isinstance(frame, Hello):
                    self._greet(u, route, frame)
                elif running is not None and self._router.speaks_for(u, route):
                    running.take(u, frame, payload)
            except RemoteProtocolError as error:
                if running is not None and u in running.cohort:
                    running.lose(u, str(error))
        for u in self._router.probe():
            if running is not None:
                running.vanish(u)

    def _greet(self, u: ClientId, route: bytes, hello: Hello) -> None:
        if hello.version != TRANSPORT_VERSION:
            self._router.turn_away(route, Refuse(TRANSPORT_VERSION))
            raise RemoteProtocolError(
                f"client {u} speaks version {hello.version} of the transport, this is {TRANSPORT_VERSION}"
            )
        self._router.greet(u, route)
        if self._running is not None:
            self._running.invite(u)

    def wait_for_clients(self, count: int, seconds: float) -> frozenset[ClientId]:
        """Who is connected once `count` are, or when the time is up."""
        end = time.monotonic() + seconds
        while len(self.connected) < count and (left := end - time.monotonic()) > 0:
            self._listen(min(left, TICK_SECONDS))
        return self.connected

    def close(self) -> None:
        """Tell the clients that there will be no more sessions, and close the socket."""
        for u in self.connected:
            self._router.send(u, Close())
        self._router.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class _Staged:
    """An upload in one of the few places: when its last chunk came, until when it may keep others waiting."""

    heard: float
    until: float


@dataclass
class _Running:
    """One session on the wire: who is in it, and what is on its way."""

    router: Router
    scheme: Scheme
    session: ServerSession
    cohort: frozenset[ClientId]
    id: bytes = field(default_factory=lambda: os.urandom(SESSION_BYTES))
    joined: set[ClientId] = field(default_factory=set)
    lost: dict[ClientId, str] = field(default_factory=dict)
    number: dict[ClientId, int] = field(default_factory=dict)  # of the message to come from u
    sent: dict[ClientId, int] = field(default_factory=dict)  # messages sent to u
    outgoing: dict[ClientId, Outgoing] = field(default_factory=dict)
    incoming: dict[ClientId, Incoming] = field(default_factory=dict)
    queue: deque[ClientId] = field(default_factory=deque)  # announced a long upload, not yet staged
    staged: dict[ClientId, _Staged] = field(default_factory=dict)
    # Of the round that is open:
    begun: float = field(default_factory=time.monotonic)
    wire: tuple[int, int] = (0, 0)
    lost_before: int = 0
    up: dict[ClientId, int] = field(default_factory=dict)
    down: dict[ClientId, int] = field(default_factory=dict)

    @property
    def offer(self) -> Offer:
        return Offer(self.id, self.scheme.offer())

    @property
    def waiting_for(self) -> frozenset[ClientId]:
        return self.session.waiting_for - self.lost.keys() - self.router.gone

    def invite(self, u: ClientId) -> None:
        """u has just connected. In a session already joined, a client that comes back is a dropout of it; one
        that would not join, or could not, may think again while there is time.
        """
        if u in self.joined:
            self.lose(u, "restarted")
        elif u in self.session.waiting_for and self.session.round == "join":
            self.lost.pop(u, None)
            self.router.send(u, self.offer)

    def take(self, u: ClientId, frame: ClientFrame, payload: Raw | None) -> None:
        """Raises: RemoteProtocolError for what does not belong here; u is then lost."""
        if isinstance(frame, Hello) or frame.session != self.id or u in self.lost:
            return  # of an earlier session, or from one that no longer counts
        match frame:
            case Announce():
                self._announced(u, frame, payload)
            case Chunk():
                self._arrived(u, frame, payload or b"")
            case Pull():
                if u not in self.outgoing:
                    raise RemoteProtocolError("asked for a message that was not sent")
                self.router.send(u, *self.outgoing[u].chunk(frame))
            case Leave():
                self.lose(u, f"left: {frame.reason}" if frame.reason else "left")

    def _announced(self, u: ClientId, announce: Announce, payload: Raw | None) -> None:
        if announce.number != self.number.get(u, 0) or u in self.incoming:
            raise RemoteProtocolError("a message out of turn")
        if u not in self.session.waiting_for:
            # The session refuses it, whatever it says: staged, it would hold a place of the round to come.
            self.session.receive(u, payload or b"")
            return
        limit = JOIN_BYTES if announce.number == 0 else self.scheme.largest_upload
        self.incoming[u] = Incoming.of(announce, payload, limit)
        if self.incoming[u].complete:
            self._whole(u)
        else:
            self.queue.append(u)

    def _arrived(self, u: ClientId, chunk: Chunk, payload: Raw) -> None:
        if u not in self.staged:
            raise RemoteProtocolError("a chunk that nobody asked for")
        self.incoming[u].add(chunk, payload)
        self.staged[u].heard = time.monotonic()
        if self.incoming[u].complete:
            self._whole(u)
        else:
            self._pull(u)

    def _whole(self, u: ClientId) -> None:
        """The message is here, all of it: now it counts."""
        incoming = self.incoming.pop(u)
        self.staged.pop(u, None)
        message, joining = incoming.message(), self.session.round == "join"
        self.number[u] = incoming.announce.number + 1
        self.session.receive(u, message)
        self.up[u] = incoming.announce.size
        if joining:
            self.joined.add(u)

    def stage_uploads(self, left: float) -> None:
        """Let the next few upload; give up on one that has stopped sending, or that keeps others waiting.

        left: seconds of the round. Of these each that is still to come has a fair share of a place; more only
        while nobody waits.
        """
        now = time.monotonic()
        for u, staged in list(self.staged.items()):
            if now - staged.heard > STALL_SECONDS:
                self.lose(u, f"its upload stood still for {STALL_SECONDS:.0f} s")
            elif self.queue and now > staged.until:
                self.lose(u, "its upload took more than its share of the round, and others waited")
        while self.queue and len(self.staged) < MAX_STAGED:
            u = self.queue.popleft()
            share = left * MAX_STAGED / max(1, len(self.waiting_for))
            self.staged[u] = _Staged(now, now + share)
            self._pull(u)

    def _pull(self, u: ClientId) -> None:
        for pull in self.incoming[u].pulls():
            self.router.send(u, pull)

    def report(self, closing: str) -> RoundReport:
        (up, down), seconds = self.router.traffic, time.monotonic() - self.begun
        lost = dict(list(self.lost.items())[self.lost_before :])
        wire = up - self.wire[0], down - self.wire[1]
        unopened = frozenset(self.session.unopened)
        return RoundReport(closing, frozenset(self.up), lost, self.up, self.down, *wire, seconds, unopened)

    def open_round(self, requests: Mapping[ClientId, bytes]) -> None:
        self.begun, self.wire, self.lost_before = time.monotonic(), self.router.traffic, len(self.lost)
        # Who is late has lost its place, so these are empty: whatever happens, no place outlives its round.
        self.incoming, self.staged, self.queue, self.outgoing = {}, {}, deque(), {}
        requests = {u: message for u, message in requests.items() if u not in self.lost}
        self.up, self.down = {}, {u: len(message) for u, message in requests.items()}
        for u, message in requests.items():
            number = self.sent.get(u, 0)
            self.sent[u] = number + 1
            self.outgoing[u] = Outgoing(self.id, number, message)
            self.router.send(u, *self.outgoing[u].announce())
            if len(message) <= CHUNK_BYTES:
                del self.outgoing[u]

    def lose(self, u: ClientId, why: str) -> None:
        """u is out of this session, and leaves nothing behind."""
        if u in self.lost:
            return
        self.lost[u] = why
        self._forget(u)
        self.end([u], why)

    def vanish(self, u: ClientId) -> None:
        """u's connection is gone. Before it has joined it may come back, but is not waited for."""
        if u in self.joined:
            self.lose(u, "vanished")
        else:
            self._forget(u)

    def _forget(self, u: ClientId) -> None:
        self.incoming.pop(u, None)
        self.outgoing.pop(u, None)
        self.staged.pop(u, None)
        if u in self.queue:
            self.queue.remove(u)

    def end(self, to: Collection[ClientId], why: str) -> None:
        for u in to:
            self.router.send(u, End(self.id, reason(why)))
