"""Who took part: what an adversary makes of lengths, of times and of sums, in sessions with blanks."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from functools import partial
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks.blanked import P, Setting, by_arrival, by_length, guessed, sessions
from benchmarks.harness import Case, Control, Row, Table
from benchmarks.noised import Vector
from benchmarks.ring import added
from benchmarks.spread import guesses, interval
from secagg import Private
from secagg.blank import toss
from secagg.crypto import KEY_BYTES, system_rng
from secagg.private import Calibration, Reading, encode_private

CLAIM = (
    "At P = 1/2 neither the length of all that a client says nor the times at which it arrives, over "
    "processes, tell whether it took part: rules fitted to one half of the sessions guess the other half as "
    "a coin does. Where a blank does less than other vectors, as one might build it, the same rules find "
    "it. Sums hide one coin as far as the noise of one round hides a whole update, and no further: an "
    "adversary that knows every client's vector guesses by least squares what the noise lets anybody guess "
    "(69, 60 and 55 % at z = 1, 2 and 4; the vectors are the same in all rounds, the coins are not), one "
    "that knows none guesses as a coin. Totals of weights that somebody knows name who took part, which is "
    "why they are refused beside blanks."
)
CONTROL = Control(
    "what has to be found: totals of known weights in the clear, sums with hardly any noise, and a blank "
    "that computes less than others",
    lambda row: bool(row["control"]),
)
ALONE = True
CLIENTS, LENGTH = 4, 100_000  # of the sessions over processes
SESSIONS = {"quick": 16, "full": 300}
SUMMED, COORDINATES = 20, 4096  # clients and coordinates of the sums
ROUNDS = {"quick": 8, "full": 200}
Z = (1.0, 2.0, 4.0)
COSINES = {1.0: "all vectors", 0.5: "half of each", 0.0: "nothing"}
LITTLE = 0.01  # z
WEIGHED, TOTALS = 8, 50


def cases(size: str, seed: int) -> list[Case]:
    """Over processes; of sums; of weights."""
    settings = [
        Setting("masking", CLIENTS, LENGTH),
        Setting("split", CLIENTS, LENGTH),
        Setting("masking", CLIENTS, LENGTH, idle=True),
    ]
    seen = [
        Case(f"{each.scheme}{', idle' if each.idle else ''}", partial(run_seen, each, SESSIONS[size]))
        for each in settings
    ]
    sums = [Case(f"sums, z {z:g}", partial(run_sums, z, ROUNDS[size], seed)) for z in (*Z, LITTLE)]
    return [*seen, *sums, Case("weights", partial(run_weights, seed))]


def run_seen(setting: Setting, count: int) -> Iterator[Row | str]:
    """Half of the sessions show which rule is best, the other half how good it is."""
    for said in sessions(setting, count):
        if isinstance(said, str):
            yield said
            continue
        seen = {"arrival": by_arrival(said)} | ({} if setting.idle else {"length": by_length(said)})
        how = f"{setting.scheme}, {'a blank computes less' if setting.idle else 'as it is'}"
        for what, features in seen.items():
            right, of = guessed(features, said)
            yield row_of(what, how, right, of, control=setting.idle)


def row_of(
    what: str,
    how: str,
    right: int,
    of: int,
    *,
    most: float | None = None,
    chance: float = P,
    control: bool = False,
) -> Row:
    """what: of which the adversary makes its guesses. chance, most: rates, of who knows nothing and of who
    knows everything but the noise.
    """
    row = {"what": what, "how": how, "right": right, "of": of}
    return row | {"chance": chance, "most": most, "control": control}


def run_sums(z: float, rounds: int, seed: int) -> Iterator[Row]:
    """Every client's vector is the same in all rounds, its coin another in each. The adversary has a vector
    of so great a cosine with each client's (1: the very vectors), and explains a round's sum by them, by
    least squares. most: what nobody can pass, whatever is known, under normal noise as large.
    """
    rng = np.random.default_rng([seed, int(100 * z)])
    calibration = Calibration(Private(length=COORDINATES, clip=1.0, multiplier=z), SUMMED, SUMMED)
    x, other = (unit(rng.normal(size=(SUMMED, COORDINATES))) for _ in range(2))
    known = {cosine: cosine * x + math.sqrt(1 - cosine**2) * other for cosine in COSINES}
    right = dict.fromkeys(COSINES, 0)
    for _ in range(rounds):
        total, summed = one_sum(calibration, x)
        for cosine, vectors in known.items():
            part, *_ = np.linalg.lstsq(vectors.T, total, rcond=None)
            right[cosine] += int(np.count_nonzero((part > cosine / 2) == summed))
    for cosine, count in right.items():
        how, most = f"z {z:g}, knows {COSINES[cosine]}", NormalDist().cdf(1 / (2 * z))
        control = z == LITTLE and cosine > 0
        yield row_of("sums", how, count, rounds * SUMMED, most=most, control=control)


def unit(x: Vector) -> Vector:
    """(n, d), each of norm 1."""
    lengths: Vector = np.linalg.norm(x, axis=1, keepdims=True)
    return x / lengths


def one_sum(calibration: Calibration, x: Vector) -> tuple[Vector, NDArray[np.bool_]]:
    """Of the clients' codes in their ring, as a session gives it; and whose coin fell so."""
    reading = Reading(calibration, os.urandom(KEY_BYTES))
    coins = [toss(P, system_rng) for _ in x]
    encoded = [
        encode_private(reading, each, os.urandom(KEY_BYTES), coin)[0]
        for each, coin in zip(x, coins, strict=True)
    ]
    return reading.total(added(calibration, encoded)), np.array(coins, bool)


def run_weights(seed: int) -> Row:
    """Totals that are of one set of clients alone, whose numbers of examples the adversary knows."""
    rng, named = np.random.default_rng(seed), 0
    sets = np.array(list(itertools.product((0, 1), repeat=WEIGHED)))
    for _ in range(TOTALS):
        weights, summed = rng.integers(100, 1000, WEIGHED), rng.integers(0, 2, WEIGHED)
        named += int(np.count_nonzero(sets @ weights == summed @ weights) == 1)
    return row_of("weights", f"n = {WEIGHED}, knows all", named, TOTALS, chance=P**WEIGHED, control=True)


def table(rows: Sequence[Row]) -> Table:
    """rightly: with the 95 % interval. at most: by whoever knows everything but noise and coins."""
    header = ("by", "of", "guesses", "rightly", "chance", "at most", "than it")
    return Table.of(header, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    low, _ = interval(row["right"], row["of"])
    better = "better" if low > row["chance"] else "no better"
    return (
        row["what"],
        row["how"],
        f"{row['of']:,}",
        guesses(row["right"], row["of"]),
        f"{row['chance']:.1%}",
        "" if row["most"] is None else f"{row['most']:.1%}",
        better,
    )
