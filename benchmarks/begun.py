"""The rows of a benchmark that has not ended, kept as they come, so the same command goes on with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from fl.data.files import write_atomically

Row = dict[str, Any]


class Begun(msgspec.Struct):
    """settings: what is measured, and on what. seconds: that all of it has taken. rows: case -> its rows.

    It is written whole after every case, so that no stop leaves half a line; a case takes far longer.
    """

    settings: dict[str, Any]
    seconds: float = 0.0
    rows: dict[str, list[Row]] = {}

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """None where there is none, or none that can be read."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError):
            return None

    def goes_on(self, settings: Mapping[str, Any]) -> bool:
        """Whether its rows are what these settings would give; the commit alone may be another."""
        return {**self.settings, "commit": ""} == {**settings, "commit": ""}

    def missing(self, cases: Sequence[str]) -> list[str]:
        """Those to be measured. What was left out is tried again: data may have come meanwhile."""
        return [case for case in cases if left_out(self.rows.get(case, ()))]

    def add(self, case: str, rows: Sequence[Row], path: Path) -> None:
        """Raises: OSError."""
        self.rows[case] = msgspec.json.decode(msgspec.json.encode(rows))  # as they will be read
        write_atomically(path, msgspec.json.encode(self))


def left_out(rows: Sequence[Row]) -> bool:
    """Whether there is no number among them; so it is of no rows, of a case that was never run."""
    return all("skipped" in row for row in rows)
