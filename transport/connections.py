"""The connections to a server's socket, so that nobody makes it hold more than a few frames of each.

libzmq puts a message together from as many parts as come, and knows no limit of connections. What it has
taken in and not delivered is what the kernel has counted since the last frame that was delivered: a
connection on which that is more than a client ever has under way is broken, and so is the oldest of too many
that have not said hello. (One key made a server hold 977 MB, and with this 6.)

Where the kernel does not count (elsewhere than on Linux), the process's own limit of memory has to do it.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Lock, Thread

import zmq
from zmq.utils.monitor import recv_monitor_message

from secagg.errors import ClientId
from transport.frames import CHUNK_BYTES, MAX_FRAME_BYTES, WINDOW

UNREAD_BYTES = 2 * WINDOW * CHUNK_BYTES  # of one that has said hello: twice what it is ever asked for
UNGREETED_BYTES = MAX_FRAME_BYTES  # of one that has not: a frame
HEARTBEAT_BYTES = 100  # a second: of heartbeats, which are counted and never delivered
RETIRE_SECONDS = 2.0  # until one that was replaced is broken: the last word gets out
SCAN_MS = 20
SCANNED_A_MS = 5  # connections: a look at one takes microseconds, looking a few percent of the time
_RECEIVED = 128  # where Linux's struct tcp_info has tcpi_bytes_received, 64 bits


@dataclass
class _Connection:
    peer: object  # its address: the number of a file may be another's by now
    since: float = field(default_factory=time.monotonic)
    client: ClientId | None = None  # whose it is, once it has said hello
    frames: int = 0  # delivered
    seen: int = 0  # of these, when `mark` was set
    mark: int = 0  # bytes the kernel had counted then
    retired: float | None = None


class Connections:
    """Watches a bound socket from a thread of its own. most: connections that may be open without a hello, or
    replaced by another of their client.
    """

    def __init__(self, watched: zmq.Socket[bytes], most: int) -> None:
        self._most, self._open, self._lock, self._over = most, dict[int, _Connection](), Lock(), Event()
        self._monitor = watched.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self._watched = watched
        self._thread = Thread(target=self._watch, name="connections", daemon=True)
        self._thread.start()

    def delivered(self, file: int, client: ClientId | None) -> None:
        """A frame that came over this file has been read. client: whose connection it is, if it has said
        hello; that may have been before this thread had noted the connection.
        """
        with self._lock:
            if (connection := self._open.get(file)) is not None:
                connection.frames += 1
                connection.client = client if client is not None else connection.client

    def greeted(self, file: int, client: ClientId) -> None:
        """It has said hello; others of this client are not listened to any more."""
        with self._lock:
            for other, connection in self._open.items():
                if other == file:
                    connection.client, connection.retired = client, None
                elif connection.client == client and connection.retired is None:
                    connection.retired = time.monotonic()

    def close(self) -> None:
        if self._over.is_set():
            return
        self._over.set()
        self._thread.join()
        self._watched.disable_monitor()
        self._monitor.close()

    def _watch(self) -> None:
        while not self._over.is_set():
            if self._monitor.poll(max(SCAN_MS, len(self._open) // SCANNED_A_MS)):
                event = recv_monitor_message(self._monitor)
                self._note(event["event"], event["value"])
                continue  # first all that has happened
            with self._lock:
                self._scan(time.monotonic())

    def _note(self, event: int, file: int) -> None:
        with self._lock:
            self._open.pop(file, None)  # and back at the end: this dict is in the order of their coming
            if event == zmq.EVENT_ACCEPTED and (peer := _peer(file)) is not None:
                self._open[file] = _Connection(peer)
            waiting = [
                file
                for file, connection in self._open.items()
                if connection.client is None or connection.retired is not None
            ]
            for oldest in waiting[: max(0, len(waiting) - self._most)]:
                self._break(oldest)

    def _scan(self, now: float) -> None:
        for file, connection in list(self._open.items()):
            received = _received(file)
            # What has come since the last frame that was delivered: a whole message starts the count again.
            if connection.seen != connection.frames:
                connection.seen, connection.mark, connection.since = connection.frames, received, now
            most = UNGREETED_BYTES if connection.client is None else UNREAD_BYTES
            most += int(HEARTBEAT_BYTES * (now - connection.since))
            retired = connection.retired is not None and now - connection.retired > RETIRE_SECONDS
            if retired or received - connection.mark > most:
                self._break(file)

    def _break(self, file: int) -> None:
        """libzmq sees the end of the stream, closes the connection, and lets go of what was not whole."""
        connection = self._open.pop(file)
        with suppress(OSError):
            if _peer(file) == connection.peer:
                with _as_socket(file) as end:
                    end.shutdown(socket.SHUT_RDWR)


@contextmanager
def _as_socket(file: int) -> Iterator[socket.socket]:
    """A socket to ask, or to end, what libzmq has opened and closes itself."""
    # -1: of the family that it has. Read as one of IPv4, half of an IPv6 address is noise, other each time.
    end = socket.socket(-1, socket.SOCK_STREAM, 0, file)
    try:
        yield end
    finally:
        end.detach()  # not closed: the number might be another's before libzmq closes it again


def _peer(file: int) -> object:
    with suppress(OSError), _as_socket(file) as end:
        return end.getpeername()
    return None


def _received(file: int) -> int:
    """Bytes of the stream that the kernel has counted; 0 where it does not tell."""
    if sys.platform != "linux":
        return 0
    with suppress(OSError, struct.error), _as_socket(file) as end:
        info = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED + 8)
        return int(struct.unpack_from("=Q", info, _RECEIVED)[0])
    return 0
