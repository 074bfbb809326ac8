"""Private vectors: every client rounds its vector to a grid of Z_{2^b} and adds its share of discrete noise,
so that the sum carries enough of it whoever vanishes; what both ends reckon from a session's numbers; and the
sum read back.

Source: Kairouz et al., ICML 2021, algorithms 1 and 2 (clip, rotate, conditional rounding, noise, modulo);
Agarwal et al., NeurIPS 2021 (Skellam noise).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.bits import Words, word_type
from secagg.blank import SUMMED, Coin
from secagg.crypto import OwnTag, kdf
from secagg.encoding import Clipping, Scaling
from secagg.errors import LocalProtocolError, counted
from secagg.noise import MAX_DEVIATION, add_noise
from secagg.prg import keystream
from secagg.rotation import Rotation, size_of
from secagg.specs import Private

WRAP_DEVIATIONS: Final = 4
"""The ring holds so many standard deviations of the sum to either side (Kairouz et al.: 3 to 4): about one
coordinate in 16,000 wraps."""
TRIES: Final = 100
"""Of a rounding whose norm comes out too long; one in e^(1/2) does at most."""
MAX_NORM_LOG2: Final = 31  # of a rounded vector, whose square is then exact in 64 bits


@dataclass(frozen=True)
class Calibration:
    """What follows from a private vector's specification in a session of `clients` clients, of whom as many
    as `honest` surely survive and add their shares: m_min - A.

    Lengths are in steps of the grid, where nothing else is said.

    Raises: LocalProtocolError where the ring is too small for the sum, or the noise too fine for it.
    """

    spec: Private
    clients: int
    honest: int

    def __post_init__(self) -> None:
        n, b = self.clients, self.spec.bits
        if self.honest < 1:
            raise LocalProtocolError(
                f"m_min - A is {self.honest}: no honest client is sure to be left, who adds noise to the sum"
            )
        if 4**b <= 4 * n * WRAP_DEVIATIONS**2:
            raise LocalProtocolError(
                f"a ring of {b} bits holds no noised sum of {counted(n, 'client')}: use more bits"
            )
        # Compared as `add_noise` does, and not the root, which may be rounded down to the limit.
        if not 1e-6 <= self.variance <= MAX_DEVIATION**2:
            deviation = math.sqrt(self.variance)
            raise LocalProtocolError(
                f"each client's noise would have a standard deviation of {deviation:.3g} steps of its grid, "
                f"which is not in 0.001..{MAX_DEVIATION}: use other bits, or another multiplier"
            )
        # A square of more than 63 bits would come round to a small one, and the vector leave as it is.
        if self._radius + math.sqrt(self.spec.length) > 2**MAX_NORM_LOG2:
            raise LocalProtocolError(
                f"a ring of {b} bits makes a grid of which a vector's clip is {self._radius:.3g} steps, more "
                f"than 2^{MAX_NORM_LOG2}: use fewer bits, or more noise"
            )

    @cached_property
    def granularity(self) -> float:
        """gamma, the step of the grid, in units of the vector: so coarse that 2^b steps hold 4 standard
        deviations to either side of the sum of all n clients, were their vectors equal and rotated.

        gamma = 2 k sqrt(n^2 C^2 / 2^j + n v) / sqrt(2^2b - n k^2), with v = (z C)^2 / honest, a share's
        variance, and 2^j the coordinates that one transform spreads over; then rounded up to 16 bits, so that
        no machine's last bit makes another. Source: Kairouz et al., section 5.3, solved for gamma.
        """
        n, C, k = self.clients, self.spec.clip, WRAP_DEVIATIONS
        z = self.spec.multiplier
        spread = n * n / size_of(self.spec.length) + n * (z * z) / self.honest
        steps = math.sqrt(4**self.spec.bits - n * k * k)
        mantissa, exponent = math.frexp(C * (2 * k * math.sqrt(spread) / steps))
        return math.ldexp(math.ceil(mantissa * 2**16), exponent - 16)

    @cached_property
    def variance(self) -> float:
        """Of one client's share of the noise: (z C / gamma)^2 / honest."""
        deviation = self.spec.multiplier * self._radius
        return deviation * deviation / self.honest

    @cached_property
    def l2_squared(self) -> int:
        """The largest squared L2 norm of a client's rounded vector, which it keeps to exactly.

        min(s^2 + d/4 + s + sqrt(d)/2, (s + sqrt(d))^2) with s = C / gamma: Kairouz et al., conditional
        rounding with beta = e^(-1/2).
        """
        s, d = self._radius, self.spec.length
        root = math.sqrt(d)
        return math.floor(min(s * s + d / 4 + s + root / 2, (s + root) * (s + root)))

    @property
    def l1(self) -> float:
        """The largest L1 norm of such a vector: of integers, it is no more than the squared L2 norm."""
        return min(math.sqrt(self.spec.length * self.l2_squared), self.l2_squared)

    @property
    def multiplier_in_effect(self) -> float:
        """z of normal noise under which the sum would tell as much, or more, at every integer order of Rényi
        divergence: less than the specification's z by what rounding adds to a vector's norm, which is nearly
        all of it where the ring has few bits, and by what discrete noise lacks.

        Source: Agarwal et al., NeurIPS 2021, theorem 3.5; Kairouz et al., ICML 2021, theorem 1, whose tau is
        at most 10 (honest - 1) e^(-pi^2 sigma^2).
        """
        l2, variance = max(1, self.l2_squared), self.honest * self.variance
        if self.spec.noise == "skellam":
            second = max(l2, 0.75 * l2 + 1.5 * self.l1) / variance
            return math.sqrt(variance / (l2 + min(second, 1.5 * self.l1)))
        tau = 10 * (self.honest - 1) * math.exp(-math.pi * math.pi * self.variance)
        return 1 / (math.sqrt(l2 / variance) + math.sqrt(self.spec.length) * tau)

    def deviation(self, survivors: int) -> float:
        """Of the noise in each coordinate of the mean over so many survivors, in units of the vector."""
        return self.granularity * math.sqrt(self.variance / survivors)

    @property
    def _radius(self) -> float:
        return self.spec.clip / self.granularity


