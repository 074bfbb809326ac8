"""`--drop`: processes that are killed on purpose, to see that the sum of the others does not suffer, or that
without one nothing is revealed.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fl.config.section import ConfigError
from fl.mistyped import nearest
from secagg import Plain, Scheme
from secagg.errors import counted
from secagg.identity import party
from secagg.session import rounds_of
from secagg.wire import relay_party
from transport.frames import CHUNK_BYTES
from transport.talk import Progress

_WHO = r"(?P<relay>relay)?(?P<id>\d+)"
_DROP = re.compile(_WHO + r"@(?P<round>[a-z-]+)(:(?P<percent>\d+)%)?(:(?P<training>\d+))?")
FORM = "ID@ROUND, ID@ROUND:50% (after half its message) or ID@ROUND:TRAINING-ROUND"


@dataclass(frozen=True)
class Drop:
    """Client `client`, or the relay that takes part under that id, is killed in protocol round `round` of
    training round `training_round`, or of the next after it that asks for it, before more than `fraction` of
    its message has left.
    """

    client: int
    round: str
    fraction: float = 0.0
    training_round: int = 1

    @property
    def who(self) -> str:
        return party(self.client)


def parse(texts: Iterable[str], clients: int, scheme: Scheme) -> dict[int, Drop]:
    """Client, or relay by the id under which it takes part -> its drop. clients: of the run, whose sessions
    may be of fewer.

    Raises: ConfigError for another form, client or round, or a client named twice.
    """
    drops: dict[int, Drop] = {}
    for text in texts:
        match = _DROP.fullmatch(text)
        if not match:
            raise ConfigError(f"--drop {text}: the form is {FORM}")
        number, is_relay = int(match["id"]), match["relay"] is not None
        drop = Drop(
            relay_party(number) if is_relay else number,
            match["round"],
            int(match["percent"] or 0) / 100,
            int(match["training"] or 1),
        )
        if is_relay and number >= scheme.relays:
            raise ConfigError(f"--drop {text}: there are {counted(scheme.relays, 'relay')}, from 0 on")
        if not is_relay and number >= clients:
            raise ConfigError(f"--drop {text}: the clients are 0 to {clients - 1}")
        if drop.client in drops:
            raise ConfigError(f"--drop {text}: {drop.who} is dropped twice")
        rounds = rounds_of(scheme, drop.client)
        if drop.round not in rounds:
            raise ConfigError(
                f"--drop {text}: the rounds are {', '.join(rounds)}{nearest(drop.round, rounds)}"
            )
        if not 0 <= drop.fraction < 1 or drop.training_round < 1:
            raise ConfigError(f"--drop {text}: a share of 0% to 99%, a training round from 1 on")
        drops[drop.client] = drop
    return drops


def in_plain(drop: Drop, scheme: Scheme) -> Drop:
    """The same loss as in a run of this scheme for the unprotected run, which has one round: the same clients
    are in each sum.
    """
    if drop.round == "join":
        return drop
    if scheme.rounds.index(drop.round) > scheme.rounds.index(scheme.upload_round):
        # It is in this sum, and not there for the next.
        return Drop(drop.client, "join", 0.0, drop.training_round + 1)
    return Drop(drop.client, Plain.upload_round, drop.fraction, drop.training_round)


class Killer:
    """Watches a client's messages leave and kills the process at its moment. round: the training round of the
    last task; when a client joins, the next. A demo is in its first from the start. flush: returns once all
    that was said is on its way: the client is lost with that much said.
    """

    def __init__(
        self, drop: Drop | None, flush: Callable[[], object] = lambda: None, *, round: int = 0
    ) -> None:
        self._drop, self._flush, self.round = drop, flush, round

    def training(self, round: int) -> None:
        """Be told of each task."""
        self.round = round

    @property
    def progress(self) -> Progress | None:
        return self._watch if self._drop is not None else None

    def _watch(self, round: str, sent: int, size: int) -> None:
        drop = self._drop
        if drop is None or round != drop.round or self.round + (round == "join") < drop.training_round:
            return
        # Told before a piece leaves: with this one it would be more than the share.
        if min(sent + CHUNK_BYTES, size) > drop.fraction * size:
            self._flush()
            # SIGKILL, as a crash: nothing is said, closed or tidied up.
            os.kill(os.getpid(), signal.SIGKILL)
