"""docs/proofs.md: its tables are what was measured, and what its text says of them is in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import harness
from tests.docs.pages import code, rewritten, rows
from tests.docs.poisoning_tables import PAGE as POISONING
from tests.docs.proofs_table import PAGE, blocks
from tests.docs.typed import can_be_typed

TEXT = PAGE.read_text()
CODE = [each for line in TEXT.splitlines() for each in code(line)]
MEASURED = {(row["what"], row.get("coordinates")): row for row in harness.read("protocol", "proofs")["rows"]}


def test_its_tables_are_what_was_measured() -> None:
    assert rewritten(TEXT, blocks()) == TEXT, "stale: run `python -m tests.docs.proofs_table`"


@pytest.mark.parametrize(
    ("said", "what", "d", "field", "unit"),
    [
        (r"in the same minute, (\d+) microseconds", "one, X25519", None, "seconds", 1e-6),
        (r"P-256 takes (\d+) microseconds", "one, P-256", None, "seconds", 1e-6),
        (r"where masks take (\d+) milliseconds", "masking", 10**6, "seconds", 1e-3),
        (r"(\d+) a coordinate, both to make and to check", "16-bit ranges, by bits", 1, "powers", 1),
        (r"seconds a client, (\d+) MB", "L2, 1000 projections", 10**5, "sent", 1e6),
    ],
)
def test_a_number_in_the_text_is_the_one_that_was_measured(
    said: str, what: str, d: int | None, field: str, unit: float
) -> None:
    (number,) = re.findall(said, TEXT)
    row = MEASURED[what, d if d != 1 else 10**6]
    measured = row[field] / (unit * (row["coordinates"] if d == 1 else 1))
    assert int(number) == pytest.approx(measured, abs=0.6)


def test_so_are_the_bytes_of_shares_and_the_time_of_relays() -> None:
    shares, packed = MEASURED["L2 on shares", 10**6], MEASURED["split, 2 relays", 10**6]
    assert "send 1.4 times the bytes" in TEXT
    assert shares["sent"] / packed["sent"] == pytest.approx(1.4, abs=0.05)
    assert "100 clients a minute and a half" in TEXT
    assert 100 * shares["seconds"] == pytest.approx(90, abs=10)


def test_a_trigger_works_as_often_as_the_page_of_poisoning_says() -> None:
    header = ("rule", "has to see", "cost", "victim's F1", "trigger", "attackers out", "honest out")
    triggers = {cells[0]: cells[4].split()[1] for cells in rows(POISONING.read_text(), *header)}
    said = re.findall(r"works on (\d+) % of the images without the bound and on (\d+) with it", TEXT)
    assert said == [(triggers["`mean`"], triggers["`norm-bound`"])]


@pytest.mark.parametrize("line", [each for each in CODE if each.startswith("secagg ")])
def test_a_command_can_be_typed(line: str) -> None:
    can_be_typed(line)


def test_tests_that_are_named_are_there() -> None:
    there = {
        name
        for path in Path(__file__).parents[1].rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    named = {each for each in CODE if each.startswith("test_")}
    assert named
    assert named <= there
