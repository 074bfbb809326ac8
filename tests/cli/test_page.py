"""`secagg report`: the page, its plots and its tables, in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fl.cli import FAILED, USAGE, bench, main
from fl.config.section import ConfigError
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


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are files without a picture: what draws takes seconds."""
    monkeypatch.setattr("fl.page.vega.bundle", lambda: "")
    monkeypatch.setattr("fl.page.vega.png", lambda spec: b"")


@pytest.mark.usefixtures("undrawn")
def test_a_report_in_the_place_of_another_leaves_nothing_of_it_behind(run: Path, tmp_path: Path) -> None:
    """The first was of a run. What is not its own stays, whatever it is called."""
    assert main(["report", str(run), "--out", str(tmp_path)]) == 0
    own = tmp_path / "run1-mine-own.png"
    own.write_bytes(b"mine")
    assert main(["report", "--out", str(tmp_path), "--force"]) == 0
    assert [path for path in tmp_path.iterdir() if path.name.startswith("run1-")] == [own]
    assert {"report.html", "chart.png", "sources.csv"} <= {path.name for path in tmp_path.iterdir()}


def test_a_folder_that_is_no_runs_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    assert main(["report", str(tmp_path / "none"), "--out", str(out)]) == USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("none is no folder: name one that secagg train or secagg serve has left")
    assert not out.exists()


@pytest.mark.usefixtures("undrawn")
def test_what_was_measured_here_is_shown_in_the_place_of_what_comes_with_the_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The full size, which is there; and what is not there, or is no size, in one line."""
    assert main(["report", "--size", "full", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "15 rounds on digits, with 3 seeds, and not those that come with the package" in page
    assert "secagg bench matrix cost --size full --seed 0" in page
    assert "protocol/growth" not in page
    capsys.readouterr()
    assert main(["report", "--size", "ful", "--out", str(tmp_path / "other")]) == USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: no size 'ful': there are quick, full, gpu; did you mean 'full'?"
    assert not (tmp_path / "other").exists()


def test_where_there_are_no_benchmarks_there_are_no_results_of_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the benchmarks are not installed with the package"):
        bench.page("quick", checkout=tmp_path)


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
