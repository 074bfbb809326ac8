"""Blanks: with a probability P that everybody knows, a client's vectors leave as zeros, and nobody but it
learns that they did.

Each client tosses a coin of its own in every session, when its vectors are there. In a sum with noise nobody
can tell who took part, and the sample of those who did is one that the server does not know: what a sum tells
is less for it, also against the server (fl/privacy/amplification.py). Without noise a sum may be of few
clients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_CEILING, Context, Decimal
from typing import Final

import numpy as np

from secagg.crypto import Rng
from secagg.errors import LocalProtocolError, counted
from secagg.specs import Counts, Private, Spec, Weight

FEW: Final = Decimal(2) ** -40
"""The chance, at most, that fewer than two honest clients are in a sum without noise."""
COIN_BYTES: Final = 8

Coin = np.int64
"""-1, all ones: the vectors are summed. 0: nothing of them is. Nothing may branch on it."""
SUMMED: Final = Coin(-1)


def check_blank(blank: float, vectors: Mapping[str, Spec], honest: int) -> None:
    """honest: m_min - A, the clients of every sum who are surely honest.

    Raises: LocalProtocolError where a session with these blanks would tell who took part, or sum too few.
    """
    # Nor is NaN; and of -0.0 the offer would be another for the same session.
    if not 0 <= blank < 1 or math.copysign(1, blank) < 0:
        raise LocalProtocolError(
            f"blank {blank}: the probability that a client contributes nothing is at least 0 and below 1"
        )
    if not blank:
        return
    # Of known weights, and of counts that somebody knows, the exact total names those who took part.
    if exact := sorted(name for name, spec in vectors.items() if isinstance(spec, Weight | Counts)):
        raise LocalProtocolError(
            f"blank {blank:g} beside the vector {exact[0]!r}: whoever knows what clients hold reads off its "
            "exact total who took part; leave weights and counts out"
        )
    if all(isinstance(spec, Private) for spec in vectors.values()):
        return
    if (few := chance_of_few(blank, honest)) > FEW:
        raise LocalProtocolError(
            f"blank {blank:g} without noise: with {counted(honest, 'honest client')} to count on, a sum is "
            f"of fewer than two of them with a chance of {few:.3g}, more than 2^-40: have the clients add "
            "noise (private vectors), or take fewer blanks or more clients"
        )


def chance_of_few(blank: float, honest: int) -> Decimal:
    """Pr[Bin(honest, 1 - P) < 2] = P^h + h (1 - P) P^(h - 1), to 59 digits."""
    with_sixty = Context(prec=60, rounding=ROUND_CEILING)
    P, h = Decimal(blank), Decimal(honest)  # a float is a decimal, exactly
    q = with_sixty.subtract(1, P)
    but_one = with_sixty.power(P, honest - 1)
    one = with_sixty.multiply(with_sixty.multiply(h, q), but_one)
    return with_sixty.add(with_sixty.multiply(P, but_one), one)


def toss(blank: float, rng: Rng) -> Coin:
    """One word of 64 bits against P 2^64: an integer for every float from 2^-11 on, rounded up below."""
    word = int.from_bytes(rng(COIN_BYTES), "little")
    return Coin(-(word >= math.ceil(math.ldexp(blank, 64))))
