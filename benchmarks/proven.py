"""The range of one number, proven bit by bit, with every exponentiation counted.

Each bit is committed to (Pedersen, CRYPTO 1991), and a proof of one of two statements (Cramer, Damgård and
Schoenmakers, CRYPTO 1994; its challenge a hash) says that it is 0 or 1. The number's commitment is the
product of its bits', each to the power of its place, so that the range is all that is left to prove.

It is here to be counted, and not to be used: nothing binds it to a session, and its group is a slow one.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from flint import fmpz_mod_ctx

# RFC 3526, section 3: a safe prime of 2048 bits, so that the squares are a group of prime order (P - 1) / 2.
P = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)
ORDER = (P - 1) // 2
CHALLENGE_BITS = 128
POINT_BYTES = SCALAR_BYTES = 32
"""Of an elliptic curve of 255 bits, on which such proofs are made: what they would take to send there."""
BIT_BYTES = POINT_BYTES + 2 * (CHALLENGE_BITS // 8) + 2 * SCALAR_BYTES
"""Of a bit: its commitment, two challenges and two responses."""

_mod = fmpz_mod_ctx(P)
Element = Any  # flint's, which has no types


class Counter:
    """Powers of elements. taken: how many so far; of a power to a bit, or to a place, none is counted."""

    def __init__(self) -> None:
        self.taken = 0

    def power(self, base: Element, exponent: int) -> Element:
        self.taken += 1
        return base**exponent


def _generator(name: bytes) -> Element:
    """A square of which nobody knows the logarithm to the base of another."""
    return _mod(int.from_bytes(hashlib.shake_256(b"generator " + name).digest(256))) ** 2


G, H = _generator(b"g"), _generator(b"h")


@dataclass(frozen=True)
class BitProof:
    """Of a commitment c that is H^r or G H^r, without saying which."""

    c: Element
    challenges: tuple[int, int]
    responses: tuple[int, int]


def commit_bit(b: int, count: Counter) -> tuple[Element, int]:
    """The commitment to b, and the randomness that opens it."""
    r = secrets.randbelow(ORDER)
    return G**b * count.power(H, r), r


def prove_bit(b: int, c: Element, r: int, count: Counter) -> BitProof:
    """b: what c is claimed to hold, 0 or 1. Where it holds something else the proof does not verify."""
    k, other = secrets.randbelow(ORDER), 1 - b
    e_other, z_other = secrets.randbits(CHALLENGE_BITS), secrets.randbelow(ORDER)
    first = {b: count.power(H, k), other: _first(c, other, e_other, z_other, count)}
    e = (_challenge(c, first[0], first[1]) - e_other) % 2**CHALLENGE_BITS
    z = (k + e * r) % ORDER
    return BitProof(c, *((e, e_other), (z, z_other)) if b == 0 else ((e_other, e), (z_other, z)))


def bit_is_proven(proof: BitProof, count: Counter) -> bool:
    """Whether the proof holds that c hides 0 or 1. count: of exponentiations."""
    first = [_first(proof.c, b, proof.challenges[b], proof.responses[b], count) for b in (0, 1)]
    return bool(sum(proof.challenges) % 2**CHALLENGE_BITS == _challenge(proof.c, *first))


def _first(c: Element, b: int, e: int, z: int, count: Counter) -> Element:
    """The first message that fits: H^z (c / G^b)^-e."""
    return count.power(H, z) * count.power(c / G**b, -e)


def _challenge(*elements: Element) -> int:
    parts = b"".join(int(each).to_bytes(256) for each in (G, H, *elements))
    return int.from_bytes(hashlib.sha256(b"bit" + parts).digest()[: CHALLENGE_BITS // 8])


def prove(x: int, bits: int, count: Counter) -> tuple[BitProof, ...]:
    """That a number in [0, 2^bits) is in it. Raises: ValueError if x is not."""
    if not 0 <= x < 2**bits:
        raise ValueError(f"{x} has no {bits} bits")
    proofs = []
    for i in range(bits):
        b = x >> i & 1
        c, r = commit_bit(b, count)
        proofs.append(prove_bit(b, c, r, count))
    return tuple(proofs)


def is_proven(proofs: Sequence[BitProof], bits: int, count: Counter) -> bool:
    """Whether what `commitment` gives is one to a number in [0, 2^bits)."""
    return len(proofs) == bits and all(bit_is_proven(proof, count) for proof in proofs)


def commitment(proofs: Sequence[BitProof]) -> Element:
    """To the number: sums of numbers are products of these."""
    return reduce(lambda c, proof: c**2 * proof.c, reversed(proofs), _mod(1))
