"""Messages in frames: headers, checksums, whole exchanges, and frames that must be refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tests.vectors.independent_transport import content
from tests.vectors.makers.plans import Json
from transport.frames import (
    CHUNK_BYTES,
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
    Refuse,
    Replaced,
    checksum,
    encode,
)

SESSION = bytes(range(8))
LIMIT = 3_000_000
HEADERS: tuple[Frame, ...] = (
    Hello(2),
    Refuse(2),
    Offer(SESSION, b"parameters"),
    Announce(SESSION, 0, 41, checksum(content(41))),
    Announce(SESSION, 255, 2**32 - 1, bytes(16)),
    Pull(SESSION, 127, 262_144),
    Chunk(SESSION, 128, 65_535),
    Leave(SESSION, "größe"),
    Leave(SESSION, ""),
    End(SESSION, ""),
    End(SESSION, "x" * 500),
    Replaced(),
    Ping(),
    Close(),
)
EXCHANGES = (
    ("it goes with its announcement", 3, 41),
    ("the longest that goes with its announcement", 3, CHUNK_BYTES),
    ("two chunks, of which the last has one byte", 0, CHUNK_BYTES + 1),
    ("eight chunks: a full window, and half of one anew each time that half is here", 200, 2_000_000),
)


def framing() -> Json:
    return {
        "what": "Messages in frames (sections 4.2 to 4.4, 11.1): see README.md.",
        "session": SESSION.hex(),
        "limit": LIMIT,
        "headers": [{"fields": fields(frame), "header": encode(frame).hex()} for frame in HEADERS],
        "checksums": [{"size": n, "checksum": checksum(content(n)).hex()} for n in (0, 1, 16, 41, 262_145)],
        "exchanges": [exchanged(*case) for case in EXCHANGES],
        "refused": [*not_frames(), *at_receiver(), *at_sender()],
    }


def fields(frame: Frame) -> list[Any]:
    values = [frame.__struct_config__.tag, *msgspec.structs.astuple(frame)]
    return [value.hex() if isinstance(value, bytes) else value for value in values]


def exchanged(what: str, number: int, size: int) -> Json:
    """By this package's two ends, each frame handled when it comes."""
    sender = Outgoing(SESSION, number, content(size))
    announce, payload = sender.announce()
    receiver, frames = Incoming.of(announce, payload, LIMIT), [shown("sender", announce, 0, payload)]
    asked: list[Pull] = []
    while not receiver.complete:
        pulls = list(receiver.pulls())
        frames += [shown("receiver", pull, 0, None) for pull in pulls]
        asked += pulls
        chunk, piece = sender.chunk(asked.pop(0))
        frames.append(shown("sender", chunk, chunk.offset, piece))
        receiver.add(chunk, piece)
    assert bytes(receiver.message()) == content(size)
    return {"what": what, "number": number, "size": size, "frames": frames}


def shown(who: str, frame: Frame, offset: int, payload: Any) -> Json:
    made: Json = {"from": who, "header": encode(frame).hex()}
    if payload is not None:
        made["payload"] = [offset, len(payload)]
    return made


def not_frames() -> Iterator[Json]:
    """By themselves, whatever the state. by: who says it. parts: as they travel."""

    def case(by: str, what: str, words: str, *parts: bytes) -> Json:
        return {"what": what, "by": by, "parts": [part.hex() for part in parts], "words": words}

    hello, pull = encode(Hello(2)), encode(Pull(SESSION, 0, 0))
    announce, chunk = Announce(SESSION, 0, 1, checksum(b"x")), encode(Chunk(SESSION, 0, 0))
    for by in ("client", "server"):
        other = f"not a {by}'s frame"
        yield case(by, "no bytes", other, b"")
        yield case(by, "no msgpack", other, b"\xc1")
        yield case(by, "no array", other, b"\xa4ping")
        yield case(by, "an unknown name", other, b"\x91\xa4pong")
        short = pull.replace(b"\xc4\x08" + SESSION, b"\xc4\x07" + SESSION[:7])
        yield case(by, "a session of 7 bytes", other, short)
        yield case(by, "a number of 256", other, pull[:-2] + b"\xcd\x01\x00\x00")
        yield case(by, "an offset of 2^32", other, pull[:-1] + b"\xcf" + (2**32).to_bytes(8, "big"))
        yield case(by, "a negative offset", other, pull[:-1] + b"\xff")
        yield case(by, "a field too many", other, b"\x95" + pull[1:] + b"\x00")
        yield case(by, "a field too few", other, b"\x93" + pull[1:-1])
        yield case(by, "a byte behind the header", other, pull + b"\x00")
        yield case(by, "a chunk without a payload", "1 parts in a chunk frame", chunk)
        yield case(by, "a pull with a payload", "2 parts in a pull frame", pull, b"x")
        yield case(by, "three parts", "3 parts in a message frame", encode(announce), b"x", b"")
    yield case("client", "what the server says", "not a client's frame", encode(Ping()))
    yield case("server", "what a client says", "not a server's frame", hello)
    long = encode(Leave(SESSION, "x" * 500)).replace(b"\xda\x01\xf4", b"\xda\x01\xf5") + b"x"
    yield case("client", "a reason of 501 characters", "not a client's frame", long)
    for by, bad in (("client", Leave(SESSION, "a\nb")), ("server", End(SESSION, "\x1b[2J"))):
        yield case(by, "a reason that is not printable", "not printable", encode(bad))


