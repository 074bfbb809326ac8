"""A table at the width of a terminal or a page: what all rows share is said once, and a wide one is split."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Self

PAGE_WIDTH = 80


@dataclass(frozen=True)
class Table:
    """rows: a cell for each name in the header. A column without a name belongs to the one before it."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Self:
        return cls(tuple(header), tuple(map(tuple, rows)))

    @property
    def width(self) -> int:
        """Columns of a terminal, with what is drawn between those of the table."""
        return sum(3 + width for width in self.widths) + 1

    @property
    def widths(self) -> list[int]:
        return [max(3, *map(len, column)) for column in zip(self.header, *self.rows, strict=True)]

    def only(self, wanted: Sequence[bool]) -> Table:
        return Table.of(tuple(compress(self.header, wanted)), [tuple(compress(r, wanted)) for r in self.rows])

    def columns(self, begin: int, end: int) -> Table:
        return self.only([begin <= i < end for i in range(len(self.header))])

    def beside(self, other: Table) -> Table:
        rows = [one + two for one, two in zip(self.rows, other.rows, strict=True)]
        return Table.of(self.header + other.header, rows)


@dataclass(frozen=True)
class Fitted:
    """shared: cells of all rows, with their names. tables: to be read one after the other, of the same rows
    in the same order. told: where a single column is too wide for a table, of each row the cells with their
    names.
    """

    shared: list[str]
    tables: list[Table]
    told: list[list[str]]


def fitted(table: Table, width: int = PAGE_WIDTH) -> Fitted:
    """The table in no more columns than these."""
    if table.width <= width:
        return Fitted([], [table], [])
    same = [
        len(table.rows) > 1 and len({row[i] for row in table.rows}) == 1 for i in range(len(table.header))
    ]
    shared = _named(table.only(same).header, table.only(same).rows[0]) if any(same) else []
    rest = table.only([not each for each in same])
    tables = [rest] if rest.width <= width else _split(rest, width)
    return Fitted(shared, tables, [] if tables else [_named(rest.header, row) for row in rest.rows])


def _split(table: Table, width: int) -> list[Table]:
    """Each part begins with what tells the rows apart: the first columns, or a number where these take more
    than two thirds of the width."""
    keys = next((i for i in range(1, len(table.header)) if _distinct(table.columns(0, i))), 0)
    key, rest = table.columns(0, keys), table.columns(keys, len(table.header))
    if not keys or key.width > width * 2 / 3:
        key, rest = _numbers(table), table
    parts, part = list[Table](), key
    for column in _columns(rest):
        if part.beside(column).width > width and part is not key:
            parts.append(part)
            part = key
        part = part.beside(column)
    parts.append(part)
    return parts if max(each.width for each in parts) <= width else []


def _distinct(table: Table) -> bool:
    return len(set(table.rows)) == len(table.rows)


def _numbers(table: Table) -> Table:
    return Table.of(("#",), [(str(i),) for i in range(1, len(table.rows) + 1)])


def _columns(table: Table) -> Iterator[Table]:
    """One by one, with those after it that have no name."""
    begins = [i for i, name in enumerate(table.header) if name or i == 0]
    for begin, end in zip(begins, [*begins[1:], len(table.header)], strict=True):
        yield table.columns(begin, end)


def _named(header: Sequence[str], row: Sequence[str]) -> list[str]:
    """The cells that say something, each after its name."""
    parts: list[str] = []
    for name, cell in zip(header, row, strict=True):
        if cell and not name and parts:
            parts[-1] += f" ({cell})"
        elif cell:
            parts.append(f"{name} {cell}".strip())
    return parts


def flow(begin: str, parts: Sequence[str], width: int) -> Iterator[str]:
    """The parts in lines of this width, broken between them where that can be."""
    line = begin
    for i, part in enumerate(parts):
        part += ", " if i < len(parts) - 1 else ""
        if len(line) + len(part.rstrip()) > width and line.strip():
            yield line.rstrip()
            line = "    "
        line += part
    yield from textwrap.wrap(line.rstrip(), width, subsequent_indent="    ")


def markdown(table: Table, width: int = PAGE_WIDTH) -> Iterator[str]:
    """Lines of a page, aligned so that they can be read as they stand."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (table.header, *table.rows)]
    fit = fitted(Table.of(escaped[0], escaped[1:]), width)
    if fit.shared:
        yield from (*flow("All: ", fit.shared, width), "")
    for i, each in enumerate(fit.tables):
        yield from ([""] if i else [])
        for row in (each.header, ["-" * width for width in each.widths], *each.rows):
            cells = (cell.ljust(width) for cell, width in zip(row, each.widths, strict=True))
            yield "| " + " | ".join(cells) + " |"
    for row in fit.told:
        yield from flow("- ", row, width)
