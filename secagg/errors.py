"""Every failure is one of these. Nothing returns False for failure."""

from __future__ import annotations

from collections.abc import Iterable

ClientId = int


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

    of: the client of whose shares too few holders are left; None where the cohort is too small.
    """

    def __init__(self, alive: int, needed: int, round: str, of: ClientId | None = None) -> None:
        who = "" if of is None else f" that hold shares of client {of}"
        super().__init__(
            f"{alive} clients left in round {round}{who}, {needed} needed: no sum, nothing revealed"
        )
        self.alive, self.needed, self.round, self.of = alive, needed, round, of

    def __reduce__(self) -> tuple[type[TooFewClients], tuple[int, int, str, int | None]]:
        return TooFewClients, (self.alive, self.needed, self.round, self.of)