def at_receiver() -> Iterator[Json]:
    """After the first frames of an exchange, in the place of the next one. payload: so many bytes of the
    message from there, or hex."""

    def case(what: str, words: str, exchange: int, after: int, frame: Frame, payload: Any = None) -> Json:
        made: Json = {"what": what, "at": "receiver", "exchange": exchange, "after": after}
        return made | {"header": encode(frame).hex(), "payload": payload, "words": words}

    size = EXCHANGES[3][2]
    good = checksum(content(size))

    def announce(size: int) -> Announce:
        return Announce(SESSION, 200, size, checksum(content(size)))

    def chunk(offset: int, number: int = 200) -> Chunk:
        return Chunk(SESSION, number, offset)

    long = Announce(SESSION, 200, LIMIT + 1, good)
    yield case("longer than can be due", "at most 3000000 can be due", 3, 0, long)
    short = "a short message comes with its announcement, a long one in chunks"
    yield case("a short one without its payload", short, 3, 0, announce(41))
    yield case("a long one with a payload", short, 3, 0, announce(size), [0, CHUNK_BYTES])
    yield case("a payload of another size", "40 bytes where 41 were announced", 3, 0, announce(41), [0, 40])
    other = Announce(SESSION, 200, 41, good)
    yield case("another checksum", "another checksum than announced", 3, 0, other, [0, 41])
    next_one = "a chunk that is not the next one asked for"
    yield case("before anything was asked for", next_one, 3, 1, chunk(0), [0, CHUNK_BYTES])
    yield case("the second one first", next_one, 3, 7, chunk(CHUNK_BYTES), [CHUNK_BYTES, CHUNK_BYTES])
    yield case("of another number", next_one, 3, 7, chunk(0, 201), [0, CHUNK_BYTES])
    yield case("the first one twice", next_one, 3, 8, chunk(0), [0, CHUNK_BYTES])
    yield case("a byte too short", "a chunk of 262143 bytes", 3, 7, chunk(0), [0, CHUNK_BYTES - 1])
    yield case("a byte too long", "a chunk of 262145 bytes", 3, 7, chunk(0), [0, CHUNK_BYTES + 1])
    yield case("the last one with other bytes", "another checksum", 2, 4, chunk(CHUNK_BYTES, 0), "00")


def at_sender() -> Iterator[Json]:
    def case(what: str, words: str, exchange: int, after: int, frame: Frame) -> Json:
        made: Json = {"what": what, "at": "sender", "exchange": exchange, "after": after}
        return made | {"header": encode(frame).hex(), "payload": None, "words": words}

    next_one = "asked for a chunk that is not the next one"
    yield case("of what went with its announcement", next_one, 0, 1, Pull(SESSION, 3, 0))
    yield case("not the first one first", next_one, 3, 1, Pull(SESSION, 200, CHUNK_BYTES))
    yield case("between two chunks", next_one, 3, 1, Pull(SESSION, 200, 1))
    yield case("of another number", next_one, 3, 1, Pull(SESSION, 199, 0))
    behind = "asked for a chunk behind the end of the message"
    yield case("when all was sent", behind, 2, 5, Pull(SESSION, 0, CHUNK_BYTES + 1))
