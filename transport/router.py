"""The server's socket: who is connected, and frames to and from them. Nothing of sessions. Relays are parties
like clients, by ids of their own.

Strangers are refused in CURVE's handshake: only keys of the roster get through. A frame's sender is the
key its connection was made with.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress

import zmq
from zmq.auth.thread import ThreadAuthenticator

from secagg.errors import ClientId
from secagg.wire import Raw
from transport.address import speaks_ipv6
from transport.connections import Connections
from transport.errors import TransportError
from transport.frames import MAX_FRAME_BYTES, WINDOW, Frame, Ping, Replaced, encode
from transport.keys import PrivateKey
from transport.limits import open_files
from transport.roster import Roster

LINGER_MS = 2000  # at closing: the last words get out, if anybody listens
HANDSHAKE_MS = 10_000  # then a connection that is no client's is closed
UNACKNOWLEDGED_MS = 20_000  # then a connection is taken to be dead
QUEUED = 4  # frames of one connection that are kept until they are read
UNGREETED = 64  # connections that may stand without a hello, and two of each client
ZAP_DOMAIN = b"secagg"
PING_SECONDS = 0.5


class _RosterKeys:
    """What pyzmq's authenticator asks: may this key connect?"""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    def callback(self, domain: str, key: bytes) -> bool:
        return self._roster.id_of(key) is not None


