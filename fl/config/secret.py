"""What a party of training draws from its one secret, and the file in which that stands.

A client's order of examples and its rounding, and a server's choice of clients, come from secrets of their
own, so that nobody else can foretell or repeat them. Of a run on one machine all of these come from one.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl.config.section import ConfigError
from fl.data.files import write_atomically
from secagg.crypto import KEY_BYTES, NeverPickled, Tag, kdf
from secagg.errors import ClientId
from secagg.prg import keystream
from secagg.wire import context_of

CLIENT, SERVER, RUN = "client.secret", "server.secret", "run.secret"
"""The files: in a client's folder, in a server's, and in that of a run on one machine."""
RUN_ID_BYTES = 16


def order_key(secret: bytes, task: bytes) -> bytes:
    """The key of the order in which a client takes its examples in the round of this task: 32 bytes.

    Security: the whole task is in it. A server that asks for the same model twice, under two run ids or with
    a weight moved by nothing that shows, gets two orders, and learns little from the difference of two sums.
    """
    return kdf(Tag.TRAINING, secret, context_of(task), "order")


def rounding_seed(secret: bytes) -> bytes:
    """The seed of a client's stochastic rounding, 32 bytes: `secagg` derives a key for each task of it."""
    return kdf(Tag.TRAINING, secret, b"", "rounding")


def choice_key(secret: bytes, round: int) -> bytes:
    """The key of a server's choice of clients in a training round: 32 bytes."""
    # The run's id is not in it: `serve --resume` goes on under a new one, and chooses as it would have.
    return kdf(Tag.TRAINING, secret, b"", "choice", round)


def root_key(secret: bytes, round: int) -> bytes:
    """The key of the order in which a server takes examples of its own in a training round: 32 bytes."""
    return kdf(Tag.TRAINING, secret, b"", "root", round)


def permutations(key: bytes, n: int) -> Iterator[NDArray[np.int64]]:
    """Orders without end, (n,) each: 0..n-1 at random, sorted by 64-bit words of AES-CTR keystreams.

    Two words are equal with probability n^2 / 2^65. Security: torch's generator on a CPU takes 32 bits of
    its seed, numpy's is no cipher: whoever sees some orders of theirs can find the others.
    """
    for number in count():
        of_pass = kdf(Tag.TRAINING, key, b"", "pass", number)
        blocks = [block.copy() for block in keystream(of_pass, n, np.uint64)]  # they share one buffer
        yield np.argsort(np.concatenate(blocks), kind="stable")


def samples(
    key: bytes, n: int, expected: int, weights: NDArray[np.float64] | None = None
) -> Iterator[NDArray[np.int64]]:
    """Poisson samples without end of 0..n-1, in ascending order: each number is in each sample with
    probability expected / n, times its weight where there are weights, (n,), for itself; in all where that
    is 1 and more.

    By 64-bit words of AES-CTR keystreams, of which the upper 53 bits are compared with the probability.
    Security: as `permutations`; who knows the samples knows what amplification by sampling relies on.
    """
    rates = np.full(n, expected / n) if weights is None else expected / n * weights
    for number in count():
        of_sample = kdf(Tag.TRAINING, key, b"", "sample", number)
        words = np.concatenate([block >> np.uint64(11) for block in keystream(of_sample, n, np.uint64)])
        yield np.flatnonzero(words * 2.0**-53 < rates)


@dataclass(frozen=True)
class RunSecrets(NeverPickled):
    """The secrets of all parties of a run on one machine, from one of 32 bytes: who has that has all."""

    secret: bytes = field(repr=False)

    @classmethod
    def fresh(cls) -> RunSecrets:
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def of_seed(cls, seed: int) -> RunSecrets:
        """The secrets of experiments and tests, which can be repeated: seed, 0..2^64-1, is no secret."""
        return cls(kdf(Tag.TRAINING, seed.to_bytes(8, "big"), b"", "experiment"))

    def client(self, u: ClientId) -> bytes:
        return kdf(Tag.TRAINING, self.secret, b"", "client", u)

    def clients(self, n: int) -> dict[ClientId, bytes]:
        """The secrets of the clients 0..n-1."""
        return {u: self.client(u) for u in range(n)}

    @property
    def server(self) -> bytes:
        return kdf(Tag.TRAINING, self.secret, b"", "server")

    @property
    def run(self) -> bytes:
        """The run's id, in every task: 16 bytes."""
        return kdf(Tag.TRAINING, self.secret, b"", "run")[:RUN_ID_BYTES]


def kept(path: Path) -> bytes:
    """The secret in this file, made at the first call: 32 bytes.

    Raises: ConfigError if the file is damaged or others may read it.
    """
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(os.urandom(KEY_BYTES))
    except FileExistsError:
        pass
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(f"{path} is readable by others: chmod 600 {shlex.quote(str(path))}")
    secret = path.read_bytes()
    if len(secret) != KEY_BYTES:
        raise ConfigError(f"{path} is damaged: delete it, and a new one is made")
    return secret


def put(path: Path, secret: bytes) -> None:
    """Write a secret where `kept` finds it; one already there is replaced."""
    write_atomically(path, secret, mode=0o600)
