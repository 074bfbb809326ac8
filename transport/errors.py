"""What transport adds to the errors of `secagg`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from secagg.errors import ClientId, SecAggError, TooFewClients


class TransportError(SecAggError):
    """The network, or a file of keys, failed. The message says what to do."""


class FileError(TransportError):
    """A file of keys that was named is missing, is not what it should be, or is in the way of another."""


class Unfinished(TooFewClients):
    """Vectors have left, masked, and too few clients stayed to unmask their sum. missing: who could have."""

    def __init__(self, message: str, few: TooFewClients, missing: Collection[ClientId]) -> None:
        SecAggError.__init__(self, message)  # TooFewClients would make a message of its own
        vars(self).update(vars(few))
        self.missing = frozenset(missing)


class Refused(TooFewClients):
    """Too few clients are left, and some that are missing left of their own accord. refused: client -> why,
    in its own words, "" where it says nothing.
    """

    def __init__(self, message: str, few: TooFewClients, refused: Mapping[ClientId, str]) -> None:
        SecAggError.__init__(self, message)
        vars(self).update(vars(few))
        self.refused = dict(refused)


def clients(ids: Collection[ClientId]) -> str:
    """Clients in words: "client 3", "clients 1, 2", "nobody"."""
    if not ids:
        return "nobody"
    return f"client{'s' * (len(ids) > 1)} {', '.join(map(str, sorted(ids)))}"
