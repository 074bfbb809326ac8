"""docs/seeds.md: of everything in the five documents it says what runs it and what came of it, or that
nothing does."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from tests.docs.pages import code, rows, section
from tests.docs.typed import can_be_typed

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "seeds.md"
TEXT = PAGE.read_text()
HEADER = ("id", "what it is", "command", "result", "verdict")
# How many there are of each: in Ma et al. mechanisms, attacks, experiments and questions; in the three short
# texts; in Wei et al.; and targets for leakage, poison and privacy.
IN_SECTION = {
    "1": {"M": 19, "MA": 7, "ME": 6, "MQ": 10},
    "2": {"B": 10},
    "3": {"C": 6},
    "4": {"N": 8},
    "5": {"W": 48},
    "6": {"L": 12, "P": 9, "D": 4},
}
STATED = {"M3", "M4", "MA6", "ME6", "B10", "C3", "W48"}  # there is nothing to run
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
}
DECIBELS = re.compile(r"\b\d+\.\d\b")


class Entry(NamedTuple):
    id: str
    what: str
    command: str
    result: str
    verdict: str

    @property
    def commands(self) -> list[str]:
        return code(self.command)

    @property
    def files(self) -> list[str]:
        return re.findall(r"\]\(([^)]+)\)", self.result)


ENTRIES = {number: [Entry(*cells) for cells in rows(section(TEXT, number), *HEADER)] for number in IN_SECTION}
ALL = [entry for entries in ENTRIES.values() for entry in entries]
every = pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.id)


def benchmarks(entry: Entry) -> Iterator[tuple[str, str]]:
    """Folder and name of each that the row has one type."""
    for line in entry.commands:
        match shlex.split(line):
            case ["secagg", "bench", folder, name, *_]:
                yield folder, name


@pytest.mark.parametrize("number", IN_SECTION)
def test_every_id_has_one_row_in_its_place(number: str) -> None:
    ids = [f"{kind}{i}" for kind, most in IN_SECTION[number].items() for i in range(1, most + 1)]
    assert [entry.id for entry in ENTRIES[number]] == ids


@every
def test_a_row_says_what_came_of_it_or_that_nothing_did(entry: Entry) -> None:
    assert entry.what
    if entry.id in STATED:
        assert re.fullmatch(r"statement: \S.*\.", entry.verdict)
        return
    assert entry.verdict
    assert not entry.verdict.startswith("statement:")
    if not entry.verdict.startswith("not built yet"):
        assert entry.commands
        assert entry.files or entry.verdict.startswith("not measured yet")


@every
def test_what_a_row_names_is_there(entry: Entry) -> None:
    for line in entry.commands:
        can_be_typed(line)
    assert [name for name in entry.files if not (PAGE.parent / name).is_file()] == []
    assert set(re.findall(r"`(test_\w+)`", entry.verdict)) <= TESTS


@every
def test_a_benchmark_stands_beside_its_own_result(entry: Entry) -> None:
    """A name may be of several that begin with it."""
    for folder, name in benchmarks(entry):
        made = {path.stem for path in (ROOT / "benchmarks" / folder).glob(f"{name}*.py")}
        assert {f"../benchmarks/results/{folder}/{each}.json" for each in made} & {*entry.files}


def test_what_is_told_of_leakage_stands_on_its_page() -> None:
    """In decibels: these change with the attacks."""
    told = {
        number for entry in ALL if "leakage.md" in entry.files for number in DECIBELS.findall(entry.verdict)
    }
    assert told
    assert told <= {*DECIBELS.findall((ROOT / "docs" / "leakage.md").read_text())}


def test_what_is_no_command_would_be_noticed() -> None:
    with pytest.raises(click.UsageError, match="No such option"):
        can_be_typed("secagg attack inversion --no-such-option")
