"""`secagg list`: everything that can be chosen has a line and a source."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer

from fl.cli import lists
from fl.cli.lists import LISTS, NEEDING, run
from fl.cli.output import Output
from fl.config.presets import PRESETS
from fl.config.run import CHOICES
from fl.robust import RULES

CHOSEN = {
    "models": CHOICES["model"],
    "data": CHOICES["dataset"],
    "schemes": CHOICES["scheme"],
    "presets": tuple(PRESETS),
    "rules": tuple(RULES),
    "attacks": CHOICES["attack"],
}
"""What the description of a run takes, or --preset."""


@pytest.mark.parametrize("what", LISTS)
def test_every_entry_has_a_line_and_a_source(what: str) -> None:
    for name, entry in LISTS[what]().items():
        assert len(entry) == 2 + (what in NEEDING)
        for words in entry:
            assert words.endswith("."), name
            assert 10 < len(words) < 250, name
            assert not {"Source:", "Needs:"} & set(words.split()), name


@pytest.mark.parametrize("what", LISTS)
def test_json_names_all_that_a_run_can_choose(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(Output(json=True), what)
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    needs = ("needs",) if what in NEEDING else ()
    assert {tuple(record) for record in records} == {("name", "line", *needs, "source")}
    assert [record["name"] for record in records] == list(CHOSEN[what])


def test_people_get_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    run(Output(), "schemes")
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "what", "it", "is", "source"]
    for row, (name, (line, source)) in zip(rows, LISTS["schemes"]().items(), strict=True):
        assert row.split("  ")[0] == name
        assert line in row
        assert row.endswith(source)
    run(Output(quiet=True), "schemes")
    assert capsys.readouterr().out == ""


def test_a_source_may_run_over_two_lines_and_ends_with_its_paragraph() -> None:
    def with_source() -> None:
        """What it is,
        in short.

        Source: a paper,
        2017.

        More.
        """

    def without() -> None:
        """What it is. Source: not so."""

    def needing() -> None:
        """What it is. How
        it is done.

        Needs: to see
        all. More.
        Source: a paper.
        """

    assert lists.needing({"a": needing}) == {"a": ("What it is.", "to see all. More.", "a paper.")}
    assert lists.documented({"a": with_source, "b": without}) == {
        "a": ("What it is, in short.", "a paper, 2017."),
        "b": ("What it is. Source: not so.", ""),
    }


def test_an_unknown_list_names_those_there_are() -> None:
    with pytest.raises(
        typer.BadParameter, match="no list of weights: there are models, data, schemes, presets"
    ):
        run(Output(), "weights")


@pytest.mark.parametrize("what", ["data", "schemes", "presets", "rules"])
def test_torch_is_loaded_for_models_alone(what: str) -> None:
    program = (
        "import sys; from fl.cli.lists import run; from fl.cli.output import Output; "
        f"run(Output(), {what!r}); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "False"
