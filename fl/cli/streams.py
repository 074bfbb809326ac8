"""stdout and stderr of commands: no reader who leaves, full disk or missing character ends a session."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

SPELLED = str.maketrans(
    {"±": "+/-", "×": "x", "≤": "<=", "≥": ">=", "→": "->", "…": "...", "–": "-", "—": "-"}
    | dict.fromkeys("─━═╭╮╰╯┌┐└┘├┤┬┴┼╸╺╴╶", "-")
    | dict.fromkeys("│┃║", "|")
    | dict.fromkeys("‘’", "'")
    | dict.fromkeys("“”", '"')
)


class Stream:
    """A text stream that is written as far as it can be. failed: why, from then on, nothing is."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failed: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if self.failed is None:
            try:
                self._stream.write(_encodable(text, self._stream.encoding or "utf-8"))
            except OSError as error:
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        if self.failed is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        """What Python still holds goes nowhere, or the end of the process would try once more."""
        self.failed = error
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def _encodable(text: str, encoding: str) -> str:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        spelled = unicodedata.normalize("NFKD", text.translate(SPELLED))
        return spelled.encode(encoding, "replace").decode(encoding)
    return text


@contextmanager
def bearing() -> Iterator[tuple[Stream, Stream]]:
    """stdout and stderr for as long as the block runs."""
    before = sys.stdout, sys.stderr
    streams = Stream(sys.stdout), Stream(sys.stderr)
    sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in streams)
    try:
        yield streams
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before
