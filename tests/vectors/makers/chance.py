"""What stands in the place of `os.urandom`: bytes that anybody can compute again, and bytes of a record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator


class Counter:
    """SHA-256("secagg vectors/" ‖ label ‖ be8(i)) for i = 0, 1, …, one behind the other, given out in order.

    drawn: what was given, call by call.
    """

    def __init__(self, label: str) -> None:
        self._blocks = _blocks(label.encode())
        self._left = b""
        self.drawn: list[bytes] = []

    def __call__(self, n: int) -> bytes:
        while len(self._left) < n:
            self._left += next(self._blocks)
        given, self._left = self._left[:n], self._left[n:]
        self.drawn.append(given)
        return given


def _blocks(label: bytes) -> Iterator[bytes]:
    i = 0
    while True:
        yield hashlib.sha256(b"secagg vectors/" + label + i.to_bytes(8, "big")).digest()
        i += 1


class Record:
    """The recorded bytes, call by call, each of the length that is asked for."""

    def __init__(self, drawn: Iterable[bytes]) -> None:
        self._drawn = iter(drawn)

    def __call__(self, n: int) -> bytes:
        given = next(self._drawn)
        if len(given) != n:
            raise ValueError(f"{n} bytes are asked for, {len(given)} were recorded")
        return given
