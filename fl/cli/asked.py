"""The sums that a round has asked its clients for, on record before any of them could answer: a server that
is killed in it has a row of each in its ledger when it goes on, whatever became of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Self

import msgspec

from fl.config.section import ConfigError
from secagg.errors import ClientId

Rows = list[list[Annotated[int, msgspec.Meta(ge=0)]]]


class _Line(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Of whom the `number`th sum that is on record would be, and the round of the training that it is of."""

    round: int
    number: int
    rows: Rows


class Asked:
    """A file of lines, the last of a sum counts; it goes once a checkpoint has all that it says.

    done: rounds that came to an end. lines: of sums of later ones, which another process was killed in.
    """

    def __init__(self, path: Path, done: int = 0, lines: Iterable[_Line] = ()) -> None:
        self._path, self._done = path, done
        self._of = {line.number: line.rows for line in lines if line.round > done}
        self._number: int | None = None  # of this process's last

    @classmethod
    def on_record(cls, path: Path, done: int) -> Self:
        """What a process has left of the round after so many. Raises: ConfigError where it is damaged."""
        content = path.read_bytes() if path.exists() else b""
        # A line that was cut off was not yet on record, and what it says had not been asked for.
        whole = content[: content.rfind(b"\n") + 1]
        try:
            lines = [msgspec.json.decode(line, type=_Line) for line in whole.splitlines()]
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"{path}: what the run had asked for is not known, for it has a line that is none ({error}): "
                "begin it anew, with --force"
            ) from error
        if content:
            os.truncate(path, len(whole))
        return cls(path, done, lines)

    @property
    def rows(self) -> Rows:
        """All that stand there."""
        return [row for rows in self._of.values() for row in rows]

    def begin(self, rows: Iterable[frozenset[ClientId]]) -> None:
        """One more sum, or one of each group, before its inputs are asked for. Raises: OSError where it
        cannot be kept.
        """
        self._number = max(self._of, default=-1) + 1
        self.change(rows)

    def change(self, rows: Iterable[frozenset[ClientId]]) -> None:
        """More is known of whom the last of them is."""
        said = [sorted(row) for row in rows]
        if self._number is None or self._of.get(self._number) == said:
            return
        self._of[self._number] = said
        line = msgspec.json.encode(_Line(self._done + 1, self._number, said)) + b"\n"
        with self._path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def end(self) -> None:
        """The round came to its end, and is in a checkpoint."""
        self._path.unlink(missing_ok=True)
        self._done, self._number, self._of = self._done + 1, None, {}
