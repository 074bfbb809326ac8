"""One session on the wire, at the server: who is in it, what is on its way, who is lost."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from secagg import RemoteProtocolError, Scheme, ServerSession
from secagg.errors import ClientId, RelayLost
from secagg.session import relays_of, rounds_of
from secagg.wire import FIRST_RELAY, Raw, relay_of, relay_party
from transport.frames import (
    CHUNK_BYTES,
    SESSION_BYTES,
    Announce,
    Chunk,
    ClientFrame,
    End,
    Hello,
    Incoming,
    Leave,
    Offer,
    Outgoing,
    Pull,
    reason,
)
from transport.router import Router

MAX_STAGED = 3  # uploads on their way in at once, whatever the cohort: the server's memory stands by this
STALL_SECONDS = 20.0
JOIN_BYTES = 1024  # more than any client's first message has


@dataclass(frozen=True)
class RoundReport:
    """One closed round, as the server saw it.

    alive: who answered, the paper's U1, U2, U3; relays by the ids under which they take part. lost: who did
    not, answered wrongly, or was lost after its answer, and why. up, down: bytes of the protocol's messages
    from and to each of them. wire_up, wire_down: bytes of all frames. seconds: from the round's opening to
    the next one's. unopened: (holder, dealer) of shares that could not be used.
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

    @property
    def of_clients(self) -> RoundReport:
        """The same of the clients alone, but for what is of all frames."""
        return self._of({u: u for u in self._parties if relay_of(u) is None})

    @property
    def of_relays(self) -> RoundReport:
        """The same of the relays alone, by number from 0 on."""
        return self._of({u: j for u in self._parties if (j := relay_of(u)) is not None})

    @property
    def _parties(self) -> Collection[ClientId]:
        return self.alive.union(self.lost, self.up, self.down)

    def _of(self, names: Mapping[ClientId, int]) -> RoundReport:
        return replace(
            self,
            alive=frozenset(names[u] for u in self.alive & names.keys()),
            lost={names[u]: why for u, why in self.lost.items() if u in names},
            up={names[u]: size for u, size in self.up.items() if u in names},
            down={names[u]: size for u, size in self.down.items() if u in names},
            unopened=frozenset((names[u], dealer) for u, dealer in self.unopened if u in names),
        )


@dataclass(frozen=True)
class Standing:
    """Where a session stands. round: that is open. answered: who has answered it. awaited: whose answers are
    to come, if ever. Relays go by the ids under which they take part.
    """

    round: str
    answered: frozenset[ClientId]
    awaited: frozenset[ClientId]


@dataclass
class _Staged:
    """An upload in one of the few places: when its last chunk came, until when it may keep others waiting."""

    heard: float
    until: float


