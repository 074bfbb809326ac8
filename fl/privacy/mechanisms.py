"""What a client does to its own update before it is encoded, and how much noise a server adds to the mean.

In this order: coordinates are left out, the rest is scaled into the ball of the clip, and where the client
adds noise of its own, that comes last: on every coordinate, or which ones would tell of the update.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fl.config.privacy import Perturbation, PrivacyConfig
from fl.privacy.noise import Reals, real_noise
from secagg import Bounded

Update = NDArray[np.floating[Any]]

TAILS: Final = {"gaussian": 6.0, "laplace": 15.0}
"""How many standard deviations of a client's noise are to fit beside its clip: beyond are 2e-9 of a
Gaussian's draws, 6e-10 of Laplace's."""
FLOAT32: Final = 2.0**-23
"""By how much of itself a norm can grow as float32, in which the plain scheme sends."""


@dataclass(frozen=True)
class Level:
    """How a round is clipped and noised. clip: C, the largest L2 norm; None for no limit. multiplier: z, the
    noise's standard deviation in clips, of all that the round releases together; 0 for none.
    """

    clip: float | None
    multiplier: float = 0.0

    @classmethod
    def of(cls, privacy: PrivacyConfig) -> Level:
        """Of the first round; the multiplier is 1 where it is still to be found."""
        if privacy.mechanism == "none":
            return cls(privacy.clip)
        return cls(privacy.clip, privacy.noise_multiplier or 1.0)


def update_and_count(privacy: PrivacyConfig, level: Level, clients: int) -> tuple[float, float]:
    """Of the update, and of the count of clients whose norm is below an adaptive clip: together they cost
    what one Gaussian release of the level's multiplier z costs, 1/z^2 = 1/z_update^2 + 1/z_count^2 (Andrew et
    al., 1905.03871, theorem 1). clients: of a sum.

    The count's noise has a standard deviation of n/20, as there, which is n/10 of its clip of 1/2; where few
    clients make that less than 2 z, that: the update's multiplier is then 1.155 z at most.
    """
    z = level.multiplier
    if not privacy.adaptive_clip or not z:
        return z, 0.0
    of_count = max(clients / 10, 2 * z)
    return (z**-2 - of_count**-2) ** -0.5, of_count


def asked_of_clients(privacy: PrivacyConfig, level: Level) -> Perturbation | None:
    """What a client is to do itself in a round; None for nothing. The clip of a sum stands in its session."""
    if privacy.mechanism in ("local", "example"):
        return Perturbation(
            privacy.mechanism,
            "laplace" if privacy.kind == "laplace" else "gaussian",
            level.clip,
            level.multiplier,
            privacy.sensitivity,
            privacy.compress,
            1.0 if privacy.noise_largest is None else privacy.noise_largest,
        )
    clip = level.clip if privacy.adaptive_clip else None  # by which it says on what side of it its norm is
    asked = Perturbation(clip=clip, compress=privacy.compress)
    return None if asked == Perturbation() else asked


def perturbed(asked: Perturbation | None, update: Update, seed: bytes) -> Update:
    """What a client sends in the place of its update, (d,). seed: 32 bytes of `os.urandom`, kept nowhere.

    With local noise: of standard deviation z C in every coordinate. Of `l2-max`, which takes the norm of
    this very update where that is below C, and of noise on the largest coordinates, there is no epsilon.
    """
    if asked is None:
        return update
    update = compressed(update, asked.compress)
    if asked.mechanism != "local" or asked.clip is None:
        return update
    sent = into_ball(update, asked.clip)
    largest = asked.clip if asked.sensitivity == "clip" else float(np.linalg.norm(sent))
    noise = real_noise(asked.noise, asked.multiplier * largest, len(sent), seed)
    if asked.largest < 1:
        left_alone = len(sent) - math.ceil(asked.largest * len(sent))
        noise[_smallest(sent, left_alone)] = 0.0
    sent += noise
    return sent


def compressed(update: Update, share: float) -> Update:
    """Without this share of its coordinates, the smallest, which are zero in a copy; the update itself where
    that is none of them. Noise goes on these, too.
    """
    left_out = math.floor(share * len(update))
    if not left_out:
        return update
    rest = update.copy()
    rest[_smallest(update, left_out)] = 0.0
    return rest


def into_ball(update: Update, clip: float) -> Reals:
    """A float64 copy, scaled down to this L2 norm if it is longer."""
    x = update.astype(np.float64)
    norm = float(np.linalg.norm(x))
    if norm > clip:
        x *= clip / norm
    return x


def central_deviation(spec: Bounded, level: Level, survivors: int, *, as_float: bool) -> float:
    """Of the noise in each coordinate of the mean over so many survivors: z C' / |U3|.

    C' is what one client's vector can add to the sum as it is read: C, and what rounding to levels adds to
    that norm, less than one level in each coordinate: sqrt(d) r / L. as_float: it travels as float32 instead.
    """
    clip = 0.0 if level.clip is None else level.clip
    rounding = clip * FLOAT32 if as_float else math.sqrt(spec.length) * spec.bound / spec.levels
    return level.multiplier * (clip + rounding) / survivors


def _smallest(x: Update, number: int) -> NDArray[np.intp]:
    """Where so many of the smallest coordinates are."""
    return np.argpartition(np.abs(x), number)[:number] if number else np.empty(0, np.intp)
