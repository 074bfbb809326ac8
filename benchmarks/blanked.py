"""Sessions with blanks in which every party is a process: what the server sees of each client, and how the
client's coin fell.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from secagg import Masking, Policy, Private, Split, inputs
from secagg.bits import Words, word_type
from secagg.blank import Coin, toss
from secagg.crypto import Rng
from secagg.encoding import NO_CLIPPING, Clipping
from secagg.errors import ClientId
from secagg.noise import add_noise
from secagg.private import Reading, encode_private
from secagg.record import Around
from secagg.session import ServerSession
from secagg.wire import Raw, relay_of
from transport import join, join_as_relay, serve
from transport.processes import LocalProcesses, lay_out_keys

P = 0.5
TIMEOUT = 600.0  # seconds: nothing waits so long unless something is broken


@dataclass(frozen=True)
class Setting:
    """idle: a blank that does less than others, as one might build it: of zeros there is nothing to clip, to
    rotate or to round, and it adds its noise alone.
    """

    scheme: str
    clients: int
    length: int
    idle: bool = False

    @property
    def relays(self) -> int:
        return 2 if self.scheme == "split" else 0


@dataclass
class Seen:
    """Of each client in one session. bytes: of all its messages. seconds: round -> from the opening of the
    round to the arrival of its answer. summed: how its coin fell.
    """

    bytes: dict[ClientId, int]
    seconds: dict[str, dict[ClientId, float]]
    summed: dict[ClientId, bool]


class Watching(Around):
    """A server session that looks at the clock and at lengths."""

    def __init__(self, session: ServerSession, seen: Seen) -> None:
        super().__init__(session)
        self._seen, self._opened = seen, time.monotonic()

    def receive(self, sender: ClientId, message: Raw) -> None:
        if relay_of(sender) is None:
            self._seen.bytes[sender] = self._seen.bytes.get(sender, 0) + len(message)
            of_round = self._seen.seconds.setdefault(self.round, {})
            of_round[sender] = time.monotonic() - self._opened
        super().receive(sender, message)

    def advance(self) -> dict[ClientId, bytes]:
        requests = self._session.advance()
        self._opened = time.monotonic()
        return requests


def sessions(setting: Setting, count: int) -> Iterator[str | list[Seen]]:
    """So many with one cohort; in the end all that was seen.

    Raises: AssertionError where a sum is not of all.
    """
    scheme = scheme_of(setting)
    pipes, seen = list[Connection](), list[Seen]()
    with TemporaryDirectory() as folder, LocalProcesses(preload=(__name__,)) as processes:
        of_server, folders = lay_out_keys(Path(folder), setting.clients, setting.relays)
        with serve("tcp://127.0.0.1:*", of_server / "server.key", of_server / "roster") as cohort:
            for u in range(setting.clients):
                here, there = Pipe()
                processes.start(f"client {u}", client, setting, folders[u], cohort.endpoint, there)
                there.close()
                pipes.append(here)
            for each in folders[setting.clients :]:
                processes.start(each.name, relay, each, cohort.endpoint)
            cohort.wait_for_clients(setting.clients, TIMEOUT, relays=setting.relays)
            for i in range(count):
                if i % 10 == 0:
                    yield f"session {i + 1} of {count}"
                seen.append(Seen({}, {}, {}))
                total = cohort.aggregate(scheme, os.urandom(16), instrument=partial(Watching, seen=seen[-1]))
                if len(total.survivors) != setting.clients:
                    raise AssertionError("somebody was lost")
        for u, pipe in enumerate(pipes):
            if not pipe.poll(TIMEOUT):
                raise AssertionError(f"client {u} does not say how its coins fell")
            for one, summed in zip(seen, pipe.recv(), strict=True):
                one.summed[u] = summed
    yield seen


def scheme_of(setting: Setting) -> Masking | Split:
    """A scheme of vectors under noise, of which each client sends none with probability P."""
    vector = Private(length=setting.length, clip=1.0, bits=16)
    if setting.scheme == "split":
        return Split.for_cohort(setting.clients, vector, relays=setting.relays, blank=P)
    return Masking.for_cohort(setting.clients, vector, blank=P)


def client(setting: Setting, folder: Path, endpoint: str, pipe: Connection) -> None:
    """Every session until the server closes; then how the coins fell."""
    coins, policy = (
        list[bool](),
        Policy(schemes=frozenset({setting.scheme}), adversary="semi-honest", blank=P, noise=1.0),
    )
    x = np.random.default_rng().normal(0, setting.length**-0.5, setting.length)

    def noting(blank: float, rng: Rng) -> Coin:
        coin = toss(blank, rng)
        coins.append(bool(coin))
        return coin

    key, known, roster = (folder / name for name in ("client.key", "server.pub", "roster"))
    encode = encode_idle if setting.idle else encode_private
    with (
        patch.object(inputs, "toss", noting),
        patch.object(inputs, "encode_private", encode),
        join(endpoint, key, known, roster, policy=policy, patience=TIMEOUT) as peer,
    ):
        while peer.contribute(lambda task: x) is not None:
            pass
    pipe.send(coins)


def encode_idle(reading: Reading, x: Any, secret: bytes, coin: Coin) -> tuple[Words, Clipping]:
    """As `encode_private`, but whoever contributes nothing does none of an update's work: noise alone."""
    if coin:
        return encode_private(reading, x, secret, coin)
    spec, codes = reading.calibration.spec, np.zeros(reading.calibration.spec.length, np.int64)
    add_noise(codes, spec.noise, reading.calibration.variance, secret)
    codes &= 2**spec.bits - 1
    return codes.astype(word_type(spec.bits)), NO_CLIPPING


