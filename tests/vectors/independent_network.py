"""A server on a socket without secagg or transport (docs/protocol.md, section 4), for one session in which
nobody is lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from tests.vectors import independent as i
from tests.vectors.independent_server import Server
from tests.vectors.independent_session import Json
from tests.vectors.independent_transport import CHUNK, WINDOW, checksum

VERSION = 2
SESSION = b"8 bytes!"


def roster_of(file: Path) -> tuple[dict[str, int], Json]:
    """CURVE key -> id; and as a session's file has it (section 4.1)."""
    lines = [line.split(" ") for line in file.read_text(encoding="ascii").splitlines()]
    clients = [line[1:] for line in lines if line[0] == "client"]
    keys = {u: ed25519 for u, _, ed25519 in clients}
    return {curve: int(u) for u, curve, _ in clients}, {"keys": keys, "secrets": {}}


class RosterKeys:
    """What pyzmq asks of the key in a handshake."""

    def __init__(self, ids: dict[str, int]) -> None:
        self.ids = ids

    def callback(self, domain: str, key: bytes) -> bool:
        return key.decode() in self.ids


@dataclass
class Arriving:
    """A long message: its announcement, what is here of it, and how much was asked for."""

    number: int
    size: int
    checksum: bytes
    here: bytes = b""
    asked: int = 0


class NetworkServer:
    """Of the key file and roster in a folder. record: offer, task, nonce and cohort of the session."""

    def __init__(self, folder: Path, record: Json) -> None:
        self.ids, roster = roster_of(folder / "roster")
        self.server = Server({**record, "roster": roster})
        self.offer = bytes.fromhex(record["offer"])
        self.context = zmq.Context()
        self.authenticator = ThreadAuthenticator(self.context)
        self.authenticator.start()
        self.authenticator.configure_curve_callback(
            domain="secagg", credentials_provider=RosterKeys(self.ids)
        )
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.curve_server = self.socket.router_mandatory = 1
        self.socket.zap_domain = b"secagg"
        self.socket.linger = 2000
        key = dict(re.findall(r'^(\w+) = "(.*)"$', (folder / "server.key").read_text(), re.M))
        self.socket.curve_secretkey = key["curve_secret"].encode()
        self.socket.curve_publickey = key["curve_public"].encode()
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.routes: dict[int, bytes] = {}
        self.numbers: dict[int, int] = {}  # of messages sent to u
        self.sent: dict[int, bytes] = {}  # the last long one
        self.arriving: dict[int, Arriving] = {}

    def run(self) -> dict[str, list[int]]:
        """The sums of codes, once the session is over."""
        while self.server.round != "done":
            route, *frames = self.socket.recv_multipart(copy=False)
            u = self.ids[frames[0].get("User-Id")]
            name, *fields = i.unpack(frames[0].bytes)
            if name == "hello":
                assert fields == [VERSION]
                self.routes[u] = route.bytes
                self.say(u, ["offer", SESSION, self.offer])
                continue
            session, *fields = fields
            assert (session, self.routes[u]) == (SESSION, route.bytes)
            payload = frames[1].bytes if len(frames) == 2 else None
            {"message": self.announced, "chunk": self.arrived, "pull": self.pulled}[name](u, *fields, payload)
            if not self.server.awaited:
                self.open(self.server.close())
        for u in self.server.U3:
            self.say(u, ["end", SESSION, ""])
        return self.server.sums

    def say(self, u: int, header: list[Any], *payload: bytes) -> None:
        self.socket.send_multipart([self.routes[u], i.packed(header), *payload])

    def announced(self, u: int, number: int, size: int, due: bytes, payload: bytes | None) -> None:
        assert (payload is not None) == (size <= CHUNK)
        self.arriving[u] = Arriving(number, size, due)
        if payload is not None:
            self.whole(u, payload)
        else:
            self.pull(u)

    def pull(self, u: int) -> None:
        it = self.arriving[u]
        while it.asked < it.size and it.asked - len(it.here) < WINDOW * CHUNK:
            self.say(u, ["pull", SESSION, it.number, it.asked])
            it.asked += CHUNK

    def arrived(self, u: int, number: int, offset: int, payload: bytes) -> None:
        it = self.arriving[u]
        assert (number, offset) == (it.number, len(it.here))
        it.here += payload
        if len(it.here) == it.size:
            self.whole(u, it.here)
        else:
            self.pull(u)

    def whole(self, u: int, message: bytes) -> None:
        it = self.arriving.pop(u)
        assert (len(message), checksum(message)) == (it.size, it.checksum)
        self.server.receive(u, message)

    def pulled(self, u: int, number: int, offset: int, _: None) -> None:
        assert number == self.numbers[u] - 1
        self.say(u, ["chunk", SESSION, number, offset], self.sent[u][offset : offset + CHUNK])

    def open(self, requests: dict[int, bytes]) -> None:
        for u, message in requests.items():
            number = self.numbers.get(u, 0)
            self.numbers[u], self.sent[u] = number + 1, message
            payload = [message] if len(message) <= CHUNK else []
            self.say(u, ["message", SESSION, number, len(message), checksum(message)], *payload)

    def close(self) -> None:
        self.socket.close()
        self.authenticator.stop()
        self.context.term()

    def __enter__(self) -> NetworkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
