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
from tests.docs.pages import code, rows
from tests.docs.typed import can_be_typed

TEXT = (Path(__file__).parents[2] / "docs" / "poisoning.md").read_text()
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


def test_tests_that_are_named_are_there() -> None:
    there = {
        name
        for path in Path(__file__).parents[1].rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert {each for each in CODE if each.startswith("test_")} <= there
