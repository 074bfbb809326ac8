"""A message in frames (docs/protocol.md, sections 4.2 to 4.4) without secagg or transport."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.vectors import independent as i

CHUNK, WINDOW = 262_144, 6


def content(size: int) -> bytes:
    """SHA-256(be8(0)) ‖ SHA-256(be8(1)) ‖ …, of which the first `size` bytes."""
    blocks = (hashlib.sha256(j.to_bytes(8, "big")).digest() for j in range(-(-size // 32)))
    return b"".join(blocks)[:size]


def checksum(message: bytes) -> bytes:
    return AESGCM(bytes(16)).encrypt(bytes(12), b"", message)


Frame = tuple[str, list[Any], bytes | None]
"""Of the sender or the receiver of the message; its header; its payload."""


def exchange(session: bytes, number: int, message: bytes) -> Iterator[Frame]:
    """All frames of one message, by a receiver that asks for half a window at a time."""
    size, asked, here = len(message), 0, 0
    header = ["message", session, number, size, checksum(message)]
    if size <= CHUNK:
        yield "sender", header, message
        return
    yield "sender", header, None
    waiting: list[int] = []
    while here < size:
        if asked - here <= WINDOW // 2 * CHUNK:
            while asked < size and asked - here < WINDOW * CHUNK:
                yield "receiver", ["pull", session, number, asked], None
                waiting.append(asked)
                asked += CHUNK
        offset = waiting.pop(0)
        chunk = message[offset : offset + CHUNK]
        yield "sender", ["chunk", session, number, offset], chunk
        here += len(chunk)


def shown(frames: Iterator[Frame]) -> list[dict[str, Any]]:
    """As transport.json has them: of a payload what part of the message it is."""
    made = []
    for who, header, payload in frames:
        frame: dict[str, Any] = {"from": who, "header": i.packed(header).hex()}
        if payload is not None:
            frame["payload"] = [0 if header[0] == "message" else header[3], len(payload)]
        made.append(frame)
    return made
