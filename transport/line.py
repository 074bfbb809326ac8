"""A party's end: a ZeroMQ DEALER under CURVE, and what a client and a relay do alike on it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import zmq
from zmq.utils.monitor import recv_monitor_message

from secagg import Identity, LocalProtocolError, Policy, RemoteProtocolError, Roster
from secagg.alike import Record
from secagg.crypto import SigningKey
from secagg.wire import Raw, relay_party
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
from transport.keys import Kind, PrivateKey, PublicKey, Readers, read_private, read_public
from transport.records import base_of
from transport.roster import read as read_roster
from transport.roster import remember
from transport.talk import SessionOverError, Talk, Tell

PATIENCE_SECONDS = 60.0
_REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH
_WRONG_SERVER = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL


class _DisconnectedError(Exception):
    """The connection was lost; ZeroMQ makes another as soon as it can."""


@dataclass(frozen=True)
class Memory:
    """What a key must not forget. journal: contexts under which it has done its part. signing: the key under
    which `signed` is sealed.
    """

    journal: Journal = field(repr=False)
    signed: Record = field(repr=False)
    spent: Spent = field(repr=False)
    signing: SigningKey = field(repr=False)


def load_identity(
    key: str | Path,
    roster: str | Path,
    roster_key: str | Path | None = None,
    *,
    kind: Literal["client", "relay"] = "client",
    state: str | Path | None = None,
    readers: Readers = "owner",
) -> Identity:
    """A client's or a relay's place in its own roster, and the key that it signs with, out of its files: for
    sessions over other channels than this package's. Files, `state` and `readers` are as of `join`, which
    reads them by the same steps.

    Raises: TransportError if a file is not right, the roster does not list the key, or is older than one
        that this key has seen; with what to do.

    Security: as of `join`. All that a key must not forget is still the caller's to give to its sessions:
        `transport.journal.Journal` as `once`, and `SignedSets`.
    """
    own = read_private(key, kind, readers=readers)
    return _listed(own, key, roster, roster_key, base_of(key, own.public, state))


def _listed(
    own: PrivateKey, key: str | Path, roster: str | Path, roster_key: str | Path | None, records: Path
) -> Identity:
    signer = read_public(roster_key if roster_key is not None else f"{roster}.pub", "roster")
    listed = read_roster(roster, signer)
    id, relay = own.id or 0, own.kind == "relay"
    if (listed.relays if relay else listed.clients).get(id) != own.public:
        raise FileError(f"{roster} does not list the key in {key}: ask its keeper for a newer one")
    remember(f"{records}.seen", listed)
    signing = SigningKey(own.signing.private_bytes_raw())
    return Identity(relay_party(id) if relay else id, listed.identities, signing)


def known(
    kind: Kind,
    key: str | Path,
    roster: str | Path | None,
    roster_key: str | Path | None,
    state: str | Path | None,
    readers: Readers,
) -> tuple[PrivateKey, Identity | None, Memory]:
    """What a party has in its files: its key, its place in its roster where it has one, and its records.

    Raises: TransportError if a file is not right, with what to do.
    """
    own = read_private(key, kind, readers=readers)
    records = base_of(key, own.public, state)
    identity = None if roster is None else _listed(own, key, roster, roster_key, records)
    memory = Memory(
        Journal(f"{records}.journal"),
        SignedSets(f"{records}.signed"),
        Spent(f"{records}.spent"),
        SigningKey(own.signing.private_bytes_raw()),
    )
    return own, identity, memory


class Line:
    """One party, connected. A context that closes the socket. id: of a client, or which relay it is. policy:
    what it takes part in.

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
        memory: Memory,
        lives: Callable[[], bool] = lambda: False,
    ) -> None:
        if key.id is None:
            raise LocalProtocolError("a client's key has an id")
        if not 0 < patience <= math.inf:
            raise LocalProtocolError(f"a patience of {patience} seconds: give more than 0")
        ipv6 = speaks_ipv6(connect, listening=False)
        self._kind, self.id = key.kind, key.id
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

    @property
    def listed(self) -> int | None:
        """How many clients its roster lists; None without one."""
        return None if self._roster is None else len(self._roster.keys)

    @property
    def _roster(self) -> Roster | None:
        return self._identity.roster if self._identity is not None else None

    @contextmanager
    def _or_leave(self, offer: Offer) -> Iterator[None]:
        """If this party cannot go on, the server hears that it takes no part."""
        try:
            yield
        except RemoteProtocolError as error:
            self._leave(offer, reason(str(error)))
            raise
        except TransportError:  # the server is gone, or sees this client go
            raise
        except Exception:
            # No word of why: it may name this party's files, or its data.
            self._leave(offer, "it could not take part")
            raise

    def _converse(self, talk: Talk, tell: Tell, lost: str) -> str:
        """One session, to its end; why it ended. One that outlives its connection is taken up again on the
        next. lost: what is told then.
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
                    tell(f"the connection was lost{lost}")
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
        """The next frame that says something; None if none has come by then. staying: a vector of this party
        has left.

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
                        f"this {self._kind} {TRANSPORT_VERSION}: install the same release of secagg at both "
                        "ends"
                    )
                if isinstance(frame, Replaced):
                    raise TransportError(
                        f"another process has connected with this {self._kind}'s key and has taken its "
                        "place: run one process for each key; if none of yours did, make a new key (secagg "
                        f"keys {self._kind})"
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
                f"the server at {self._connect} does not know this {self._kind}'s key: its roster must list "
                "it"
            )
        if event & _WRONG_SERVER:
            # Once may be a server that closed in the middle of it; ZeroMQ tries again. Where one has
            # succeeded before, it is the way that fails, and patience decides.
            self._failed_handshakes += 1
            if self._failed_handshakes < 3 or self._was_connected:
                return
            raise TransportError(
                f"{self._connect} is not the server this {self._kind} holds the key of: compare the "
                "fingerprints (`secagg keys show`)"
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
        """Close the socket, within a second, whatever is still on its way."""
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