@dataclass(frozen=True)
class Reading:
    """How a private vector is written and its sum read, in one session. rotation: its public seed."""

    calibration: Calibration
    rotation: bytes = field(repr=False)

    def total(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """(m,) centred codes -> the sum of the clients' clipped vectors, with its noise."""
        x = codes.astype(np.float64)
        x *= self.calibration.granularity
        Rotation(self.rotation, self.calibration.spec.length).back(x)
        return x

    def mean(self, codes: NDArray[np.int64], number: float) -> NDArray[np.float64]:
        """That sum over so many clients: a number that everybody sees, whatever the vectors hold."""
        x = self.total(codes)
        x /= number
        return x

    def wraps(self, codes: NDArray[np.int64]) -> float:
        """How many coordinates of the sum have left the ring and come in at its other end, by what is seen of
        it: were they all drawn from one normal distribution about zero. Nobody can count them.

        Wrapped around a circle it has the mean cosine e^(-sigma^2 / 2), sigma in radians, whatever has
        wrapped; their spread would be too small by just those that have.
        """
        angles = codes * (2 * math.pi / 2**self.calibration.spec.bits)
        cosine = float(np.cos(angles, out=angles).mean())
        if not 0 < cosine < 1:
            return float(len(codes)) if cosine <= 0 else 0.0
        return len(codes) * math.erfc(math.pi / (2 * math.sqrt(-math.log(cosine))))


def encode_private(
    reading: Reading, x: NDArray[Any], secret: bytes, coin: Coin = SUMMED
) -> tuple[Words, Clipping]:
    """Codes of a checked vector: (m,) words in [0, 2^b); and by how much it was scaled, and how many of them
    its own noise took out of the ring. By the coin they are those of a vector of zeros, with as much noise;
    what is told of clipping is always of x.

    secret: 32 bytes from the operating system for this vector of this session alone.

    Security: whoever knew the secret could take the noise off. Nothing that is done depends on the coin.
    """
    calibration, spec = reading.calibration, reading.calibration.spec
    into_ball = Scaling.into_ball(spec, x)
    z = into_ball(x.astype(np.float64))
    Rotation(reading.rotation, spec.length).forward(z)
    z /= calibration.granularity
    codes = _rounded(z, calibration.l2_squared, secret)
    withheld = codes & ~coin
    add_noise(codes, spec.noise, calibration.variance, secret)
    half = 2 ** (spec.bits - 1)
    wrapped = int(np.count_nonzero((codes < -half) | (codes >= half)))
    codes -= withheld  # last, when all has been done that is done for either
    codes &= 2**spec.bits - 1
    return codes.astype(word_type(spec.bits)), Clipping(0, into_ball.factor, wrapped)


def _rounded(z: NDArray[np.float64], l2_squared: int, secret: bytes) -> NDArray[np.int64]:
    """Each coordinate to one of its two neighbours, so that the expectation is it, given that the norm is
    within its bound, which is what the noise is reckoned for; after 100 tries towards zero, where it always
    is. Conditional rounding (Kairouz et al., algorithm 1): a little biased, and much shorter.
    """
    whole = np.floor(z)
    z -= whole
    for attempt in range(TRIES):
        codes = whole.astype(np.int64)
        start = 0
        for uniform in keystream(kdf(OwnTag.PRIVATE_ROUNDING, secret, b"", attempt), len(z), np.uint32):
            codes[start : start + len(uniform)] += uniform * 2.0**-32 < z[start : start + len(uniform)]
            start += len(uniform)
        if _norm_squared(codes) <= l2_squared:
            return codes
    whole += (whole < 0) & (z > 0)
    return whole.astype(np.int64)


def _norm_squared(codes: NDArray[np.int64]) -> int:
    """Exact: no rounding of z is longer than s + sqrt(d), which a calibration limits."""
    return int(np.dot(codes, codes))
