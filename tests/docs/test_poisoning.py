"""docs/poisoning.md: its commands can be typed, it leaves no attack and no rule out, and it says of a
benchmark what that bears out.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import harness
from fl.poisoning import DATA, UPDATES
from fl.robust import RULES
from tests.docs.pages import code, rewritten, rows
from tests.docs.poisoning_tables import PAGE, blocks, families, seen
from tests.docs.typed import can_be_typed

TEXT = PAGE.read_text()
MEASURED = rows(TEXT, "question", "benchmark", "what came of it")
CODE = [
    each for line in TEXT.splitlines() for each in code(line)
]  # three of a fence's would pair with others
COMMANDS = [each for each in [*CODE, *TEXT.splitlines()] if each.startswith("secagg ")]
NUMBER = re.compile(r"\d*\.?\d+(?:e-?\d+)?")


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_can_be_typed(line: str) -> None:
    can_be_typed(line)


def test_every_attack_and_every_rule_is_there() -> None:
    assert DATA.keys() | UPDATES.keys() | RULES.keys() <= {*CODE}


@pytest.mark.parametrize("cells", MEASURED, ids=lambda cells: cells[1])
def test_what_came_of_a_benchmark_is_in_its_claim(cells: list[str]) -> None:
    (name,), verdict = code(cells[1]), cells[2]
    claim = harness.load("poisoning", name).CLAIM
    if claim == harness.UNMEASURED:
        assert verdict == "not measured yet"
    assert {*NUMBER.findall(verdict)} <= {*NUMBER.findall(claim)}


def test_the_tables_of_every_attack_under_every_rule_are_what_was_measured() -> None:
    made = rewritten(TEXT, blocks(TEXT))
    assert made == TEXT, "stale: run `python -m tests.docs.poisoning_tables`"


def test_the_tables_leave_out_no_attack_and_say_of_every_rule_what_it_has_to_see() -> None:
    attacks = [attack for some in families(TEXT).values() for attack in some]
    assert sorted(attacks) == sorted([*DATA, *UPDATES])
    assert seen(TEXT).keys() == RULES.keys()


def test_tests_that_are_named_are_there() -> None:
    there = {
        name
        for path in Path(__file__).parents[1].rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert {each for each in CODE if each.startswith("test_")} <= there
