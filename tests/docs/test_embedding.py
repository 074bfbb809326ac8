"""docs/embedding.md quotes the examples as they are, and the number of lines that it promises is theirs."""

from __future__ import annotations

import re

import pytest

from tests.docs.embedding import LOOP, PAGE, blocks, counted, marked, parts
from tests.docs.pages import rewritten, rows

TEXT = PAGE.read_text(encoding="utf-8")
HEADER = ("way", "choose it when", "against whom it holds", "lines", "example")
MOST = 10


def promised(table: list[list[str]]) -> dict[tuple[str, str], int]:
    """(example, part) -> lines, of all rows."""
    found: dict[tuple[str, str], int] = {}
    for *_, lines, example in table:
        (path,) = re.findall(r"\]\(\.\./([^)]+)\)", example)
        for part, number in re.findall(r"(\w+) (\d+)", lines):
            assert (path, part) not in found
            found[path, part] = int(number)
    return found


def test_the_page_quotes_the_examples_as_they_are() -> None:
    assert rewritten(TEXT, blocks()) == TEXT, "stale: run `python -m tests.docs.embedding`"


def test_each_way_is_as_short_as_the_page_says() -> None:
    table = promised(rows(TEXT, *HEADER))
    assert table == {
        (name, part): counted(lines) for name, each in marked().items() for part, lines in each.items()
    }
    assert table.pop((f"examples/{LOOP}.py", "loop")) == 2
    assert max(table.values()) <= MOST


def test_every_way_says_when_and_against_whom_and_has_a_section() -> None:
    for way, when, whom, _, _ in rows(TEXT, *HEADER):
        assert whom
        title, anchor, of = re.findall(r"^\[(.+)\]\(#(.+)\)(.*)$", way)[0]
        assert when or of  # it stands in the row of the other party
        assert re.search(rf"^## {re.escape(title)}$", TEXT, re.MULTILINE | re.IGNORECASE)
        assert anchor == title.lower().replace(" ", "-")


def test_what_the_page_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT)
    assert [link for link in links if not (PAGE.parent / link).exists()] == []


def test_a_part_in_several_pieces_is_quoted_in_one_and_at_the_margin() -> None:
    source = "# begin a\nx = 1\n# end a\ndef f():\n    # begin a\n    return 2  # why\n\n    # end a\n"
    assert parts("other", source) == {"a": "x = 1\n\nreturn 2  # why"}
    assert counted("x = 1\n\n# so\nreturn 2  # why") == 2


@pytest.mark.parametrize("source", ["# begin a\n", "# begin a\n# end b\n", "# end a\n"])
def test_a_mark_without_its_other_is_noticed(source: str) -> None:
    with pytest.raises(LookupError, match="not all are pairs"):
        parts("other", source)
