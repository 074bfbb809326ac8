"""Pages whose blocks, between `<!-- begin NAME -->` and `<!-- end NAME -->`, are made from the code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)


def rewritten(page: str, blocks: Mapping[str, str]) -> str:
    """The page with these blocks in the place of its own.

    Raises: LookupError unless the page has just these.
    """
    marked = re.findall(r"<!-- begin (\w+) -->", page)
    if sorted(marked) != sorted(blocks):
        raise LookupError(f"in the page or in the code alone: {sorted({*marked} ^ {*blocks}) or marked}")
    marks = re.compile(r"(<!-- begin (\w+) -->\n).*?(\n<!-- end \2 -->)", re.DOTALL)
    return marks.sub(lambda found: found[1] + blocks[found[2]] + found[3], page)


def section(page: str, number: str) -> str:
    """The text of one section, its own subsections included."""
    end = "##" if "." not in number else "##+"
    (text,) = re.findall(rf"^##+ {re.escape(number)}\.? .*?(?=^{end} |\Z)", page, re.MULTILINE | re.DOTALL)
    return str(text)


def rows(text: str, *header: str) -> list[list[str]]:
    """Of the one table there with this header, the cells."""
    begins = re.escape("| " + " | ".join(header) + " |")
    (body,) = re.findall(rf"^{begins}\n\|[-| ]+\|\n((?:\|.*\n)*)", text + "\n", re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in body.splitlines()]


def code(cell: str) -> list[str]:
    """What stands in backquotes."""
    return re.findall(r"`([^`]+)`", cell)
