"""Expanding masks and adding them, beside the cipher alone: how much of the time is not the cipher's."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks.harness import Case, Control, Row, Table
from secagg.prg import BLOCK_BYTES, Prg, add_masks, gcm_is_faster

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Expanding a mask and adding it runs at 75 % of the keystream that OpenSSL's AES-128-CTR or ChaCha20 "
    "gives alone, or faster. Where OpenSSL's AES-GCM is faster than its AES-CTR it gives the stream, and the "
    "last column is of that code alone."
)
CONTROL = Control("the cipher alone, in each row", lambda row: "alone" in row["gb_s"])
ALONE = True
LENGTHS = (100_000, 10_000_000)
WORDS = ("uint32", "uint64")
REPETITIONS = {"quick": 7, "full": 25}
BYTES = 1 << 28  # of keystream, each time

_ALONE: dict[str, Callable[[bytes], Cipher[Any]]] = {
    "aes-128-ctr": lambda seed: Cipher(algorithms.AES(seed[:16]), modes.CTR(bytes(16))),
    "chacha20": lambda seed: Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None),
    "aes-128-gcm": lambda seed: Cipher(algorithms.AES(seed[:16]), modes.GCM(bytes(12))),
}


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(f"{prg}, {word}, {length:,}", partial(run_case, prg, word, length, REPETITIONS[size]))
        for prg in get_args(Prg)
        for word in WORDS
        for length in LENGTHS
    ]


def alone(cipher: str, seeds: Sequence[bytes], size: int) -> None:
    """The streams into one buffer that stays in the cache, and nothing else."""
    zeros, buffer = memoryview(bytes(BLOCK_BYTES)), memoryview(bytearray(BLOCK_BYTES))
    for seed in seeds:
        context = _ALONE[cipher](seed).encryptor()
        for start in range(0, size, BLOCK_BYTES):
            count = min(BLOCK_BYTES, size - start)
            context.update_into(zeros[:count], buffer[:count])


def run_case(prg: Prg, word: str, length: int, repetitions: int) -> Row:
    """Medians of repetitions in turn, so that what else the machine does falls on all alike."""
    used = "aes-128-gcm" if prg == "aes-128-ctr" and gcm_is_faster() else prg
    y = np.zeros(length, word)
    y += 1  # its pages are there
    seeds = [os.urandom(32) for _ in range(max(1, BYTES // y.nbytes))]
    work: dict[str, Callable[[], None]] = {
        "alone": partial(alone, prg, seeds, y.nbytes),
        "code": partial(alone, used, seeds, y.nbytes),
        "masks": partial(add_masks, y, seeds, prg=prg),
    }
    times: dict[str, list[float]] = {what: [] for what in work}
    for _ in range(repetitions):
        for what, each in work.items():
            begun = time.perf_counter()
            each()
            times[what].append(time.perf_counter() - begun)
    total = len(seeds) * y.nbytes / 1e9
    return {
        "prg": prg,
        "word": word,
        "length": length,
        "masks": len(seeds),
        "code": used,
        "gb_s": {what: total / statistics.median(taken) for what, taken in times.items()},
        "ratio": median_ratio(times["alone"], times["masks"]),
        "code_ratio": median_ratio(times["code"], times["masks"]),
        "seconds": times,
    }


def median_ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """Of pairs of repetitions."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def table(rows: Sequence[Row]) -> Table:
    header = ("PRG", "word", "length", "cipher alone", "expanded and added", "ratio", "of the code used")
    cells = [
        (
            row["prg"],
            row["word"],
            f"{row['length']:,}",
            f"{row['gb_s']['alone']:.2f} GB/s",
            f"{row['gb_s']['masks']:.2f} GB/s",
            f"{row['ratio']:.2f}",
            f"{row['code_ratio']:.2f} ({row['code']})",
        )
        for row in rows
    ]
    return Table.of(header, cells)


def plot(rows: Sequence[Row]) -> Figure:
    from benchmarks.plots import bars

    names = [f"{row['prg']}, {row['word']}, {row['length']:,}" for row in rows]
    panels = {
        title: [{"median": row["gb_s"][what]} for row in rows]
        for title, what in (("cipher alone, GB/s", "alone"), ("expanded and added, GB/s", "masks"))
    }
    return bars(names, panels)
