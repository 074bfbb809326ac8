"""How a session's vectors stand in the slots of ciphertexts, and how the slots of their sum are read.

Integers (counts, weights, and the codes of `encoding.encode_vector`) share a slot, as digits to a base that
the sum of all clients' values stays below, or take several slots where one is too small for their sum. Either
way the sum of integers is exact. Real numbers take a slot each, and their sum is as exact as the noise lets
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.bits import add_packed, pack, packed_bytes
from secagg.ckks.ring import Residues, Ring, rings, scale_and_capacity
from secagg.errors import RemoteProtocolError
from secagg.policy import Ending
from secagg.specs import Bounded, Spec
from secagg.wire import Raw

GRID: Final = 1 / 128  # of the scale: what is released is rounded to it. Flooding's deviation is 5 of it


@dataclass(frozen=True)
class Layout:
    """How one vector lies in slots. real: amplitude M of a number that is 1; 0 for integers. each: integers
    in a slot. limbs: slots of an integer. base: of the digits of a slot, or of an integer's limbs. half: what
    the sum of an integer is above at least, negated.
    """

    length: int
    real: float = 0.0
    each: int = 1
    limbs: int = 1
    base: int = 0
    half: int = 0

    @property
    def slots(self) -> int:
        return -(-self.length // self.each) * self.limbs

    def to_slots(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """(m,) numbers in [-1, 1], or (m,) int64 -> (slots,) float64."""
        if self.real:
            return np.asarray(x, np.float64) * self.real
        if self.limbs > 1:
            codes = x.astype(np.int64)
            parts = []
            for _ in range(self.limbs - 1):
                parts.append(codes % self.base)
                codes = codes // self.base
            return np.concatenate([*parts, codes]).astype(np.float64)
        padded = np.zeros(self.slots * self.each, np.int64)
        padded[: self.length] = x
        powers = np.array([self.base**i for i in range(self.each)], np.int64)
        slots: NDArray[np.float64] = (padded.reshape(-1, self.each) @ powers).astype(np.float64)
        return slots

    def from_slots(self, slots: NDArray[np.float64]) -> NDArray[Any]:
        """(slots,) of a sum -> (m,) float64, or (m,) int64."""
        if self.real:
            return slots / self.real
        whole = np.rint(slots).astype(np.int64)
        if self.limbs > 1:
            total = np.zeros(self.length, np.int64)
            for part in whole.reshape(self.limbs, self.length)[::-1]:
                total *= self.base
                total += part
            return total
        digits = np.empty((len(whole), self.each), np.int64)
        for i in range(self.each):
            digit = whole if i == self.each - 1 else (whole + self.half) % self.base - self.half
            digits[:, i] = digit
            whole = (whole - digit) // self.base if self.each > 1 else whole
        return digits.reshape(-1)[: self.length]


@dataclass(frozen=True)
class Plan:
    """All numbers that follow from a session's parameters. scale: Delta. capacity: the largest slot of a
    sum, in units of it.
    """

    ring: Ring
    scale: int
    capacity: int
    layouts: Mapping[str, Layout]

    @property
    def slots(self) -> int:
        return sum(layout.slots for layout in self.layouts.values())

    @property
    def ciphertexts(self) -> int:
        return -(-self.slots // self.ring.slots)

    @property
    def upload_bytes(self) -> int:
        return self.ciphertexts * self.ring.ciphertext_bytes

    def to_slots(self, values: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """name -> (m,) -> (slots,), in the order of the names."""
        return np.concatenate([self.layouts[name].to_slots(values[name]) for name in sorted(self.layouts)])

    def from_slots(self, slots: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        values, start = {}, 0
        for name in sorted(self.layouts):
            layout = self.layouts[name]
            values[name] = layout.from_slots(slots[start : start + layout.slots])
            start += layout.slots
        return values

    @property
    def reals(self) -> list[str]:
        """The vectors whose sum is of real numbers."""
        return [name for name, layout in self.layouts.items() if layout.real]

    def error(self, name: str) -> float:
        """No sum of these real numbers in [-1, 1] is farther off, but with probability 2^-40."""
        return (0.4 + GRID / 2) / self.layouts[name].real


def _layout(spec: Spec, clients: int, capacity: int, ending: Ending) -> Layout | None:
    """None where this capacity is too small."""
    if isinstance(spec, Bounded):
        if ending == "release":
            # The mean is then within one level of the specification's bits, as where codes are summed.
            return Layout(spec.length, real=capacity / clients) if capacity >= spec.levels else None
        half, largest = clients * spec.levels, clients * spec.levels
        base = 2 * half + 1
    else:
        half, largest = 0, clients * spec.largest_code
        base = largest + 1
    each, slot = 0, largest  # the largest slot with one value more
    while each < spec.length and slot <= capacity:
        each, slot = each + 1, slot * base + largest
    if each:
        return Layout(spec.length, each=each, base=base, half=half)
    # A limb is at most 2^bits - 1, and n of them at most the capacity.
    bits = (capacity // clients + 1).bit_length() - 1
    if bits < 1:
        return None
    most = spec.levels.bit_length() + 1 if isinstance(spec, Bounded) else spec.largest_code.bit_length()
    return Layout(spec.length, limbs=-(-most // bits), base=2**bits, half=half)


def plan_in(
    ring: Ring, clients: int, vectors: tuple[tuple[str, Spec], ...], ending: Ending, flood_bits: int
) -> Plan | None:
    """What these vectors take in this ring; None where it is too small for them.

    The more ciphertexts are released, the more each must be flooded, and the less room there is: the number
    is raised until it is enough.
    """
    ciphertexts = 1
    while True:
        scale, capacity = scale_and_capacity(ring, clients, ciphertexts, flood_bits)
        layouts = {name: _layout(spec, clients, capacity, ending) for name, spec in vectors}
        found = {name: layout for name, layout in layouts.items() if layout is not None}
        if len(found) < len(layouts):
            return None
        plan = Plan(ring, scale, capacity, found)
        if plan.ciphertexts <= ciphertexts:
            return plan
        ciphertexts = plan.ciphertexts


@lru_cache(maxsize=64)
def smallest(
    clients: int, vectors: tuple[tuple[str, Spec], ...], ending: Ending, flood_bits: int
) -> Plan | None:
    """The plan whose upload has the fewest bytes, in the ring of lowest degree among such; None where no ring
    is large enough.
    """
    plans = (plan_in(ring, clients, vectors, ending, flood_bits) for ring in rings())
    return min(
        (plan for plan in plans if plan is not None),
        key=lambda plan: (plan.upload_bytes, plan.ring.degree),
        default=None,
    )


# Ciphertexts on the wire: of each prime in turn all residues, packed to its bits


def pack_residues(ring: Ring, residues: Residues) -> bytes:
    """(c, 2, L, N) residues of c ciphertexts -> bytes."""
    return b"".join(pack(residues[:, :, i].ravel(), bits) for i, bits in enumerate(ring.prime_bits))


def unpack_residues(ring: Ring, ciphertexts: int, data: Raw) -> Residues:
    """The residues of so many ciphertexts: (c, 2, L, N).

    Raises: RemoteProtocolError unless there are exactly so many, each below its prime.
    """
    if len(data) != ciphertexts * ring.ciphertext_bytes:
        raise RemoteProtocolError(
            f"ciphertexts of {len(data)} bytes, not {ciphertexts * ring.ciphertext_bytes}"
        )
    count = ciphertexts * 2 * ring.degree
    residues = np.empty((ciphertexts, 2, len(ring.primes), ring.degree), np.uint64)
    start, raw = 0, memoryview(data)
    for i, (q, bits) in enumerate(zip(ring.primes, ring.prime_bits, strict=True)):
        size = packed_bytes(count, bits)
        column = np.zeros(count, np.uint64)
        add_packed(column, raw[start : start + size], bits)
        if int(column.max()) >= q:
            raise RemoteProtocolError("a ciphertext with a residue that is not below its prime")
        residues[:, :, i] = column.reshape(ciphertexts, 2, ring.degree)
        start += size
    return residues


def residues_of_key(ring: Ring, data: bytes) -> Residues:
    """A secret key: (L + 1, N) residues, of the primes and of SEAL's special one. data: `ring.key_bytes`.

    Raises: RemoteProtocolError unless each is below its prime.
    """
    primes = (*ring.primes, ring.special_prime)
    residues = np.frombuffer(data, "<u8").reshape(len(primes), ring.degree)
    if (residues.max(axis=1) >= np.array(primes, np.uint64)).any():
        raise RemoteProtocolError("a CKKS key with a residue that is not below its prime")
    return residues


def add_residues(ring: Ring, total: Residues, residues: Residues) -> None:
    """total += residues, in place, modulo each prime; ciphertext by ciphertext, so that what is made beside
    the sum has the size of one.
    """
    for each, more in zip(total, residues, strict=True):
        each += more
        for i, q in enumerate(ring.primes):
            column = each[:, i]
            column -= np.uint64(q) * (column >= np.uint64(q))
