"""What a client releases of a sum: flooded, so that it does not give the key away, and rounded to a grid.

A decryption is the sum and the ciphertext's error, and who has both solves for the secret key (Li and
Micciancio, EUROCRYPT 2021). Flooding drowns the error in noise of its own. That noise is drawn by a PRF from
a secret of the session and the ciphertexts: all who release the same sum release the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.ckks.packing import GRID, Plan
from secagg.ckks.ring import flooding_noise, fresh_noise
from secagg.errors import ClientId
from secagg.prg import keystream

Released = NDArray[np.int64]

_AGREE: Final = 1  # grid steps: the last bit of a float may round to either side


def gaussian(seed: bytes, count: int) -> NDArray[np.float64]:
    """`count` standard normal numbers under a seed of 32 bytes, used for nothing else.

    Box and Muller's transform of the AES-128-CTR stream, two words of 64 bits for two numbers; none is
    farther out than 8.57.
    """
    pairs = -(-count // 2)
    words = np.concatenate([block.copy() for block in keystream(seed, 2 * pairs, np.uint64)])
    uniform = ((words >> np.uint64(11)) + np.uint64(1)).astype(np.float64) * 2.0**-53  # in (0, 1]
    radius, angle = np.sqrt(-2 * np.log(uniform[:pairs])), 2 * math.pi * uniform[pairs:]
    normal: NDArray[np.float64] = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return normal[:count]


def slot_flooding(plan: Plan, clients: int, flood_bits: int) -> float:
    """Standard deviation of the noise on a real slot, in units of the scale: sigma_fl sqrt(N / 2) / Delta."""
    sigma_fl = flooding_noise(fresh_noise(plan.ring, clients), plan.ciphertexts, flood_bits)
    return sigma_fl * math.sqrt(plan.ring.degree / 2) / plan.scale


def flood(slots: NDArray[np.float64], std: float, seed: bytes) -> Released:
    """Decrypted slots as they may leave the clients: (s,) int64, in steps of the grid."""
    return np.rint((slots + std * gaussian(seed, len(slots))) / GRID).astype(np.int64)


def from_grid(released: Released) -> NDArray[np.float64]:
    return released.astype(np.float64) * GRID


def majority(
    released: Mapping[ClientId, Released], needed: int
) -> tuple[Released, Collection[ClientId]] | None:
    """What most clients agree with, and who does not; None if fewer than `needed` do.

    To agree is to be a step apart at most: of two that each agree with a third, one may be two steps from the
    other. The third then counts, and nobody is named.
    """
    agreeing = {
        u: {v for v, other in released.items() if _agree(value, other)} for u, value in released.items()
    }
    most = max(agreeing, key=lambda u: len(agreeing[u]), default=None)
    if most is None or len(agreeing[most]) < needed:
        return None
    return released[most], released.keys() - agreeing[most]


def _agree(a: Released, b: Released) -> bool:
    # Differences of numbers that anybody may have chosen: as floats they do not wrap around.
    return bool(np.abs(a.astype(np.float64) - b).max(initial=0) <= _AGREE)


def as_bytes(released: Released) -> bytes:
    return released.astype("<i8").tobytes()


def of_bytes(data: Any, count: int) -> Released | None:
    """None unless these are so many numbers."""
    return np.frombuffer(data, "<i8") if len(data) == 8 * count else None
