"""What proofs would cost, and what a bound on the norm is worth, as measured: `python -m
tests.docs.proofs_table` writes the tables of docs/proofs.md.
"""

from __future__ import annotations

from benchmarks import harness
from benchmarks.harness import Row
from benchmarks.protocol.proofs import LENGTHS, digits, duration, megabytes
from tests.docs import poisoning_tables
from tests.docs.errors_page import ROOT
from tests.docs.pages import table

PAGE = ROOT / "docs" / "proofs.md"
RULES = ("`mean`", "`norm-bound`")


def cost() -> str:
    """A line for each proof, of all lengths; what is not of one length is of the longest."""
    by_what: dict[str, list[Row]] = {}
    for row in harness.read("protocol", "proofs")["rows"]:
        if "coordinates" in row:
            by_what.setdefault(row["what"], []).append(row)
    lengths = LENGTHS["full"]
    header = (
        *("a client's", "how", "exponentiations a coordinate", *(f"d = {d:,}" for d in lengths)),
        *("times masking", "to check it", "sent"),
    )
    return table(header, [_line(what, rows) for what, rows in by_what.items()])


def _line(what: str, rows: list[Row]) -> tuple[str, ...]:
    last = rows[-1]
    return (
        what,
        last["how"],
        f"{digits(last['powers'] / last['coordinates'], 3):g}" if "powers" in last else "",
        *(duration(row["seconds"]) for row in rows),
        f"{digits(last['times'], 2):,g}",
        duration(last["check_seconds"]) if last.get("check_seconds") else "",
        megabytes(last["sent"]),
    )


def bound() -> str:
    """Of every attack under every rule, what a bound on the norm leaves, beside no rule."""
    head, line, *rows = poisoning_tables.accuracy(poisoning_tables.PAGE.read_text()).splitlines()
    return "\n".join([head, line, *(row for row in rows if row.split(" | ")[0].removeprefix("| ") in RULES)])


def blocks() -> dict[str, str]:
    return {"cost": cost(), "bound": bound()}


if __name__ == "__main__":
    from tests.docs.pages import rewritten

    PAGE.write_text(rewritten(PAGE.read_text(), blocks()))
