"""The server's part in the noise of a run: how each round is clipped and noised and what that spends, its own
noise on a mean, and the clip that follows what it learns under noise.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fl.config.run import RunConfig
from fl.config.section import ConfigError
from fl.federation.vectors import BELOW, BELOW_CLIP, UPDATE, bounded_spec, private_specs
from fl.privacy.accounting import epsilon, multiplier_for
from fl.privacy.mechanisms import Level, central_deviation, update_and_count
from fl.privacy.noise import RealNoise, Reals, real_noise
from fl.privacy.releases import Release
from fl.privacy.schedules import multipliers
from fl.privacy.spending import (
    Spending,
    against,
    comes_apart,
    discrete_release,
    failure,
    in_session,
    real_releases,
    why_none,
)
from secagg import Aggregate, Masking, Scheme
from secagg.crypto import KEY_BYTES
from secagg.params import NoisedParameters
from secagg.private import Calibration

QUANTILE, RATE = 0.5, 0.2  # gamma and eta of Andrew et al., 1905.03871, section 3
CLIPS: Final = (1e-6, 1e6)
"""Between which a clip adapts: those that a task can hold."""
GRID: Final = 2.0**-13
"""By which share a private vector's numbers can differ for two clips, and more: its grid is rounded by up to
2^-15 of itself."""
CLIP = "privacy.clip"  # in a checkpoint


class Noising:
    """Of one run, round by round.

    length: d of the model. sessions: one like those of its rounds, but for the vectors. spending: of this
    run, with what it has spent before. memory: what the checkpoint of a run that goes on has kept.

    Raises: ConfigError for an epsilon that nothing keeps to.
    """

    def __init__(
        self,
        config: RunConfig,
        length: int,
        sessions: Scheme,
        spending: Spending,
        memory: Mapping[str, NDArray[np.float64]],
    ) -> None:
        self._config, self._privacy, self._length = config, config.privacy, length
        self.spending, self._sessions = spending, sessions
        self._clip = float(memory[CLIP][0]) if CLIP in memory else config.privacy.clip
        self.why_none = why_none(config)
        if self._privacy.epsilon is not None and self.why_none:
            raise ConfigError(f"epsilon: there is none to keep to: {self.why_none}")
        self.multipliers = self._multipliers()

    def _multipliers(self) -> tuple[float, ...]:
        """Of every round: as it is given, or as small as the epsilon of all of them together allows."""
        privacy, rounds = self._privacy, self._config.training.rounds
        if privacy.mechanism == "none":
            return (0.0,) * rounds
        start = privacy.noise_multiplier
        if privacy.epsilon is not None:
            delta = privacy.delta - rounds * self._failure
            start = multiplier_for(privacy.epsilon, delta, self._of_all_rounds, instead=self._instead)
        assert start is not None  # noqa: S101 - PrivacyConfig has one of the two
        return multipliers(privacy, start, rounds)

    def _of_all_rounds(self, start: float) -> list[Release]:
        """What they tell where the first one's multiplier is this."""
        privacy = self._privacy
        return [
            release
            for each in multipliers(privacy, start, self._config.training.rounds)
            for release in self._releases(Level(privacy.clip, each))
        ]

    @property
    def _instead(self) -> str:
        """What to do where no noise keeps to the epsilon: in a ring, the more noise, the coarser the grid, so
        that there is a cost of rounding that none hides.
        """
        if self.honest is None:
            return "give a larger one, or fewer rounds"
        bits = self._config.protection.bits
        return f"rounding to {bits} bits alone tells more: give more bits, a larger epsilon, or fewer rounds"

    @property
    def memory(self) -> dict[str, NDArray[np.float64]]:
        """What has to be kept to go on from here."""
        if not self._privacy.adaptive_clip or self._clip is None:
            return {}
        return {CLIP: np.array([self._clip])}

    def level(self, round: int) -> Level:
        """How a round is clipped and noised."""
        return self.level_of(self.multipliers[round - 1])

    def level_of(self, multiplier: float) -> Level:
        return Level(self._clip, multiplier)

    # What it spends

    @property
    def honest(self) -> int | None:
        """Of how many clients the noise is in every sum, whoever vanishes and whoever is corrupt; None where
        that makes no difference.
        """
        if self._privacy.mechanism != "distributed" or not isinstance(self._sessions, NoisedParameters):
            return None
        return self._sessions.honest

    @property
    def _summed(self) -> int:
        """Clients of a sum, which is a group's where there are groups: a client is in one of them alone, so
        that what a round tells of it is what that one sum does.
        """
        assert isinstance(self._sessions, NoisedParameters)  # noqa: S101 - whose clients add noise
        return self._sessions.summed

    def _releases(self, level: Level, *, coin: bool = True) -> tuple[Release, ...]:
        """coin: whether who took part is hidden."""
        if self.honest is None:
            return real_releases(self._config, level, self._length)
        if not self._privacy.adaptive_clip:
            specs, margin = private_specs(self._config, self._length, level), 0.0
        else:
            # The clip is what earlier rounds gave, and a release must not depend on it: by that of the first,
            # whose numbers are all others' but for the grid, which is rounded up to 16 bits.
            first = replace(level, clip=self._privacy.clip)
            specs, margin = private_specs(self._config, self._length, first), GRID
        n, honest = self._summed, self.honest
        of_each = (discrete_release(Calibration(spec, n, honest), margin) for spec in specs.values())
        return in_session(of_each, self._config.protection.blank if coin else 0.0)

    @property
    def of_a_coin(self) -> float:
        """Epsilon of a single round between a client that took part and one that did not, at most: what is
        told of how its coin fell.
        """
        delta = self._privacy.delta - self._failure
        return epsilon(self._releases(self.level_of(min(self.multipliers)), coin=False), delta)

    @property
    def _failure(self) -> float:
        """The chance with which a round's noise is none, where it lies with the graph."""
        return 0.0 if self.honest is None else failure(self._sessions)

    def passes(self, round: int) -> float | None:
        """The epsilon that this round would bring, where that is more than the run may spend."""
        if self._privacy.epsilon is None:
            return None
        then = self.spending.epsilon(self._releases(self.level(round)), self._failure)
        return then if then > self._privacy.epsilon else None

    def begin(self, round: int) -> None:
        """Put the round on record, before its task leaves."""
        if self._privacy.mechanism != "none":
            self.spending.charge(round, () if self.why_none else self._releases(self.level(round)))

    @property
    def spent(self) -> float:
        """Epsilon of all rounds that were begun, whether they came to an end or not."""
        return self.spending.epsilon(failure=self._failure)

    def promised(self, after: int) -> float:
        """Epsilon of a run that would have gone on to its last round, but ended after this one because of
        what it had learned: a smaller one holds of no run whose end follows from what is released.
        """
        privacy, rounds = self._privacy, self._config.training.rounds
        missing = range(after + 1, rounds + 1)
        further = [each for round in missing for each in self._releases(self.level(round))]
        in_all = self.spending.epsilon(further, self._failure * (1 + len(missing)))
        return in_all if privacy.epsilon is None else min(in_all, privacy.epsilon)

    @property
    def _against(self) -> str:
        """Whom the epsilon holds against."""
        whom, sessions = against(self._config), self._sessions
        if self.honest is None or not isinstance(sessions, Masking) or not comes_apart(sessions):
            return whom
        return f"{whom}, unless it is them who choose who is lost"

    def told(self, round: int, totals: Sequence[Aggregate]) -> dict[str, Any]:
        """What a round's record says of noise: the fields of `RoundRecord`."""
        level, none = self.level(round), self.why_none
        spent = math.inf
        if self._privacy.mechanism != "none" and not none:
            spent = self.spent
            none = "" if spent < math.inf else "so little noise, in so many rounds, keeps to no finite one"
        has = spent < math.inf
        return {
            "clip": level.clip,
            "noise": self.deviation(round, totals) if totals else None,
            "epsilon": spent if has else None,
            "delta": self._privacy.delta if has else None,
            "against": self._against if has else None,
            "honest": self.honest if has else None,
            "wraps": sum(total.wraps.get(UPDATE, 0.0) for total in totals) if self.honest else None,
            "no_epsilon": none or None,
        }

    # What it adds

    def noised(self, round: int, mean: Reals, survivors: int) -> Reals:
        """The mean with the server's own noise, where the server is who adds it."""
        if self._privacy.mechanism != "central":
            return mean
        return mean + self._drawn(self._central(round, survivors), len(mean))

    def of_each(self, round: int) -> float | None:
        """Standard deviation in a coordinate of the noise that each client is asked to add to its update, at
        most; None where that is none.
        """
        if self._privacy.mechanism != "local":
            return None
        level = self.level(round)
        return level.multiplier * (level.clip or 0.0)

    def deviation(self, round: int, totals: Sequence[Aggregate]) -> float | None:
        """Of the noise in each coordinate of the round's mean; None where there is none, or it depends on the
        data.
        """
        survivors = sum(len(total.survivors) for total in totals)
        match self._privacy.mechanism:
            case "central":
                return self._central(round, survivors)
            case "distributed":
                if len(totals) == 1:
                    return totals[0].noise[UPDATE]
                return math.hypot(*(each.noise[UPDATE] * len(each.survivors) for each in totals)) / survivors
            case "local" if self._privacy.has_epsilon:
                return (self.of_each(round) or 0.0) / math.sqrt(survivors)
        return None

    def adapt(self, round: int, totals: Sequence[Aggregate]) -> None:
        """Let the clip follow: C exp(-eta (b - gamma)), b the share of clients below it, under noise."""
        level = self.level(round)
        if not self._privacy.adaptive_clip or level.clip is None:
            return
        # With blanks as many as take part on average, as in the mean.
        survivors = sum(len(total.survivors) for total in totals) * (1 - self._config.protection.blank)
        # Each said +1/2 or -1/2: without one of them the sum is 1/2 another, and not 1.
        centred = sum(float(total.sum[BELOW][0]) for total in totals) / survivors
        if self._privacy.mechanism == "central":
            _, of_count = update_and_count(self._privacy, level, self._config.per_sum)
            centred += float(self._drawn(of_count * BELOW_CLIP / survivors, 1)[0])
        low, high = CLIPS
        self._clip = min(max(level.clip * math.exp(-RATE * (centred + 0.5 - QUANTILE)), low), high)

    def _central(self, round: int, survivors: int) -> float:
        level = self.level(round)
        spec = bounded_spec(self._config, self._length, level)
        of_update, _ = update_and_count(self._privacy, level, self._config.per_sum)
        as_float = self._config.protection.scheme == "plain"
        return central_deviation(spec, replace(level, multiplier=of_update), survivors, as_float=as_float)

    def _drawn(self, deviation: float, number: int) -> Reals:
        kind: RealNoise = "laplace" if self._privacy.kind == "laplace" else "gaussian"
        return real_noise(kind, deviation, number, os.urandom(KEY_BYTES))
