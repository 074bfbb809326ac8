"""Decoys (docs/protocol-decoys.md) without secagg: the numbers that a session takes; what is digested and
signed; and products and sums of ciphertexts of constant polynomials under the constant key 1, which can be
made, multiplied and decrypted coefficient by coefficient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.vectors import independent as i
from tests.vectors import independent_ckks as ckks

Json = dict[str, Any]


# Section 3: the numbers


def width(spec: Json) -> int:
    """b of a coordinate."""
    return spec["bits"] if spec["kind"] == "bounded" else spec["maximum"].bit_length()


def plan(clients: int, candidates: int, vectors: Mapping[str, Json]) -> Json:
    """degree, prime_bits and modulus. Raises: StopIteration where there are none."""
    most = clients * (2 ** max(map(width, vectors.values())) - 1)
    large = max(2 ** (width(spec) - (spec["kind"] == "bounded")) for spec in vectors.values())
    for degree, sizes in rings():
        primes = ckks.primes(degree, sizes)
        taken = {*primes, *ckks.primes(degree, [20])}
        t = most // (2 * degree) * (2 * degree) + 1
        while t <= most or not ckks.is_prime(t) or t in taken:
            t += 2 * degree
        if t < 2**30 and math.prod(primes) >= 4 * t * clients * candidates * degree * large * 22:
            return {"degree": degree, "prime_bits": sizes, "modulus": t}
    raise StopIteration


def rings() -> Iterator[tuple[int, list[int]]]:
    for degree, most in ckks.LARGEST.items():
        for bits in range(22, most - 20 + 1):
            count = -(-bits // 30)
            sizes = [bits // count + (j < bits % count) for j in range(count)]
            if min(sizes) > 21:
                yield degree, sizes


# Section 5


def upload_digest(sid: bytes, u: int, vectors: bytes, selectors: bytes) -> bytes:
    return i.digest("decoys-upload", sid, u, vectors, selectors)


def upload_statement(sid: bytes, u: int, upload: bytes) -> bytes:
    return i.transcript("sign-decoys-upload", sid, u, upload)


def written(vectors: Mapping[str, Json], candidate: Mapping[str, Sequence[int]]) -> bytes:
    """A candidate's codes, which may be negative, as bytes."""
    return b"".join(
        i.pack_bits([x % 2 ** width(vectors[name]) for x in candidate[name]], width(vectors[name]))
        for name in sorted(vectors)
    )


def read(vectors: Mapping[str, Json], data: bytes) -> list[int]:
    """The coefficients of a candidate: its codes, one vector behind the other."""
    found: list[int] = []
    for name in sorted(vectors):
        bits, length = width(vectors[name]), vectors[name].get("length", 1)
        size = -(-length * bits // 8)
        codes, data = i.unpack_bits(data[:size], length, bits), data[size:]
        signed = vectors[name]["kind"] == "bounded"
        found += [x - 2**bits if signed and x >= 2 ** (bits - 1) else x for x in codes]
    return found


# Section 4: ciphertexts of which no coefficient from the ninth on is other than zero

Ciphertext = tuple[list[int], list[int]]  # c_0 and c_1: eight coefficients modulo Q


@dataclass(frozen=True)
class Ring:
    degree: int
    sizes: tuple[int, ...]
    modulus: int

    @classmethod
    def of(cls, numbers: Json) -> Ring:
        return cls(numbers["degree"], tuple(numbers["prime_bits"]), numbers["modulus"])

    @property
    def primes(self) -> list[int]:
        return ckks.primes(self.degree, self.sizes)

    @property
    def Q(self) -> int:
        return math.prod(self.primes)

    def key(self) -> bytes:
        """Of the constant polynomial 1: all residues are 1, also modulo the special prime."""
        return (1).to_bytes(8, "little") * self.degree * (len(self.sizes) + 1)

    def encrypted(self, number: int, c_1: int) -> Ciphertext:
        """Without noise."""
        c_0 = (round_half_up(self.Q * number, self.modulus) - c_1) % self.Q
        return [c_0, *[0] * 7], [c_1, *[0] * 7]

    def times(self, selector: Ciphertext, x: Sequence[int]) -> Ciphertext:
        """A constant times a candidate of at most eight coefficients."""
        if any(selector[0][1:]) or any(selector[1][1:]):
            raise i.MalformedError("no constant")
        padded = [*x, *[0] * (8 - len(x))]
        c_0, c_1 = ([c[0] * a % self.Q for a in padded] for c in selector)
        return c_0, c_1

    def added(self, ciphertexts: Sequence[Ciphertext]) -> Ciphertext:
        c_0, c_1 = (
            [sum(column) % self.Q for column in zip(*(c[half] for c in ciphertexts), strict=True)]
            for half in (0, 1)
        )
        return c_0, c_1

    def decrypted(self, c: Ciphertext) -> list[int]:
        """Eight coefficients in 0..t-1."""
        phases = [(a + b) % self.Q for a, b in zip(*c, strict=True)]
        return [round_half_up(self.modulus * phase, self.Q) % self.modulus for phase in phases]

    def pack(self, ciphertexts: Sequence[Ciphertext]) -> bytes:
        zeros = self.degree - 8
        return b"".join(
            i.pack_bits([a % p for a in half], bits) + bytes(zeros * bits // 8)
            for p, bits in zip(self.primes, self.sizes, strict=True)
            for c in ciphertexts
            for half in c
        )

    def unpack(self, data: bytes, count: int) -> list[Ciphertext]:
        residues: list[list[list[int]]] = []  # prime, half, coefficient
        for p, bits in zip(self.primes, self.sizes, strict=True):
            size, halves = self.degree * bits // 8, []
            for _ in range(2 * count):
                half, data = data[:size], data[size:]
                values = i.unpack_bits(half[:bits], 8, bits)
                if len(half) != size or any(half[bits:]) or max(values) >= p:
                    raise i.MalformedError("another ciphertext")
                halves.append(values)
            residues.append(halves)
        if data:
            raise i.MalformedError("bytes left over")
        units = [self.Q // p * pow(self.Q // p, -1, p) for p in self.primes]
        halves = [
            [
                sum(r * unit for r, unit in zip(of, units, strict=True)) % self.Q
                for of in zip(*each, strict=True)
            ]
            for each in zip(*residues, strict=True)
        ]
        return [(halves[2 * j], halves[2 * j + 1]) for j in range(count)]


def round_half_up(a: int, b: int) -> int:
    return (2 * a + b) // (2 * b)
