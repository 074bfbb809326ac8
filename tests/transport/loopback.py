"""What the tests of sessions share: keys in folders, a server on loopback, clients that fail when told to."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

import transport
from secagg import Counts, Masking, Plain, Policy, SecAggError, ServerSession
from secagg.session import Scheme
from secagg.wire import Raw
from transport import Cohort, Contribution, Peer, Relay, Served, TransportError
from transport.frames import Announce, Frame
from transport.processes import lay_out_keys

LOOPBACK = "tcp://127.0.0.1:*"
PATIENCE = 600.0  # nothing waits so long unless something is broken
ANY_SCHEME = Policy(schemes=frozenset({"masking", "plain"}), adversary="semi-honest")
MAXIMUM = 2**20
SHORT, LONG = 5, 100_000  # a LONG vector of the cohorts here is packed to more than one chunk


def scheme_of(name: str, clients: int, length: int) -> Scheme:
    make = {"masking": Masking.for_cohort, "plain": Plain.for_cohort}[name]
    return make(clients, Counts(length=length, maximum=MAXIMUM))


def vector(u: int, length: int) -> NDArray[np.int64]:
    """Client u's secret; integers, so that every sum is exact."""
    return (np.arange(length, dtype=np.int64) * (2 * u + 1) + u) % MAXIMUM


def exact_sum(survivors: frozenset[int], length: int) -> NDArray[np.int64]:
    return sum((vector(u, length) for u in survivors), np.zeros(length, np.int64))


class Federation:
    """Every party's folder of keys, and the two calls that use them."""

    def __init__(self, folder: Path, clients: int, relays: int = 0) -> None:
        self.server, folders = lay_out_keys(folder, clients, relays)
        self.clients, self.relays = folders[:clients], folders[clients:]

    def serve(self, bind: str = LOOPBACK, **how: Any) -> Cohort:
        return transport.serve(bind, self.server / "server.key", self.server / "roster", **how)

    def join(
        self,
        u: int,
        endpoint: str,
        policy: Policy | None = ANY_SCHEME,
        patience: float = PATIENCE,
        **more: Any,
    ) -> Peer:
        own = self.clients[u]
        given = {"key": own / "client.key", "server": own / "server.pub", "roster": own / "roster"} | more
        return transport.join(endpoint, **given, policy=policy, patience=patience)

    def join_as_relay(
        self, j: int, endpoint: str, policy: Policy | None = None, patience: float = PATIENCE
    ) -> Relay:
        own = self.relays[j]
        given = {"key": own / "relay.key", "server": own / "server.pub", "roster": own / "roster"}
        return transport.join_as_relay(endpoint, **given, policy=policy, patience=patience)

    def relay(self, j: int, endpoint: str, policy: Policy | None = None, **how: Any) -> list[Served]:
        """Body of a relay's thread: every session until the server closes."""
        served = []
        with self.join_as_relay(j, endpoint, policy) as relay:
            while (one := relay.serve(**how)) is not None:
                served.append(one)
        return served

    def contribute(
        self,
        u: int,
        endpoint: str,
        length: int,
        *,
        policy: Policy | None = ANY_SCHEME,
        stay: Event | None = None,
        **how: Any,
    ) -> Contribution | None:
        """Body of a client's thread: one session, then gone; after an error not before `stay`."""
        with self.join(u, endpoint, policy) as peer:
            try:
                return peer.contribute(lambda task: vector(u, length), **how)
            except SecAggError:
                if stay is not None:
                    stay.wait(PATIENCE)
                raise

    def contribute_without_roster(self, u: int, endpoint: str, length: int) -> None:
        """Body of a client's thread: one session after the other, on the server's word."""
        own = self.clients[u]
        with transport.join(endpoint, own / "client.key", own / "server.pub") as peer:
            while peer.contribute(lambda task: vector(u, length)) is not None:
                pass

    def contribute_often(self, u: int, endpoint: str, length: int, **how: Any) -> list[Contribution]:
        """Body of a client's thread: every session until the server closes."""
        contributions = []
        with self.join(u, endpoint) as peer:
            while (contribution := peer.contribute(lambda task: vector(u, length), **how)) is not None:
                contributions.append(contribution)
        return contributions


