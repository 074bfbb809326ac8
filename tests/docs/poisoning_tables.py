"""Every attack under every rule, as measured: `python -m tests.docs.poisoning_tables` writes the tables of
docs/poisoning.md.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks import harness
from benchmarks.harness import Row
from benchmarks.poisoning.matrix import NOTHING, OF_ONE_CLASS, Line, by_line, out, percent
from fl.poisoning import DATA, UPDATES
from tests.docs.errors_page import ROOT
from tests.docs.pages import code, rewritten, rows, table

PAGE = ROOT / "docs" / "poisoning.md"
ATTACKS = ("what is false", "attacks", "what they do", "for example")
RULES = ("it has to see", "rules", "what that costs")


def families(page: str) -> dict[str, list[str]]:
    """What is false -> the attacks."""
    return {cells[0]: code(cells[1]) for cells in rows(page, *ATTACKS) if code(cells[1])}


def seen(page: str) -> dict[str, str]:
    """Rule -> what it has to see."""
    return {
        rule: cells[0].replace("and ", "updates, ", 1) if cells[0].startswith("and ") else cells[0]
        for cells in rows(page, *RULES)
        for rule in code(cells[1])
        if not rule.startswith("--")
    }


def measured() -> dict[Line, dict[str, Row]]:
    return by_line(harness.read("poisoning", "matrix")["rows"])


def named(line: Line) -> str:
    return f"`{line.rule}`{line.name.removeprefix(line.rule)}"


def percents(of: dict[str, Row], attacks: Sequence[str], score: str = "accuracies") -> str:
    return " ".join(f"{percent(of[attack], score):.0f}" for attack in attacks)


def two_digits(number: float) -> str:
    return f"{float(f'{number:.2g}'):g}"


def accuracy(page: str) -> str:
    columns = {"nobody": [NOTHING]} | families(page)
    made = [
        (named(line), *(percents(of, attacks) for attacks in columns.values()))
        for line, of in measured().items()
    ]
    return table(("rule", *columns), made)


def needs(page: str) -> str:
    header = ("rule", "has to see", "cost", "victim's F1", "trigger", "attackers out", "honest out")
    return table(header, [_needs(line, of, seen(page)[line.rule]) for line, of in measured().items()])


def _needs(line: Line, of: dict[str, Row], sees: str) -> tuple[str, ...]:
    def left_out(attacks: Sequence[str], who: str) -> str:
        return out([of[attack] for attack in attacks], who)

    return (
        named(line),
        sees,
        two_digits(statistics.median(cost for row in of.values() for cost in row["cost"])),
        percents(of, (NOTHING, *OF_ONE_CLASS), "victims"),
        percents(of, (NOTHING, "backdoor"), "successes"),
        f"{left_out([*DATA], 'attackers')} {left_out([*UPDATES], 'attackers')}",
        f"{left_out([NOTHING], 'honest')} {left_out([*DATA, *UPDATES], 'honest')}",
    )


def blocks(page: str) -> dict[str, str]:
    return {"accuracy": accuracy(page), "needs": needs(page)}


if __name__ == "__main__":
    text = PAGE.read_text()
    PAGE.write_text(rewritten(text, blocks(text)))
