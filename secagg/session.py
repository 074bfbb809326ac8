"""The interface every scheme shares."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from secagg.aggregate import Aggregate
from secagg.alike import Alike
from secagg.crypto import Rng, system_rng
from secagg.encoding import Clipping
from secagg.errors import ClientId
from secagg.identity import Identity, Roster
from secagg.parallel import Executor
from secagg.specs import Spec, Vector
from secagg.tagged import Tagged
from secagg.wire import Raw, relay_of, relay_party

Contribute = Callable[[bytes], Mapping[str, Vector] | Vector]
"""task -> the client's vectors; a bare array is the one unnamed vector. Called once a session."""

Once = Callable[[bytes], None]
"""A durable record of this client's: told the context before its vectors leave, in whatever scheme, it raises
where they may not, as if masked ones have left under the same context before."""


class ClientSession(Protocol):
    """One client's side of one session: whole messages in, whole messages out.

    Security: it lives in one process, which goes on or gives it up: a copy that answers, too, tells the
    client's vectors. What survives a process is a ticket (`secagg.tickets`).
    """

    def start(self) -> bytes:
        """The first message, which joins the session."""
        ...

    def start_jointly(self, request: Raw) -> bytes:
        """In the place of `start` and the first `receive`, where the first request came with the offer
        (`ServerSession.open_jointly`): one message, the Join and the answer to the request, as `receive`
        would have given it. Nothing of a request is looked at before: that there is a session means that the
        offer was accepted.

        Raises: as `receive`; LocalProtocolError where the session was started before, either way.
        """
        ...

    def receive(self, message: Raw) -> bytes | None:
        """The reply. Raises: RemoteProtocolError; the session is then over.

        The message that was answered last may come again: it gets the same bytes, or None where they are
        more than 64 KiB, which whoever sends them keeps.
        """
        ...

    @property
    def done(self) -> bool:
        """Whether it has said all it has to say."""
        ...

    @property
    def clipping(self) -> Mapping[str, Clipping]:
        """What encoding changed in this client's own vectors; empty before they were encoded."""
        ...

    @property
    def result(self) -> Aggregate | None:
        """The sum, where the clients are who learns it; for most schemes the server is."""
        ...


class ServerSession(Protocol):
    """The server's side. `sender` is who the channel says it is, never what a message says."""

    @property
    def scheme(self) -> Scheme:
        """Its parameters."""
        ...

    def receive(self, sender: ClientId, message: Raw) -> None:
        """One whole message, from who the channel says it is.

        Raises: RemoteProtocolError naming the sender, who has lost its place; the session goes on.

        The last answer of a sender that was taken may come again, and is ignored.
        """
        ...

    def lose(self, u: ClientId, why: str) -> None:
        """The caller knows that u, a client or relay, will not answer any more: it is not waited for, and not
        asked again. An answer of it that was taken stands. Of who has no place any more, nothing changes.
        why: in words, for `gone`.
        """
        ...

    @property
    def gone(self) -> Mapping[ClientId, str]:
        """Whom the caller has called lost, and why."""
        ...

    @property
    def round(self) -> str:
        """The one that is open, of `Scheme.rounds`."""
        ...

    @property
    def waiting_for(self) -> frozenset[ClientId]:
        """Whose answers to the open round are to come: of clients, and of relays by the ids under which they
        take part.
        """
        ...

    @property
    def members(self) -> frozenset[ClientId]:
        """Who is in the session, whether or not the open round asks it for anything: of those that had joined
        and are not lost, all others were left out.
        """
        ...

    def open_jointly(self) -> dict[ClientId, bytes]:
        """In the place of the round "join", where the caller knows who is in the cohort and each hears and
        says a whole message at a time: the first request for every client, or where relays are asked first
        for every relay, to be sent with `Scheme.offer`. The first answer of each then brings its Join
        (`ClientSession.start_jointly`), and nothing else is taken; who does not answer is lost in that round.
        It has up to 47 bytes more than the answer alone.

        Raises: LocalProtocolError once a Join was taken, or a round closed.
        """
        ...

    def advance(self) -> dict[ClientId, bytes]:
        """Close the round; the messages that open the next. The caller owns the clock.

        Raises: TooFewClients; nothing was revealed. The session is then over, unless `round` still is the one
        that was to be closed: masked vectors have been summed and a set of survivors been shown, so that the
        session is to be finished with the same set, by `receive` and `advance` once more as those still
        waited for answer, and is never to be replaced by another one on the same vectors.
        RemoteProtocolError where what clients have dealt or returned does not open the sum, with those of
        whom that is known: the session is over, and not to be replaced either.
        """
        ...

    @property
    def result(self) -> Aggregate | None:
        """The sum, once `advance` has closed the last round; None before."""
        ...

    @property
    def unopened(self) -> Collection[tuple[ClientId, ClientId]]:
        """(holder, dealer) of shares that could not be used: a fault of one of the two, or of the way."""
        ...

    @property
    def caught(self) -> Mapping[ClientId, str]:
        """Whose answer had been taken, and turned out to break the protocol; and how."""
        ...


