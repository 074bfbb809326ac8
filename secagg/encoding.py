"""A client's vectors as elements of Z_{2^b}, and the sum of all clients' read back.

What is sent of a real vector is clipped, weighted and rounded without bias to `bits` bits; integers are
themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.bits import Words, word_type
from secagg.prg import keystream
from secagg.specs import BLOCK, Bounded, Real, Spec


@dataclass(frozen=True)
class Clipping:
    """What clipping changed in one vector, told to its client alone.

    coordinates: how many were out of range, and cut. norm_factor: the L2 factor, in 0..1: 1 is none; 0 stands
    where float64 has no number so small, though the vector is scaled by it all the same. wrapped: of a
    private vector, how many coordinates its own noise took out of the ring.
    """

    coordinates: int
    norm_factor: float
    wrapped: int = 0


NO_CLIPPING: Final = Clipping(0, 1.0)


@dataclass(frozen=True, slots=True)
class Scaling:
    """A factor f 2^-k, 0 < f 2^-k <= 1, in two steps: C / ||x||_2 can be smaller than any float64."""

    f: float = 1.0
    k: int = 0

    @classmethod
    def into_ball(cls, spec: Real, x: NDArray[Any]) -> Scaling:
        """min(1, C / ||x||_2), which brings x into the ball of radius C, its specification's clip."""
        if spec.clip is None:
            return cls()
        largest = max(float(x.max()), -float(x.min()))
        if largest == 0:
            return cls()
        # In units of the largest coordinate, so that no square leaves the range of float64; added without
        # error, so that a long vector's norm is as good as a short one's.
        blocks = (x[i : i + BLOCK].astype(np.float64) / largest for i in range(0, len(x), BLOCK))
        norm = math.sqrt(math.fsum(float(np.square(block).sum()) for block in blocks))
        if spec.clip / largest / norm >= 1:
            return cls()
        mantissa, k = math.frexp(largest)
        return cls(spec.clip / mantissa / norm, k)

    @property
    def factor(self) -> float:
        return math.ldexp(self.f, -self.k)

    def __call__(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        """block x factor, in place."""
        if self.f != 1 or self.k:
            np.ldexp(block, -self.k, out=block)
            block *= self.f
        return block


def out_of_range(block: NDArray[np.float64], bound: float) -> int:
    """How many coordinates are beyond it, and cut: for who cuts them, and for who counts them beforehand."""
    return int(np.count_nonzero(np.abs(block) > bound)) if max(block.max(), -block.min()) > bound else 0


class Clip:
    """What of a checked Bounded vector is sent, under every scheme: within its ball, its range, weighted.

    scale: w / w_max, in the scheme's unit (levels of a code, the range, or 1).
    """

    def __init__(self, spec: Bounded, x: NDArray[Any], scale: float) -> None:
        self._into_ball, self._bound, self._scale = Scaling.into_ball(spec, x), spec.bound, scale
        self._out_of_range = 0

    def __call__(self, part: NDArray[Any]) -> NDArray[np.float64]:
        """Some of its coordinates, each once, so that it is counted once."""
        # The ball before the range: the range bends a vector that was only too long, and what it cuts makes
        # no norm larger, so that both limits hold in the end. The weight last: both are limits of what is
        # averaged, alike for the client of one example and that of a thousand.
        block = self._into_ball(part.astype(np.float64))
        if cut := out_of_range(block, self._bound):
            self._out_of_range += cut
            np.clip(block, -self._bound, self._bound, out=block)
        block *= self._scale
        return block

    @property
    def clipping(self) -> Clipping:
        return Clipping(self._out_of_range, self._into_ball.factor)


def real_vector(spec: Spec, x: NDArray[Any], scale: float) -> tuple[NDArray[Any], Clipping]:
    """What is sent of a checked vector where nothing is rounded: (m,) float64; integers as they are."""
    if not isinstance(spec, Bounded):
        return x, NO_CLIPPING
    clip = Clip(spec, x, scale)
    return clip(x), clip.clipping


def encode_vector(
    spec: Spec, x: NDArray[Any], *, clients: int, rounding_key: bytes, weight: tuple[int, int] = (1, 1)
) -> tuple[Words, Clipping]:
    """Codes of a checked vector: (m,) words in [0, 2^b), and what was clipped.

    Bounded: clipped; z = (w / w_max) x L / r; floor(z) plus one with probability z - floor(z), so that the
    expectation is z to 2^-32 and an integer z is exact. Others: themselves.

    Security: rounding_key must not be used for another vector.
    """
    bits = spec.ring_bits(clients)
    codes = np.empty(spec.length, word_type(bits))
    if not isinstance(spec, Bounded):
        codes[:] = x
        return codes, NO_CLIPPING
    clip = Clip(spec, x, weight[0] / weight[1] * (spec.levels / spec.bound))
    ring = np.uint64(2**bits - 1)
    start = 0
    for uniform in keystream(rounding_key, spec.length, np.uint32):
        z = clip(x[start : start + len(uniform)])
        whole = np.floor(z)
        z -= whole
        whole += uniform * 2.0**-32 < z
        # At |z| = L the float product may lie a last place outside the symmetric range.
        np.clip(whole, -spec.levels, spec.levels, out=whole)
        codes[start : start + len(whole)] = whole.astype(np.int64).view(np.uint64) & ring
        start += len(whole)
    return codes, clip.clipping


def centred(spec: Spec, total: Words, clients: int) -> NDArray[np.int64]:
    """The sum of codes as signed integers, exact: (m,) words modulo 2^b -> (m,) int64."""
    bits = spec.ring_bits(clients)
    signed = np.empty(len(total), np.int64)
    for start in range(0, len(total), BLOCK):
        block = signed[start : start + BLOCK]
        block[:] = total[start : start + BLOCK]
        block &= 2**bits - 1  # masks were added in whole words: what they left above the ring is dropped
        if isinstance(spec, Real):
            block[block >= 2 ** (bits - 1)] -= 2**bits
    return signed


def decode_sum(spec: Spec, codes: NDArray[np.int64], *, max_weight: int) -> NDArray[Any]:
    """sum of w x from the exact sum of codes; for integer vectors the integers themselves."""
    if not isinstance(spec, Bounded):
        return codes
    return _scaled(codes, spec.bound / spec.levels * max_weight)


def decode_mean(
    spec: Spec, codes: NDArray[np.int64], *, survivors: int, total_weight: float, max_weight: int
) -> NDArray[np.float64]:
    """The weighted mean; for integer vectors the plain one."""
    if not isinstance(spec, Bounded):
        return codes / survivors
    return _scaled(codes, spec.bound / spec.levels * max_weight / total_weight)


def _scaled(codes: NDArray[np.int64], factor: float) -> NDArray[np.float64]:
    real = codes.astype(np.float64)
    real *= factor
    return real


def error_bound(spec: Spec, *, survivors: int, total_weight: float, max_weight: int) -> float:
    """|U3| (r / L) w_max / sum w: no coordinate of the mean is farther off where none clipped, since each
    code is less than one level off. 0 for integer vectors.
    """
    if not isinstance(spec, Bounded):
        return 0.0
    step = spec.bound / spec.levels * max_weight
    # The last term covers the float64 arithmetic of encoding and decoding.
    return survivors * step / total_weight + spec.bound * 2.0**-44