def vanish(round: str, fraction: float = 0.0) -> Callable[[str, int, int], None]:
    """A client's `progress`: its connection breaks in that round, once a part of its message has left."""

    def progress(name: str, sent: int, size: int) -> None:
        if name == round and sent >= fraction * size:
            raise TransportError("the plug was pulled")

    return progress


Deed = Callable[[Frame, Raw | None], list[list[Raw]] | None]
"""What leaves in the place of a frame and its payload; None: they themselves."""


def spoil(peer: Peer, deed: Deed, until: Event) -> None:
    """Let the peer do the deed in the place of a frame, then stay silent, but connected, `until`."""
    send = peer._send

    def spoiled(frame: Frame, payload: Raw | None = None) -> None:
        instead = deed(frame, payload)
        if instead is None:
            return send(frame, payload)
        for parts in instead:
            peer._socket.send_multipart(parts)
        until.wait(PATIENCE)
        raise TransportError("the deed is done")

    peer._send = spoiled  # type: ignore[method-assign]


def is_answer(frame: Frame, number: int) -> bool:
    """Whether it announces a client's message: 0 closes join, 3 masked-input."""
    return isinstance(frame, Announce) and frame.number == number


class Instrumented:
    """A scheme whose server sessions are wrapped."""

    def __init__(self, scheme: Scheme, wrap: Callable[[ServerSession], Any]) -> None:
        self._scheme, self._wrap = scheme, wrap

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheme, name)

    def server(self, *args: Any, **named: Any) -> Any:
        return self._wrap(self._scheme.server(*args, **named))


class Telling:
    """A server session that tells a test of each message it has taken."""

    def __init__(self, session: ServerSession, tell: Callable[[ServerSession], None]) -> None:
        self._session, self._tell = session, tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def receive(self, sender: int, message: Raw) -> None:
        self._session.receive(sender, message)
        self._tell(self._session)


class Clock:
    """`time` as a module sees it, and how many seconds a test has put it ahead."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


def _break(end: socket.socket) -> None:
    with suppress(OSError):  # broken at the other end
        end.shutdown(socket.SHUT_RDWR)
    end.close()


class Cable:
    """The way to a server, in another place of this machine. It can be cut, and mended. A context.

    heard: is told all that passes, in either direction.
    """

    def __init__(self, endpoint: str, heard: Callable[[bytes], object] = lambda data: None) -> None:
        self._heard = heard
        self.lead_to(endpoint)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listening.getsockname()[1]}"
        self._lock, self._whole, self._ends = Lock(), True, set[socket.socket]()
        Thread(target=self._accept, daemon=True).start()

    def lead_to(self, endpoint: str) -> None:
        self._server = ("127.0.0.1", int(endpoint.rpartition(":")[2]))

    def cut(self) -> None:
        with self._lock:
            self._whole = False
            for end in self._ends:
                _break(end)
            self._ends.clear()

    def mend(self) -> None:
        with self._lock:
            self._whole = True

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                here, _ = self._listening.accept()
                with self._lock:
                    there = self._connected(here)
                if there is not None:
                    for pair in ((here, there), (there, here)):
                        Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _connected(self, here: socket.socket) -> socket.socket | None:
        with suppress(OSError):  # the server is gone
            if self._whole:
                there = socket.create_connection(self._server)
                self._ends |= {here, there}
                return there
        here.close()
        return None

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                self._heard(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)  # what is on its way arrives
        except OSError:
            # Cut; or reset at one end, by who closes with something unread: then the other hears of it.
            for end in (source, sink):
                _break(end)

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *_: object) -> None:
        _break(self._listening)
        self.cut()
