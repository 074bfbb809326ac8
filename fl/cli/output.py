"""What a command prints: tables on a terminal, plain lines elsewhere, or JSON lines.

Results go to stdout, warnings and errors to stderr. rich is imported only where a terminal needs it.
"""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fl import marks
from fl.cli.flags import in_flags


@dataclass
class Output:
    """The one way to print. A command calls `say` and `table` for people and `record` for programs, always;
    the flags decide what appears."""

    json: bool = False
    quiet: bool = False
    debug: bool = False
    verbose: bool = False
    lines: bool = True  # False for a process that speaks up only to warn
    beside: bool = False  # for a run beside the one that was asked for: how far it is, and no more
    unsafe_groups: bool = False  # each line, title of a table and record is marked as of such a run
    said: int = field(default=0, compare=False)  # lines

    @property
    def for_people(self) -> bool:
        """Whether anything but records and errors appears."""
        return self.lines and not (self.json or self.quiet)

    @property
    def terminal(self) -> bool:
        """Whether people watch: tables are drawn, long lines broken, otherwise lines are printed."""
        # While rich draws, a stream of its own stands before ours.
        stream = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
        return self.for_people and stream.isatty()

    @property
    def width(self) -> int:
        """Columns of the terminal; in a forked process only the stream knows it."""
        if os.environ.get("COLUMNS", "").isdecimal():
            return max(1, int(os.environ["COLUMNS"]))
        try:
            return os.get_terminal_size(sys.stdout.fileno()).columns or 80
        except OSError:
            return 80

    def say(self, text: str = "") -> None:
        """A line for people; on a terminal of fewer columns, several."""
        if not self.beside:
            self.progress_line(self.marked(text))

    def marked(self, text: str) -> str:
        """As `say` says it."""
        return marks.marked(text, self.unsafe_groups)

    def detail(self, text: str) -> None:
        """A line for people who want to know everything."""
        if self.verbose:
            self.say(text)

    def progress_line(self, text: str) -> None:
        """A line for people, also of what runs beside."""
        if self.for_people:
            text = in_flags(text)
            print(_fitted(text, self.width) if self.terminal else text, flush=True)
            self.said += 1

    def record(self, fields: Mapping[str, Any]) -> None:
        """A line of JSON for programs. Numbers of numpy, paths and dataclasses are understood."""
        if self.json and not self.quiet and not self.beside:
            print(_json(marks.fields(self.unsafe_groups) | dict(fields)), flush=True)

    def warn(self, text: str) -> None:
        """A line on stderr, `--quiet` silences it."""
        if not self.quiet and not self.beside:
            _tell(f"warning: {self.marked(_one_line(in_flags(text)))}\n")

    def error(self, text: str) -> None:
        """A line on stderr, whatever the flags."""
        _tell(f"error: {_one_line(in_flags(text))}\n")

    def table(self, rows: Sequence[Sequence[object]], header: Sequence[str] = (), title: str = "") -> None:
        """Aligned columns for people."""
        cells = [[str(cell) for cell in row] for row in rows]
        if self.unsafe_groups:
            title = self.marked(title or marks.UNSAFE)
        if self.terminal:
            _draw(cells, header, title)
            return
        if title:
            self.say(title)
        cells = [list(header), *cells] if header else cells
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:  # its title is marked: of its rows some may be of another run
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            if not self.beside:
                self.progress_line(line)


def _tell(line: str) -> None:
    """At once, so that lines of others, processes or threads, come before it or after."""
    sys.stderr.write(line)
    sys.stderr.flush()


def _draw(cells: Sequence[Sequence[str]], header: Sequence[str], title: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Text everywhere: rich would take brackets in a plain string, such as a file's name, for markup.
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


def _fitted(text: str, width: int) -> str:
    """Each line broken between words, what follows indented."""
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        lines += textwrap.wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _json(fields: Mapping[str, Any]) -> str:
    """The record as JSON in ASCII, which every terminal and every locale has."""
    try:
        text = msgspec.json.encode(fields, enc_hook=_plain).decode()
    except UnicodeEncodeError:  # the name of a file that is no text
        text = json.dumps(msgspec.to_builtins(fields, enc_hook=_plain, str_keys=True))
    return re.sub(r"[^\x00-\x7f]+", lambda some: json.dumps(some[0])[1:-1], text)


def _plain(value: Any) -> Any:
    """What msgspec does not know: numbers and arrays of numpy, then anything by its text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
