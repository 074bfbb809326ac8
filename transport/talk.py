"""One session on the wire, at a client or a relay: what is to be said and heard next, and what is not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from secagg import ClientSession, RemoteProtocolError, Scheme
from secagg.errors import ClientId
from secagg.session import rounds_of
from secagg.wire import MAX_TASK_BYTES, Raw, fingerprint, relay_of
from transport.frames import (
    Announce,
    Chunk,
    Close,
    End,
    Frame,
    Incoming,
    Offer,
    Outgoing,
    Ping,
    Pull,
    Refuse,
    Replaced,
    ServerFrame,
)

Send = Callable[[Frame, Raw | None], None]

Tell = Callable[[str], None]
"""Told in a sentence what this client's own user should know now."""

Progress = Callable[[str, int, int], None]
"""(round, bytes sent, bytes in all), called before each piece of this party's message leaves."""


class SessionOverError(Exception):
    """The server, or the network, ended the session; its text says why, and is empty if all is well."""


class Talk:
    """One session's messages, in turn: the server's, and this party's answers.

    send: a frame to the server, with its payload. progress, left, tell, largest_task: as
    `client.Peer.contribute` has them. answer_after: seconds from the task's arrival until it is answered;
    None: as soon as can be. u: who talks, where it is not just any client. next_offer: of another session, if
    this one ended with it.
    """

    def __init__(
        self,
        send: Send,
        id: bytes,
        scheme: Scheme,
        session: ClientSession,
        progress: Progress | None = None,
        left: Callable[[], None] = lambda: None,
        tell: Tell = lambda text: None,
        answer_after: float | None = None,
        largest_task: int | None = None,
        u: ClientId = 0,
    ) -> None:
        self._send, self._id, self._scheme, self._session = send, id, scheme, session
        self._progress, self._left, self._tell = progress, left, tell
        self._answer_after, self._held = answer_after, b""
        self._largest_task = MAX_TASK_BYTES if largest_task is None else largest_task
        self._rounds, self._is_relay = rounds_of(scheme, u), relay_of(u) is not None
        upload, finishing = scheme.upload_round, scheme.finishing_rounds
        # Without finishing rounds nobody is needed whose vectors have left. It may be long until it hears how
        # that ended, all the same, where others have something to say after it.
        waits = bool(finishing) or self._rounds[-1] == upload != scheme.rounds[-1]
        self._stays_after = frozenset({upload, *finishing} if waits else ())
        self.due = math.inf  # when the answer that is held is to leave
        self._said = self._heard = 0
        self._newest = b""  # fingerprint of the server's newest message
        self._outgoing: Outgoing | None = None
        self._incoming: Incoming | None = None
        self._was_disconnected = False
        self.next_offer: Offer | None = None

    @property
    def staying(self) -> bool:
        """Whether this client's vectors have left, or some of them: it may be needed to unmask the sum, or is
        yet to hear whether there is one.
        """
        return self._said > 0 and self._rounds[self._said - 1] in self._stays_after

    @property
    def goes_on(self) -> bool:
        """Whether the session outlives a lost connection: a relay's does, for nobody can take its place."""
        return self.staying or self._is_relay

    def begin(self) -> None:
        self.say(self._session.start())

    def disconnected(self) -> None:
        """Raises: SessionOverError unless the session goes on when there is a connection again."""
        if not self.goes_on:
            raise SessionOverError("the connection was lost")
        # The server says its message again, whole; the answer is kept, since it must not be another one.
        self._incoming, self._was_disconnected = None, True

    def say(self, message: Raw) -> None:
        self._said += 1
        self._announce(message)

    def _announce(self, message: Raw) -> None:
        """This client's newest message: for the second time, if the server has lost it with a connection."""
        self._outgoing = Outgoing(self._id, self._said - 1, message)
        announcement = self._outgoing.announce()  # the checksum first: from here on it is the network's time
        self._tell_progress(0)
        self._send(*announcement)
        self._tell_left()

    def step(self, received: tuple[ServerFrame, Raw | None]) -> None:
        """Raises: RemoteProtocolError; SessionOverError when the server ends the session."""
        frame, payload = received
        if isinstance(frame, Close):
            raise SessionOverError("the server has closed")
        # While the session runs, a server has no other for this client: it has lost it, or was restarted.
        if isinstance(frame, Offer) and self._was_disconnected:
            self.next_offer = frame
            raise SessionOverError("the connection was lost, and the session is over")
        if isinstance(frame, Offer | Ping | Refuse | Replaced) or frame.session != self._id:
            return  # of an earlier session
        match frame:
            case End():
                raise SessionOverError(frame.reason)
            case Announce() if (
                self._outgoing is not None and self.goes_on and frame.number == self._heard - 1
            ):
                # It asks again what was answered: the same bytes, whatever the request says this time.
                self._announce(self._outgoing.message)
            case Announce():
                if frame.number != self._heard or self._incoming is not None or self._session.done:
                    raise RemoteProtocolError("the server sent a message out of turn")
                # The first brings a client the task, and what is around it.
                limit = self._scheme.largest_request if frame.number else self._largest_task + 4096
                self._incoming = Incoming.of(frame, payload, limit)
                self._advance(self._incoming)
            case Chunk():
                if self._incoming is None:
                    raise RemoteProtocolError("the server sent a chunk that nobody asked for")
                self._incoming.add(frame, payload or b"")
                self._advance(self._incoming)
            case Pull():
                if self._outgoing is None:
                    raise RemoteProtocolError("the server asked for a message that was not announced")
                self._tell_progress(self._outgoing.sent)
                self._send(*self._outgoing.chunk(frame))
                self._tell_left()

    def _advance(self, incoming: Incoming) -> None:
        if not incoming.complete:
            for pull in incoming.pulls():
                self._send(pull, None)
            return
        message = incoming.message()
        newest, self._newest = self._newest, fingerprint(message)
        # Here nothing comes twice but by its number. A session would answer it at once, and so show how long
        # the answer that is held took.
        if newest == self._newest:
            raise RemoteProtocolError("the server sent a message out of turn")
        self._incoming = None
        self._heard += 1
        arrived = time.monotonic()
        reply = self._session.receive(message)
        # The first message brings the task: only here does the client compute with what is its own.
        if reply is not None and self._heard == 1 and self._answer_after is not None:
            self._hold(reply, arrived, self._answer_after)
        elif reply is not None:
            self.say(reply)

    def _hold(self, reply: bytes, arrived: float, seconds: float) -> None:
        """The answer to the task: how long it took to compute would tell how much there was to compute with.
        What the later answers take depends on nothing of the client's own.
        """
        took = time.monotonic() - arrived
        if took > seconds:
            self._tell(
                f"it took {took:.0f} s to compute the answer, more than answer_after ({seconds:g} s): the "
                "server sees how long. Set it higher, or have the server train by steps (local_steps=)"
            )
        self._held, self.due = reply, arrived + seconds

    def answer_now(self) -> None:
        """What was held is due."""
        reply, self._held, self.due = self._held, b"", math.inf
        self.say(reply)

    def _tell_progress(self, sent: int) -> None:
        out = self._outgoing
        if out is not None and self._progress is not None:
            self._progress(self._rounds[out.number], sent, len(out.message))

    def _tell_left(self) -> None:
        """Tell `left` once the last piece has been handed over, where it was of the masked vectors."""
        out = self._outgoing
        whole = out is not None and out.sent == len(out.message)
        if out and whole and self.staying and self._rounds[out.number] == self._scheme.upload_round:
            self._left()
