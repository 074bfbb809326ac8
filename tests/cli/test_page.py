"""`secagg report`: the page, its plots and its tables, in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fl.cli import FAILED, USAGE, main
from tests.cli.commands import secagg


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("runs") / "mine"
    small = ("--clients", "3", "--rounds", "2", "--model", "logistic", "--execution", "sequential")
    assert main(["train", "--quiet", *small, "--no-baseline", "--out", str(folder)]) == 0
    return folder


def test_a_run_and_what_was_measured_become_one_page(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    assert main(["report", str(run), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["report"]
    assert sorted(told["files"]) == sorted(path.name for path in out.iterdir())
    assert {"report.html", "run1-mine-accuracy.png", "run1-mine-rounds.csv", "sources.csv"} <= set(
        told["files"]
    )
    page = (out / "report.html").read_text(encoding="utf-8")
    assert told["headline"] in page
    assert "masking: logistic on digits, 3 clients" in page
    assert "window.vegaEmbed" in page
    assert "What the sums tell together" in page
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in out.iterdir() if path.suffix == ".png")
    rounds = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    cells = (out / "run1-mine-rounds.csv").read_text().splitlines()[1:]
    assert [line.split(",")[:2] for line in cells] == [
        [str(each["round"]), f"{each['accuracy']:.4f}"] for each in rounds
    ]


def test_a_folder_that_holds_something_is_kept_unless_force_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["report", "--out", str(tmp_path)]) == USAGE
    assert "is not empty: choose another --out" in capsys.readouterr().err
    assert main(["report", "--out", str(tmp_path), "--force"]) == 0
    assert f"wrote {tmp_path / 'report.html'}; beside it " in capsys.readouterr().out
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_folder_that_is_no_runs_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    assert main(["report", str(tmp_path / "none"), "--out", str(out)]) == USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("none is no folder: name one that secagg train or secagg serve has left")
    assert not out.exists()


@pytest.mark.parametrize("module", ["vl_convert", "jinja2"])
def test_without_what_draws_it_says_what_to_install(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text(f"raise ModuleNotFoundError('hidden', name='{module}')")
    ran = secagg("report", "--out", "out", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert ran.code == FAILED
    assert ran.err == f"error: this needs {module}: pip install 'secagg[fl]'\n"


def test_the_help_says_what_it_takes_and_loads_nothing_of_it(without_torch: dict[str, str]) -> None:
    ran = secagg("report", "--help", env=without_torch | {"COLUMNS": "120"})
    assert ran.code == 0
    assert "[RUN]..." in ran.out
    assert "runs/report" in ran.out