def relay(folder: Path, endpoint: str) -> None:
    """The body of the process of a relay, with its files in the folder: serves until the server closes."""
    key, known, roster = (folder / name for name in ("relay.key", "server.pub", "roster"))
    policy = Policy(schemes=frozenset({"split"}), adversary="semi-honest", blank=P, noise=1.0)
    with join_as_relay(endpoint, key, known, roster, policy=policy, patience=TIMEOUT) as own:
        while own.serve() is not None:
            pass


# What is made of it


Features = NDArray[np.float64]


def by_length(seen: Sequence[Seen]) -> Features:
    """(sessions, clients, 1)."""
    return np.array([[[each.bytes[u]] for u in sorted(each.summed)] for each in seen], np.float64)


def by_arrival(seen: Sequence[Seen]) -> Features:
    """(sessions, clients, 2 R): by round the seconds, beside the client's usual, and the place among all."""
    rounds = [name for name in seen[0].seconds if name != "join"]
    each = np.array([[[one.seconds[r][u] for r in rounds] for u in sorted(one.summed)] for one in seen])
    places = np.argsort(np.argsort(each, axis=1), axis=1).astype(np.float64)
    return np.concatenate([each - np.median(each, axis=0), places], axis=2)


@dataclass(frozen=True)
class Threshold:
    """A guess: taking part where the feature is above, or where it is below."""

    feature: int
    at: float
    above: bool

    @classmethod
    def best(cls, features: Features, summed: NDArray[np.bool_]) -> Threshold:
        """features: (samples, F)."""
        rules = [
            cls(i, float(at), above)
            for i in range(features.shape[1])
            for at in np.quantile(features[:, i], np.arange(1, 20) / 20)
            for above in (False, True)
        ]
        return max(rules, key=lambda rule: int(np.count_nonzero(rule.guess(features) == summed)))

    def guess(self, features: Features) -> NDArray[np.bool_]:
        above: NDArray[np.bool_] = features[:, self.feature] > self.at
        return above if self.above else ~above


def guessed(features: Features, seen: Sequence[Seen]) -> tuple[int, int]:
    """(right, of): the rule that was best in the first half of the sessions, in the second."""
    summed = np.array([[each.summed[u] for u in sorted(each.summed)] for each in seen])
    half, width = len(seen) // 2, features.shape[2]
    rule = Threshold.best(features[:half].reshape(-1, width), summed[:half].ravel())
    right = rule.guess(features[half:].reshape(-1, width)) == summed[half:].ravel()
    return int(np.count_nonzero(right)), right.size