class Router:
    """A bound ROUTER under CURVE. Close it, or use it as a context.

    Raises: LocalProtocolError if it is no address, TransportError if it cannot be bound.
    """

    def __init__(self, bind: str, key: PrivateKey, roster: Roster) -> None:
        ipv6 = speaks_ipv6(bind, listening=True)
        self._roster, clients, parties = roster, len(roster), len(roster) + len(roster.relays)
        files = open_files(parties, f"a server of {clients} client{'s' * (clients != 1)}")
        self._routes: dict[ClientId, bytes] = {}
        self._file = -1  # over which the frame came that was yielded last
        self._backlog: dict[ClientId, deque[list[Raw]]] = {}
        self._pinged = 0.0
        self.traffic = (0, 0)  # payload bytes of all frames received and sent, pings left out
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        # Before there is a socket: where nobody answers for the domain, libzmq 4.3.5 lets in whatever key
        # comes. (It was tried.)
        self._authenticator = ThreadAuthenticator(self._context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(
            domain=ZAP_DOMAIN.decode(), credentials_provider=_RosterKeys(roster)
        )
        self._socket = self._context.socket(zmq.ROUTER)
        for option, value in {
            zmq.CURVE_SERVER: 1,
            zmq.IPV6: ipv6,
            zmq.ROUTER_MANDATORY: 1,  # a send to one who has gone raises, a full queue waits: no silent drop
            zmq.MAXMSGSIZE: MAX_FRAME_BYTES,
            zmq.RCVHWM: QUEUED,
            zmq.SNDHWM: WINDOW,  # what does not fit waits in `_backlog`, where it can be let go
            zmq.HANDSHAKE_IVL: HANDSHAKE_MS,
            zmq.BACKLOG: 1024,  # a whole cohort connects at once, and libzmq's own is 100
            # No heartbeats of ZMTP: a connection that breaks while its queue is full ends libzmq 4.3.5 at the
            # next (an assertion in out_event). Clients send theirs; ours are pings, which TCP must deliver.
            zmq.TCP_MAXRT: UNACKNOWLEDGED_MS,
            zmq.TCP_KEEPALIVE: 1,
            zmq.TCP_KEEPALIVE_IDLE: 10,
            zmq.TCP_KEEPALIVE_INTVL: 5,
            zmq.TCP_KEEPALIVE_CNT: 2,
            zmq.LINGER: LINGER_MS,
        }.items():
            self._socket.setsockopt(option, value)
        self._socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        self._socket.curve_secretkey, self._socket.curve_publickey = key.curve_secret, key.curve_public
        # Before anybody can connect: of a connection that it did not see come, it counts nothing. Half of the
        # files, so that those who have said hello find one.
        self._connections = Connections(self._socket, min(UNGREETED + 2 * parties, files // 2))
        try:
            self._socket.bind(bind)
        except zmq.ZMQError as error:
            self.close()
            raise TransportError(_why_not_bound(bind, error)) from None
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    @property
    def connected(self) -> frozenset[ClientId]:
        return frozenset(self._routes)

    @property
    def gone(self) -> frozenset[ClientId]:
        """Who was connected once and is not now."""
        return frozenset(self._backlog.keys() - self._routes.keys())

    def greet(self, u: ClientId, route: bytes) -> bool:
        """This connection is u's from now on. An earlier one of the same key is not listened to any more;
        whether there still was one, which has been told.
        """
        before = self._routes.get(u, route)
        self._routes[u] = route
        self._backlog[u] = deque()  # what waited for the earlier one would be of another conversation
        self._connections.greeted(self._file, u)
        return before != route and self.turn_away(before, Replaced())

    def receive(self, seconds: float) -> Iterator[tuple[ClientId, bytes, list[Raw]]]:
        """(sender, route, parts) of every frame that is here, waiting at most so long for the first."""
        if not self._socket.poll(max(0, int(seconds * 1000)) + 1):
            return
        for _ in range(1000):  # then let the caller look at the clock
            try:
                route, *frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            if not frames:
                continue
            self._file = int(frames[0].get(zmq.SRCFD))
            # The key of the handshake, which pyzmq's authenticator gives back as the user's name.
            u = self._roster.id_of(str(frames[0].get("User-Id")).encode())
            said_hello = u is not None and self.speaks_for(u, route.bytes)
            self._connections.delivered(self._file, u if said_hello else None)
            if u is None:  # cannot pass the handshake
                continue
            parts: list[Raw] = [frame.buffer for frame in frames]
            self.traffic = (self.traffic[0] + sum(len(part) for part in parts), self.traffic[1])
            yield u, route.bytes, parts

    def speaks_for(self, u: ClientId, route: bytes) -> bool:
        return self._routes.get(u) == route

    def send(self, u: ClientId, frame: Frame, payload: Raw | None = None) -> None:
        """Queue a frame; to one who has gone it is lost, which `probe` tells."""
        if u in self._routes:
            parts: list[Raw] = [encode(frame)] if payload is None else [encode(frame), payload]
            self._backlog[u].append(parts)
            self._flush(u)

    def turn_away(self, route: bytes, frame: Frame) -> bool:
        """A last word to a connection that is not listened to; whether it could be said."""
        with suppress(zmq.ZMQError):  # it has gone, or does not read: then it is not to be helped
            self._socket.send_multipart([route, encode(frame)], zmq.NOBLOCK)
            return True
        return False

    def probe(self) -> frozenset[ClientId]:
        """Who has gone since the last call. Also tells the clients that this server lives."""
        blocked = [u for u, queue in self._backlog.items() if queue]
        due = time.monotonic() - self._pinged > PING_SECONDS
        if not blocked and not due:
            return frozenset()
        before = self.connected
        for u in blocked:
            self._flush(u)
        if due:
            self._pinged = time.monotonic()
            for u in self.connected:
                if not self._backlog[u]:  # else what waits there is the probe
                    self._try(u, [encode(Ping())])
        return before - self.connected

    def _flush(self, u: ClientId) -> None:
        queue = self._backlog[u]
        while queue and self._try(u, queue[0]):
            self.traffic = (self.traffic[0], self.traffic[1] + sum(len(part) for part in queue[0]))
            queue.popleft()

    def _try(self, u: ClientId, parts: Iterable[Raw]) -> bool:
        """False if the frame could not be handed over now, or ever."""
        try:
            self._socket.send_multipart([self._routes[u], *parts], zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            del self._routes[u]
            self._backlog[u].clear()  # emptied, not taken away: `gone` tells by it who was here once
            return False
        return True

    def close(self) -> None:
        self._routes.clear()
        # Each needs the next: the watcher asks the socket, and the socket lets nobody in without being told.
        self._connections.close()
        self._socket.close()
        self._authenticator.stop()
        self._context.term()


def _why_not_bound(bind: str, error: zmq.ZMQError) -> str:
    if error.errno == zmq.EADDRINUSE:
        return f"{bind} is in use: stop what listens there, or choose another port (bind=)"
    if error.errno == 13:
        return f"{bind}: not permitted; ports below 1024 need privileges, choose another (bind=)"
    if error.errno in (errno.ENODEV, errno.EADDRNOTAVAIL):
        return f"{bind}: this machine has no such address or interface; tcp://*:PORT listens on all of IPv4"
    reason = zmq.strerror(error.errno or 0)
    return f"cannot listen on {bind}: {reason}: choose another address (bind=)"
