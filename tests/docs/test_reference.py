"""docs/reference.md is what the code makes it, and public names change only where CHANGELOG.md says so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs import reference
from tests.docs.pages import rewritten
from tests.docs.reference import (
    LIST,
    MODULES,
    PAGE,
    Entry,
    Member,
    blocks,
    difference,
    entries,
    is_here,
    promised,
)

ENTRIES = [entry for module in MODULES if is_here(module) for entry in entries(module)]


def unexplained(member: Member, of: str = "") -> list[str]:
    """What it takes or has, and its docstring, or that of its class, does not name."""
    if re.search(r"\b[Aa]s (of a client \()?`[\w.]+`", member.doc):  # it is explained there
        return []
    return [name for name in member.named if not re.search(rf"\b{name}\b", member.doc + of)]


# The page


def test_the_page_is_what_the_code_makes_it() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert rewritten(page, blocks()) == page, "stale: run `python -m tests.docs.reference`"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_public_name_says_what_it_is_and_all_that_it_takes(entry: Entry) -> None:
    members = (entry.itself, *entry.members)
    assert [member.name for member in members if not member.doc] == []
    assert {name: missing for name in members if (missing := unexplained(name, entry.itself.doc))} == {}


def test_what_a_docstring_leaves_out_is_noticed() -> None:
    member = Member("f", "f", doc="Adds.\n\nx: (m,) real.", named=("x", "xs"))
    assert unexplained(member) == ["xs"]
    assert unexplained(member, "xs: the rest.") == []


SAMPLE = '''
from dataclasses import dataclass, field
from io import StringIO
from typing import Annotated, Protocol

_Few = Annotated[int, "1..3"]

Names = list[str]
"""What they are called."""

@dataclass
class Base:
    """Of both. few: how few."""

    few: _Few = 2
    _hidden: int = 0

    def shared(self) -> int:
        """The same for all."""

class Sample(Base):
    """A *sample*. more: what there is beside.

    Raises: `Oh*`; never.
    """

    more: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """In bytes."""

    @classmethod
    def of(cls, x: int, /, *rest: str, key: bytes = b"", **others: float) -> "Sample":
        """x: first. rest: then."""

    def _inside(self): ...
    def check_policy(self): ...

class Made(StringIO):
    """By its constructor."""

    def __init__(self, at: str) -> None:
        """at: where."""
        self.at, self._own = at, 1
        self.seen: list[int] = []

    def getvalue(self) -> str: ...

    def read(self) -> str:
        """Otherwise than elsewhere."""

class Oh(Exception):
    """No."""
'''


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Entry]:
    (tmp_path / "samples.py").write_text(SAMPLE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(reference, "PACKAGES", ("samples",))
    monkeypatch.setattr(reference, "MODULES", {"samples": ("Sample", "Made", "Oh", "Names")})
    return {entry.itself.name: entry for entry in entries("samples")}


def test_signatures_are_read_off_the_source(sample: dict[str, Entry]) -> None:
    assert [line for entry in sample.values() for line in entry.lines] == [
        "class samples.Made(at: str)",
        "samples.Made.at: str",
        "samples.Made.seen: list[int]",
        "samples.Made.read() -> str",
        "samples.Names = list[str]",
        "class samples.Oh(Exception)",
        "class samples.Sample",
        "samples.Sample.few: int = 2",
        "samples.Sample.more: dict[str, int] = dict()",
        'samples.Sample.of(x: int, /, *rest: str, key: bytes = b"", **others: float) -> "Sample"',
        "samples.Sample.shared() -> int",
        "samples.Sample.size: int",
    ]


def test_what_a_docstring_says_of_fields_and_parameters_is_a_list(sample: dict[str, Entry]) -> None:
    assert reference.explained(sample["Sample"].itself).splitlines() == [
        r"A \*sample\*.",
        "",
        "- `more`: what there is beside.",
        "",
        "**Raises:** `Oh*`; never.",
        "",
        "- `few`: how few.",
    ]
    assert sample["Names"].itself.doc == "What they are called."


def test_a_long_signature_has_a_line_for_each_parameter() -> None:
    long = Member("f", "f", " -> None", ("a: int", f"b: str = '{'x' * 100}'"))
    assert long.shown.splitlines()[1] == "    a: int,"
    assert Member("f", "f", " -> None", ("a: int",)).shown == "f(a: int) -> None"


# The list


def test_what_is_not_installed_stands_as_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "NEEDS", {"secagg_flower": "no_such_package"})
    assert rewritten(PAGE.read_text(encoding="utf-8"), blocks()) == PAGE.read_text(encoding="utf-8")
    assert promised() == LIST.read_text(encoding="utf-8").partition("\n")[2]


def test_the_public_names_are_those_on_the_list() -> None:
    _, _, listed = LIST.read_text(encoding="utf-8").partition("\n")
    assert promised() == listed, (
        "public names have changed: say so in CHANGELOG.md, then run `python -m tests.docs.reference`\n"
        + difference(listed, promised())
    )


def test_names_change_once_the_changelog_says_so_and_not_before() -> None:
    listed = reference.marked("f(x)\ng()\n", "changes")
    with pytest.raises(SystemExit, match=r"say so in CHANGELOG.md first\n-f\(x\)\n\+f\(y\)$"):
        reference.updated(listed, "f(y)\ng()\n", "changes")
    assert reference.updated(listed, "f(y)\ng()\n", "changes: y") == reference.marked(
        "f(y)\ng()\n", "changes: y"
    )


def test_a_changelog_that_says_something_else_leaves_the_list_alone() -> None:
    listed = reference.marked("f(x)\n", "changes")
    assert reference.updated(listed, "f(x)\n", "changes of the rest") == listed
