"""What is learned of a session: the sum over its survivors, read as the vectors that went into it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg.encoding import decode_mean, decode_sum, error_bound
from secagg.errors import ClientId
from secagg.private import Reading
from secagg.specs import CLIPPED, Spec, Vectors, Weight


@dataclass(frozen=True)
class Aggregate:
    """What the server learns of a session: sums over the survivors, U3, and nothing of any one of them.

    codes: the exact sum in the ring, centred, (m,) int64; empty in `plain`. sum: weighted sum, for integer
    vectors the integers. mean: the weighted mean, for integer vectors the plain one; where clients contribute
    nothing with the probability P of a session with blanks, the sum over (1 - P) |U3|, whoever did. Both are
    computed from the codes at each look. error_bound: no coordinate of `mean` is farther from that mean of
    the clients' clipped vectors; none for a private vector, of which `noise` says the standard deviation in
    each coordinate of the mean, if all survivors added what they should, and `wraps` how many coordinates of
    the sum have presumably left the ring. parts: what the session learned of disjoint sets of the survivors,
    where it was asked to keep that (`Scheme.server`), and of each group where groups are summed apart; empty
    where it learned nothing but this sum. cut: by which a later session cuts the same cohort alike.
    """

    survivors: frozenset[ClientId]
    codes: Mapping[str, NDArray[np.int64]] = field(repr=False)
    sum: Mapping[str, NDArray[Any]] = field(repr=False)
    mean: Mapping[str, NDArray[np.float64]] = field(repr=False)
    error_bound: Mapping[str, float]
    noise: Mapping[str, float] = field(default_factory=dict)
    wraps: Mapping[str, float] = field(default_factory=dict)
    parts: tuple[Aggregate, ...] = field(default=(), repr=False)
    cut: bytes = field(default=b"", repr=False)

    @property
    def clipped(self) -> dict[str, int]:
        """name -> how many coordinates of that vector were out of range and cut, of all survivors together:
        of those whose clients count them, in a vector of counts called "NAME clipped", as of a `Tree`.
        """
        return {
            name.removesuffix(CLIPPED): int(self.sum[name][0]) for name in self.sum if name.endswith(CLIPPED)
        }

    @classmethod
    def of_codes(
        cls,
        specs: Vectors,
        survivors: frozenset[ClientId],
        codes: Mapping[str, NDArray[np.int64]],
        readings: Mapping[str, Reading] = MappingProxyType({}),
        blank: float = 0.0,
    ) -> Aggregate:
        """readings: of the private vectors, in whose session all are private. blank: P of the session."""
        there = len(survivors) * (1 - blank)  # as many as take part, on average; how many, nobody knows
        if readings:
            return cls._of_private(survivors, codes, readings, there)
        total_weight, max_weight = weights(specs, survivors, codes)
        number: dict[str, Any] = {
            "survivors": len(survivors),
            "total_weight": there if blank else total_weight,  # with blanks there is no weight
            "max_weight": max_weight,
        }
        return cls(
            survivors,
            codes,
            _Decoded(
                codes, {name: partial(decode_sum, specs[name], max_weight=max_weight) for name in specs}
            ),
            _Decoded(codes, {name: partial(decode_mean, specs[name], **number) for name in specs}),
            {name: error_bound(spec, **number) for name, spec in specs.items()},
        )

    @classmethod
    def of_parts(
        cls,
        specs: Vectors,
        parts: Sequence[Aggregate],
        readings: Mapping[str, Reading],
        cut: bytes,
    ) -> Aggregate:
        """Of groups that were summed apart: the sum of all of them, in the integers."""
        survivors = frozenset[ClientId]().union(*(part.survivors for part in parts))
        codes = {name: np.sum([part.codes[name] for part in parts], axis=0) for name in parts[0].codes}
        wraps = {name: sum(part.wraps[name] for part in parts) for name in parts[0].wraps}
        together = cls.of_codes(specs, survivors, codes, readings)
        return replace(together, parts=tuple(parts), wraps=wraps, cut=cut)

    @classmethod
    def _of_private(
        cls,
        survivors: frozenset[ClientId],
        codes: Mapping[str, NDArray[np.int64]],
        readings: Mapping[str, Reading],
        there: float,
    ) -> Aggregate:
        number = len(survivors)
        return cls(
            survivors,
            codes,
            _Decoded(codes, {name: reading.total for name, reading in readings.items()}),
            _Decoded(
                codes, {name: partial(reading.mean, number=there) for name, reading in readings.items()}
            ),
            {},
            {
                name: reading.calibration.deviation(number) * (number / there)
                for name, reading in readings.items()
            },
            {name: reading.wraps(codes[name]) for name, reading in readings.items()},
        )


@dataclass(frozen=True)
class _Decoded(Mapping[str, NDArray[Any]]):
    """Vectors that are decoded when they are looked at, and not kept: each takes twice an accumulator."""

    _codes: Mapping[str, NDArray[np.int64]] = field(repr=False)
    _decoders: Mapping[str, Callable[[NDArray[np.int64]], NDArray[Any]]] = field(repr=False)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._decoders[name](self._codes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoders)

    def __len__(self) -> int:
        return len(self._decoders)


def weights(
    specs: Mapping[str, Spec], survivors: Collection[ClientId], totals: Mapping[str, NDArray[Any]]
) -> tuple[int, int]:
    """(sum of w, w_max); every weight is 1 in a session without a Weight.

    Where no survivor weighs anything, or a client broke the rules, the mean is worthless, but finite.
    """
    for name, spec in specs.items():
        if isinstance(spec, Weight):
            return max(int(totals[name][0]), 1), spec.maximum
    return len(survivors), 1