@dataclass
class Exchange:
    """One session on the wire: who is in it, and what is on its way. cohort: its relays, too."""

    router: Router
    scheme: Scheme
    session: ServerSession
    cohort: frozenset[ClientId]
    lives: Callable[[], Collection[ClientId]] | None = None  # whose process, where that can be seen
    id: bytes = field(default_factory=lambda: os.urandom(SESSION_BYTES))
    joined: set[ClientId] = field(default_factory=set)
    # In the order of their loss, from which only the first round takes anybody out again (`invite`): whoever
    # stands behind `lost_before` was lost in the round that is open.
    lost: dict[ClientId, str] = field(default_factory=dict)
    number: dict[ClientId, int] = field(default_factory=dict)  # of the message to come from u
    sent: dict[ClientId, int] = field(default_factory=dict)  # of the last message sent to u
    # Taken up by this process (kept.py): in which round, of which whoever comes is asked again; and whether
    # all that is to be heard in it was.
    again: str = ""
    answered: bool = False
    outgoing: dict[ClientId, Outgoing] = field(default_factory=dict)
    incoming: dict[ClientId, Incoming] = field(default_factory=dict)
    queue: deque[ClientId] = field(default_factory=deque)  # announced a long upload, not yet staged
    staged: dict[ClientId, _Staged] = field(default_factory=dict)
    # Of the round that is open:
    requests: dict[ClientId, bytes] = field(default_factory=dict, repr=False)  # kept for who may return
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
        """Whose answers keep the round open: not those clients whose connection is gone, nor those whose
        process has ended before it had one. Without a relay there is no sum, and none can take its place: it
        may come back as long as the round has time.
        """
        return self._there(self.absent)

    @property
    def is_open(self) -> bool:
        """Whether the round waits for somebody."""
        return bool(self.waiting_for) and not self.lost_relays and not self.answered

    @property
    def standing(self) -> Standing:
        """Any thread may ask: each dictionary is read once, as a whole."""
        name = self.session.round
        asked, answered = self.cohort if name == "join" else frozenset(self.down), frozenset(self.up)
        return Standing(name, answered, asked - answered - frozenset(self.lost))

    @property
    def absent(self) -> frozenset[ClientId]:
        """Whose answers to this round are still to come, if ever."""
        return self.session.waiting_for - self.lost.keys()

    def _there(self, awaited: frozenset[ClientId]) -> frozenset[ClientId]:
        return self.may_return(awaited - {u for u in self.router.gone if relay_of(u) is None})

    def may_return(self, awaited: frozenset[ClientId]) -> frozenset[ClientId]:
        """All of them but those whose process is seen to have ended."""
        if self.lives is None or awaited <= self.router.connected:
            return awaited
        return awaited & self.router.connected.union(self.lives())

    @property
    def refused(self) -> dict[ClientId, str]:
        """The clients lost of their own accord, and why, in their words."""
        words = {u: why.partition(": ") for u, why in self.lost.items() if u in self.cohort}
        return {u: why for u, (how, _, why) in words.items() if how == "left"}  # as `take` says it

    def invite(self, u: ClientId) -> None:
        """u has just connected. One that would not join, or could not, may think again while there is time;
        one whose vectors have left goes on where it was; any other is a dropout of the session.
        """
        if u in self.lost and u in self.joined:
            self.end([u], self.lost[u])  # it may not have heard
        elif self._goes_on(u):
            self._forget(u)
            self._ask(u)
        elif u in self.joined:
            self.lose(u, "restarted")
        elif u in self.session.waiting_for and self.session.round == "join":
            self.lost.pop(u, None)
            self.router.send(u, self.offer)

    def _goes_on(self, u: ClientId) -> bool:
        """Whether u may come back to this session: it is a relay; or all of its vectors are here, and it may
        be needed, or has no more to say; or they were, or may have been, when the server was stopped.
        """
        session, finishing = self.session, self.scheme.finishing_rounds
        answered = session.round == self.scheme.upload_round and u not in session.waiting_for
        needed = session.round in finishing or (answered and bool(finishing)) or session.round == self.again
        return u in self.joined and (relay_of(u) is not None or needed or self._is_done(u))

    def _is_done(self, u: ClientId) -> bool:
        """Whether u has no more to say, though the session goes on."""
        rounds = rounds_of(self.scheme, u)
        return self.number.get(u, 0) == len(rounds) and rounds[-1] != self.scheme.rounds[-1]

    @property
    def lost_relays(self) -> list[int]:
        """Those that have something to say yet and will not come back: the session is over."""
        said, rounds = self.number, len(self.scheme.relay_rounds)
        owing = frozenset(u for u in relays_of(self.scheme) if said.get(u, 0) < rounds)
        return sorted(u - FIRST_RELAY for u in owing - (self.may_return(owing) - self.lost.keys()))

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
            self._heard(u, payload or b"")
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
        self._heard(u, message)
        self.up[u] = incoming.announce.size  # after it was taken: whoever stands here is reported alive
        if joining:
            self.joined.add(u)

    def _heard(self, u: ClientId, message: Raw) -> None:
        """Raises: RemoteProtocolError for what the session ignores, too, which has heard it before: on this
        wire nothing comes twice, and u would be reported alive for it.
        """
        awaited = self.session.waiting_for
        self.session.receive(u, message)
        if self.session.waiting_for == awaited:
            raise RemoteProtocolError("a message out of turn")

    def stage_uploads(self, left: float) -> None:
        """Let the next few upload; give up on one that has stopped sending, or that keeps others waiting.

        left: seconds of the round. Of these each that is still to come has a fair share of a place; more only
        while nobody waits.
        """
        now = time.monotonic()
        for u, staged in list(self.staged.items()):
            # On one machine nobody is given up by the clock: a process that has ended is seen.
            if self.lives is None and now - staged.heard > STALL_SECONDS:
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
        self.requests = {u: message for u, message in requests.items() if u not in self.lost}
        self.up, self.down = {}, {}
        self.sent |= {u: self.sent.get(u, -1) + 1 for u in self.requests}

    def ask_all(self) -> None:
        """What `open_round` has made ready, of which a server may keep a copy first."""
        for u in self.requests:
            self._ask(u)
        if self.session.round not in self.scheme.finishing_rounds:
            self.requests = {u: request for u, request in self.requests.items() if relay_of(u) is not None}

    def _ask(self, u: ClientId) -> None:
        """Announce the message that opened this round: again, if u was away and has not answered it."""
        if u not in self.requests or u not in self.session.waiting_for or u in self.router.gone:
            return
        self.down[u] = len(self.requests[u])
        self.outgoing[u] = Outgoing(self.id, self.sent[u], self.requests[u])
        self.router.send(u, *self.outgoing[u].announce())
        if len(self.requests[u]) <= CHUNK_BYTES:
            del self.outgoing[u]

    def lose(self, u: ClientId, why: str, *, told: str | None = None) -> None:
        """u is out of this session, and leaves nothing behind. told: what it hears, where that is not why."""
        if u in self.lost:
            return
        self.lost[u] = why
        self._forget(u)
        self.end([u], why if told is None else told)

    def lose_all(self, absent: frozenset[ClientId]) -> None:
        """The round is over without these. After the last, their vectors may be in the sum all the same."""
        # Before the first is told: it is by sending that somebody is found gone.
        late, result = self.may_return(absent - self.router.gone), self.session.result
        for u in absent:
            # That its vector is in the sum is what counts for its user; that it was late, for the operator.
            told = "" if result is not None and u in result.survivors else None
            self.lose(u, "late" if u in late else "vanished", told=told)

    def lose_relays(self) -> None:
        """Raises: RelayLost where one will not come back: the session is over."""
        lost = self.lost_relays
        for j in lost:
            self.lose(relay_party(j), "vanished")
        if lost:
            raise RelayLost(lost, self.scheme.relays, self.session.round)

    def vanish(self, u: ClientId) -> None:
        """u's connection is gone. One that may come back is not waited for."""
        if u in self.joined and not self._goes_on(u):
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
