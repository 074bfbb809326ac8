"""All that a run leaves and prints says whether it was with unsafe groups: a walk through all of it."""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors
from commands import Ran

from fl.cli import display
from fl.cli.output import Output
from fl.cli.rounds import progress_of
from fl.marks import FIELD, UNSAFE, fields, marked
from fl.page.published import Published
from fl.page.render import Report
from fl.page.state import RunState
from fl.training.checkpoint import read_checkpoint

Here = Callable[..., Ran]
NOT_OF_ITS_SUMS = {"run.secret", "partition.png"}  # there before anything was summed
WITHOUT_WORDS = {"after-round-1.npy"}  # an array and no more, as numpy has it


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """All words of a picture, by its path."""
    words: dict[str, str] = {}

    def without_pixels(figure: Any, to: Any, **how: Any) -> None:
        if isinstance(to, Path):
            texts = figure.findobj(lambda each: hasattr(each, "get_text"))
            words[str(to)] = "\n".join(each.get_text() for each in texts)
            to.write_bytes(b"")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", without_pixels)
    return words


def says_so(path: Path, drawn: Mapping[str, str]) -> bool:
    """Whether this file of a run says that its groups are unsafe."""
    match path.suffix:
        case ".png":
            return UNSAFE in drawn[str(path)]
        case ".jsonl":
            said = {json.loads(line)[FIELD] for line in path.read_text(encoding="utf-8").splitlines()}
            (one,) = said
            return bool(one)
        case ".safetensors":
            with safetensors.safe_open(path, framework="np") as file:
                return bool(json.loads((file.metadata() or {}).get(FIELD, "false")))
        case ".bin":
            return bool(progress_of(read_checkpoint(path.parent)).settings[FIELD])
    told = json.loads(path.read_text(encoding="utf-8"))
    return bool(told.get("protection", told).get(FIELD))


def unmarked(text: str) -> list[str]:
    """Lines for people that do not say it; but for those of a table, whose title does."""
    lines, of_a_table = list[str](), False
    for line in filter(None, text.splitlines()):
        row = of_a_table and "  " in line and not re.match(r"round \d", line)
        of_a_table = row or UNSAFE in line
        lines += [] if of_a_table else [line]
    return lines


@pytest.mark.parametrize("unsafe", [True, False])
def test_whatever_a_run_leaves_or_says_is_marked_if_its_groups_are_unsafe(
    here: Here, tmp_path: Path, drawn: dict[str, str], unsafe: bool
) -> None:
    folder = tmp_path / "run"
    line = ["--clients", "9", "--groups", "3", "--model", "logistic", "--execution", "sequential"]
    line += ["--corrupt", *(["2", "--unsafe-groups"] if unsafe else ["0"])]
    ran = here("train", *line, "--rounds", "1", "--meter", "--meter-time", "0.01", "--out", str(folder))
    evaluated = here("evaluate", str(folder), "--per-class", "--per-client")
    assert (ran.code, evaluated.code) == (0, 0)
    assert ("unsafe groups: the server's side may be all of a group but one" in ran.err) == unsafe
    assert ("of an unsafe group the server" in ran.out) == unsafe
    assert ("no single vector" in ran.out) != unsafe
    if unsafe:
        assert [each for each in unmarked(ran.out) if not each.startswith("the same without")] == []
        assert [each for each in ran.err.splitlines() if UNSAFE not in each] == []
        assert unmarked(evaluated.out) == []
    else:
        assert UNSAFE not in ran.out + ran.err + evaluated.out

    everything = {path.name: path for path in folder.iterdir() if path.is_file()}
    saying = everything.keys() - NOT_OF_ITS_SUMS - WITHOUT_WORDS
    assert saying >= {
        "ledger.json",
        "meter.json",
        "meter.png",
        "evaluation.json",
        "classes.png",
        "clients.png",
    }
    assert {name: says_so(everything[name], drawn) for name in saying} == dict.fromkeys(saying, unsafe)
    beside = {path for path in (folder / "plain").iterdir() if path.name in saying}
    assert beside
    assert not any(says_so(path, drawn) for path in beside)  # it is of no such run

    resumed = here("train", "--resume", "--rounds", "2", "--no-baseline", "--json", "--out", str(folder))
    records = [*resumed.records, *here("evaluate", str(folder), "--json").records]
    assert {"training_round", "ledger", "summary", "left_out", "meter", "evaluation"} <= set().union(*records)
    assert {record.get(FIELD, False) for record in records} == {unsafe}
    (row,) = next(record["summary"]["runs"] for record in records if "summary" in record)
    assert (row["scheme"], row["groups"], row[FIELD]) == ("masking", 3, unsafe)
    of_the_page(RunState.of_folder(folder), unsafe)


def of_the_page(state: RunState, unsafe: bool) -> None:
    """Of `secagg report`, and of a dashboard, which shows the same."""
    assert (UNSAFE in state.title) == state.unsafe_groups == unsafe
    assert state.ledger is not None
    assert {UNSAFE in line for line in state.ledger.lines} == {unsafe}
    report = Report(Published(), (state, state))
    of_runs = {name: plot for name, plot in report.plots.items() if name.startswith("run")}
    assert len(of_runs) == 5
    for plot in of_runs.values():
        assert (UNSAFE in json.dumps(plot.still)) == unsafe
    for sheet in (sheet for run in report.runs for sheet in run.sheets):
        for row in [*csv.reader(io.StringIO(sheet.csv))][1:]:
            assert (UNSAFE in row) == unsafe


@pytest.mark.parametrize("unsafe", [True, False])
def test_a_warning_is_marked_and_a_line_that_breaks_a_silence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, unsafe: bool
) -> None:
    monkeypatch.setattr(display, "SILENCE_SECONDS", 0.001)
    out, asked = Output(unsafe_groups=unsafe), threading.Event()

    def status() -> tuple[float | None, str]:
        asked.set()
        return None, "0 of 40 answered"

    with display.shown(out, status):
        asked.wait()
    out.warn("3 coordinates were clipped")
    told = capsys.readouterr()
    mark = " (unsafe groups)" if unsafe else ""
    assert set(told.out.splitlines()) == {f"0 of 40 answered{mark}"}
    assert told.err == f"warning: 3 coordinates were clipped{mark}\n"


@pytest.mark.slow
def test_a_demo_marks_what_it_tells(here: Here) -> None:
    line = ["demo", "--clients", "4", "--groups", "2", "--length", "5", "--corrupt", "1", "--unsafe-groups"]
    ran = here(*line)
    assert ran.code == 0
    told = ran.out.partition("\n\n")[2]  # after the session in words, which says it in its own
    assert "UNSAFE GROUPS" in ran.out
    assert unmarked(told) == []


def test_a_mark_is_said_once_and_before_a_colon() -> None:
    assert marked("a round", True) == "a round (unsafe groups)"
    assert marked("a table:", True) == "a table (unsafe groups):"
    for text in ("", "masking, 3 unsafe groups", "UNSAFE GROUPS: up to 2"):
        assert marked(text, True) == text
    assert (marked("a round", False), fields(False)) == ("a round", {})
    assert fields(True) == {"unsafe_groups": True}
