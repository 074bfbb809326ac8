"""The server's part in the noise of a run: how each round is clipped and noised, its own noise on a mean, and
the clip that follows what it learns under noise.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fl.config.run import RunConfig
from fl.federation.vectors import BELOW, BELOW_CLIP, UPDATE, update_spec
from fl.privacy.mechanisms import Level, central_deviation, multipliers
from fl.privacy.noise import RealNoise, Reals, real_noise
from fl.privacy.schedules import of_round
from secagg import Aggregate
from secagg.crypto import KEY_BYTES

QUANTILE, RATE = 0.5, 0.2  # gamma and eta of Andrew et al., 1905.03871, section 3
CLIPS: Final = (1e-6, 1e6)
"""Between which a clip adapts: those that a task can hold."""
CLIP = "privacy.clip"  # in a checkpoint


class Noising:
    """Of one run, round by round. memory: what the checkpoint of a run that goes on has kept of it."""

    def __init__(self, config: RunConfig, memory: Mapping[str, NDArray[np.float64]]) -> None:
        self._config, self._privacy = config, config.privacy
        self._level = Level.of(config.privacy)
        if CLIP in memory:
            self._level = replace(self._level, clip=float(memory[CLIP][0]))

    @property
    def memory(self) -> dict[str, NDArray[np.float64]]:
        """What has to be kept to go on from here."""
        clip = self._level.clip
        return {CLIP: np.array([clip])} if self._privacy.adaptive_clip and clip is not None else {}

    def level(self, round: int) -> Level:
        """How a round is clipped and noised."""
        start, rounds = self._level.multiplier, self._config.training.rounds
        return replace(self._level, multiplier=of_round(self._privacy, start, round, rounds))

    def noised(self, round: int, mean: Reals, survivors: int) -> Reals:
        """The mean with the server's own noise, where the server is who adds it."""
        if self._privacy.mechanism != "central":
            return mean
        return mean + self._drawn(self._central(round, len(mean), survivors), len(mean))

    def deviation(self, round: int, totals: Sequence[Aggregate]) -> float | None:
        """Of the noise in each coordinate of the round's mean; None where there is none, or it depends on the
        data.
        """
        survivors = sum(len(total.survivors) for total in totals)
        match self._privacy.mechanism:
            case "central":
                return self._central(round, len(totals[0].mean[UPDATE]), survivors)
            case "local" if self._privacy.has_epsilon:
                level = self.level(round)
                return level.multiplier * (level.clip or 0.0) / math.sqrt(survivors)
        return None

    def adapt(self, round: int, totals: Sequence[Aggregate]) -> None:
        """Let the clip follow: C exp(-eta (b - gamma)), b the share of clients below it, under noise."""
        level = self.level(round)
        if not self._privacy.adaptive_clip or level.clip is None:
            return
        survivors = sum(len(total.survivors) for total in totals)
        # Each said +1/2 or -1/2: without one of them the sum is 1/2 another, and not 1.
        centred = sum(float(total.sum[BELOW][0]) for total in totals) / survivors
        if self._privacy.mechanism == "central":
            _, of_count = multipliers(self._privacy, level, self._config.cohort.per_round)
            centred += float(self._drawn(of_count * BELOW_CLIP / survivors, 1)[0])
        low, high = CLIPS
        moved = level.clip * math.exp(-RATE * (centred + 0.5 - QUANTILE))
        self._level = replace(self._level, clip=min(max(moved, low), high))

    def _central(self, round: int, length: int, survivors: int) -> float:
        level = self.level(round)
        spec = update_spec(self._config, length, level)
        of_update, _ = multipliers(self._privacy, level, self._config.cohort.per_round)
        as_float = self._config.protection.scheme == "plain"
        return central_deviation(spec, replace(level, multiplier=of_update), survivors, as_float=as_float)

    def _drawn(self, deviation: float, number: int) -> Reals:
        kind: RealNoise = "laplace" if self._privacy.kind == "laplace" else "gaussian"
        return real_noise(kind, deviation, number, os.urandom(KEY_BYTES))
