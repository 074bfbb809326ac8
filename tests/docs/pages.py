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
