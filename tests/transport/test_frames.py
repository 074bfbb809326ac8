"""Frames: each is read back, nothing else is, and a message arrives in the pieces its receiver asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
import zmq
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from secagg import RemoteProtocolError
from secagg.wire import Raw
from transport.frames import (
    CHECKSUM_BYTES,
    CHUNK_BYTES,
    MAX_FRAME_BYTES,
    MAX_MESSAGE_BYTES,
    SESSION_BYTES,
    WINDOW,
    Announce,
    Chunk,
    Close,
    End,
    Frame,
    Hello,
    Incoming,
    Leave,
    Offer,
    Outgoing,
    Ping,
    Pull,
    Running,
    checksum,
    decode_from_client,
    decode_from_server,
    encode,
    reason,
    wire_bytes,
)

SESSION = bytes(range(SESSION_BYTES))
sessions = st.binary(min_size=SESSION_BYTES, max_size=SESSION_BYTES)
numbers = st.integers(0, 255)
positions = st.integers(0, MAX_MESSAGE_BYTES)
reasons = st.text(max_size=500).filter(str.isprintable)
checksums = st.binary(min_size=CHECKSUM_BYTES, max_size=CHECKSUM_BYTES)
BOTH_WAYS = [
    st.builds(
        Announce, sessions, numbers, positions, st.binary(min_size=CHECKSUM_BYTES, max_size=CHECKSUM_BYTES)
    ),
    st.builds(Pull, sessions, numbers, positions),
    st.builds(Chunk, sessions, numbers, positions),
]
FROM_CLIENT = st.one_of(
    *BOTH_WAYS, st.builds(Hello, st.integers(0, 2**63)), st.builds(Leave, sessions, reasons)
)
FROM_SERVER = st.one_of(
    *BOTH_WAYS,
    st.builds(Offer, sessions, st.binary(max_size=1 << 16)),
    st.builds(End, sessions, reasons),
    st.just(Ping()),
    st.just(Close()),
)
DECODERS = {"client": (decode_from_client, FROM_CLIENT), "server": (decode_from_server, FROM_SERVER)}
each_side = pytest.mark.parametrize("side", DECODERS)

Decode = Callable[[Sequence[Raw]], tuple[Frame, Raw | None]]


def parts_of(frame: Frame, payload: bytes) -> list[Raw]:
    return [encode(frame), payload] if isinstance(frame, Announce | Chunk) else [encode(frame)]


def a_frame_or_an_error(decode: Decode, parts: Sequence[Raw]) -> None:
    try:
        frame, _ = decode(parts)
    except RemoteProtocolError:
        return
    assert isinstance(frame, Frame)


# What is said


@each_side
@given(data=st.data())
def test_every_frame_is_read_back(side: str, data: st.DataObject) -> None:
    decode, frames = DECODERS[side]
    frame, payload = data.draw(frames), data.draw(st.binary(max_size=50))
    read, rest = decode([memoryview(part) for part in parts_of(frame, payload)])
    assert (read, type(read)) == (frame, type(frame))
    assert rest == (payload if isinstance(frame, Announce | Chunk) else None)
    assert sum(map(len, parts_of(frame, b""))) <= MAX_FRAME_BYTES - CHUNK_BYTES


@each_side
@given(parts=st.lists(st.binary(max_size=100), min_size=1, max_size=3))
def test_any_bytes_are_a_frame_or_an_error(side: str, parts: list[bytes]) -> None:
    a_frame_or_an_error(DECODERS[side][0], parts)


@each_side
@given(data=st.data())
def test_a_frame_with_changed_bytes_is_a_frame_or_an_error(side: str, data: st.DataObject) -> None:
    decode, frames = DECODERS[side]
    header, *payload = parts_of(data.draw(frames), data.draw(st.binary(max_size=10)))
    at, until = sorted((data.draw(st.integers(0, len(header))), data.draw(st.integers(0, len(header)))))
    a_frame_or_an_error(decode, [header[:at] + data.draw(st.binary(max_size=5)) + header[until:], *payload])


@each_side
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    ),
    kind=st.sampled_from(["hello", "offer", "message", "pull", "chunk", "leave", "end", "ping", "close"]),
)
def test_any_msgpack_is_a_frame_or_an_error(side: str, kind: str, value: Any) -> None:
    decode = DECODERS[side][0]
    a_frame_or_an_error(decode, [msgspec.msgpack.encode(value)])
    a_frame_or_an_error(decode, [msgspec.msgpack.encode([kind, value])])
    a_frame_or_an_error(decode, [msgspec.msgpack.encode([kind, SESSION, value, 0, 0])])


@pytest.mark.parametrize(
    "frame", [Offer(SESSION, b""), End(SESSION, ""), Ping(), Close()], ids=lambda frame: type(frame).__name__
)
def test_a_client_cannot_say_what_a_server_says(frame: Frame) -> None:
    with pytest.raises(RemoteProtocolError, match="not a client's frame"):
        decode_from_client([encode(frame)])


@pytest.mark.parametrize("frame", [Hello(1), Leave(SESSION, "")], ids=lambda frame: type(frame).__name__)
def test_a_server_cannot_say_what_a_client_says(frame: Frame) -> None:
    with pytest.raises(RemoteProtocolError, match="not a server's frame"):
        decode_from_server([encode(frame)])


@pytest.mark.parametrize(
    "fields",
    [
        ["pull", SESSION[:-1], 0, 0],
        ["pull", SESSION + b"0", 0, 0],
        ["pull", SESSION, 256, 0],
        ["pull", SESSION, -1, 0],
        ["pull", SESSION, 0, MAX_MESSAGE_BYTES + 1],
        ["pull", SESSION, 0, 0, 0],
        ["pull", SESSION, 0],
        ["message", SESSION, 0, 0, bytes(31)],
        ["leave", SESSION, "x" * 501],
        ["shrug"],
        [],
        {"hello": 1},
    ],
)
def test_a_field_out_of_range_is_refused(fields: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="not a client's frame"):
        decode_from_client([msgspec.msgpack.encode(fields)])


def test_an_offer_of_more_than_64_kib_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="not a server's frame"):
        decode_from_server([encode(Offer(SESSION, bytes(2**16 + 1)))])


def test_nothing_may_follow_the_header() -> None:
    with pytest.raises(RemoteProtocolError, match="not a client's frame"):
        decode_from_client([encode(Hello(1)) + b"\0"])


@pytest.mark.parametrize(
    ("frame", "payloads"),
    [
        (Hello(1), 1),
        (Pull(SESSION, 0, 0), 1),
        (Leave(SESSION, ""), 1),
        (Chunk(SESSION, 0, 0), 0),
        (Chunk(SESSION, 0, 0), 2),
        (Announce(SESSION, 0, 0, bytes(16)), 2),
    ],
)
def test_a_payload_stands_where_it_belongs_and_nowhere_else(frame: Frame, payloads: int) -> None:
    with pytest.raises(RemoteProtocolError, match="parts in a"):
        decode_from_client([encode(frame), *[b""] * payloads])


# How a message travels

SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 7 * CHUNK_BYTES + 17]


def message_of(size: int) -> bytes:
    return hashlib.shake_128(b"message").digest(size)


def long(size: int = 6 * CHUNK_BYTES + 5) -> tuple[Outgoing, Incoming]:
    """A message on its way, nothing asked for yet."""
    outgoing = Outgoing(SESSION, 3, message_of(size))
    return outgoing, Incoming.of(*outgoing.announce(), limit=size)


@pytest.mark.parametrize("number", [0, 127, 128, 255])
@pytest.mark.parametrize("size", SIZES)
def test_a_message_arrives_whole_and_costs_what_the_formula_says(size: int, number: int) -> None:
    """Over a socket, counting every byte handed to it."""
    outgoing, count = Outgoing(SESSION, number, message_of(size)), [0, 0]
    with zmq.Context() as context, context.socket(zmq.PAIR) as sender, context.socket(zmq.PAIR) as receiver:
        receiver.bind("inproc://link")
        sender.connect("inproc://link")

        def pass_on(frame: Frame, payload: Raw | None = None, *, back: bool = False) -> list[bytes]:
            parts = [encode(frame)] if payload is None else [encode(frame), payload]
            here, there = (receiver, sender) if back else (sender, receiver)
            here.send_multipart(parts)
            received = there.recv_multipart()
            count[back] += sum(map(len, received))
            return received

        announce, payload = decode_from_client(pass_on(*outgoing.announce()))
        assert isinstance(announce, Announce)
        incoming = Incoming.of(announce, payload, limit=size)
        while not incoming.complete:
            for pull in incoming.pulls():
                asked, _ = decode_from_server(pass_on(pull, back=True))
                assert isinstance(asked, Pull)
                chunk, payload = decode_from_client(pass_on(*outgoing.chunk(asked)))
                assert isinstance(chunk, Chunk)
                incoming.add(chunk, payload or b"")
    assert incoming.message() == message_of(size)
    assert tuple(count) == wire_bytes(size, number)


@given(
    size=st.integers(CHUNK_BYTES + 1, 12 * CHUNK_BYTES),
    delivered=st.lists(st.integers(1, WINDOW), min_size=12, max_size=12),
)
def test_half_of_the_window_is_always_asked_for_and_no_more_than_all_of_it(
    size: int, delivered: list[int]
) -> None:
    outgoing, incoming = long(size)
    asked: list[Pull] = []
    received = 0
    for some in delivered:
        asked += incoming.pulls()
        assert len(asked) - received <= WINDOW
        assert len(asked) - received > WINDOW // 2 or asked[-1].offset + CHUNK_BYTES >= size
        for pull in asked[received : received + some]:
            incoming.add(*outgoing.chunk(pull))
            received += 1
    assert [pull.offset for pull in asked] == list(range(0, size, CHUNK_BYTES))
    assert incoming.complete
    assert incoming.message() == message_of(size)


def test_a_message_takes_the_room_of_what_has_arrived_whatever_was_announced() -> None:
    outgoing, incoming = long()
    first, *_ = [outgoing.chunk(pull) for pull in list(incoming.pulls())]
    assert not incoming.pieces
    incoming.add(*first)
    assert [len(piece) for piece in incoming.pieces] == [CHUNK_BYTES]


def test_chunks_come_in_order_and_only_when_asked_for() -> None:
    outgoing, incoming = long()
    first, second, *_ = [outgoing.chunk(pull) for pull in list(incoming.pulls())]
    with pytest.raises(RemoteProtocolError, match="not the next one"):
        incoming.add(*second)
    incoming.add(*first)
    with pytest.raises(RemoteProtocolError, match="not the next one"):
        incoming.add(*first)


def test_a_chunk_nobody_asked_for_is_refused() -> None:
    outgoing, incoming = long()
    with pytest.raises(RemoteProtocolError, match="not the next one asked for"):
        incoming.add(*outgoing.chunk(Pull(SESSION, 3, 0)))


@pytest.mark.parametrize("change", [{"session": bytes(SESSION_BYTES)}, {"number": 4}, {"offset": 1}])
def test_a_chunk_of_another_message_is_refused(change: dict[str, Any]) -> None:
    outgoing, incoming = long()
    chunk, payload = outgoing.chunk(next(incoming.pulls()))
    with pytest.raises(RemoteProtocolError, match="not the next one"):
        incoming.add(msgspec.structs.replace(chunk, **change), payload)


@pytest.mark.parametrize("length", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES + 1])
def test_a_chunk_of_another_length_is_refused(length: int) -> None:
    outgoing, incoming = long()
    chunk, _ = outgoing.chunk(next(incoming.pulls()))
    with pytest.raises(RemoteProtocolError, match=f"a chunk of {length} bytes"):
        incoming.add(chunk, bytes(length))


def test_the_last_chunk_is_as_long_as_the_rest() -> None:
    outgoing, incoming = long(CHUNK_BYTES + 5)
    first, last = [outgoing.chunk(pull) for pull in list(incoming.pulls())]
    incoming.add(*first)
    with pytest.raises(RemoteProtocolError, match="a chunk of 6 bytes"):
        incoming.add(last[0], bytes(6))


@pytest.mark.parametrize("change", [{"session": bytes(8)}, {"number": 4}, {"offset": CHUNK_BYTES}])
def test_only_the_next_chunk_can_be_pulled(change: dict[str, Any]) -> None:
    outgoing, incoming = long()
    with pytest.raises(RemoteProtocolError, match="not the next one"):
        outgoing.chunk(msgspec.structs.replace(next(incoming.pulls()), **change))


@pytest.mark.parametrize("size", [5, CHUNK_BYTES + 5])
def test_nothing_is_pulled_twice(size: int) -> None:
    outgoing = Outgoing(SESSION, 3, message_of(size))
    outgoing.announce()
    for offset in range(0, size if size > CHUNK_BYTES else 0, CHUNK_BYTES):
        outgoing.chunk(Pull(SESSION, 3, offset))
    with pytest.raises(RemoteProtocolError, match="behind the end"):
        outgoing.chunk(Pull(SESSION, 3, size))


@pytest.mark.parametrize("size", [10, CHUNK_BYTES + 1])
def test_a_message_is_refused_if_it_is_longer_than_can_be_due(size: int) -> None:
    announce, payload = Outgoing(SESSION, 3, message_of(size)).announce()
    with pytest.raises(RemoteProtocolError, match=f"announced {size} bytes; at most {size - 1}"):
        Incoming.of(announce, payload, size - 1)
    Incoming.of(announce, payload, size)


@pytest.mark.parametrize(
    ("size", "payload"), [(5, None), (5, b"four"), (5, b"sixsix"), (0, None), (CHUNK_BYTES + 1, b"five!")]
)
def test_a_short_message_comes_with_its_announcement(size: int, payload: bytes | None) -> None:
    with pytest.raises(RemoteProtocolError, match=r"short message comes with its announcement|bytes where"):
        Incoming.of(Announce(SESSION, 3, size, bytes(16)), payload, 2**20)


def ghash_tag(message: bytes) -> bytes:
    """GMAC under key and nonce of zero bytes, as SP 800-38D writes it (algorithms 1, 2 and 4)."""
    encryptor = Cipher(algorithms.AES128(bytes(16)), modes.ECB()).encryptor()  # noqa: S305 - the oracle
    h = int.from_bytes(encryptor.update(bytes(16)), "big")
    blocks = message + bytes(-len(message) % 16) + (8 * len(message)).to_bytes(8, "big") + bytes(8)
    y = 0
    for at in range(0, len(blocks), 16):
        x, v, y = y ^ int.from_bytes(blocks[at : at + 16], "big"), h, 0
        for bit in range(127, -1, -1):
            y ^= v if x >> bit & 1 else 0
            v = v >> 1 ^ (0xE1 << 120 if v & 1 else 0)
    return (y ^ int.from_bytes(encryptor.update(bytes(15) + b"\1"), "big")).to_bytes(16, "big")


def test_the_checksum_of_nothing_is_the_published_tag() -> None:
    """McGrew and Viega, "The Galois/Counter Mode of Operation (GCM)", appendix B, test case 1."""
    assert checksum(b"") == bytes.fromhex("58e2fccefa7e3061367f1d57a4e7455a")


@given(st.binary(max_size=200), st.integers(0, 200))
def test_the_checksum_is_that_of_the_standard_in_any_pieces(message: bytes, cut: int) -> None:
    running = Running()
    running.update(message[:cut])
    running.update(message[cut:])
    assert running.finish() == checksum(message) == ghash_tag(message)


@pytest.mark.parametrize("size", [0, 5, CHUNK_BYTES + 5])
def test_a_message_with_another_checksum_does_not_count(size: int) -> None:
    outgoing = Outgoing(SESSION, 3, message_of(size))
    announce, payload = outgoing.announce()
    incoming = Incoming.of(msgspec.structs.replace(announce, checksum=bytes(16)), payload, size)
    for pull in [] if incoming.complete else list(incoming.pulls()):
        incoming.add(*outgoing.chunk(pull))
    with pytest.raises(RemoteProtocolError, match="another checksum"):
        incoming.message()


def test_messages_are_shown_by_no_repr() -> None:
    outgoing, incoming = long(CHUNK_BYTES + 5)
    for pull in list(incoming.pulls()):
        incoming.add(*outgoing.chunk(pull))
    assert "message=" not in repr(outgoing)
    assert "pieces=" not in repr(incoming)


@pytest.mark.parametrize("text", ["\x1b[2J", "two\nlines", "\u202e"])
def test_a_reason_that_could_upset_a_terminal_is_refused_and_never_sent(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match="not printable"):
        decode_from_client([encode(Leave(SESSION, text))])
    with pytest.raises(RemoteProtocolError, match="not printable"):
        decode_from_server([encode(End(SESSION, text))])
    assert decode_from_client([encode(Leave(SESSION, reason(text + "!" * 600)))])
