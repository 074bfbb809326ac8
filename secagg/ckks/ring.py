"""Rings of CKKS (Cheon et al., ASIACRYPT 2017), and the noise of a sum in them.

A ciphertext is two polynomials of N coefficients modulo Q, a product of primes. Every client encrypts under
one secret key with fresh randomness; the server adds. It carries N real numbers: N/2 slots in each of two
halves (`seal.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from flint import fmpz
from numpy.typing import NDArray

Residues = NDArray[np.uint64]
"""Of coefficients, modulo each prime in turn: (..., L, N) words, each below its prime."""

SECURITY_BITS: Final = 128
MAX_MODULUS_BITS: Final = {2048: 54, 4096: 109, 8192: 218, 16384: 438}
"""N -> log2 of the largest modulus at 128 bits against classical computers, secrets ternary: the table of
Albrecht et al., "Homomorphic Encryption Standard" (2018), table 1. The prime that SEAL sets apart counts.
"""

SPECIAL_BITS: Final = 20
"""SEAL wants one more prime, for switching keys. Nothing here switches keys: it is as small as can be."""

MAX_PRIME_BITS: Final = 60
ERROR_VARIANCE: Final = 10.5
"""Of a coefficient of a fresh ciphertext: SEAL's centred binomial distribution of 21 pairs of bits."""

_ROUNDING_VARIANCE: Final = 1 / 12
_HALVES: Final = 2  # encryptions in a ciphertext
_SCALE_BITS: Final = 16  # that the scale has, zeros behind them
_FLOAT_BITS: Final = 45  # a slot in units of the scale: TenSEAL encodes in float64


@dataclass(frozen=True)
class Ring:
    """degree: N. prime_bits: sizes of the primes of Q."""

    degree: int
    prime_bits: tuple[int, ...]

    @property
    def modulus_bits(self) -> int:
        """What the standard's table bounds."""
        return sum(self.prime_bits) + SPECIAL_BITS

    @property
    def secure(self) -> bool:
        return self.modulus_bits <= MAX_MODULUS_BITS.get(self.degree, 0)

    @property
    def primes(self) -> tuple[int, ...]:
        """Those that SEAL takes (CoeffModulus::Create): the largest of each size that are 1 modulo 2N, of
        several of one size the smallest first.
        """
        return _primes(self.degree, self.prime_bits)

    @property
    def special_prime(self) -> int:
        return _primes(self.degree, (SPECIAL_BITS,))[0]

    @property
    def slots(self) -> int:
        """Real numbers in a ciphertext."""
        return self.degree

    @property
    def ciphertext_bytes(self) -> int:
        """Two polynomials of N coefficients for each prime, each of as many bits as the prime."""
        return sum(2 * self.degree * bits // 8 for bits in self.prime_bits)

    @property
    def key_bytes(self) -> int:
        """A secret key: a polynomial, its residues of the primes and of the special one in 8 bytes each."""
        return 8 * self.degree * (len(self.prime_bits) + 1)


@lru_cache(maxsize=256)
def _primes(degree: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    largest = {bits: _largest_primes(2 * degree, bits, sizes.count(bits)) for bits in set(sizes)}
    return tuple(largest[bits].pop() for bits in sizes)


def _largest_primes(factor: int, bits: int, count: int) -> list[int]:
    candidates = range((2**bits - 1) // factor * factor + 1, 2 ** (bits - 1), -factor)
    found: list[int] = []
    for q in candidates:
        if q < 2**bits and fmpz(q).is_prime():
            found.append(q)
            if len(found) == count:
                return found
    raise ValueError(f"there are no {count} primes of {bits} bits that are 1 modulo {factor}")


def fresh_noise(ring: Ring, clients: int) -> float:
    """e_ct: standard deviation of a coefficient's error in the sum of so many clients' ciphertexts, at most.

    sqrt(2 (n sigma^2 + n^2/12)): each of two encryptions adds the scheme's error and the rounding of its
    coefficients; where all clients encrypt the same, that is n times the same.
    """
    return math.sqrt(_HALVES * (clients * ERROR_VARIANCE + clients**2 * _ROUNDING_VARIANCE))


def flooding_noise(e_ct: float, ciphertexts: int, flood_bits: int) -> float:
    """sigma_fl = sqrt(12 tau) 2^(s/2) e_ct: standard deviation of a coefficient's flooding.

    Li, Micciancio, Schultz and Sorrell (CRYPTO 2022), as OpenFHE corrects it (CKKS_NOISE_FLOODING.md).
    ciphertexts: tau, decrypted under the key in all.
    """
    return math.sqrt(12 * ciphertexts) * 2 ** (flood_bits / 2) * e_ct


def statistical_security(ring: Ring, flood_bits: int) -> float:
    """Bits: s less log2(N / 24), since all N coefficients of a ciphertext are flooded."""
    return flood_bits - math.log2(ring.degree / 24)


def slot_noise(ring: Ring, clients: int, ciphertexts: int, flood_bits: int) -> float:
    """Standard deviation of a slot's error in the sum, times the scale: that of a coefficient, by
    sqrt(N / 2). flood_bits: 0 where nothing is flooded.
    """
    e_ct = fresh_noise(ring, clients)
    flooding = flooding_noise(e_ct, ciphertexts, flood_bits) if flood_bits else 0.0
    return math.hypot(e_ct, flooding) * math.sqrt(ring.degree / 2)


def tail(values: int) -> float:
    """Standard deviations that none of so many Gaussian errors exceeds, but with probability 2^-40."""
    return math.sqrt(2 * math.log(2.0**41 * values))


@lru_cache(maxsize=4096)
def scale_and_capacity(ring: Ring, clients: int, ciphertexts: int, flood_bits: int) -> tuple[int, int]:
    """(scale Delta, the largest slot of a sum in units of it).

    Delta is so large that no slot of the sum is off by 0.4 or more: integers come out exact. It is rounded up
    to 16 bits, and so the same on every machine, however that rounds a logarithm. The rest of Q is for the
    sum: Delta |slot| <= Q / 4, and no more than float64 can tell apart. Then no coefficient reaches Q / 2:
    both halves together make none larger than 4 / pi slots. Above Q / 4 SEAL encodes none.
    """
    worst = tail(ciphertexts * ring.slots) * slot_noise(ring, clients, ciphertexts, flood_bits)
    unit = 2 ** max(math.frexp(worst / 0.4)[1] - _SCALE_BITS, 0)
    scale = math.ceil(worst / 0.4 / unit) * unit
    capacity = math.prod(ring.primes) // 4 // scale
    return scale, min(capacity, 2**_FLOAT_BITS)


def rings() -> Iterator[Ring]:
    """Every one that is secure: of each degree all sizes of Q, in primes of sizes as equal as can be."""
    for degree, most in MAX_MODULUS_BITS.items():
        for bits in range(SPECIAL_BITS + 2, min(most - SPECIAL_BITS, 4 * MAX_PRIME_BITS) + 1):
            count = -(-bits // MAX_PRIME_BITS)
            sizes = tuple(bits // count + (i < bits % count) for i in range(count))
            # None has the special prime's size: SEAL would share the primes of that size out among them.
            if min(sizes) > SPECIAL_BITS + 1:
                yield Ring(degree, sizes)
