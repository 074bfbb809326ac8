"""What travels between a client and the server: whole messages of a session, in pieces the receiver asks for.

A sender announces a message; up to one chunk rides along. Of a longer one the receiver pulls chunks, a few
at a time: nobody is sent more than it has asked for, and the server decides how many uploads it stages.

A frame is a msgpack header and, behind an Announce or a Chunk, the payload.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from secagg.errors import RemoteProtocolError
from secagg.wire import Raw, size_of_bytes, size_of_int

TRANSPORT_VERSION = 2
CHUNK_BYTES = 256 * 1024
WINDOW = 6  # chunks asked for and not yet here: even, for half of them is asked for at once
MAX_FRAME_BYTES = CHUNK_BYTES + (1 << 17)  # an Offer is the longest header
MAX_MESSAGE_BYTES = 2**32 - 1
SESSION_BYTES = 8  # tells apart what one server's socket has carried; keys and signatures bind the `sid`
CHECKSUM_BYTES = 16

SessionId = Annotated[bytes, msgspec.Meta(min_length=SESSION_BYTES, max_length=SESSION_BYTES)]
Number = Annotated[int, msgspec.Meta(ge=0, le=255)]
Position = Annotated[int, msgspec.Meta(ge=0, le=MAX_MESSAGE_BYTES)]
Checksum = Annotated[bytes, msgspec.Meta(min_length=CHECKSUM_BYTES, max_length=CHECKSUM_BYTES)]
Reason = Annotated[str, msgspec.Meta(max_length=500)]


class Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An array whose first entry is the frame's kind."""


class Hello(Frame, frozen=True, tag="hello"):
    """client: I am here. Who it is, its CURVE key says."""

    version: int


class Refuse(Frame, frozen=True, tag="refuse"):
    """server: this is the version of the transport that I speak, and it is not yours.

    Hello and Refuse have the same form in every version, or neither end could say what is wrong.
    """

    version: int


class Offer(Frame, frozen=True, tag="offer"):
    """server: take part in this session, with these parameters."""

    session: SessionId
    parameters: Annotated[bytes, msgspec.Meta(max_length=1 << 16)]


class Announce(Frame, frozen=True, tag="message"):
    """Message `number` of this sender in this session. Its payload follows if it fits one chunk."""

    session: SessionId
    number: Number
    size: Position
    checksum: Checksum


class Pull(Frame, frozen=True, tag="pull"):
    """Send the chunk of your message `number` at `offset`."""

    session: SessionId
    number: Number
    offset: Position


class Chunk(Frame, frozen=True, tag="chunk"):
    """The payload follows."""

    session: SessionId
    number: Number
    offset: Position


class Leave(Frame, frozen=True, tag="leave"):
    """client: I take no part in this session, or no more."""

    session: SessionId
    reason: Reason


class End(Frame, frozen=True, tag="end"):
    """server: the session is over, for you at least. An empty reason: your vectors are in a sum."""

    session: SessionId
    reason: Reason


class Replaced(Frame, frozen=True, tag="replaced"):
    """server: another connection has said hello with your key, and this one is not listened to any more."""


class Ping(Frame, frozen=True, tag="ping"):
    """server: I am here."""


class Close(Frame, frozen=True, tag="close"):
    """server: there will be no more sessions."""


def reason(text: str) -> str:
    """A text as Leave and End carry it: one line of printable characters, at most 500."""
    return "".join(c if c.isprintable() else " " for c in text)[:500]


ClientFrame = Hello | Announce | Pull | Chunk | Leave
ServerFrame = Refuse | Offer | Announce | Pull | Chunk | End | Replaced | Ping | Close

_encoder = msgspec.msgpack.Encoder()
_from_client = msgspec.msgpack.Decoder(ClientFrame)
_from_server = msgspec.msgpack.Decoder(ServerFrame)


def encode(frame: Frame) -> bytes:
    return _encoder.encode(frame)


def decode_from_client(parts: Sequence[Raw]) -> tuple[ClientFrame, Raw | None]:
    """Raises: RemoteProtocolError if this is not one frame a client may send."""
    try:
        frame = _from_client.decode(parts[0])
    # Not MsgspecError alone: of a text that is not UTF-8 msgspec raises Python's own error.
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"not a client's frame: {error}") from None
    return frame, _payload(frame, parts)


def decode_from_server(parts: Sequence[Raw]) -> tuple[ServerFrame, Raw | None]:
    """Raises: RemoteProtocolError if this is not one frame a server may send."""
    try:
        frame = _from_server.decode(parts[0])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"not a server's frame: {error}") from None
    return frame, _payload(frame, parts)


def _payload(frame: Frame, parts: Sequence[Raw]) -> Raw | None:
    if isinstance(frame, Leave | End) and not frame.reason.isprintable():
        # It may reach a terminal, which takes escapes for commands.
        raise RemoteProtocolError("a reason with characters that are not printable")
    most = 2 if isinstance(frame, Announce | Chunk) else 1
    if len(parts) > most or (isinstance(frame, Chunk) and len(parts) != 2):
        raise RemoteProtocolError(f"{len(parts)} parts in a {frame.__struct_config__.tag} frame")
    return parts[1] if len(parts) == 2 else None


class Running:
    """The checksum of a message, fed piece by piece: the tag of AES-128-GCM (NIST SP 800-38D, GMAC) with the
    message as associated data, under a key and a nonce of zero bytes.

    It finds faults of either program's chunking; against intent, CURVE authenticates every frame. (SHA-256
    runs at a tenth of its speed here, and cost the server a third of its throughput.)
    """

    def __init__(self) -> None:
        self._tag = Cipher(algorithms.AES128(bytes(16)), modes.GCM(bytes(12))).encryptor()

    def update(self, piece: Raw) -> None:
        self._tag.authenticate_additional_data(piece)

    def finish(self) -> bytes:
        """The checksum, 16 bytes; it can be asked for once."""
        self._tag.finalize()
        return self._tag.tag


