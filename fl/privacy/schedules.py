"""How the noise multiplier goes over the rounds: from where it starts to where it ends, by the number of the
round alone. So it is public, and what the rounds cost together is known before the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from fl.config.privacy import PrivacyConfig, Schedule

STAIRS: Final = 10
"""Of a staircase, each as long as the others to a round; as many as rounds, where these are fewer."""


def multipliers(privacy: PrivacyConfig, start: float, rounds: int) -> tuple[float, ...]:
    """The multiplier of each round, the first of which is `start`."""
    return tuple(of_round(privacy, start, t, rounds) for t in range(1, rounds + 1))


def of_round(privacy: PrivacyConfig, start: float, round: int, rounds: int) -> float:
    """The multiplier of a round. Where the section names no end it is half the start; with an end above the
    start the noise grows.
    """
    end = start / 2 if privacy.noise_end is None else privacy.noise_end
    return multiplier(privacy.noise_schedule, start, end, round, rounds)


def multiplier(schedule: Schedule, start: float, end: float, round: int, rounds: int) -> float:
    """Of round t = 1..T, with s = (t - 1) / (T - 1) from 0 to 1:

    constant     start
    linear       start + (end - start) s
    staircase    start + (end - start) k / 9 on the k-th tenth of the rounds, k = 0..9
    exponential  start (end / start)^s
    cyclic       start cos(s arccos(end / start)), an arc of a cosine; from the end backwards where it grows

    Source: Wei et al., section 3.4, name the four that change; their released code, git-disl/Fed-alphaCDP,
    goes so from 15 to 4.85 in 100 rounds, with a stair every 10 (there an operator's precedence spoils it).
    """
    last = max(rounds - 1, 1)
    if schedule == "staircase":
        stairs = min(STAIRS, rounds)
        return _linear(start, end, (round - 1) * stairs // rounds / max(stairs - 1, 1))
    return _ALONG[schedule](start, end, (round - 1) / last)


def _linear(start: float, end: float, s: float) -> float:
    return start + (end - start) * s


def _cyclic(start: float, end: float, s: float) -> float:
    if end > start:
        return _cyclic(end, start, 1 - s)
    return start * math.cos(s * math.acos(end / start))


_ALONG: Final[dict[Schedule, Callable[[float, float, float], float]]] = {
    "constant": lambda start, end, s: start,
    "linear": _linear,
    "exponential": lambda start, end, s: start * (end / start) ** s,
    "cyclic": _cyclic,
}
