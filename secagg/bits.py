"""Values of exactly b bits each, packed with nothing between them: how vectors of Z_{2^b} travel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from secagg.errors import RemoteProtocolError

Words = NDArray[np.unsignedinteger[Any]]
"""A vector of Z_{2^b} while it is masked and summed: (m,) machine words of `word_type(b)`."""

_BLOCK: Final = 1 << 16  # values packed or unpacked at once, in steps of every eighth


def word_type(bits: int) -> DTypeLike:
    """The machine word that holds an element of Z_{2^bits} while it is masked and summed."""
    return np.uint32 if bits <= 32 else np.uint64


def packed_bytes(length: int, bits: int) -> int:
    """Bytes of `length` values of exactly `bits` bits each."""
    return (length * bits + 7) // 8


def pack(codes: Words, bits: int) -> bytearray:
    """(m,) words -> ceil(m b / 8) bytes: the low b bits of each, least significant first, nothing between.

    bits: 1..62.
    """
    packed = bytearray(packed_bytes(len(codes), bits))
    for start in range(0, len(codes), _BLOCK):
        chunk = codes[start : start + _BLOCK]
        first, size = start * bits // 8, packed_bytes(len(chunk), bits)
        packed[first : first + size] = _pack_block(chunk, bits)[:size].data
    return packed


def _pack_block(codes: Words, bits: int) -> NDArray[np.uint8]:
    if bits < 8:  # windows of 64 bits, one every `bits` bytes, would overlap
        each = np.unpackbits(codes.astype(np.uint8)[:, None], axis=1, count=bits, bitorder="little")
        return np.packbits(each, bitorder="little")
    raw = np.zeros(packed_bytes(len(codes), bits) + 2 * bits + 8, np.uint8)
    for j in range(8):
        values = codes[j::8].astype(np.uint64)
        values &= np.uint64(2**bits - 1)
        window, above, shift = _windows(raw, j, len(values), bits)
        if shift + bits > 64:
            above |= (values >> np.uint64(64 - shift)).astype(np.uint8)
        values <<= np.uint64(shift)
        window |= values
    return raw


def _windows(
    raw: NDArray[np.uint8], j: int, count: int, bits: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint8], int]:
    """Eight values of b bits take b bytes. Value j of each eight begins `shift` bits into a window of 64; of
    more than 57 bits it may go on in the byte above.
    """
    byte, shift = divmod(j * bits, 8)
    window = np.ndarray((count,), "<u8", raw, byte, (bits,))
    return window, raw[byte + 8 :: bits][:count], shift


def check_packed(packed: bytes | bytearray | memoryview, length: int, bits: int) -> None:
    """Raises: RemoteProtocolError unless these are `length` values of `bits` bits and nothing behind."""
    if len(packed) != packed_bytes(length, bits):
        raise RemoteProtocolError(f"a vector of {len(packed)} bytes, not {packed_bytes(length, bits)}")
    # Else one vector had many forms, and bits would travel that nobody reads.
    if (used := length * bits % 8) and packed[-1] >> used:
        raise RemoteProtocolError("bits behind the last coordinate are set")


def add_packed(total: Words, packed: bytes | bytearray | memoryview, bits: int) -> None:
    """total += the checked packed vector, in place, modulo the word: unpacked block by block."""
    raw = np.empty(packed_bytes(min(len(total), _BLOCK), bits) + 2 * bits + 8, np.uint8)
    for start in range(0, len(total), _BLOCK):
        target = total[start : start + _BLOCK]
        size = packed_bytes(len(target), bits)
        raw[:size] = np.frombuffer(packed, np.uint8, size, start * bits // 8)
        for j in range(min(8, len(target))):
            column = target[j::8]
            window, above, shift = _windows(raw, j, len(column), bits)
            values = window >> np.uint64(shift)
            if shift + bits > 64:
                values |= above.astype(np.uint64) << np.uint64(64 - shift)
            values &= np.uint64(2**bits - 1)
            column += values.astype(total.dtype)


def pack_each(vectors: Mapping[str, Words], bits: Mapping[str, int]) -> list[bytes]:
    """In the order of their names."""
    return [bytes(pack(x, bits[name])) for name, x in sorted(vectors.items())]


def add_each(
    vectors: Mapping[str, Words], packed: Sequence[bytes | memoryview], bits: Mapping[str, int]
) -> None:
    """Add checked packed vectors, in the order of the names of these, in place."""
    for (name, total), raw in zip(sorted(vectors.items()), packed, strict=True):
        add_packed(total, raw, bits[name])
