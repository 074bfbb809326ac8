"""What a client has already contributed to, kept so that neither a crash nor a server makes it do so twice.

Two masked inputs under one context, with two sets of survivors, would give away a client by subtraction.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

from secagg import RemoteProtocolError
from transport.errors import TransportError
from transport.keys import sync_folder
from transport.records import of_the_key

_LINE = re.compile(rb"[0-9a-f]{64}\n")
_LINE_BYTES = 65


class Journal:
    """An append-only file of contexts, one in hex a line, for one client's key: `<key>.journal`, beside the
    key itself where `<key>` is a link.

    Security: a copy restored from a backup has forgotten what came after it; use a new key then.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = of_the_key(path)

    def once(self, context: bytes) -> None:
        """Record the context durably, before anything masked under it leaves.

        Raises: RemoteProtocolError if it stands here already; TransportError if the file cannot be kept.
        """
        line = context.hex().encode() + b"\n"
        try:
            new = not self._path.exists()
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                whole = self._read(file.read())
                if line in whole:
                    raise RemoteProtocolError(
                        "the server asks again for a task this client has contributed to: a second masked "
                        "input would let it subtract the two sums"
                    )
                # What a crash left of a line: that input never went out.
                file.truncate(sum(map(len, whole)))
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync_folder(self._path.parent)
        except OSError as error:
            raise TransportError(
                f"{self._path}: {error.strerror}: without this record no input may leave; mend it and rejoin"
            ) from None

    def _read(self, content: bytes) -> list[bytes]:
        lines = [content[i : i + _LINE_BYTES] for i in range(0, len(content), _LINE_BYTES)]
        whole = lines[:-1] if lines and len(lines[-1]) < _LINE_BYTES else lines
        if not all(_LINE.fullmatch(line) for line in whole):
            raise TransportError(
                f"{self._path} is damaged: what this key has contributed to is not known any more; "
                "make a new key (secagg keys client) and have the roster changed"
            )
        return whole