def checksum(message: Raw) -> bytes:
    """The 16 bytes that `Running` gives for the whole of it."""
    running = Running()
    running.update(message)
    return running.finish()


@dataclass
class Outgoing:
    """A message on its way out: kept until the receiver has asked for all of it."""

    session: bytes
    number: int
    message: Raw = field(repr=False)
    sent: int = 0

    def announce(self) -> tuple[Announce, Raw | None]:
        size = len(self.message)
        frame = Announce(self.session, self.number, size, checksum(self.message))
        if size > CHUNK_BYTES:
            return frame, None
        self.sent = size
        return frame, self.message

    def chunk(self, pull: Pull) -> tuple[Chunk, Raw]:
        """Raises: RemoteProtocolError unless the next chunk of this message is asked for."""
        if (pull.session, pull.number, pull.offset) != (self.session, self.number, self.sent):
            raise RemoteProtocolError("asked for a chunk that is not the next one")
        if self.sent >= len(self.message):
            raise RemoteProtocolError("asked for a chunk behind the end of the message")
        payload = memoryview(self.message)[self.sent : self.sent + CHUNK_BYTES]
        frame = Chunk(self.session, self.number, self.sent)
        self.sent += len(payload)
        return frame, payload


@dataclass
class Incoming:
    """A message on its way in: nothing of it counts before it is whole and has its checksum. It takes as much
    memory as has arrived, whatever was announced; its pieces are put together once, and each is let go then.
    """

    announce: Announce
    pieces: deque[Raw] = field(default_factory=deque, repr=False)
    received: int = 0
    requested: int = 0
    # Fed with each piece as it comes, while the processor's cache still has it.
    _checksum: Running = field(default_factory=Running, repr=False)

    @classmethod
    def of(cls, announce: Announce, payload: Raw | None, limit: int) -> Incoming:
        """Raises: RemoteProtocolError if it is longer than `limit` or the payload is not of its size."""
        if announce.size > limit:
            raise RemoteProtocolError(f"announced {announce.size} bytes; at most {limit} can be due")
        if (payload is not None) != (announce.size <= CHUNK_BYTES):
            raise RemoteProtocolError("a short message comes with its announcement, a long one in chunks")
        incoming = cls(announce)
        if payload is not None:
            if len(payload) != announce.size:
                raise RemoteProtocolError(f"{len(payload)} bytes where {announce.size} were announced")
            incoming._append(payload)
        return incoming

    def pulls(self) -> Iterator[Pull]:
        """Ask for as much as the window allows once half of it is free: the sender is woken less often."""
        size = self.announce.size
        if self.requested - self.received > WINDOW // 2 * CHUNK_BYTES:
            return
        while self.requested < size and self.requested - self.received < WINDOW * CHUNK_BYTES:
            offset = self.requested
            self.requested += CHUNK_BYTES
            yield Pull(self.announce.session, self.announce.number, offset)

    def add(self, chunk: Chunk, payload: Raw) -> None:
        """Raises: RemoteProtocolError unless this is the next chunk that was asked for, whole."""
        # In order, and never ahead of what was asked for: so what is here has no gaps, and no more is held.
        expected = (self.announce.session, self.announce.number, self.received)
        if (chunk.session, chunk.number, chunk.offset) != expected or chunk.offset >= self.requested:
            raise RemoteProtocolError("a chunk that is not the next one asked for")
        if len(payload) != min(CHUNK_BYTES, self.announce.size - self.received):
            raise RemoteProtocolError(f"a chunk of {len(payload)} bytes")
        self._append(payload)

    def _append(self, payload: Raw) -> None:
        self._checksum.update(payload)
        self.pieces.append(payload)
        self.received += len(payload)

    @property
    def complete(self) -> bool:
        return self.received == self.announce.size

    def message(self) -> Raw:
        """The whole message. Raises: RemoteProtocolError if its checksum is not the announced one."""
        if self._checksum.finish() != self.announce.checksum:
            raise RemoteProtocolError("a message with another checksum than announced")
        if len(self.pieces) == 1:
            return self.pieces.popleft()
        whole, at = np.empty(self.announce.size, np.uint8), 0  # memory nobody has touched
        while self.pieces:
            piece = np.frombuffer(self.pieces.popleft(), np.uint8)
            whole[at : at + len(piece)] = piece
            at += len(piece)
        return whole.data


def wire_bytes(size: int, number: int) -> tuple[int, int]:
    """(bytes sent, bytes sent back) that carry message `number` of `size` bytes: payload and headers.

    What CURVE and TCP add below is not counted, nor are Hello, Ping and End, which belong to no message.
    """

    def header(kind: type[Frame], *fields: int) -> int:
        # msgpack has one byte before so short an array, and one before so short a text.
        return 1 + 1 + len(str(kind.__struct_config__.tag)) + sum(fields)

    session, which = size_of_bytes(SESSION_BYTES), size_of_int(number)
    announce = header(Announce, session, which, size_of_int(size), size_of_bytes(CHECKSUM_BYTES))
    if size <= CHUNK_BYTES:
        return announce + size, 0
    offsets = [size_of_int(offset) for offset in range(0, size, CHUNK_BYTES)]
    chunks = sum(header(Chunk, session, which, offset) for offset in offsets)
    pulls = sum(header(Pull, session, which, offset) for offset in offsets)
    return announce + chunks + size, pulls
