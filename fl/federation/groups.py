"""Sums of groups of a round's clients: how they are cut over the rounds of a run, and which are longer than
their members could have made them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fl.config.run import RunConfig
from fl.federation.vectors import EXAMPLES, UPDATE
from fl.privacy.mechanisms import Level
from secagg import Aggregate, Bounded, Private, Scheme, ServerSession, Weight
from secagg.errors import ClientId
from secagg.masking.server import MaskingServer
from secagg.params import NoisedParameters
from secagg.private import WRAP_DEVIATIONS, Calibration

CUT: Final = "protection.cut"  # in a checkpoint
TAILS: Final = {"laplace": 41.0}
NORMAL: Final = 8.0
"""By how many of its deviations the norm of noise in d coordinates may pass sqrt(d) of them: of normal noise,
near which that of the ring is, and of Laplace's. A chance below 2^-40 (of functions that change no faster
than their argument: Ledoux, The Concentration of Measure Phenomenon, 2001, sections 2.1 and 4.4)."""


class Groups:
    """Of one run. Where all clients are asked in every round its groups are cut once: two sums of a client
    that are of different groups tell more than two of the same. Where a round is of some, each is cut anew.

    ids: all clients. memory: what the checkpoint of a run that goes on has kept.
    """

    def __init__(
        self, config: RunConfig, ids: Collection[ClientId], memory: Mapping[str, NDArray[np.float64]]
    ) -> None:
        self._config = config
        fixed = config.protection.groups > 0 and not config.redrawn and len(ids) <= config.cohort.per_round
        self.cohort: tuple[ClientId, ...] = tuple(ids) if fixed else ()
        self.cut = bytes(memory[CUT].astype(np.uint8)) if CUT in memory else b""
        self._session: ServerSession | None = None

    def __bool__(self) -> bool:
        return self._config.protection.groups > 0

    @property
    def memory(self) -> dict[str, NDArray[np.float64]]:
        """What has to be kept to go on from here."""
        if not self.cut:
            return {}
        return {CUT: np.frombuffer(self.cut, np.uint8).astype(np.float64)}

    def was_cut(self) -> None:
        """Go on with the groups of the session that was last begun, where they stay: also if it failed, for
        clients may have uploaded, or signed, and helped to no other cut of what comes out alike.
        """
        if self.cohort and isinstance(self._session, MaskingServer):
            self.cut = self._session.cut_as or self.cut

    def of(self, asked: frozenset[ClientId]) -> list[frozenset[ClientId]]:
        """Those of these clients that have a sum by themselves in the session that was last begun."""
        groups = self._session.groups if isinstance(self._session, MaskingServer) else ()
        return [group & asked for group in groups if not group.isdisjoint(asked)] or [asked]

    def begun(self, session: ServerSession) -> None:
        """Hear of a session, whose groups follow from who is in it."""
        self._session = session

    def parted(
        self, scheme: Scheme, level: Level, totals: Sequence[Aggregate]
    ) -> tuple[list[Aggregate], list[Aggregate]]:
        """The sums of the groups, those that their members could have made and those that are too long."""
        within, beyond = list[Aggregate](), list[Aggregate]()
        for part in (part for total in totals for part in total.parts):
            (beyond if self._too_long(scheme, level, part) else within).append(part)
        return within, beyond

    def _too_long(self, scheme: Scheme, level: Level, part: Aggregate) -> bool:
        for spec in scheme.vectors.values():
            if isinstance(spec, Weight):
                most = len(part.survivors) * spec.maximum
                if not 0 <= part.sum[EXAMPLES][0] <= most:
                    return True
        # The mean of clients that weigh what they say is no longer than the longest of them.
        return float(np.linalg.norm(part.mean[UPDATE])) > longest(self._config, scheme, level, part)


def longest(config: RunConfig, scheme: Scheme, level: Level, part: Aggregate) -> float:
    """The largest L2 norm that the mean update of these clients has where each keeps to its clip, or to its
    range where there is none: with what rounding adds, and but for a chance below 2^-40 what noise does.
    """
    spec, number = scheme.vectors[UPDATE], len(part.survivors)
    root = math.sqrt(spec.length)
    if isinstance(spec, Private):
        assert isinstance(scheme, NoisedParameters)  # noqa: S101 - whose clients add noise
        return _of_private(scheme.calibration(UPDATE), part.noise[UPDATE], number)
    assert isinstance(spec, Bounded)  # noqa: S101 - as `scheme_for` has it
    bound, clip = spec.bound * root, spec.clip or math.inf
    noise = 0.0
    if config.privacy.mechanism == "local" and level.clip is not None:
        deviation = level.multiplier * level.clip / math.sqrt(number)
        clip, noise = level.clip, deviation * (root + TAILS.get(config.privacy.kind, NORMAL))
    return min(clip + noise, bound) + root * part.error_bound[UPDATE]


def _of_private(calibration: Calibration, deviation: float, number: int) -> float:
    """Of a private vector, whose clients keep to a norm after rounding, in steps of the grid. Of its
    coordinates some leave the ring by chance, and come in at its other end.
    """
    spec = calibration.spec
    rounded = math.sqrt(calibration.l2_squared) * calibration.granularity
    expected = spec.length * math.erfc(WRAP_DEVIATIONS / math.sqrt(2))
    wraps = expected + 8 * math.sqrt(expected) + 8
    wrapped = math.sqrt(wraps) * 2.0**spec.bits * calibration.granularity / number
    return rounded + deviation * (math.sqrt(spec.length) + NORMAL) + wrapped
