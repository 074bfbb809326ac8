"""What a private vector costs a client: processor time, beside its masks; bytes, beside a bounded vector."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import get_args

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.played import timed
from secagg import Bounded, Masking, throwaway_identities
from secagg.bits import word_type
from secagg.crypto import KEY_BYTES
from secagg.masking.messages import traffic
from secagg.noise import _table, add_noise
from secagg.prg import add_masks, keystream
from secagg.private import Reading, encode_private
from secagg.specs import Noise, Private, Spec

CLAIM = (
    "An update of 10^6 coordinates is clipped, rotated, rounded, noised and reduced to its ring in less "
    "than 0.1 s of processor time, where the aim was 0.4 s: three to five times what the masks of a "
    "session of 30 clients take. It is sent in the bytes of a bounded vector in the same ring. From a "
    "table of 2^14 entries a core draws noise at more than the 10^7 a second that were the aim; of a draw "
    "the keystream is the least part."
)
CONTROL = Control(
    "masking alone for an update, the keystream alone for draws, in each row",
    lambda row: bool(row["alone"]),
    by=("what",),
)
ALONE = True
CLIENTS = 30
LENGTH = {"quick": 200_000, "full": 1_000_000}
BITS = (12, 16, 20)
TABLES = (10, 14, 18)  # log2 of entries
REACH = 9.1  # deviations to which a table of words of 64 bits goes
REPETITIONS = {"quick": 3, "full": 9}
NOISES: tuple[Noise, ...] = get_args(Noise)


def cases(size: str, seed: int) -> list[Case]:
    """Encodings of an update by noise and bits; then draws by noise and size of the table."""
    length, repetitions = LENGTH[size], REPETITIONS[size]
    updates = [
        Case(f"update, {noise}, {bits} bits", partial(run_update, noise, bits, length, repetitions, seed))
        for noise in NOISES
        for bits in BITS
    ]
    draws = [
        Case(f"draws, {noise}, 2^{entries} entries", partial(run_draws, noise, entries, length, repetitions))
        for noise in NOISES
        for entries in TABLES
    ]
    return updates + draws


def run_update(noise: Noise, bits: int, length: int, repetitions: int, seed: int) -> Row:
    """seconds: of the whole encoding; alone: of 30 masks on its codes. In turns, after one that is not
    counted: a session's table of noise is made once.
    """
    private = Private(length=length, clip=0.5, bits=bits, noise=noise)
    scheme = session(private)
    reading = Reading(scheme.calibration(""), os.urandom(KEY_BYTES))
    x = np.random.default_rng(seed).normal(0, length**-0.5, length)
    codes = np.zeros(length, word_type(bits))
    work: dict[str, Callable[[], object]] = {
        "seconds": lambda: encode_private(reading, x, os.urandom(KEY_BYTES)),
        "alone": lambda: add_masks(codes, [os.urandom(KEY_BYTES) for _ in range(CLIENTS)]),
    }
    return {
        "what": f"update of {length:,}",
        "noise": noise,
        "bits": bits,
        "deviation": math.sqrt(scheme.calibration("").variance),
        **in_turns(work, repetitions),
        "bytes": upload(scheme),
        "bytes_bounded": upload(session(bounded(length, bits))),
    }


def session(spec: Spec) -> Masking:
    """The scheme of one masked session."""
    return Masking.for_cohort(CLIENTS, spec, roster=throwaway_identities(range(CLIENTS))[0])


def bounded(length: int, ring: int) -> Bounded:
    """The one whose sums have as many bits."""
    specs = (Bounded(length=length, bound=1.0, bits=bits) for bits in range(ring, 1, -1))
    return next(spec for spec in specs if spec.ring_bits(CLIENTS) == ring)


def upload(scheme: Masking) -> int:
    """Bytes of a client in all rounds, by the formula that tests hold against messages."""
    everyone = range(CLIENTS)
    rounds = traffic(scheme, 0, CLIENTS - 1, everyone, everyone, everyone, everyone, None)
    return sum(up for up, _ in rounds.values())


def run_draws(noise: Noise, log_entries: int, length: int, repetitions: int) -> Row:
    """alone: the keystream's words, of which a draw takes one."""
    deviation = 2.0**log_entries / REACH
    codes = np.zeros(length, np.int64)
    work: dict[str, Callable[[], object]] = {
        "seconds": lambda: add_noise(codes, noise, deviation**2, os.urandom(KEY_BYTES)),
        "alone": lambda: [None for _ in keystream(os.urandom(KEY_BYTES), length, np.uint64)],
    }
    return {
        "what": "draws",
        "noise": noise,
        "entries": len(_table(noise, deviation**2, 63).thresholds),
        "deviation": deviation,
        **in_turns(work, repetitions),
        "draws": length,
    }


def in_turns(work: dict[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Name -> processor seconds of each repetition, of which every one is of each in turn, after one for
    warmth.
    """
    taken: dict[str, list[float]] = {what: [] for what in work}
    for each in work.values():
        each()
    for _ in range(repetitions):
        for what, each in work.items():
            timed(taken[what], each)
    return taken


def table(rows: Sequence[Row]) -> Table:
    """Of an update the masks beside it, of draws the keystream. bytes: of a bounded vector's."""
    header = ("what", "noise", "bits", "entries", "deviation", "takes", "alone", "ratio", "draws/s", "bytes")
    return Table.of(header, [cells(row) for row in rows])


def cells(row: Row) -> tuple[str, ...]:
    """A line of the table: medians, and ratios to what was measured beside it."""
    takes, alone = (statistics.median(row[what]) for what in ("seconds", "alone"))
    ratio = statistics.median(a / b for a, b in zip(row["seconds"], row["alone"], strict=True))
    return (
        row["what"],
        row["noise"],
        str(row.get("bits", "")),
        f"{row['entries']:,}" if "entries" in row else "",
        f"{row['deviation']:.3g}",
        f"{1000 * takes:.0f} ms",
        f"{1000 * alone:.0f} ms",
        f"{ratio:.1f}",
        f"{row['draws'] / takes:.2g}" if "draws" in row else "",
        f"x {row['bytes'] / row['bytes_bounded']:.3f}" if "bytes" in row else "",
    )
