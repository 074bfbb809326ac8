"""Epsilons, and what else is reckoned of noise, beside numbers that others computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from benchmarks.harness import Case, Control, Row, Table
from fl.privacy.accounting import by_rdp, epsilon
from fl.privacy.releases import DiscreteGaussians, Gaussian, Release, Skellam
from secagg.private import WRAP_DEVIATIONS, Calibration
from secagg.specs import Private

CLAIM = (
    "Every number that was given beforehand comes out to a unit of its last digit or less: epsilon at "
    "delta 1e-5 by the old conversion of Rényi divergence (Mironov 2017) and by today's (Canonne, Kamath "
    "and Steinke 2020), at integer orders (2 to 128, and 256), at finer ones, and by the best accountant "
    "that there is for the mechanism (Skellam and discrete Gaussian noise in the ring: one round at "
    "multiplier 1); a step of the ring, and what rounding adds in percent at 2^20 coordinates. Wei et al. "
    "print .8227 and .8536: that is the old conversion, and their batches and cohorts would have to be "
    "secret Poisson samples. To a server that knows who takes part the rate is 1: the same noise costs "
    "8.00 in 100 rounds."
)
CONTROL = Control("the numbers given beforehand, in each row", lambda row: bool(row["given"]))
ALONE = False
DELTA = 1e-5
INTEGERS = (*range(2, 129), 256)
WIDTH = 3.89  # deviations to either side that the ring holds, where the part of its rounding was given
NEXT_TO_NONE = 1e-4  # the multiplier of a ring without noise: a private vector has some
WAYS: Mapping[str, Callable[[Sequence[Release]], float]] = {
    "old": lambda releases: by_rdp(releases, DELTA, INTEGERS, old=True),
    "today": lambda releases: by_rdp(releases, DELTA, INTEGERS),
    "fine": lambda releases: by_rdp(releases, DELTA),
    "best": lambda releases: epsilon(releases, DELTA),
}
"""How epsilon is reckoned: with the integer orders in the first two."""


@dataclass(frozen=True)
class Vector:
    """given: way, or another quantity -> the number as it was written. other: ours of such a quantity."""

    what: str
    given: Mapping[str, str]
    releases: tuple[Release, ...] = ()
    other: Mapping[str, float] = field(default_factory=dict)

    def ours(self) -> dict[str, float]:
        return {way: self.other[way] if way in self.other else WAYS[way](self.releases) for way in self.given}


def gaussian(z: float, rate: float, steps: int, note: str = "", **given: str) -> Vector:
    """Subsampled Gaussian steps of noise multiplier z, of which somebody else gives these epsilons."""
    what = f"z {z:g}, rate {rate:g}, {steps:,} x{note}"
    return Vector(what, given, (Gaussian(z, rate, steps),))


def ring(clients: int, length: int, bits: int, z: float = 1.0) -> Calibration:
    """All of whose clients stay, and are honest."""
    return Calibration(Private(length=length, clip=1.0, bits=bits, multiplier=z), clients, clients)


def in_ring(noise: str, clients: int, log_length: int, bits: int, today: str) -> Vector:
    """A sum of private vectors of 2^log_length coordinates. today: epsilon, as it was written."""
    c = ring(clients, 2**log_length, bits)
    release: Release = Skellam(c.l2_squared, c.l1, clients * c.variance)
    if noise != "Skellam":
        release = DiscreteGaussians(c.l2_squared, c.l1, 2**log_length, c.variance, clients)
    what = f"{noise}, n {clients}, d 2^{log_length}, {bits} bits"
    return Vector(what, {"today": today}, (release,))


def rounded(clients: int, bits: int, percent: str, z: float = 1.0) -> Vector:
    """What rounding adds to the sum of equal vectors, in percent of its noise, or of its coordinates where
    there is none: a client's, even within a step, has the variance of a step squared / 6. At the width of the
    ring for which it was given.
    """
    length = 2**20
    step = ring(clients, length, bits, z or NEXT_TO_NONE).granularity * WIDTH / WRAP_DEVIATIONS
    percentage = 100 * step * math.sqrt(clients / 6) / (z or clients / math.sqrt(length))
    what = f"rounding, n {clients}, {bits} bits, z {z:g}"
    return Vector(what, {"rounding": percent}, other={"rounding": percentage})


def vectors() -> list[Vector]:
    """Sections 5.2, 5.3 and 5.4 of the notes on attacks and defences, 8 of those on performance; runs of
    dp-accounting 0.6.0."""
    sampled = {
        1.0: {1.0: "91.8", 0.5: "39.98", 0.2: "14.53", 0.1: "7.05", 0.05: "3.50"},
        2.0: {1.0: "33.1", 0.5: "14.28", 0.2: "5.02", 0.1: "2.34", 0.05: "1.10"},
        0.5: {1.0: "284", 0.5: "137", 0.2: "57.2", 0.1: "31.4", 0.05: "18.2"},
    }
    survivors = {
        100: ("91.82", "96.04", "110.1"),
        90: ("99.67", "104.14", "121.2"),
        70: ("121.55", "126.69", "153.0"),
        50: ("159.44", "165.62", "210.1"),
        34: ("219.31", "226.95", "304.2"),
    }
    groups = {
        100: ("4.377", "4.728", "4.753"),
        20: ("11.48", "12.30", "12.30"),
        10: ("17.86", "19.05", "19.80"),
        5: ("28.37", "30.11", "30.13"),
    }
    rings = {
        (10, 17, 12): "5.0721",
        (10, 17, 16): "4.7543",
        (10, 17, 20): "4.7528",
        (10, 20, 12): "7.096",
        (10, 20, 16): "4.7628",
        (100, 17, 12): "5.0960",
        (100, 17, 16): "4.7544",
        (100, 20, 12): "7.115",
        (100, 20, 16): "4.7629",
    }
    of_rounding = {
        100: {12: "0.8", 14: "0.2", 16: "0.05"},
        1000: {12: "3.4", 14: "0.86", 16: "0.21", 18: "0.05"},
        10_000: {14: "19", 16: "4.8", 18: "1.2"},
    }
    without_noise = {
        (1000, 12): "2.5",
        (1000, 14): "0.6",
        (1000, 16): "0.15",
        (100, 10): "3.1",
        (100, 12): "0.8",
    }
    wei_cdp, wei_sdp = " (Fed-CDP)", " (Fed-SDP)"
    return [
        gaussian(6, 0.01, 10_000, wei_cdp, old=".82273", today=".6592", fine=".6592", best=".6010"),
        gaussian(6, 0.01, 6_000, " (LFW)", old=".6356", today=".5006"),
        gaussian(6, 0.1, 101, wei_sdp, old=".85355", today=".6819", fine=".6819", best=".6190"),
        gaussian(6, 0.1, 100, old=".8494", today=".6783", fine=".6783", best=".6157"),
        gaussian(6, 1, 10, old="2.67", today="2.2967", fine="2.2961", best="2.1140"),
        gaussian(6, 1, 100, old="9.39", today="8.6434", fine="8.6033", best="8.0037"),
        gaussian(1, 1, 1, today="4.7527", fine="4.7284", best="4.3772"),
        *(gaussian(z, q, 100, best=best) for z, rates in sampled.items() for q, best in rates.items()),
        *(
            Vector(
                f"{m} of 100 are left, 100 rounds",
                {"today": today, "fine": fine, "best": best},
                (Gaussian(math.sqrt(m / 100), steps=100),),
            )
            for m, (best, fine, today) in survivors.items()
        ),
        *(
            Vector(
                f"groups of {g} under noise of 100",
                {"today": today, "fine": fine, "best": best},
                (Gaussian(math.sqrt(g / 100)),),
            )
            for g, (best, fine, today) in groups.items()
        ),
        *(
            in_ring(noise, *which, today)
            for which, today in rings.items()
            for noise in ("Skellam", "discrete")
        ),
        Vector(
            "a step, n 100, d 2^17, 16 bits",
            {"step": "1.266e-4"},
            other={"step": ring(100, 2**17, 16).granularity},
        ),
        *(rounded(n, b, percent) for n, some in of_rounding.items() for b, percent in some.items()),
        *(rounded(n, b, percent, 0.0) for (n, b), percent in without_noise.items()),
    ]


def cases(size: str, seed: int) -> list[Case]:
    """The same in every size: it takes seconds."""
    return [Case(vector.what, partial(run_case, vector)) for vector in vectors()]


def run_case(vector: Vector) -> Row:
    """off: by how much of a unit of its last digit each number differs from the one given."""
    ours = vector.ours()
    off = {way: abs(ours[way] - float(given)) / last_digit(given) for way, given in vector.given.items()}
    return {"what": vector.what, "given": dict(vector.given), "ours": ours, "off": off}


def last_digit(written: str) -> float:
    """What one unit of it is worth."""
    number, _, exponent = written.partition("e")
    return float(10.0 ** (int(exponent or 0) - len(number.partition(".")[2])))


def table(rows: Sequence[Row]) -> Table:
    """off: in units of the last digit given; up to 0.5 it is the same number."""
    cells = [
        (row["what"], way, f"{row['ours'][way]:.5g}", given, f"{row['off'][way]:.2f}")
        for row in rows
        for way, given in row["given"].items()
    ]
    return Table.of(("what", "by", "ours", "given", "off"), cells)
