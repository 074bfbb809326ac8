"""Every failure is one of these. Nothing returns False for failure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

ClientId = int


def counted(count: int, noun: str, nouns: str = "") -> str:
    """A count in a text: "1 client", "2 clients"; nouns: the plural that is no more than an s."""
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"


class SecAggError(Exception):
    """Base of everything this package raises on purpose."""


class LocalProtocolError(SecAggError):
    """The caller broke the protocol: a wrong argument, or a call out of turn. Nothing was sent."""


class RemoteProtocolError(SecAggError):
    """A peer broke the protocol. Received bytes, whatever they are, raise nothing else.

    culprits: the clients whose own bytes show the fault; empty when it can only be the server's.
    """

    def __init__(self, message: str, culprits: Iterable[ClientId] = ()) -> None:
        # It may quote the peer, and be shown on a terminal.
        super().__init__("".join(c if c.isprintable() else " " for c in message[:500]))
        self.culprits = frozenset(culprits)


class TooFewClients(SecAggError):  # noqa: N818 - the name the interface promises
    """Fewer clients are left than it takes: the session ends and its inputs stay hidden.

    alive, needed: clients that are left, and that it takes. round: in which it ended. of: the client of whose
    shares too few holders are left; None where the cohort is too small. unusable: holders that answered, but
    could not use what it had dealt to them: that client is at fault, or each of these is. too_near: clients
    that are there, and with whom the sum would be too near to an earlier one.
    """

    def __init__(
        self,
        alive: int,
        needed: int,
        round: str,
        of: ClientId | None = None,
        unusable: Iterable[ClientId] = (),
        too_near: int = 0,
    ) -> None:
        self.alive, self.needed, self.round, self.of = alive, needed, round, of
        self.unusable, self.too_near = frozenset(unusable), too_near
        holders = ", ".join(map(str, sorted(self.unusable)))
        who = "" if of is None else f" that hold shares of client {of}"
        fault = "" if not holders else f" (client {of} is at fault, or these, who could use none: {holders})"
        near = (
            ""
            if not too_near
            else f" ({too_near} more left out: with them the sum is too near to an earlier one of like "
            "vectors; if all inputs are new, say new=True, at the server and at each client; in a training "
            "take more steps, of fewer examples each (local_steps=))"
        )
        super().__init__(
            f"{counted(alive, 'client')} left in round {round}{who}{fault}{near}, {needed} needed: "
            "no sum, nothing revealed"
        )

    def __reduce__(self) -> tuple[type[TooFewClients], tuple[Any, ...]]:
        given = self.alive, self.needed, self.round, self.of, tuple(self.unusable), self.too_near
        return TooFewClients, given


class RelayLost(TooFewClients):
    """A relay is gone, without whose column no sum can be read: the session ends, its inputs stay hidden.

    relays: which, from 0 on. alive, needed: relays that are left, and that there are.
    """

    def __init__(self, relays: Iterable[int], needed: int, round: str) -> None:
        self.relays = frozenset(relays)
        super().__init__(needed - len(self.relays), needed, round)
        which = ", ".join(map(str, sorted(self.relays)))
        gone = f"relays {which} are gone" if len(self.relays) > 1 else f"relay {which} is gone"
        self.args = (f"{gone} in round {round}, and a sum takes all {needed}: no sum, nothing revealed",)

    def __reduce__(self) -> tuple[type[RelayLost], tuple[Any, ...]]:
        return RelayLost, (tuple(self.relays), self.needed, self.round)
