"""What transport adds to the errors of `secagg`."""

from __future__ import annotations

from secagg.errors import SecAggError


class TransportError(SecAggError):
    """The network, or a file of keys, failed. The message says what to do."""


class FileError(TransportError):
    """A file of keys that was named is missing, is not what it should be, or is in the way of another."""
