"""PRG (Bonawitz et al., section 3.3): stream ciphers' keystreams, expanded and added block by block.

Counter and nonce start at 0: a seed is derived for one stream and never used for another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from time import perf_counter
from typing import Any, Final, Literal, Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import DTypeLike, NDArray

Prg = Literal["aes-128-ctr", "chacha20"]
Words = NDArray[np.unsignedinteger[Any]]

SEED_BYTES: Final = 32
BLOCK_BYTES: Final = 128 * 1024  # zeros, keystream and a block of the sum stay in the second-level cache
_OPEN_STREAMS: Final = 64  # expanded side by side, on one block of the sum after the other
_LONG: Final = 64 * 1024  # bytes from which a second cipher context pays
_LEAST_RANGE: Final = 1 << 15  # coordinates of one task of an executor
_MOST_RANGES: Final = 64
_ZEROS: Final = memoryview(bytes(BLOCK_BYTES))


def _aes(seed: bytes, at: int) -> CipherContext:
    return Cipher(algorithms.AES(seed[:16]), modes.CTR((at // 16).to_bytes(16, "big"))).encryptor()


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
    gcm, ctr = Cipher(algorithms.AES(bytes(16)), modes.GCM(bytes(12))).encryptor(), _aes(bytes(16), 0)
    best, buffer = {gcm: math.inf, ctr: math.inf}, bytearray(BLOCK_BYTES)
    for _ in range(8):
        for context in best:
            begun = perf_counter()
            context.update_into(_ZEROS, buffer)
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
            # GCM under a nonce of zeros encrypts with the counter from 2 on.
            self._head = cipher(seed, 0).update(_ZEROS[:32])
            self._context = Cipher(algorithms.AES(seed[:16]), modes.GCM(bytes(12))).encryptor()
        else:
            self._context = cipher(seed, at)
            self._context.update(_ZEROS[: at % block])

    def fill(self, raw: memoryview) -> None:
        if self._head:
            raw[:32], self._head = self._head, b""
            raw = raw[32:]
        self._context.update_into(_ZEROS[: len(raw)], raw)


def keystream(seed: bytes, count: int, dtype: DTypeLike, prg: Prg = "aes-128-ctr") -> Iterator[Words]:
    """`count` uniform little-endian words of the stream under `seed`, a block at a time.

    Every block is a view of one buffer that the next block overwrites.
    """
    words = _scratch(dtype)
    stream = _Stream(seed, prg, 0, count * words.itemsize)
    for start in range(0, count, len(words)):
        block = words[: min(len(words), count - start)]
        stream.fill(block.view(np.uint8).data)
        yield block


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
    words = _scratch(y.dtype)
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


class Executor(Protocol):
    """Any `concurrent.futures.Executor`: threads, processes, or somebody else's. The caller owns it."""

    def submit(self, fn: Callable[..., Words], /, *args: Any) -> Any: ...


def add_masks_by(
    executor: Executor, y: Words, plus: Iterable[bytes], minus: Iterable[bytes], prg: Prg
) -> None:
    """`add_masks`, a range of coordinates for each task: any range of a stream can be had by itself."""
    seeds = list(plus), list(minus)
    step = max(_LEAST_RANGE, -(-len(y) // _MOST_RANGES))
    parts = {
        start: executor.submit(_masked, y[start : start + step], *seeds, prg, start)
        for start in range(0, len(y), step)
    }
    for start, part in parts.items():
        y[start : start + step] = part.result()  # a thread has worked on y itself


def _masked(y: Words, plus: list[bytes], minus: list[bytes], prg: Prg, start: int) -> Words:
    add_masks(y, plus, minus, prg, start)
    return y


def _scratch(dtype: DTypeLike) -> Words:
    word = np.dtype(dtype)
    return np.empty(BLOCK_BYTES // word.itemsize, dtype=word.newbyteorder("<"))
