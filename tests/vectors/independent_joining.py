"""A client on a socket without secagg or transport (docs/protocol.md, section 4), of an active session with a
server that follows the protocol: it checks little of what it is sent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import zmq

from tests.vectors import independent as i
from tests.vectors.independent_network import VERSION, Arriving, roster_of
from tests.vectors.independent_session import Agreed, Client, Json, Terms
from tests.vectors.independent_transport import CHUNK, WINDOW, checksum


def file_of(path: Path) -> dict[str, str]:
    """The fields of a key file (section 4.1)."""
    return dict(re.findall(r'^(\w+) = "?([^"\n]*)"?$', path.read_text(encoding="ascii"), re.M))


class NetworkClient:
    """Of the files in a folder. inputs: name -> its vector. breaks: requests on which the connection is lost,
    when they have been read and before they are answered.
    """

    def __init__(self, folder: Path, port: int, inputs: Json, breaks: Collection[str] = ()) -> None:
        self.port, self.inputs, self.breaks = port, inputs, set(breaks)
        self.own, self.server = file_of(folder / "client.key"), file_of(folder / "server.pub")
        self.u = int(self.own["id"])
        ids, _ = roster_of(folder / "roster")
        self.others = [v for v in ids.values() if v != self.u]
        self.context = zmq.Context()
        self.session = self.offer = b""
        self.said = self.heard = 0
        self.outgoing = b""
        self.sent = 0
        self.arriving: Arriving | None = None
        self.client: Any = None
        self.agreed: Any = None
        self.U2: list[int] = []
        self.U3: list[int] = []
        self.dealt: dict[int, list[Any]] = {}

    def run(self) -> str:
        """Take part in one session; the reason with which it ends."""
        reason = None
        while reason is None:
            with self.connected() as socket:
                reason = self.converse(socket)
        self.context.term()
        return reason

    def converse(self, socket: zmq.Socket[bytes]) -> str | None:
        """None where the connection is lost."""
        while True:
            frames = socket.recv_multipart()
            name, *fields = i.unpack(frames[0])
            if name == "end":
                return str(fields[1])
            if not self.take(socket, name, fields, frames[1] if len(frames) == 2 else None):
                return None

    def connected(self) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self.context.socket(zmq.DEALER)
        socket.curve_serverkey = self.server["curve"].encode()
        socket.curve_publickey = self.own["curve_public"].encode()
        socket.curve_secretkey = self.own["curve_secret"].encode()
        socket.linger = 1000
        socket.connect(f"tcp://127.0.0.1:{self.port}")
        socket.send(i.packed(["hello", VERSION]))
        return socket

    def take(self, socket: zmq.Socket[bytes], name: str, fields: list[Any], payload: bytes | None) -> bool:
        """Whether the connection still stands."""
        if name == "offer" and not self.session:
            self.session, self.offer = fields
            self.said, self.outgoing = 1, i.packed(["join", 1, i.digest("parameters", self.offer)])
            self.announce(socket)
        if not fields or fields[0] != self.session:
            return True
        if name == "message" and fields[1] == self.heard - 1:  # asked again, over a new connection
            self.announce(socket)
        elif name == "message":
            assert fields[1] == self.heard
            self.arriving = Arriving(*fields[1:])
            return self.append(socket, payload or b"")
        if name == "chunk":
            assert fields[2] == len(self.arriving.here)
            return self.append(socket, payload or b"")
        if name == "pull":
            _, number, offset = fields
            assert (number, offset) == (self.said - 1, self.sent)
            self.sent += CHUNK
            header = i.packed(["chunk", self.session, number, offset])
            socket.send_multipart([header, self.outgoing[offset : offset + CHUNK]])
        return True

    def append(self, socket: zmq.Socket[bytes], payload: bytes) -> bool:
        it = self.arriving
        it.here += payload
        if len(it.here) == it.size:
            assert checksum(it.here) == it.checksum
            request = i.unpack(it.here)
            self.heard, self.said, self.outgoing = (
                self.heard + 1,
                self.said + 1,
                i.packed(self.answer(*request)),
            )
            if request[0] in self.breaks:
                return False
            self.announce(socket)
            return True
        while it.asked < it.size and it.asked - len(it.here) < WINDOW * CHUNK:
            socket.send(i.packed(["pull", self.session, it.number, it.asked]))
            it.asked += CHUNK
        return True

    def announce(self, socket: zmq.Socket[bytes]) -> None:
        """The newest message."""
        message, self.sent = self.outgoing, 0
        header = ["message", self.session, self.said - 1, len(message), checksum(message)]
        socket.send_multipart([i.packed(header), *([message] if len(message) <= CHUNK else [])])

    def answer(self, name: str, *fields: Any) -> list[Any]:
        """To a request."""
        match name:
            case "task":
                nonce, task = fields
                self.client = self.drawn(Terms.of(self.offer, task, nonce))
                return self.client.advertise_keys()
            case "share-keys-request":
                self.agreed = Agreed(self.client.terms, fields[0])
                return self.client.share_keys(self.agreed)
            case "masked-input-request":
                self.U2, self.dealt = fields
                return self.client.masked_input(self.agreed, self.U2)
            case "consistency-check-request":
                (self.U3,) = fields
                statement = self.agreed.members_statement(self.U2, self.U3)
                return ["consistency-check", self.client.sign(statement)]
        dropped = [v for v in self.U2 if v not in self.U3]
        return self.client.unmasking(self.agreed, self.dealt, dropped, self.agreed.U1)

    def drawn(self, terms: Terms) -> Client:
        coefficients = [os.urandom(32).hex() for _ in range(terms.numbers["threshold"] - 1)]
        others = [os.urandom(32).hex() for _ in coefficients]
        record = {name: os.urandom(32).hex() for name in ("c_sk", "s_sk", "b_u", "rounding_seed")}
        record |= {"key_coefficients": coefficients, "mask_coefficients": others}
        nonces = {str(v): os.urandom(12).hex() for v in self.others}
        record = {**record, "nonces": nonces, "inputs": self.inputs}
        return Client(terms, self.u, record, bytes.fromhex(self.own["ed25519_secret"]))
