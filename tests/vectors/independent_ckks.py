"""CKKS (docs/protocol-ckks.md) without secagg: the ring that a session takes, in
integers and decimals; what is derived and signed; and ciphertexts of constant polynomials under a constant
key, whose residues are all alike, so that they can be added and decrypted by hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import Any

from tests.vectors import independent as i

Json = dict[str, Any]

LARGEST = {2048: 54, 4096: 109, 8192: 218, 16384: 438}
MAKERS = RELEASERS = 3


# Section 3: primes and rings


def is_prime(p: int) -> bool:
    """Miller and Rabin; with these bases it is right for all numbers below 2^64."""
    d, twos = p - 1, 0
    while d % 2 == 0:
        d, twos = d // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        x = pow(base, d, p)
        if x != 1 and all(pow(x, 2**j, p) != p - 1 for j in range(twos)):
            return False
    return True


@lru_cache(maxsize=1024)
def largest_primes(degree: int, bits: int, count: int) -> list[int]:
    found: list[int] = []
    p = (2**bits - 2) // (2 * degree) * (2 * degree) + 1
    while len(found) < count:
        found += [p] if is_prime(p) else []
        p -= 2 * degree
    if p + 2 * degree <= 2 ** (bits - 1):
        raise ValueError(f"no {count} primes of {bits} bits")
    return found


def primes(degree: int, sizes: Sequence[int]) -> list[int]:
    left = {bits: sorted(largest_primes(degree, bits, sizes.count(bits))) for bits in sizes}
    return [left[bits].pop(0) for bits in sizes]


def rings() -> Iterator[tuple[int, list[int]]]:
    for degree, most in LARGEST.items():
        for bits in range(22, min(most - 20, 240) + 1):
            count = -(-bits // 60)
            yield degree, [bits // count + (j < bits % count) for j in range(count)]


def scale_and_capacity(
    degree: int, sizes: Sequence[int], clients: int, ciphertexts: int, flood_bits: int
) -> tuple[int, int]:
    with localcontext() as context:
        context.prec = 60
        squared = 2 * (Decimal("10.5") * clients + Decimal(clients**2) / 12)
        squared *= 1 + (12 * ciphertexts * 2**flood_bits if flood_bits else 0)
        squared *= Decimal(degree) / 2 * 2 * Decimal(2**41 * ciphertexts * degree).ln()
        least = squared.sqrt() / Decimal("0.4")
        unit = 2 ** max(int(least).bit_length() - 16, 0)
        scale = math.ceil(least / unit) * unit
    return scale, min(math.prod(primes(degree, sizes)) // 4 // scale, 2**45)


def layout(spec: Json, clients: int, capacity: int, ending: str) -> Json | None:
    """slots, and `real`: M, or `digits` and their `base`, or `limbs` and their `bits`."""
    m = spec.get("length", 1)
    if spec["kind"] == "bounded":
        L = 2 ** (spec["bits"] - 1) - 1
        if ending == "release":
            return {"slots": m, "real": capacity / clients} if capacity >= L else None
        largest, base, most = clients * L, 2 * clients * L + 1, L.bit_length() + 1
    else:
        largest = clients * spec["maximum"]
        base, most = largest + 1, spec["maximum"].bit_length()
    k = 0
    while k < m and largest * ((base ** (k + 1) - 1) // (base - 1)) <= capacity:
        k += 1
    if k:
        return {"slots": -(-m // k), "digits": k, "base": base}
    bits = (capacity // clients + 1).bit_length() - 1
    if bits < 1:
        return None
    return {"slots": -(-most // bits) * m, "limbs": -(-most // bits), "bits": bits}


def in_ring(
    degree: int, sizes: list[int], clients: int, vectors: Mapping[str, Json], ending: str
) -> Json | None:
    flood_bits, ciphertexts = 40 if ending == "release" else 0, 1
    while True:
        scale, capacity = scale_and_capacity(degree, sizes, clients, ciphertexts, flood_bits)
        if capacity < 1:
            return None
        layouts = {name: layout(vectors[name], clients, capacity, ending) for name in sorted(vectors)}
        if None in layouts.values():
            return None
        slots = sum(made["slots"] for made in layouts.values() if made)
        needed = -(-slots // degree)
        if needed <= ciphertexts:
            return {
                "degree": degree,
                "prime_bits": sizes,
                "scale": scale,
                "capacity": capacity,
                "layouts": layouts,
                "slots": slots,
                "upload_bytes": needed * sum(2 * degree * bits // 8 for bits in sizes),
            }
        ciphertexts = needed


def plan(clients: int, vectors: Mapping[str, Json], ending: str) -> Json:
    """The ring taken, and what follows in it."""
    fits = [in_ring(degree, sizes, clients, vectors, ending) for degree, sizes in rings()]
    # The first of the best, as they were tried.
    return min((fit for fit in fits if fit), key=lambda fit: (fit["upload_bytes"], fit["degree"]))


def numbers(arguments: Json, vectors: Mapping[str, Json]) -> Json:
    """Those of an offer. arguments: those that are given."""
    n, ending = arguments["clients"], arguments.get("ending", "keep")
    taken = plan(n, vectors, ending)
    return {
        **{name: taken[name] for name in ("degree", "prime_bits", "scale")},
        "m_min": arguments.get("m_min", n // 2 + 1),
        "ending": ending,
        "flood_bits": 40 if ending == "release" else 0,
    }


# Section 5


@dataclass(frozen=True)
class Terms:
    """What is agreed before any key is seen."""

    offer: bytes
    task: bytes
    nonce: bytes

    @property
    def numbers(self) -> Json:
        return i.unpack(self.offer)

    @property
    def parameters(self) -> bytes:
        return i.digest("parameters", self.offer)

    @property
    def context(self) -> bytes:
        return i.digest("context", self.task)

    def key_statement(self, u: int, c_pk: bytes) -> bytes:
        bound = self.parameters, self.numbers["roster"], self.context, self.nonce
        return i.transcript("sign-ckks-key", *bound, u, c_pk)

    def sid(self, keys: Mapping[int, list[bytes]]) -> bytes:
        listed = b"".join(v.to_bytes(4, "big") + keys[v][0] for v in sorted(keys))
        return i.digest("ckks-session", self.nonce, self.parameters, self.context, listed)


def secret_key(K: bytes, sid: bytes, maker: int) -> bytes:
    """The AES key of the sealed CKKS key; sid is the associated data."""
    return i.kdf("ckks-secret-key", K, sid, maker)


def seal_key(agreed: bytes, sid: bytes, maker: int, holder: int) -> bytes:
    return i.kdf("ckks-seal-key", agreed, sid, maker, holder)


def seal_data(sid: bytes, maker: int, holder: int, secret: bytes) -> bytes:
    return i.digest("ckks-seal-data", sid, maker, holder, secret)


def secret_statement(sid: bytes, maker: int, secret: bytes) -> bytes:
    return i.transcript("sign-ckks-secret", sid, maker, secret)


def upload_digest(sid: bytes, u: int, residues: bytes) -> bytes:
    return i.digest("ckks-upload", sid, u, residues)


def upload_statement(sid: bytes, u: int, upload: bytes) -> bytes:
    return i.transcript("sign-ckks-upload", sid, u, upload)


def flooding_seed(K: bytes, sid: bytes, residues: bytes) -> bytes:
    return i.kdf("ckks-flooding", K, sid, i.digest("ckks-sum", sid, residues))


def normal(seed: bytes, count: int) -> list[float]:
    """g of section 5.3."""
    half = -(-count // 2)
    u = [(word // 2**11 + 1) * 2.0**-53 for word in i.words("aes-128-ctr", seed, 2 * half, 8)]
    radius = [math.sqrt(-2 * math.log(x)) for x in u[:half]]
    angle = [2 * math.pi * x for x in u[half:]]
    g = [r * math.cos(a) for r, a in zip(radius, angle, strict=True)]
    return [*g, *(r * math.sin(a) for r, a in zip(radius, angle, strict=True))][:count]


def released(slot: float, g: float, clients: int, numbers: Json) -> int:
    """A slot of a sum of one ciphertext a client, flooded, in steps of the grid."""
    e = math.sqrt(2 * (10.5 * clients + clients**2 / 12))
    deviation = math.sqrt(12) * 2 ** (numbers["flood_bits"] / 2) * e * math.sqrt(numbers["degree"] / 2)
    return round((slot + deviation / numbers["scale"] * g) * 128)


# Constant polynomials in a ring of one prime: all residues of c_0 are alike, and all of c_1


@dataclass(frozen=True)
class OnePrime:
    """The ring of an offer that has one prime and one ciphertext."""

    degree: int
    bits: int
    scale: int

    @classmethod
    def of(cls, numbers: Json) -> OnePrime:
        (bits,) = numbers["prime_bits"]
        return cls(numbers["degree"], bits, numbers["scale"])

    @property
    def prime(self) -> int:
        return primes(self.degree, [self.bits])[0]

    def ciphertext(self, c_0: int, c_1: int) -> bytes:
        """Eight residues end with a byte, and repeat."""
        return b"".join(i.pack_bits([c] * 8, self.bits) * (self.degree // 8) for c in (c_0, c_1))

    def constants(self, residues: bytes) -> tuple[int, int]:
        """c_0 and c_1 of such a ciphertext."""
        half = len(residues) // 2
        c_0, c_1 = (
            i.unpack_bits(c[: self.bits], 8, self.bits)[0] for c in (residues[:half], residues[half:])
        )
        if self.ciphertext(c_0, c_1) != residues or max(c_0, c_1) >= self.prime:
            raise i.MalformedError("another ciphertext")
        return c_0, c_1

    def added(self, ciphertexts: Sequence[bytes]) -> bytes:
        pairs = [self.constants(residues) for residues in ciphertexts]
        c_0, c_1 = (sum(column) % self.prime for column in zip(*pairs, strict=True))
        return self.ciphertext(c_0, c_1)

    def key(self, z: int) -> bytes:
        """Of the constant polynomial z, also modulo the special prime."""
        return b"".join(
            (z % p).to_bytes(8, "little") * self.degree for p in (self.prime, *primes(self.degree, [20]))
        )

    def encrypted(self, slot: float, c_1: int, z: int) -> bytes:
        """Every slot of the first half is this one, and those of the other are 0; without noise."""
        return self.ciphertext((round(slot * self.scale) - c_1 * z) % self.prime, c_1)

    def decrypted(self, residues: bytes, z: int) -> float:
        c_0, c_1 = self.constants(residues)
        m = (c_0 + c_1 * z) % self.prime
        return (m - self.prime if m > self.prime // 2 else m) / self.scale
