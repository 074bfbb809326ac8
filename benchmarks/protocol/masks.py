"""Expanding masks and adding them, beside the cipher alone: how much of the time is not the cipher's."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks.harness import Row, Step
from secagg.prg import BLOCK_BYTES, Prg, add_masks, gcm_is_faster

CLAIM = "Expanding a mask and adding it runs at 75 % of the keystream alone, or faster."
LENGTHS = (100_000, 10_000_000)
WORDS = ("uint32", "uint64")
REPETITIONS = {"quick": 7, "full": 25}
BYTES = 1 << 28  # of keystream, each time

_ALONE: dict[Prg, Callable[[bytes], Cipher[Any]]] = {
    "aes-128-ctr": lambda seed: Cipher(algorithms.AES(seed[:16]), modes.CTR(bytes(16))),
    "chacha20": lambda seed: Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None),
}


def cases(size: str) -> int:
    return len(get_args(Prg)) * len(WORDS) * len(LENGTHS)


def alone(prg: Prg, seeds: Sequence[bytes], size: int) -> None:
    """The streams into one buffer that stays in the cache, and nothing else."""
    zeros, buffer = memoryview(bytes(BLOCK_BYTES)), memoryview(bytearray(BLOCK_BYTES))
    for seed in seeds:
        cipher = _ALONE[prg](seed).encryptor()
        for start in range(0, size, BLOCK_BYTES):
            count = min(BLOCK_BYTES, size - start)
            cipher.update_into(zeros[:count], buffer[:count])


def run(size: str, seed: int, step: Step) -> Iterator[Row]:
    """Medians of repetitions in turn, so that what else the machine does falls on both alike."""
    for prg in get_args(Prg):
        for word in WORDS:
            for length in LENGTHS:
                step(f"{prg}, {word}, {length}")
                y = np.zeros(length, word)
                y += 1  # its pages are there
                seeds = [os.urandom(32) for _ in range(max(1, BYTES // y.nbytes))]
                times: dict[str, list[float]] = {"alone": [], "masks": []}
                for _ in range(REPETITIONS[size]):
                    for what, work in (
                        ("alone", lambda: alone(prg, seeds, y.nbytes)),  # noqa: B023
                        ("masks", lambda: add_masks(y, seeds, prg=prg)),  # noqa: B023
                    ):
                        begun = time.perf_counter()
                        work()
                        times[what].append(time.perf_counter() - begun)
                total = len(seeds) * y.nbytes / 1e9
                yield {
                    "prg": prg,
                    "word": word,
                    "length": length,
                    "masks": len(seeds),
                    "gcm": prg == "aes-128-ctr" and gcm_is_faster(),
                    "alone_gb_s": total / statistics.median(times["alone"]),
                    "masks_gb_s": total / statistics.median(times["masks"]),
                    "ratio": statistics.median(a / b for a, b in zip(*times.values(), strict=True)),
                    "seconds": times,
                }


def table(rows: Sequence[Row]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    header = ("PRG", "word", "length", "cipher alone", "expanded and added", "ratio")
    return header, [
        (
            row["prg"] + (" (AES-GCM's code)" if row["gcm"] else ""),
            row["word"],
            f"{row['length']:,}",
            f"{row['alone_gb_s']:.2f} GB/s",
            f"{row['masks_gb_s']:.2f} GB/s",
            f"{row['ratio']:.2f}",
        )
        for row in rows
    ]
