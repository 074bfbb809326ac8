"""PRG (Bonawitz et al., section 3.3): a stream cipher's keystream, expanded and added block by block.

Counter and nonce start at 0: a seed is derived for one stream and never used for another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import DTypeLike, NDArray

Prg = Literal["aes-128-ctr", "chacha20"]

_CIPHERS: Final[Mapping[Prg, Callable[[bytes], Cipher[Any]]]] = {
    "aes-128-ctr": lambda seed: Cipher(algorithms.AES(seed[:16]), modes.CTR(bytes(16))),
    "chacha20": lambda seed: Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None),
}
"""AES-128 (FIPS 197) in counter mode (SP 800-38A) under the seed's first 16 bytes, from a counter block of
zeros; ChaCha20 (RFC 8439) under the seed, from block 0 under a nonce of zeros.
"""
SEED_BYTES: Final = 32
BLOCK_BYTES: Final = 128 * 1024  # zeros, keystream and target block stay in the second-level cache
_ZEROS: Final = bytes(BLOCK_BYTES)

Words = NDArray[np.unsignedinteger[Any]]


def keystream(seed: bytes, count: int, dtype: DTypeLike, prg: Prg = "aes-128-ctr") -> Iterator[Words]:
    """`count` uniform little-endian words of the stream under `seed`, a block at a time.

    Every block is a view of one buffer that the next block overwrites.
    """
    encryptor = _CIPHERS[prg](seed).encryptor()
    words = np.empty(BLOCK_BYTES // np.dtype(dtype).itemsize, dtype=np.dtype(dtype).newbyteorder("<"))
    raw = words.view(np.uint8).data
    for start in range(0, count, len(words)):
        block = words[: min(len(words), count - start)]
        encryptor.update_into(memoryview(_ZEROS)[: block.nbytes], raw[: block.nbytes])
        yield block


def add_mask(y: Words, seed: bytes, prg: Prg = "aes-128-ctr") -> None:
    """y += PRG(seed) in place, modulo the word: reduced to the ring's b bits when packed or read."""
    start = 0
    for block in keystream(seed, len(y), y.dtype, prg):
        y[start : start + len(block)] += block
        start += len(block)


def subtract_mask(y: Words, seed: bytes, prg: Prg = "aes-128-ctr") -> None:
    """y -= PRG(seed) in place, modulo the word."""
    start = 0
    for block in keystream(seed, len(y), y.dtype, prg):
        y[start : start + len(block)] -= block
        start += len(block)
