"""Bare ZeroMQ sockets under CURVE, and the clock by which the transport is measured beside them.

Every process waits for all others; the server looks at the clock and lets the clients go.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import zmq

from transport.exchange import MAX_STAGED
from transport.frames import CHUNK_BYTES
from transport.keys import read_private, read_public

TIMEOUT = 3600.0  # seconds, of everything that waits: nothing does so long unless something is broken
GO = b"go"


@dataclass(frozen=True)
class Uploads:
    """clients, each with `length` coordinates of 4 bytes, spread evenly over so many processes."""

    clients: int
    length: int
    processes: int
    repetitions: int


@dataclass
class Taken:
    """What a server saw. seconds: from letting the clients go to the last message's end. messages: bytes of
    their messages. frames: bytes of all frames, both ways. tcp: bytes of the TCP connections, both ways, as
    the kernel counts them; None where it does not tell. scheme: seconds in the session's `receive`.
    processor: seconds of the server's process, all threads. exact: whether the sum, if there is one, is that
    of all vectors.
    """

    seconds: float = 0.0
    messages: int = 0
    frames: int = 0
    tcp: int | None = None
    scheme: float = 0.0
    processor: float = 0.0
    exact: bool = True


def tcp_bytes() -> int | None:
    """Payload of all TCP connections this process has, sent and received. None where it cannot be had.

    ZeroMQ does not show its connections, but they are files of this process.
    """
    total = 0
    try:
        descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return None
    for descriptor in descriptors:
        with suppress(OSError):  # not a socket
            # A second number for it: leaving closes that one, and not ZeroMQ's connection.
            with socket.socket(fileno=os.dup(descriptor)) as connection:
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
            # Of Linux's struct tcp_info: tcpi_bytes_acked, tcpi_bytes_received.
            total += sum(struct.unpack_from("=QQ", info, 120))
    return total


class Start:
    """All processes wait for each other; then the server looks at the clock and lets the clients go."""

    def __init__(self, processes: int) -> None:
        spawn = get_context("spawn")
        self._ready, self._go = spawn.Barrier(processes + 1), spawn.Event()

    def wait(self) -> None:
        """A client's process."""
        self._ready.wait(TIMEOUT)
        if not self._go.wait(TIMEOUT):
            raise TimeoutError("the server never said go")

    def give(self) -> Watch:
        """The server's."""
        self._ready.wait(TIMEOUT)
        watch = Watch()
        self._go.set()
        return watch


@dataclass
class Watch:
    """Clock and counters as they stood when it was made."""

    tcp: int | None = field(default_factory=tcp_bytes)
    processor: float = field(default_factory=time.process_time)
    begun: float = field(default_factory=time.monotonic)

    def stop(self, taken: Taken) -> None:
        taken.seconds = time.monotonic() - self.begun
        taken.processor = time.process_time() - self.processor
        after = tcp_bytes()
        taken.tcp = None if after is None or self.tcp is None else after - self.tcp


def serve(case: Uploads, size: int, folder: Path, start: Start, pipe: Connection) -> None:
    """A server's process, with a ROUTER. size: bytes of a client's message."""
    key, taken = read_private(folder / "server.key"), Taken()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.curve_server, router.linger = True, 1000
        router.curve_secretkey, router.curve_publickey = key.curve_secret, key.curve_public
        router.rcvtimeo = int(TIMEOUT * 1000)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        pipe.send(f"tcp://127.0.0.1:{port}")
        waiting = [router.recv_multipart()[0] for _ in range(case.clients)]  # each says that it is there
        missing, unfinished = dict.fromkeys(waiting, size), case.clients
        watch = start.give()
        for _ in range(min(MAX_STAGED, len(waiting))):
            router.send_multipart([waiting.pop(), GO])
        while unfinished:
            route, part = router.recv_multipart(copy=False)
            taken.messages += len(part)
            missing[route.bytes] -= len(part)
            if missing[route.bytes] == 0:
                unfinished -= 1
                if waiting:
                    router.send_multipart([waiting.pop(), GO])
        watch.stop(taken)
        for client in missing:
            router.send_multipart([client, b""])
    taken.frames = taken.messages
    pipe.send(taken)


def join(
    case: Uploads, size: int, folders: Sequence[Path], ids: Sequence[int], start: Start, endpoint: str
) -> None:
    """One thread for all, each with a message of its own; it is sent when asked for, and not copied."""
    poller, messages = zmq.Poller(), dict[zmq.SyncSocket, bytes]()
    with zmq.Context() as context:
        for u in ids:
            key = read_private(folders[u] / "client.key")
            dealer = context.socket(zmq.DEALER)
            dealer.linger = 0
            dealer.curve_serverkey = read_public(folders[u] / "server.pub").curve
            dealer.curve_secretkey, dealer.curve_publickey = key.curve_secret, key.curve_public
            dealer.connect(endpoint)
            dealer.send(b"ready")
            messages[dealer] = os.urandom(size)
            poller.register(dealer, zmq.POLLIN)
        start.wait()
        while messages:
            for dealer, _ in poller.poll():
                if dealer.recv() == GO:
                    for at in range(0, size, CHUNK_BYTES):
                        dealer.send(memoryview(messages[dealer])[at : at + CHUNK_BYTES], copy=False)
                else:
                    poller.unregister(dealer)
                    del messages[dealer]
                    dealer.close()
