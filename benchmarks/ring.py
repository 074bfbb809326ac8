"""Sums of private vectors in their ring, without masks and through masked sessions; and what they cost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.noised import DELTA, Updates, Vector
from fl.config.section import ConfigError
from fl.privacy.accounting import multiplier_for
from fl.privacy.releases import Release, Skellam
from secagg import Masking, Split, inputs, run, throwaway_identities
from secagg.bits import Words
from secagg.crypto import KEY_BYTES
from secagg.encoding import Clipping, centred
from secagg.private import Calibration, Reading, encode_private


def in_ring(calibration: Calibration, updates: Updates) -> Vector:
    """Each client's codes as it would mask them, added modulo 2^b, and read as a session's are."""
    reading = Reading(calibration, os.urandom(KEY_BYTES))
    encoded = [encode_private(reading, x, os.urandom(KEY_BYTES))[0] for x in updates.values()]
    return reading.mean(added(calibration, encoded), len(updates))


def added(calibration: Calibration, encoded: Iterable[Words]) -> NDArray[np.int64]:
    """(m,) signed, of the sum in the ring."""
    spec = calibration.spec
    total = np.sum([words.astype(np.uint64) for words in encoded], axis=0) & np.uint64(spec.largest_code)
    return centred(spec, total, calibration.clients)


class Sessions:
    """The same through sessions. sums: of how many the codes were those that `added` gives.

    Raises: AssertionError where a session gives another sum.
    """

    def __init__(self, scheme: Masking | Split) -> None:
        self._scheme, self._calibration, self.sums = scheme, scheme.calibration(""), 0

    def __call__(self, updates: Updates) -> Vector:
        places = dict(enumerate(updates.values()))
        scheme, identities = self._scheme, None
        if scheme.adversary == "active":
            roster, identities = throwaway_identities(places, relays=scheme.relays)
            scheme = msgspec.structs.replace(scheme, roster=roster.digest)  # its own, of throwaway keys
        encoded = list[Words]()

        def noting(*of_client: Any) -> tuple[Words, Clipping]:
            words, clipping = encode_private(*of_client)
            encoded.append(words.copy())  # masks are added to it in place
            return words, clipping

        with patch.object(inputs, "encode_private", noting):
            total = run(scheme, places, task=os.urandom(KEY_BYTES), identities=identities)
        if not np.array_equal(total.codes[""], added(self._calibration, encoded)):
            raise AssertionError("a session gives another sum than the ring")
        self.sums += 1
        return total.mean[""]


# What it costs


def ring_releases(calibration: Calibration, rounds: int) -> list[Release]:
    """Of Skellam noise, by the shares of those who are surely honest."""
    variance = calibration.honest * calibration.variance
    return [Skellam(calibration.l2_squared, calibration.l1, variance, rounds)]


def ring_multiplier(budget: float, rounds: int, calibrated: Callable[[float], Calibration]) -> float | None:
    """The least multiplier with which so many rounds keep within epsilon `budget`; None where none does."""
    try:
        return multiplier_for(budget, DELTA, lambda z: ring_releases(calibrated(z), rounds))
    except ConfigError:
        return None
