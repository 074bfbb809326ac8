"""PRG (Bonawitz et al., section 3.3): stream ciphers' keystreams, expanded and added block by block.

Counter and nonce start at 0: a seed is derived for one stream and never used for another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from time import perf_counter
from typing import Final, Literal

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import DTypeLike

from secagg.bits import Words

Prg = Literal["aes-128-ctr", "chacha20"]

SEED_BYTES: Final = 32
BLOCK_BYTES: Final = 128 * 1024  # zeros, keystream and a block of the sum stay in the second-level cache
_OPEN_STREAMS: Final = 64  # expanded side by side, on one block of the sum after the other
_LONG: Final = 256 * 1024  # bytes from which a second cipher context pays
_ZEROS: Final = memoryview(bytes(2 * BLOCK_BYTES))


def _aes(seed: bytes, at: int) -> CipherContext:
    mode = modes.CTR((at // 16).to_bytes(16, "big")) if at else _FROM_BLOCK_0
    return Cipher(algorithms.AES128(seed[:16]), mode).encryptor()


def _aes_from_block_2(seed: bytes) -> tuple[bytes, CipherContext]:
    """Blocks 0 and 1, and the rest: AES-GCM under a nonce of zeros encrypts with the counter from 2 on."""
    key = algorithms.AES128(seed[:16])
    head = Cipher(key, _FROM_BLOCK_0).encryptor().update(_HEAD)
    return head, Cipher(key, _NONCE_0).encryptor()


_FROM_BLOCK_0: Final = modes.CTR(bytes(16))
_NONCE_0: Final = modes.GCM(bytes(12))
_HEAD: Final = bytes(32)


def _chacha20(seed: bytes, at: int) -> CipherContext:
    return Cipher(algorithms.ChaCha20(seed, (at // 64).to_bytes(4, "little") + bytes(12)), None).encryptor()


_CIPHERS: Final[Mapping[Prg, tuple[int, Callable[[bytes, int], CipherContext]]]] = {
    "aes-128-ctr": (16, _aes),
    "chacha20": (64, _chacha20),
}
"""PRG -> bytes of a block, and the cipher from the block on that holds a byte. AES-128 (FIPS 197) in counter
mode (SP 800-38A) under the seed's first 16 bytes, counting from 0; ChaCha20 (RFC 8439) under the seed, from
block 0 under a nonce of zeros.
"""


@lru_cache(maxsize=1)
def gcm_is_faster() -> bool:
    """Whether this machine's AES-GCM code, authentication and all, outruns its AES-CTR code: OpenSSL may have
    vector instructions for the one and not for the other. Tried once, in a few milliseconds.
    """
    (_, gcm), ctr = _aes_from_block_2(bytes(16)), _aes(bytes(16), 0)
    best, buffer = {gcm: math.inf, ctr: math.inf}, bytearray(BLOCK_BYTES)
    for _ in range(8):
        for context in best:
            begun = perf_counter()
            context.update_into(_ZEROS[:BLOCK_BYTES], buffer)
            best[context] = min(best[context], perf_counter() - begun)
    return best[gcm] < best[ctr]


class _Stream:
    """One keystream from byte `at` on, of which some `length` bytes will be wanted."""

    __slots__ = ("_context", "_head")
    _context: CipherContext

    def __init__(self, seed: bytes, prg: Prg, at: int, length: int) -> None:
        block, cipher = _CIPHERS[prg]
        self._head = b""
        if prg == "aes-128-ctr" and at == 0 and length >= _LONG and gcm_is_faster():
            self._head, self._context = _aes_from_block_2(seed)
        else:
            self._context = cipher(seed, at)
            if skip := at % block:
                self._context.update(_ZEROS[:skip])

    def fill(self, raw: memoryview) -> None:
        if self._head:
            raw[:32], self._head = self._head, b""
            raw = raw[32:]
        self._context.update_into(_ZEROS[: len(raw)], raw)


def keystream(seed: bytes, count: int, dtype: DTypeLike, prg: Prg = "aes-128-ctr") -> Iterator[Words]:
    """`count` uniform little-endian words of the stream under `seed`, a block at a time.

    Every block is a view of one buffer that the next block overwrites.
    """
    words = _scratch(dtype, BLOCK_BYTES // np.dtype(dtype).itemsize)
    stream = _Stream(seed, prg, 0, count * words.itemsize)
    for start in range(0, count, len(words)):
        block = words[: min(len(words), count - start)]
        stream.fill(block.view(np.uint8).data)
        yield block


def generator(seed: bytes) -> Callable[[int], bytes]:
    """n -> the next n bytes of ChaCha20 under the seed: for a party that has to draw the same again."""
    context = _chacha20(seed, 0)
    return lambda n: context.update(bytes(n))


def add_masks(
    y: Words,
    plus: Iterable[bytes] = (),
    minus: Iterable[bytes] = (),
    prg: Prg = "aes-128-ctr",
    start: int = 0,
) -> None:
    """y += the streams under the seeds of `plus`, less those of `minus`, in place, modulo the word.

    Reduced to the ring's b bits when packed or read. start: the word of each stream that belongs to y[0].
    """
    words = _scratch(y.dtype, _even_block(y))
    for seeds, apply in ((iter(plus), np.add), (iter(minus), np.subtract)):
        while streams := [
            _Stream(seed, prg, start * y.itemsize, y.nbytes) for seed in islice(seeds, _OPEN_STREAMS)
        ]:
            # All of them on one block of y before the next: y stays in the cache too.
            for first in range(0, len(y), len(words)):
                target = y[first : first + len(words)]
                block = words[: len(target)]
                raw = block.view(np.uint8).data
                for stream in streams:
                    stream.fill(raw)
                    apply(target, block, out=target)


def _even_block(y: Words) -> int:
    """Words of a block when y is cut into blocks alike: a short one at the end would cost what a long one
    does. About BLOCK_BYTES, and less than twice.
    """
    blocks = max(1, round(y.nbytes / BLOCK_BYTES))
    return max(1, -(-len(y) // (16 * blocks))) * 16


def _scratch(dtype: DTypeLike, words: int) -> Words:
    return np.empty(words, dtype=np.dtype(dtype).newbyteorder("<"))
