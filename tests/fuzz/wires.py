"""Frames, and how the two ends of a connection take them: dialogues with one side that says anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any
from unittest import mock

import msgspec

import transport.exchange
import transport.frames
import transport.talk
from secagg import RemoteProtocolError
from tests.fuzz.sessions import ONE, PLAYED, TAKEN, cloned, rounds, sessions
from transport import frames

SESSION = bytes(range(frames.SESSION_BYTES))
_FIELDS: dict[str, Any] = {
    "version": frames.TRANSPORT_VERSION,
    "session": SESSION,
    "number": 1,
    "size": 5,
    "checksum": frames.checksum(b"bytes"),
    "offset": 300,
    "reason": "no more",
    "parameters": PLAYED["semi-honest"].offer(),
}
FRAMES = [
    (
        kind(**{name: _FIELDS[name] for name in kind.__struct_fields__}),
        [b"bytes"] if kind in (frames.Announce, frames.Chunk) else [],
    )
    for kind in frames.Frame.__subclasses__()
]


@cache
def frame_seeds() -> list[bytes]:
    return [frames.encode(frame) for frame, _ in FRAMES]


def any_frame(which: int, data: bytes) -> str:
    """A frame of a client, of a server, or of neither."""
    parts = [memoryview(data), *FRAMES[which][1]]
    outcomes = []
    for read in (frames.decode_from_client, frames.decode_from_server):
        try:
            frame, payload = read(parts)
        except RemoteProtocolError as refusal:
            outcomes.append(str(refusal))
            continue
        assert isinstance(frame, frames.Frame)
        assert [payload] == parts[1:] or (payload is None and len(parts) == 1)
        assert str(getattr(frame, "reason", "")).isprintable()
        outcomes.append(TAKEN)
    return TAKEN if TAKEN in outcomes else "; ".join(outcomes)


@contextmanager
def small_pieces() -> Iterator[None]:
    """Messages of these small sessions travel in chunks, as long ones do."""
    with ExitStack() as stack:
        for module in (transport.frames, transport.talk, transport.exchange):
            for name, value in (("CHUNK_BYTES", 200), ("MAX_TASK_BYTES", 1000)):
                if hasattr(module, name):
                    stack.enter_context(mock.patch.object(module, name, value))
        yield


class Wire:
    """The other end of a connection, as far as a session on the wire needs a Router or a Peer."""

    gone: frozenset[int] = frozenset()
    traffic = (0, 0)

    def send(self, u: int, frame: frames.Frame, payload: Any = None) -> None:
        frames.encode(frame)

    def _send(self, frame: frames.Frame, payload: Any = None) -> None:
        frames.encode(frame)


def fields(frame: frames.Frame, payload: Any = None) -> list[Any]:
    """A frame in a dialogue: its fields, and the payload."""
    header = msgspec.msgpack.decode(frames.encode(frame))
    return [header] if payload is None else [header, bytes(payload)]


def pieces(number: int, message: bytes) -> list[Any]:
    """The frames that carry a message."""
    outgoing = frames.Outgoing(SESSION, number, message)
    first = fields(*outgoing.announce())
    offsets = range(outgoing.sent, len(message), transport.frames.CHUNK_BYTES)
    return [first, *(fields(*outgoing.chunk(frames.Pull(SESSION, number, offset))) for offset in offsets)]


def pulls(number: int, message: bytes) -> list[Any]:
    """The frames that ask for a message."""
    outgoing = frames.Outgoing(SESSION, number, message)
    outgoing.announce()
    offsets = range(outgoing.sent, len(message), transport.frames.CHUNK_BYTES)
    return [fields(frames.Pull(SESSION, number, offset)) for offset in offsets]


def dialogue(data: bytes) -> Iterator[list[bytes]]:
    """The parts of each frame, whatever the bytes are."""
    try:
        said = msgspec.msgpack.decode(data)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
        said = data
    for frame in said if isinstance(said, list) else [said]:
        parts = frame if isinstance(frame, list) and frame else [frame]
        yield [part if isinstance(part, bytes) else msgspec.msgpack.encode(part) for part in parts]


@cache
def upload_seeds() -> list[bytes]:
    """What client ONE sends in each round: pulls of the request, then its answer."""
    with small_pieces():
        return [
            msgspec.msgpack.encode(
                pulls(0, scene.requests.get(ONE, b"")) + pieces(scene.number, scene.play.answers[ONE])
            )
            for scene in rounds()
        ]


def uploads(which: int, data: bytes) -> str:
    """A server takes a client's frames, or loses the client; it never stages more than can be due."""
    scene = rounds()[which]
    scheme, session = scene.play.scheme, cloned(scene.play.server)
    with small_pieces():
        running = transport.exchange.Exchange(Wire(), scheme, session, frozenset({ONE}), id=SESSION)
        running.number[ONE] = scene.number
        running.open_round({ONE: scene.requests[ONE]} if scene.requests else {})
        running.ask_all()
        for parts in dialogue(data):
            try:
                frame, payload = frames.decode_from_client(parts)
                running.take(ONE, frame, payload)
            except RemoteProtocolError as error:
                running.lose(ONE, str(error))
            running.stage_uploads(60.0)
            room = sum(len(piece) for incoming in running.incoming.values() for piece in incoming.pieces)
            assert room <= scheme.largest_upload
    return running.lost.get(ONE) or ("waiting" if ONE in running.waiting_for else TAKEN)


@cache
def download_seeds() -> list[bytes]:
    """What the server sends to client ONE in each session."""
    with small_pieces():
        return [
            msgspec.msgpack.encode(
                [
                    piece
                    for i, scene in enumerate(session)
                    for piece in (
                        *(pieces(i - 1, scene.requests[ONE]) if scene.requests else ()),
                        *pulls(i, scene.play.answers[ONE]),
                    )
                ]
                + [fields(frames.End(SESSION, ""))]
            )
            for session in sessions()
        ]


def downloads(which: int, data: bytes) -> str:
    """A client goes on or is out of the session; it never makes room for more than can be due."""
    first = sessions()[which][0]
    scheme, session = first.play.scheme, cloned(first.client)
    with small_pieces():
        talk = transport.talk.Talk(Wire()._send, SESSION, scheme, session)
        talk.say(first.play.answers[ONE])
        try:
            for parts in dialogue(data):
                talk.step(frames.decode_from_server(parts))
                room = sum(map(len, talk._incoming.pieces)) if talk._incoming else 0
                assert room <= transport.talk.MAX_TASK_BYTES + scheme.largest_upload
        except RemoteProtocolError as refusal:
            return str(refusal)
        except transport.talk.SessionOverError as over:
            return TAKEN if session.done and not str(over) else "over"
    return "waiting"
