"""PRG (Bonawitz et al., section 3.3): AES-128 in counter mode, expanded and added block by block.

The counter starts at 0 and the IV is 0: a key is derived for one stream and never used for another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import DTypeLike, NDArray

PRG_KEY_BYTES: Final = 16
BLOCK_BYTES: Final = 128 * 1024  # zeros, keystream and target block stay in the second-level cache
_ZEROS: Final = bytes(BLOCK_BYTES)

Words = NDArray[np.unsignedinteger[Any]]


def keystream(key: bytes, count: int, dtype: DTypeLike) -> Iterator[Words]:
    """`count` uniform little-endian words of the stream under `key`, a block at a time.

    Every block is a view of one buffer that the next block overwrites.
    """
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    words = np.empty(BLOCK_BYTES // np.dtype(dtype).itemsize, dtype=np.dtype(dtype).newbyteorder("<"))
    raw = words.view(np.uint8).data
    for start in range(0, count, len(words)):
        block = words[: min(len(words), count - start)]
        encryptor.update_into(memoryview(_ZEROS)[: block.nbytes], raw[: block.nbytes])
        yield block


def add_mask(y: Words, key: bytes) -> None:
    """y += PRG(key) in place, modulo the word: reduced to the ring's b bits when packed or read."""
    start = 0
    for block in keystream(key, len(y), y.dtype):
        y[start : start + len(block)] += block
        start += len(block)


def subtract_mask(y: Words, key: bytes) -> None:
    """y -= PRG(key) in place, modulo the word."""
    start = 0
    for block in keystream(key, len(y), y.dtype):
        y[start : start + len(block)] -= block
        start += len(block)
