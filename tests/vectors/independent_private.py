"""Private vectors of docs/protocol.md, section 6.1, from the page alone: no numpy, one coordinate by one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tests.vectors import independent as i


@dataclass(frozen=True)
class Numbers:
    """What follows from a specification, n clients, and how many honest ones surely survive."""

    granularity: float
    variance: float
    l2_squared: int

    @classmethod
    def of(cls, spec: Mapping[str, Any], clients: int, honest: int) -> Numbers:
        n, z, C, m = clients, spec["multiplier"], spec["clip"], spec["length"]
        spread = n * n / 2 ** (m.bit_length() - 1) + n * (z * z) / honest
        steps = math.sqrt(4 ** spec["bits"] - 16 * n)
        granularity = _rounded_up(C * (8 * math.sqrt(spread) / steps))
        s, root = C / granularity, math.sqrt(m)
        bound = min(s * s + m / 4 + s + root / 2, (s + root) * (s + root))
        return cls(granularity, z * s * (z * s) / honest, math.floor(bound))

    def noise(self, survivors: int) -> float:
        """Standard deviation in a coordinate of the mean."""
        return self.granularity * math.sqrt(self.variance / survivors)


def _rounded_up(value: float) -> float:
    """To 16 bits, in exact fractions."""
    power = 0
    while not 2**15 <= Fraction(value) * Fraction(2) ** -power < 2**16:
        power += 1 if Fraction(value) * Fraction(2) ** -power >= 2**16 else -1
    return float(math.ceil(Fraction(value) * Fraction(2) ** -power) * Fraction(2) ** power)


class Rotation:
    def __init__(self, seed: bytes, length: int) -> None:
        self.size = 2 ** (length.bit_length() - 1)
        self.starts = [0] if self.size == length else [0, length - self.size]
        each = -(-self.size // 8)
        drawn = i.words("aes-128-ctr", seed, each * len(self.starts), 1)
        self.flips = [
            [drawn[each * part + j // 8] >> j % 8 & 1 for j in range(self.size)]
            for part in range(len(self.starts))
        ]

    def forward(self, x: Sequence[float]) -> list[float]:
        y = list(x)
        for start, flips in zip(self.starts, self.flips, strict=True):
            signed = [-y[start + j] if flip else y[start + j] for j, flip in enumerate(flips)]
            y[start : start + self.size] = self._transformed(signed)
        return y

    def back(self, y: Sequence[float]) -> list[float]:
        x = list(y)
        for start, flips in zip(self.starts[::-1], self.flips[::-1], strict=True):
            part = self._transformed(x[start : start + self.size])
            x[start : start + self.size] = [-a if flip else a for a, flip in zip(part, flips, strict=True)]
        return x

    def _transformed(self, part: Sequence[float]) -> list[float]:
        y, apart = list(part), self.size // 2
        while apart:
            for j in range(self.size):
                if not j & apart:
                    y[j], y[j + apart] = y[j] + y[j + apart], y[j] - y[j + apart]
            apart //= 2
        scale = 1 / math.sqrt(self.size)
        return [a * scale for a in y]


def rounded(z: Sequence[float], l2_squared: int, tries: Iterable[Sequence[int]]) -> list[int]:
    """By the first words that give a vector within the bound; by none, towards zero."""
    for words in tries:
        codes = [math.floor(a) + (w / 2**32 < a - math.floor(a)) for a, w in zip(z, words, strict=True)]
        if sum(code * code for code in codes) <= l2_squared:
            return codes
    return [math.trunc(a) for a in z]


def total(codes: Sequence[int], granularity: float, rotation: bytes) -> list[float]:
    """The sum of the clients' vectors, with its noise, from the centred sum of their codes."""
    return Rotation(rotation, len(codes)).back([code * granularity for code in codes])