class Scheme(Protocol):
    """Parameters and two factories, or three where relays take part."""

    @property
    def clients(self) -> int:
        """n, the size of the cohort."""
        ...

    @property
    def vectors(self) -> dict[str, Spec]:
        """name -> what that vector may hold; the name of the one in a session without names is ""."""
        ...

    @property
    def corrupt(self) -> int:
        """A, the clients assumed on the server's side; 0 where nothing is assumed of any."""
        ...

    @property
    def blank(self) -> float:
        """P, with what probability a client contributes nothing (secagg/blank.py)."""
        ...

    @property
    def relays(self) -> int:
        """M, the parties beside server and clients that a session takes, all of them."""
        ...

    @property
    def rounds(self) -> tuple[str, ...]:
        """Every round's name, in order, the last before the result included. The first is "join"."""
        ...

    @property
    def relay_rounds(self) -> tuple[str, ...]:
        """Those that relays answer, and but for the first no client does."""
        ...

    @property
    def training_round(self) -> str:
        """The round in which a client's `vectors` are called: its request is the task."""
        ...

    @property
    def upload_round(self) -> str:
        """The round whose answers carry the vectors. Who has answered it is in the sum, or nobody is."""
        ...

    @property
    def finishing_rounds(self) -> tuple[str, ...]:
        """Rounds after the upload that do not end for want of answers: the survivors were shown, and the
        session is finished with them or never. Where there are some, a client whose vectors have left may be
        needed, and keeps its place when its connection is lost.
        """
        ...

    @property
    def opening_round(self) -> str | None:
        """The round whose requests have to be out before the server could know the sum of those who got them:
        a session that fails later counts as opened. None where no sum of this scheme tells the server
        anything new: it sees every vector, or no sum.
        """
        ...

    @property
    def slow_rounds(self) -> tuple[str, ...]:
        """Rounds in which an honest client may compute for minutes."""
        ...

    @property
    def upload_bytes(self) -> int:
        """The bytes of a client's vectors as they are sent, without what goes with them."""
        ...

    @property
    def largest_upload(self) -> int:
        """No message of a client is longer, in bytes: whoever receives it need hold no more."""
        ...

    @property
    def largest_request(self) -> int:
        """No message to a client or relay is longer, in bytes, but the one that brings the task."""
        ...

    @property
    def against(self) -> str:
        """Say in one line, for people, against whom it protects, and what it does not promise."""
        ...

    def offer(self) -> bytes:
        """Its canonical bytes, which a server offers; `secagg.accept` reads 64 KiB at most."""
        ...

    def digest(self) -> bytes:
        """32 bytes, to which all keys and signatures of a session are bound."""
        ...

    def explain(self) -> str:
        """What its numbers promise, and what not: several lines for people."""
        ...

    def client(
        self,
        u: ClientId,
        vectors: Contribute,
        *,
        rounding_seed: bytes | None = None,
        identity: Identity | None = None,
        once: Once | None = None,
        alike: Alike | None = None,
        rng: Rng = system_rng,
    ) -> ClientSession:
        """Client u's side of one session. u: its id, 0..2^31-1.

        vectors: task -> its vectors by name, called once; their shapes and ranges are those of
        `Scheme.vectors`. rounding_seed: 32 secret bytes, of which rounding, and nothing else, is made: with
        the same task two sessions then round alike; drawn if not given. identity: the client's roster and
        signing key, where the adversary is active. once: told the context before the vectors leave, it raises
        where they may not. alike: the client's rule for sessions whose vectors come out alike. rng: of keys,
        nonces and noise.

        Raises: LocalProtocolError where id, seed or identity are not what the session takes.

        Security: a session that was made with the random bytes of another has its keys and masks: leave rng
        to the operating system.
        """
        ...

    def server(
        self,
        cohort: Collection[ClientId],
        task: bytes = b"",
        *,
        roster: Roster | None = None,
        executor: Executor | None = None,
        alike: Alike | None = None,
        parts: bool = False,
        rng: Rng = system_rng,
    ) -> ServerSession:
        """The server's side of one session. cohort: the ids of the n clients that may join. task: opaque
        bytes that every client gets, and its keys are bound to. roster: the one that the scheme was made
        with, where the adversary is active. executor: in which it unmasks; None: here, one thing after the
        other. alike: its part in the clients' rule for vectors that come out alike. rng: of the session's
        nonce. parts: keep apart what the session learns apart (`Aggregate.parts`), of plain every client's
        vectors. A scheme that hides learns one sum, and there is nothing to keep.

        Raises: LocalProtocolError for ids that are not n different ones, and for another roster.
        """
        ...

    def relay(
        self,
        j: int,
        *,
        identity: Identity | None = None,
        once: Once | None = None,
        tagged: Tagged | None = None,
        rng: Rng = system_rng,
    ) -> ClientSession:
        """Relay j's side, as a client's: messages in, messages out. identity: its roster and signing key,
        where the adversary is active. once: told the context before its column leaves. tagged: its rule for
        sums of like vectors. rng: of keys and nonces.

        Raises: LocalProtocolError where no such relay takes part.
        """
        ...


def relays_of(scheme: Scheme) -> list[ClientId]:
    """The ids under which its relays take part, in their order."""
    return [relay_party(j) for j in range(scheme.relays)]


def rounds_of(scheme: Scheme, u: ClientId) -> tuple[str, ...]:
    """The rounds that a client, or a relay by the id under which it takes part, answers, in order."""
    if relay_of(u) is not None:
        return scheme.relay_rounds
    join, *others = scheme.rounds
    return (join, *(name for name in others if name not in scheme.relay_rounds))
