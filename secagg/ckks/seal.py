"""TenSEAL, and how ciphertexts and keys get in and out of it: as the residues they consist of.

Only this file imports TenSEAL, where it is first needed: a client needs it, a server does not. SEAL's own
serialisation is never parsed off the wire. What arrives is residues, each checked against its prime; SEAL's
objects are put together from them here (format: SEAL 4's `Serialization`, `Ciphertext::save`,
`Plaintext::save`; TenSEAL's `tensors.proto` and `tensealcontext.proto`).

TenSEAL encodes real slots, N/2 of them, in a polynomial that is the same under X -> 1/X. A second one, times
X^(N/2), stands in the other half of the same ciphertext: its slots are the imaginary parts of the sum's.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.ckks.ring import SPECIAL_BITS, Residues, Ring
from secagg.crypto import NeverPickled
from secagg.errors import LocalProtocolError

_HEADER: Final = struct.Struct("<HBBBBHQ")  # magic, its own size, version, compression, reserved, whole size
_UNCOMPRESSED: Final = 0
_ZSTANDARD: Final = 2


def tenseal() -> Any:
    """Raises: LocalProtocolError where it, or what reads its output, is not installed."""
    try:
        import tenseal
        import zstandard  # noqa: F401
    except ImportError:
        raise LocalProtocolError("CKKS needs TenSEAL: pip install 'secagg[ckks]'") from None
    return tenseal


@dataclass(frozen=True)
class Written:
    """What is public of SEAL's parameters, as the SEAL that is here writes them, which is the one that is to
    read them.

    start: magic, size of the header, version. parameters: TenSEAL's message of them. of_key, of_ciphertext:
    SEAL's names of the parameters with the special prime, and without it.
    """

    start: tuple[int, ...]
    parameters: bytes
    of_key: tuple[int, ...]
    of_ciphertext: tuple[int, ...]

    def packed(self, body: bytes) -> bytes:
        return _HEADER.pack(*self.start, _UNCOMPRESSED, 0, _HEADER.size + len(body)) + body

    def array(self, words: Residues) -> bytes:
        return self.packed(struct.pack("<Q", words.size) + words.astype("<u8").tobytes())


class SealKeys(NeverPickled, ABC):
    """A secret key, and TenSEAL's context with it, whatever is encrypted under it.

    Security: neither printed nor pickled; whoever has it reads every ciphertext of the session.
    """

    __slots__ = ("_context", "_ring", "_setting", "_ts")

    def __init__(self, ring: Ring, setting: int, secret: Residues | None = None) -> None:
        """setting: the scheme's one number beside the ring. secret: the key's residues, (K, N) for each prime
        and the special one; None: a fresh key, with randomness of the operating system, as SEAL takes it.
        """
        self._ts, self._ring, self._setting = tenseal(), ring, setting
        self._context = (
            self._fresh([*ring.prime_bits, SPECIAL_BITS]) if secret is None else self._with(secret)
        )

    @abstractmethod
    def _fresh(self, sizes: list[int]) -> Any:
        """A context of the scheme, for primes of these sizes, with a fresh key."""

    @abstractmethod
    def _template(self) -> Any:
        """A ciphertext of SEAL, of which the parameters' name is taken."""

    @property
    def _written(self) -> Written:
        return _written(type(self), self._ring, self._setting)

    def written(self) -> Written:
        """As of this key's context, in which nothing secret is read."""
        bare = self._context.serialize(
            save_public_key=False, save_secret_key=False, save_galois_keys=False, save_relin_keys=False
        )
        kept = [(number, value) for number, value in _fields(bare) if number in (1, 2)]
        return Written(
            start=_HEADER.unpack_from(_field(bare, 1))[:4],
            parameters=b"".join(_protobuf(number, value) for number, value in kept),
            of_key=tuple(self._context.secret_key().data.data().parms_id()),
            of_ciphertext=tuple(self._template().parms_id()),
        )

    def secret(self) -> Residues:
        """(K, N), in SEAL's order of evaluation."""
        plaintext = self._context.secret_key().data.data()
        count = (len(self._ring.primes) + 1) * self._ring.degree
        return np.fromiter(map(plaintext.__getitem__, range(count)), np.uint64, count).reshape(
            -1, self._ring.degree
        )

    def _with(self, secret: Residues) -> Any:
        written = self._written
        body = struct.pack("<4QQd", *written.of_key, secret.size, 1.0) + written.array(secret)
        key = _protobuf(1, written.packed(body))
        symmetric = bytes([4 << 3, 1])  # field 4, a varint: the type of encryption
        return self._ts.context_from(written.parameters + _protobuf(3, key) + symmetric, n_threads=1)

    def _residues(self, vector: Any) -> Residues:
        """(2, L, N) of the one ciphertext of a vector that TenSEAL encrypted here."""
        primes, degree = len(self._ring.primes), self._ring.degree
        return _last_words(_field(vector.serialize(), 2), 2 * primes * degree).reshape(2, primes, degree)

    def _message(self, residues: Residues, numbers: int, *, evaluated: bool, scale: float) -> bytes:
        """(2, L, N) residues as TenSEAL's message of a vector of so many numbers. evaluated: in SEAL's order
        of evaluation; else coefficients.
        """
        written, shape = self._written, (self._ring.degree, len(self._ring.primes))
        body = struct.pack("<4QBQQQdQ", *written.of_ciphertext, evaluated, 2, *shape, scale, 1)
        sealed = written.packed(body + written.array(residues))
        return _protobuf(1, _varint(numbers)) + _protobuf(2, sealed)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(<hidden>)"


