"""docs/threats.md promises, and names tests that show it: they must exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "threats.md").read_text()
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
}
ROWS = re.findall(r"^\| (\d+) \|(.*)\|(.*)\|(.*)\|$", TEXT, re.MULTILINE)


def test_every_test_named_in_the_threats_exists():
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert len(named) > 20
    assert named <= TESTS


@pytest.mark.parametrize("number", range(1, 31))
def test_every_pitfall_is_answered_by_a_test_or_plainly_not_yet(number):
    (row,) = [cells for cells in ROWS if int(cells[0]) == number]
    assert re.search(r"`test_\w+`", row[3]) or "nothing to show" in row[3]
