"""The numbers of a session of decoys: the ring, the plaintext modulus t, and how candidates stand in them.

A client's vectors follow one another in the order of their names, N coordinates a polynomial. The server
multiplies a candidate's polynomials by its encrypted selector, 0 or 1, and adds up all products: what is
decrypted is the sum of the chosen candidates, modulo t, as long as the noise stays below Q / (2t). It grows
with every coordinate that it is multiplied by, and what is too large wraps around unseen. It is bounded for
the worst case, therefore, and not for the likely one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from flint import fmpz
from numpy.typing import NDArray

from secagg.bits import Words, add_packed, check_packed, pack, packed_bytes, word_type
from secagg.ckks.ring import MAX_MODULUS_BITS, SPECIAL_BITS, Ring
from secagg.decoys.transform import MAX_PRIME_BITS
from secagg.errors import RemoteProtocolError
from secagg.specs import Bounded, Spec
from secagg.wire import Raw

ERROR_BOUND: Final = 21
"""Of a coefficient of a fresh ciphertext: SEAL's centred binomial distribution of 21 pairs of bits."""


def coordinate_bits(spec: Spec) -> int:
    """Of a coordinate of one client, in the clear: two's complement where it has a sign."""
    return spec.bits if isinstance(spec, Bounded) else spec.largest_code.bit_length()


@dataclass(frozen=True)
class Plan:
    """All numbers that follow from a session's parameters. modulus: t. specs: by name."""

    ring: Ring
    modulus: int
    candidates: int
    specs: Mapping[str, Spec]

    @property
    def length(self) -> int:
        """Coordinates of a candidate."""
        return sum(spec.length for spec in self.specs.values())

    @property
    def polynomials(self) -> int:
        """Of a candidate, and ciphertexts of a sum."""
        return -(-self.length // self.ring.degree)

    @property
    def candidate_bytes(self) -> int:
        return sum(packed_bytes(spec.length, coordinate_bits(spec)) for spec in self.specs.values())

    @property
    def upload_bytes(self) -> int:
        return self.candidates * (self.candidate_bytes + self.ring.ciphertext_bytes)

    @property
    def sum_bytes(self) -> int:
        return self.polynomials * self.ring.ciphertext_bytes

    def pack(self, candidates: Sequence[Mapping[str, Words]]) -> bytes:
        """Codes by name, of each candidate -> bytes: each vector as numbers of its own bits."""
        return b"".join(
            pack(codes[name], coordinate_bits(self.specs[name]))
            for codes in candidates
            for name in sorted(self.specs)
        )

    def check(self, data: Raw) -> None:
        """Raises: RemoteProtocolError unless these are so many candidates."""
        if len(data) != self.candidates * self.candidate_bytes:
            raise RemoteProtocolError(
                f"candidates of {len(data)} bytes, not {self.candidates * self.candidate_bytes}"
            )
        for spec, part in self._parts(data):
            check_packed(part, spec.length, coordinate_bits(spec))

    def unpack(self, data: Raw) -> Iterator[NDArray[np.int64]]:
        """Of checked bytes, each candidate in turn: (p, N) coefficients, those behind the last zero."""
        parts, padded = self._parts(data), self.polynomials * self.ring.degree
        for _ in range(self.candidates):
            x, start = np.zeros(padded, np.int64), 0
            for spec, part in (next(parts) for _ in self.specs):
                bits, stop = coordinate_bits(spec), start + spec.length
                codes = np.zeros(spec.length, word_type(bits))
                add_packed(codes, part, bits)
                x[start:stop] = codes
                if isinstance(spec, Bounded):
                    x[start:stop] -= (x[start:stop] >> (bits - 1)) << bits
                start = stop
            yield x.reshape(self.polynomials, self.ring.degree)

    def _parts(self, data: Raw) -> Iterator[tuple[Spec, memoryview]]:
        raw, start = memoryview(data), 0
        for _ in range(self.candidates):
            for name in sorted(self.specs):
                spec = self.specs[name]
                stop = start + packed_bytes(spec.length, coordinate_bits(spec))
                yield spec, raw[start:stop]
                start = stop

    def sums(self, coefficients: NDArray[np.uint64]) -> dict[str, NDArray[np.int64]]:
        """(p, N) coefficients of the decrypted sum, in [0, t) -> the sums of codes, by name."""
        flat, found, start = coefficients.reshape(-1).astype(np.int64), {}, 0
        for name in sorted(self.specs):
            spec = self.specs[name]
            total = flat[start : start + spec.length].copy()
            if isinstance(spec, Bounded):
                total[total > self.modulus // 2] -= self.modulus
            found[name], start = total, start + spec.length
        return found


@lru_cache(maxsize=64)
def smallest(clients: int, candidates: int, vectors: tuple[tuple[str, Spec], ...]) -> Plan | None:
    """In the ring of lowest degree, and there of the fewest bits; None where no ring is large enough."""
    specs = dict(vectors)
    largest = (1 << max(coordinate_bits(spec) for spec in specs.values())) - 1
    for ring in _rings():
        modulus = _modulus(ring, clients * largest)
        if modulus is None:
            return None
        if math.prod(ring.primes) >= 4 * modulus * worst_noise(ring, clients, candidates, specs.values()):
            return Plan(ring, modulus, candidates, specs)
    return None


def worst_noise(ring: Ring, clients: int, candidates: int, specs: Iterable[Spec]) -> int:
    """No coefficient of the sum is off by more, whatever the candidates are and however unlucky the errors.

    A product's coefficient is a sum of N errors times coordinates; the chosen selector is rounded besides,
    which adds a half. Four times t times this is at most Q: half of Q / t is SEAL's, and the other half is
    for its own rounding as it decrypts.
    """
    bits = [coordinate_bits(spec) - isinstance(spec, Bounded) for spec in specs]  # without the sign
    coordinate = 1 << max(bits)
    return clients * candidates * ring.degree * coordinate * (ERROR_BOUND + 1)


def _rings() -> Iterator[Ring]:
    """Every one that is secure, with primes of sizes as equal as can be that the transform takes."""
    for degree, most in MAX_MODULUS_BITS.items():
        for bits in range(SPECIAL_BITS + 2, most - SPECIAL_BITS + 1):
            count = -(-bits // MAX_PRIME_BITS)
            sizes = tuple(bits // count + (i < bits % count) for i in range(count))
            # None has the special prime's size: SEAL would share the primes of that size out among them.
            if min(sizes) > SPECIAL_BITS + 1:
                yield Ring(degree, sizes)


def _modulus(ring: Ring, most: int) -> int | None:
    """t: the least prime above the largest sum that is 1 modulo 2N and no prime of the ring; None where the
    transform takes none.
    """
    factor = 2 * ring.degree
    for t in range(most // factor * factor + 1, 1 << MAX_PRIME_BITS, factor):
        if t > most and fmpz(t).is_prime() and t not in (*ring.primes, ring.special_prime):
            return t
    return None
