"""A client's vectors as elements of Z_{2^b}, and the sum of all clients' read back.

What is sent of a real vector is clipped, weighted and rounded without bias to `bits` bits; integers are
themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg.bits import Words, word_type
from secagg.prg import keystream
from secagg.specs import BLOCK, Bounded, Spec


@dataclass(frozen=True)
class Clipping:
    """What encoding changed, told to its client alone: coordinates out of range; the L2 factor (1: none; 0
    where float64 has no number so small, though the vector is scaled by it all the same).
    """

    coordinates: int
    norm_factor: float


@dataclass(frozen=True, slots=True)
class Scaling:
    """A factor f 2^-k, 0 < f 2^-k <= 1, in two steps: C / ||x||_2 can be smaller than any float64."""

    f: float = 1.0
    k: int = 0

    @property
    def factor(self) -> float:
        return math.ldexp(self.f, -self.k)

    def __call__(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        """block x factor, in place."""
        if self.f != 1 or self.k:
            np.ldexp(block, -self.k, out=block)
            block *= self.f
        return block


def norm_scaling(spec: Bounded, x: NDArray[Any]) -> Scaling:
    """min(1, C / ||x||_2), which brings x into the ball of radius clip."""
    if spec.clip is None:
        return Scaling()
    largest = max(float(x.max()), -float(x.min()))
    if largest == 0:
        return Scaling()
    # In units of the largest coordinate, so that no square leaves the range of float64; added without error,
    # so that a long vector's norm is as good as a short one's.
    blocks = (x[i : i + BLOCK].astype(np.float64) / largest for i in range(0, len(x), BLOCK))
    norm = math.sqrt(math.fsum(float(np.square(block).sum()) for block in blocks))
    if spec.clip / largest / norm >= 1:
        return Scaling()
    mantissa, k = math.frexp(largest)
    return Scaling(spec.clip / mantissa / norm, k)


def encode_vector(
    spec: Spec, x: NDArray[Any], *, clients: int, rounding_key: bytes, weight: tuple[int, int] = (1, 1)
) -> tuple[Words, Clipping]:
    """Codes of a checked vector: (m,) words in [0, 2^b), and what was clipped.

    Bounded: clip to C, then to [-r, r]; z = (w / w_max) x L / r; floor(z) plus one with probability
    z - floor(z), so that the expectation is z to 2^-32 and an integer z is exact. Others: themselves.

    Security: rounding_key must not be used for another vector.
    """
    bits = spec.ring_bits(clients)
    codes = np.empty(spec.length, word_type(bits))
    if not isinstance(spec, Bounded):
        codes[:] = x
        return codes, Clipping(0, 1.0)
    into_ball = norm_scaling(spec, x)
    scale = weight[0] / weight[1] * (spec.levels / spec.bound)
    ring = np.uint64(2**bits - 1)
    clipped = start = 0
    for uniform in keystream(rounding_key, spec.length, np.uint32):
        block = into_ball(x[start : start + len(uniform)].astype(np.float64))
        if max(block.max(), -block.min()) > spec.bound:
            clipped += int(np.count_nonzero(np.abs(block) > spec.bound))
            np.clip(block, -spec.bound, spec.bound, out=block)
        block *= scale
        whole = np.floor(block)
        block -= whole
        whole += uniform * 2.0**-32 < block
        # At |z| = L the float product may lie a last place outside the symmetric range.
        np.clip(whole, -spec.levels, spec.levels, out=whole)
        codes[start : start + len(block)] = whole.astype(np.int64).view(np.uint64) & ring
        start += len(block)
    return codes, Clipping(clipped, into_ball.factor)


def centred(spec: Spec, total: Words, clients: int) -> NDArray[np.int64]:
    """The sum of codes as signed integers, exact: (m,) words modulo 2^b -> (m,) int64."""
    bits = spec.ring_bits(clients)
    signed = np.empty(len(total), np.int64)
    for start in range(0, len(total), BLOCK):
        block = signed[start : start + BLOCK]
        block[:] = total[start : start + BLOCK]
        block &= 2**bits - 1
        if isinstance(spec, Bounded):
            block[block >= 2 ** (bits - 1)] -= 2**bits
    return signed


def decode_sum(spec: Spec, codes: NDArray[np.int64], *, max_weight: int) -> NDArray[Any]:
    """sum of w x from the exact sum of codes; for integer vectors the integers themselves."""
    if not isinstance(spec, Bounded):
        return codes
    return _scaled(codes, spec.bound / spec.levels * max_weight)


def decode_mean(
    spec: Spec, codes: NDArray[np.int64], *, survivors: int, total_weight: int, max_weight: int
) -> NDArray[np.float64]:
    """The weighted mean; for integer vectors the plain one."""
    if not isinstance(spec, Bounded):
        return codes / survivors
    return _scaled(codes, spec.bound / spec.levels * max_weight / total_weight)


def _scaled(codes: NDArray[np.int64], factor: float) -> NDArray[np.float64]:
    real = codes.astype(np.float64)
    real *= factor
    return real


def error_bound(spec: Spec, *, survivors: int, total_weight: int, max_weight: int) -> float:
    """|U3| (r / L) w_max / sum w: no coordinate of the mean is farther off where none clipped, since each
    code is less than one level off. 0 for integer vectors.
    """
    if not isinstance(spec, Bounded):
        return 0.0
    step = spec.bound / spec.levels * max_weight
    # The last term covers the float64 arithmetic of encoding and decoding.
    return survivors * step / total_weight + spec.bound * 2.0**-44
