"""A client's end: a ZeroMQ DEALER under CURVE, and this client's part in the sessions it is offered."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq
from zmq.utils.monitor import recv_monitor_message

from secagg import (
    Aggregate,
    ClientSession,
    Clipping,
    Identity,
    LocalProtocolError,
    Plain,
    Policy,
    RemoteProtocolError,
    Roster,
    Scheme,
)
from secagg.alike import OWN_INPUT, Alike, Likeness, Record
from secagg.crypto import SigningKey
from secagg.errors import ClientId
from secagg.inputs import checked
from secagg.schemes import accept
from secagg.session import Contribute, Once
from secagg.specs import Vector
from secagg.wire import Raw
from transport.address import speaks_ipv6
from transport.errors import FileError, TransportError
from transport.frames import (
    MAX_FRAME_BYTES,
    TRANSPORT_VERSION,
    Announce,
    Close,
    End,
    Frame,
    Hello,
    Leave,
    Offer,
    Ping,
    Refuse,
    Replaced,
    ServerFrame,
    decode_from_server,
    encode,
    reason,
)
from transport.journal import Journal, SignedSets, Spent
from transport.keys import PrivateKey, PublicKey, Readers, read_private, read_public
from transport.records import base_of
from transport.roster import read as read_roster
from transport.roster import remember
from transport.talk import Progress, SessionOverError, Talk, Tell

PATIENCE_SECONDS = 60.0
_REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH
_WRONG_SERVER = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL


@dataclass(frozen=True)
class Contribution:
    """How one session ended for this client.

    summed: its vectors are in a sum. reason: why not, or why this client was lost after it had seen the sum,
    in the server's words. clipping: what encoding changed, per vector. result: the sum, where clients keep
    it and this one has decrypted it.
    """

    summed: bool
    reason: str
    scheme: Scheme
    clipping: Mapping[str, Clipping]
    result: Aggregate | None = None


class _DisconnectedError(Exception):
    """The connection was lost; ZeroMQ makes another as soon as it can."""


def join(
    connect: str,
    key: str | Path,
    server: str | Path,
    roster: str | Path | None = None,
    roster_key: str | Path | None = None,
    *,
    policy: Policy | None = None,
    patience: float = PATIENCE_SECONDS,
    state: str | Path | None = None,
    readers: Readers = "owner",
    lives: Callable[[], bool] = lambda: False,
) -> Peer:
    """Connect to a server whose public key this client holds.

    key: this client's private key file. server: the server's public key file. roster: the client's own copy
    of the signed roster; roster_key: the public key it must be signed with, `<roster>.pub` unless given.
    The newest version seen is kept in `<key>.seen`, and an older roster refused; without a roster sessions
    are semi-honest. What the client has contributed to is kept in `<key>.journal`, which sums of like vectors
    it has helped to in `<key>.signed`, and what these cost where it keeps to a budget in `<key>.spent`.
    policy: what the client takes part in; by default masking, active where it has a roster. patience: seconds
    without a sign of the server before giving up.

    These records belong to the key and lie beside it, links followed. state: another folder for them, where
    they are named after the key's fingerprint: for a key on a read-only mount, and for one under several
    names; always the same folder. readers: who may read the key's file, "owner", "group" or "all".

    lives: of a server on this machine, whether its process does: as long as it does, patience has no end.

    Raises: TransportError if a file is not right, with what to do; LocalProtocolError if `connect` is no
        address.
    """
    own = read_private(key, "client", readers=readers)
    records = base_of(key, own.public, state)
    identity, signing = None, SigningKey(own.signing.private_bytes_raw())
    if roster is not None:
        signer = read_public(roster_key if roster_key is not None else f"{roster}.pub", "roster")
        listed = read_roster(roster, signer)
        if listed.clients.get(own.public.id or 0) != own.public:
            raise FileError(f"{roster} does not list the key in {key}: ask its keeper for a newer one")
        remember(f"{records}.seen", listed)
        identity = Identity(own.id or 0, listed.identities, signing)
    if policy is None:
        policy = Policy(adversary="active" if identity else "semi-honest")
    memory = _Memory(
        Journal(f"{records}.journal").once,
        SignedSets(f"{records}.signed"),
        Spent(f"{records}.spent"),
        signing,
    )
    return Peer(connect, own, read_public(server, "server"), policy, patience, identity, memory, lives)


@dataclass(frozen=True)
class _Memory:
    """What a key must not forget. signing: the key under which `signed` is sealed."""

    once: Once = field(repr=False)
    signed: Record = field(repr=False)
    spent: Spent = field(repr=False)
    signing: SigningKey = field(repr=False)


class Peer:
    """This client, connected. A context that closes the socket.

    turned_away: why the session that ran when it connected went on without it, "" if none did: another
    process of this key had joined that.
    """

    turned_away = ""

    def __init__(
        self,
        connect: str,
        key: PrivateKey,
        server: PublicKey,
        policy: Policy,
        patience: float,
        identity: Identity | None,
        memory: _Memory,
        lives: Callable[[], bool] = lambda: False,
    ) -> None:
        if key.id is None:
            raise LocalProtocolError("a client's key has an id")
        if not 0 < patience <= math.inf:
            raise LocalProtocolError(f"a patience of {patience} seconds: give more than 0")
        ipv6 = speaks_ipv6(connect, listening=False)
        self.id: ClientId = key.id
        self._connect, self.policy, self._patience = connect, policy, patience
        self._identity, self._memory, self._lives = identity, memory, lives
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.curve_serverkey = server.curve
        self._socket.curve_secretkey, self._socket.curve_publickey = key.curve_secret, key.curve_public
        for option, value in {
            zmq.IPV6: ipv6,
            zmq.MAXMSGSIZE: MAX_FRAME_BYTES,
            zmq.HEARTBEAT_IVL: 5000,  # from this end alone: router.py says why the server has none
            zmq.HEARTBEAT_TIMEOUT: 20000,
            zmq.LINGER: 1000,
            zmq.RECONNECT_IVL_MAX: 2000,
        }.items():
            self._socket.setsockopt(option, value)
        self._monitor = self._socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | _REFUSED | _WRONG_SERVER
        )
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._heard = time.monotonic()
        self._closed = False
        self._offer: Offer | None = None  # heard in a session that the server no longer knew
        self._failed_handshakes, self._connected, self._was_connected = 0, False, False
        try:
            self._socket.connect(connect)
        except zmq.ZMQError as error:
            self.close()
            reason = zmq.strerror(error.errno or 0)
            raise TransportError(f"cannot connect to {connect}: {reason}") from None

    def contribute(
        self,
        vectors: Contribute | Mapping[str, Vector] | Vector,
        *,
        alike: Callable[[bytes], Likeness | None] | None = None,
        new: bool = False,
        rounding_seed: bytes | None = None,
        progress: Progress | None = None,
        left: Callable[[], None] = lambda: None,
        tell: Tell = lambda text: None,
        largest_task: int | None = None,
        accepted: Callable[[Scheme], None] = lambda scheme: None,
        leaving: Callable[[], None] = lambda: None,
        instrument: Callable[[ClientSession], ClientSession] = lambda session: session,
    ) -> Contribution | None:
        """Take part in the next session. None once the server says that there are no more.

        vectors: task -> this client's vectors, called once; or the vectors themselves, held against the offer
        before anything is answered. alike: task -> what the vectors are computed from, as far as the server
        knows it, None for what comes out unlike whatever was: of like sessions this client helps to two
        different sums at most (secagg/alike.py). Vectors that are given are all alike, unless they are `new`;
        of a function without `alike` nothing is taken to be. rounding_seed: 32 secret bytes that make the
        rounding, and nothing else, repeatable. progress: told of every piece before it leaves. left: called
        when the masked vectors have left: from then on the sum may need this client to stay. tell: told when
        its connection is lost or it is interrupted after that. largest_task: bytes of a task, 2^31 if not
        given; a larger one is refused before it is sent. accepted: told the session's parameters once the
        policy has accepted them, before the task. leaving: called before the vectors leave, masked or not,
        when all else is settled; what it raises keeps them here. instrument: wraps the session (see
        secagg/record.py).

        Raises: RemoteProtocolError if the server broke the protocol or offers what the policy refuses;
        TransportError if the server is gone; LocalProtocolError, or whatever `vectors` raises.
        """
        offer = self._next_offer()
        if offer is None:
            return None
        with self._or_leave(offer):
            scheme = accept(self.policy, offer.parameters, self._roster)
            accepted(scheme)

            def once(context: bytes) -> None:
                # First what refuses to do a thing twice: a server that asks again must cost nothing. Of plain
                # vectors there is no mask that a second sum would take off.
                if not isinstance(scheme, Plain):
                    self._memory.once(context)
                leaving()

            session = instrument(
                scheme.client(
                    self.id,
                    vectors if callable(vectors) else _constant(checked(scheme, vectors)),
                    rounding_seed=rounding_seed,
                    identity=self._identity,
                    once=once,
                    alike=self._alike(vectors, alike, new),
                )
            )
            after = self.policy.answer_after
            talk = Talk(self._send, offer.session, scheme, session, progress, left, tell, after, largest_task)
            why = self._converse(talk, tell)
            summed = not why or session.result is not None
            return Contribution(summed, why, scheme, dict(session.clipping), session.result)

    @contextmanager
    def _or_leave(self, offer: Offer) -> Iterator[None]:
        """If this client cannot go on, the server hears that it takes no part."""
        try:
            yield
        except RemoteProtocolError as error:
            self._leave(offer, reason(str(error)))
            raise
        except TransportError:  # the server is gone, or sees this client go
            raise
        except Exception:
            # No word of why: it may name this client's files, or its data.
            self._leave(offer, "it could not take part")
            raise

    @property
    def spent(self) -> Spent:
        """What this client's key has told of its vectors so far, for whoever keeps to a budget."""
        return self._memory.spent

    @property
    def _roster(self) -> Roster | None:
        return self._identity.roster if self._identity is not None else None

    def _alike(
        self, vectors: Any, alike: Callable[[bytes], Likeness | None] | None, new: bool
    ) -> Alike | None:
        likeness = alike if callable(vectors) else lambda task: OWN_INPUT
        if likeness is None or self.policy.alike == "never":
            return None
        memory, difference = self._memory, self.policy.difference
        return Alike(likeness, memory.signed, memory.signing, self._roster, difference, new)

    def _converse(self, talk: Talk, tell: Tell) -> str:
        """One session, to its end; why it ended. One whose vectors have left outlives its connection: the
        server may need this client to finish it.
        """
        try:
            talk.begin()
            while True:
                try:
                    received = self._next_frame(staying=talk.staying, until=talk.due)
                    if received is None:
                        talk.answer_now()
                    else:
                        talk.step(received)
                except _DisconnectedError:
                    talk.disconnected()
                    tell(
                        f"the connection was lost, and the vector had left: trying for {self._patience:.0f} "
                        "seconds to go on where it was; keep this running, the sum may need it"
                    )
        except SessionOverError as over:
            self._offer = talk.next_offer
            return str(over)
        except KeyboardInterrupt:
            if talk.staying:
                tell(
                    "stopped after the vector had left: it may be in the sum, which this client can no "
                    "longer help to finish. Ask the server's operator before contributing it again"
                )
            raise

    def _leave(self, offer: Offer, why: str) -> None:
        with suppress(_DisconnectedError):  # there is nobody to tell any more
            self._send(Leave(offer.session, why))

    def _next_offer(self) -> Offer | None:
        offer, self._offer = self._offer, None
        while offer is None and not self._closed:
            with suppress(_DisconnectedError):  # it may be made again
                frame, _ = self._next_frame() or (None, None)
                if isinstance(frame, Offer):
                    offer = frame
                elif isinstance(frame, End):
                    self.turned_away = frame.reason
                elif isinstance(frame, Announce):  # the server takes this for the process that had joined
                    self._send(Leave(frame.session, "it was restarted and cannot go on where it was"))
        return offer

    def _next_frame(
        self, *, staying: bool = False, until: float = math.inf
    ) -> tuple[ServerFrame, Raw | None] | None:
        """The next frame that says something; None if none has come by then. staying: there is a session to
        go on with after a reconnection.

        Raises: TransportError once patience is at its end; _DisconnectedError where the connection was lost.
        """
        while True:
            if (left := until - time.monotonic()) <= 0:
                return None
            # Half a second at most: patience and the server's process are looked at in between.
            ready = dict(self._poller.poll(int(min(left, 0.5) * 1000) + 1))
            # What the server said before the connection was lost comes first: its vectors may be in the sum.
            if self._socket in ready or self._socket.poll(0):
                parts: list[Raw] = [part.buffer for part in self._socket.recv_multipart(copy=False)]
                self._heard = time.monotonic()
                frame, payload = decode_from_server(parts)
                if isinstance(frame, Refuse):
                    raise TransportError(
                        f"the server at {self._connect} speaks version {frame.version} of the transport, "
                        f"this client {TRANSPORT_VERSION}: install the same release of secagg at both ends"
                    )
                if isinstance(frame, Replaced):
                    raise TransportError(
                        "another process has connected with this client's key and has taken its place: run "
                        "one process for each key; if none of yours did, make a new key (secagg keys client)"
                    )
                self._closed = isinstance(frame, Close)
                if not isinstance(frame, Ping):
                    return frame, payload
                continue
            if self._monitor in ready:
                self._connection_changed()
            now = time.monotonic()
            if self._lives():
                self._heard = now
            if now - self._heard > self._patience:
                if staying:
                    raise TransportError(
                        f"the server at {self._connect} is gone: nothing heard for {now - self._heard:.0f} "
                        "seconds, and the vector had left: it may be in a sum. Ask the server's operator "
                        "before contributing it again"
                    )
                raise TransportError(
                    f"the server at {self._connect} is gone, or was never there: nothing heard for "
                    f"{now - self._heard:.0f} s. Check the address and that it runs, then join again"
                )

    def _connection_changed(self) -> None:
        event = recv_monitor_message(self._monitor)["event"]
        if event == _REFUSED:
            raise TransportError(
                f"the server at {self._connect} does not know this client's key: its roster must list it"
            )
        if event & _WRONG_SERVER:
            # Once may be a server that closed in the middle of it; ZeroMQ tries again. Where one has
            # succeeded before, it is the way that fails, and patience decides.
            self._failed_handshakes += 1
            if self._failed_handshakes < 3 or self._was_connected:
                return
            raise TransportError(
                f"{self._connect} is not the server this client holds the key of: compare the fingerprints "
                "(`secagg keys show`)"
            )
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._heard, self._connected, self._was_connected = time.monotonic(), True, True
            self._send(Hello(TRANSPORT_VERSION))
        elif event == zmq.EVENT_DISCONNECTED and self._connected:
            self._connected = False
            raise _DisconnectedError

    def _send(self, frame: Frame, payload: Raw | None = None) -> None:
        parts: list[Raw] = [encode(frame)] if payload is None else [encode(frame), payload]
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            # The receiver asks for every piece, so this queue never fills while there is a connection.
            raise _DisconnectedError from None

    def flush(self) -> None:
        """Close, once all that was said is on its way to the server, however long that takes."""
        self._socket.setsockopt(zmq.LINGER, -1)
        self.close()

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _constant(values: Mapping[str, Vector]) -> Contribute:
    return lambda task: values