@lru_cache(maxsize=16)
def _written(kind: type[SealKeys], ring: Ring, setting: int) -> Written:
    """Once in a process, of a key that nothing is encrypted with: SEAL takes longer to check parameters than
    to encrypt.
    """
    return kind(ring, setting).written()


class Keys(SealKeys):
    """The key of a CKKS session, whose ciphertexts are in SEAL's order of evaluation."""

    __slots__ = ()

    def __init__(self, ring: Ring, scale: int, secret: Residues | None = None) -> None:
        """secret: as of `SealKeys`."""
        super().__init__(ring, scale, secret)

    @property
    def _scale(self) -> int:
        return self._setting

    def _fresh(self, sizes: list[int]) -> Any:
        context = self._ts.context(
            self._ts.SCHEME_TYPE.CKKS,
            self._ring.degree,
            coeff_mod_bit_sizes=sizes,
            encryption_type=self._ts.ENCRYPTION_TYPE.SYMMETRIC,
            n_threads=1,
        )
        context.global_scale = float(self._scale)
        return context

    def _with(self, secret: Residues) -> Any:
        context = super()._with(secret)
        context.global_scale = float(self._scale)
        return context

    def _template(self) -> Any:
        return self._ts.ckks_vector(self._context, [0.0]).ciphertext()[0]

    def encrypt(self, slots: NDArray[np.float64]) -> Residues:
        """(s,) real numbers, s at most N -> (2, L, N) residues."""
        half = self._ring.degree // 2
        total = self._encrypt_half(slots[:half])
        if len(slots) > half:
            # Both are below a prime of 60 bits: their sum is far from 2^64.
            total += self._turned(self._encrypt_half(slots[half:]), 1)
            for i, q in enumerate(self._ring.primes):
                total[:, i] %= np.uint64(q)
        return total

    def _encrypt_half(self, slots: NDArray[np.float64]) -> Residues:
        padded = np.zeros(self._ring.degree // 2)  # TenSEAL would repeat what is shorter
        padded[: len(slots)] = slots
        return self._residues(self._ts.ckks_vector(self._context, padded.tolist()))

    def decrypt(self, residues: Residues) -> NDArray[np.float64]:
        """(2, L, N) residues -> (N,) real numbers."""
        return np.concatenate([self._decrypt_half(residues), self._decrypt_half(self._turned(residues, -1))])

    def _decrypt_half(self, residues: Residues) -> NDArray[np.float64]:
        message = self._message(residues, self._ring.degree // 2, evaluated=True, scale=float(self._scale))
        message += b"\x19" + struct.pack("<d", self._scale)  # field 3, in 8 bytes
        return np.array(self._ts.ckks_vector_from(self._context, message).decrypt(), np.float64)

    def _turned(self, residues: Residues, sign: int) -> Residues:
        """Times X^(N/2), or by it: in SEAL's order a square root of -1, from the middle on its opposite."""
        turned, half = np.empty_like(residues), self._ring.degree // 2
        for i, q in enumerate(self._ring.primes):
            unit = _square_root_of_minus_one(self._ring, i)
            first = unit if sign == 1 else q - unit
            turned[:, i, :half] = _times(residues[:, i, :half], first, q)
            turned[:, i, half:] = _times(residues[:, i, half:], q - first, q)
        return turned


def _last_words(serialised: bytes, count: int) -> Residues:
    """The residues at the end of an object that SEAL wrote in this process: so they leave it ten times faster
    than one by one.
    """
    *_, compression, _, _ = _HEADER.unpack_from(serialised)
    body = serialised[_HEADER.size :]
    if compression == _ZSTANDARD:
        import zstandard

        body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
    return np.frombuffer(body, "<u8", count, len(body) - 8 * count).astype(np.uint64)


# Arithmetic modulo a prime of at most 60 bits


@lru_cache(maxsize=64)
def _square_root_of_minus_one(ring: Ring, which: int) -> int:
    """psi^(N/2), the value of X^(N/2) at psi: SEAL takes the least primitive 2N-th root of unity."""
    q, degree = ring.primes[which], ring.degree
    root = next(r for g in range(2, q) if pow(r := pow(g, (q - 1) // (2 * degree), q), degree, q) == q - 1)
    square, least, power = root * root % q, root, root
    for _ in range(degree - 1):
        power = power * square % q
        least = min(least, power)
    return pow(least, degree // 2, q)


def _times(x: Residues, factor: int, q: int) -> Residues:
    """x times a constant, modulo q (Shoup's quotient by a precomputed reciprocal)."""
    quotient = _high(x, (factor << 64) // q)
    # Each product wraps around; their difference is below 2 q, and right.
    product = x * np.uint64(factor) - quotient * np.uint64(q)
    np.subtract(product, np.uint64(q), out=product, where=product >= np.uint64(q))
    return product


def _high(x: Residues, y: int) -> Residues:
    """The upper 64 of 128 bits of x y."""
    low32, shift = np.uint64(2**32 - 1), np.uint64(32)
    x0, x1, y0, y1 = x & low32, x >> shift, np.uint64(y % 2**32), np.uint64(y >> 32)
    middle = (x0 * y0 >> shift) + (x1 * y0 & low32) + (x0 * y1 & low32)
    high: Residues = x1 * y1 + (x1 * y0 >> shift) + (x0 * y1 >> shift) + (middle >> shift)
    return high


# Just enough of protobuf for TenSEAL's own messages, made in this process


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def _protobuf(number: int, value: bytes) -> bytes:
    """One length-delimited field."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, value) of the length-delimited fields; others are passed over."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        match key & 7:
            case 2:
                size = varint()
                yield key >> 3, message[at : at + size]
                at += size
            case 1:
                at += 8
            case _:
                varint()


def _field(message: bytes, number: int) -> bytes:
    return next(value for found, value in _fields(message) if found == number)
