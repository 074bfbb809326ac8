"""What a command prints: tables and bars on a terminal, plain lines elsewhere, or JSON lines.

Results go to stdout, warnings and errors to stderr. rich is imported only where a terminal needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec


@dataclass
class Output:
    """The one way to print. A command calls `say` and `table` for people and `record` for programs, always;
    the flags decide what appears."""

    json: bool = False
    quiet: bool = False
    debug: bool = False
    lines: bool = True  # False for a process that speaks up only to warn

    @property
    def for_people(self) -> bool:
        """Whether anything but records and errors appears."""
        return self.lines and not (self.json or self.quiet)

    @property
    def terminal(self) -> bool:
        """Whether people watch: tables and bars are drawn, otherwise lines are printed."""
        return self.for_people and sys.stdout.isatty()

    def say(self, text: str = "") -> None:
        """A line for people."""
        if self.for_people:
            print(text, flush=True)

    def record(self, fields: Mapping[str, Any]) -> None:
        """A line of JSON for programs. Numbers of numpy, paths and dataclasses are understood."""
        if self.json and not self.quiet:
            print(msgspec.json.encode(fields, enc_hook=_plain).decode(), flush=True)

    def warn(self, text: str) -> None:
        """A line on stderr, `--quiet` silences it."""
        if not self.quiet:
            print("warning:", _one_line(text), file=sys.stderr, flush=True)

    def error(self, text: str) -> None:
        """A line on stderr, whatever the flags."""
        print("error:", _one_line(text), file=sys.stderr, flush=True)

    def table(self, rows: Sequence[Sequence[object]], header: Sequence[str] = (), title: str = "") -> None:
        """Aligned columns for people."""
        cells = [[str(cell) for cell in row] for row in rows]
        if self.terminal:
            _draw(cells, header, title)
            return
        if title:
            self.say(title)
        cells = [list(header), *cells] if header else cells
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            self.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    @contextmanager
    def progress(self, total: int, what: str) -> Iterator[Callable[[str], None]]:
        """Yields step(text), to be called once per unit of `total`: a bar on a terminal, lines elsewhere."""
        if not self.terminal:
            done = 0

            def step(text: str) -> None:
                nonlocal done
                done += 1
                self.say(f"{what} {done}/{total}  {text}")

            yield step
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
        with Progress(*columns, TextColumn("{task.fields[text]}", markup=False)) as bar:
            task = bar.add_task(what, total=total, text="")
            yield lambda text: bar.update(task, advance=1, text=text)


def _draw(cells: Sequence[Sequence[str]], header: Sequence[str], title: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        show_header=bool(header),
        box=SIMPLE_HEAD if header else None,
    )
    for column in header or ("",) * max(map(len, cells), default=0):
        table.add_column(Text(column), overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    Console().print(table)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _plain(value: Any) -> Any:
    """What msgspec does not know: numbers and arrays of numpy, then anything by its text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
