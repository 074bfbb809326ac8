"""docs/groups.md: its commands can be typed, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fl.cli.flags import in_flags
from secagg import Bounded, LocalProtocolError, Masking, throwaway_identities
from tests.docs.pages import code
from tests.docs.typed import can_be_typed

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "groups.md").read_text()
LINES = [line.removeprefix("$ ") for line in TEXT.splitlines()]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("secagg ")])
def test_a_command_can_be_typed(line: str) -> None:
    can_be_typed(line)


def test_groups_that_are_too_small_are_refused_in_these_words() -> None:
    roster, _ = throwaway_identities(range(40))
    with pytest.raises(LocalProtocolError) as caught:
        Masking.for_cohort(40, Bounded(length=1, bound=1.0), roster=roster, groups=8)
    assert f"error: {in_flags(str(caught.value))}" in LINES


def test_tests_that_are_named_are_there() -> None:
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    named = {each for line in TEXT.splitlines() for each in code(line) if each.startswith("test_")}
    assert len(named) == 1
    assert named <= there
