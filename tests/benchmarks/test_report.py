"""docs/benchmarks.md says what was measured and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import harness, report
from benchmarks.__main__ import main as benchmarks_main
from fl.cli import FAILED, USAGE, main
from fl.cli.bench import run
from fl.config import ConfigError


def test_the_page_is_what_the_results_give() -> None:
    assert report.PAGE.read_text(encoding="utf-8") == report.text(), "run `python -m benchmarks report`"


def test_another_number_in_a_result_gives_another_page(monkeypatch: pytest.MonkeyPatch) -> None:
    right = harness.read

    def other(folder: str, name: str) -> object:
        record = dict(right(folder, name))
        if name == "upload":
            record["rows"] = [row | {"bits": row["bits"] + 1} for row in record["rows"]]
        return record

    page = report.text()
    monkeypatch.setattr(harness, "read", other)
    assert report.text() != page


def test_every_benchmark_has_a_full_result_and_its_picture() -> None:
    have = set(report.measured())
    for folder in report.folders():
        for name in harness.names(folder):
            assert (folder, name) in have
            record = harness.read(folder, name)
            assert record["size"] == "full"
            assert record["machine"]["cores"] >= 1
            assert record["commit"] != "unknown"
            if hasattr(harness.load(folder, name), "plot"):
                assert (report.FIGURES / f"{folder}-{name}.svg").is_file()


def test_pictures_can_be_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(report, "PAGE", tmp_path / "benchmarks.md")
    written = report.write()
    assert written[0].read_text(encoding="utf-8") == report.text()
    assert all(path.stat().st_size > 0 for path in written)


def test_a_benchmark_is_measured_by_its_command(tmp_path: Path) -> None:
    """Quick results stand beside the committed ones, and change no page."""
    before = report.text()
    assert main(["bench", "protocol", "upload"]) == 0
    assert harness.file("protocol", "upload", "quick").is_file()
    assert report.text() == before


def test_a_benchmark_that_is_not_there_is_a_usage_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "protocol", "nosuch"]) == USAGE
    assert "no benchmark 'nosuch' in protocol: there are ckks, cost, " in capfd.readouterr().err
    assert main(["bench", "nosuch"]) == USAGE


def test_outside_a_checkout_it_says_where_they_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the benchmarks are not installed with the package: clone"):
        run(["protocol"], checkout=tmp_path)


def test_without_an_extra_it_says_which(tmp_path: Path) -> None:
    """flwr hidden from a new process: one benchmark fails with what to install."""
    (tmp_path / "flwr.py").write_text("raise ModuleNotFoundError('hidden', name='flwr')")
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
            "sys.argv = ['x', 'protocol', 'flower']; from benchmarks.__main__ import main; main()",
        ],
        capture_output=True,
        text=True,
        cwd=harness.ROOT.parent,
    )
    assert said.returncode == 1
    assert "pip install 'secagg[flower]'" in said.stdout
    assert "Traceback" not in said.stderr


def test_where_a_benchmark_cannot_be_it_says_so_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cannot(*args: object) -> None:
        raise NotImplementedError("not on this system")

    monkeypatch.setattr(harness, "measure", cannot)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "protocol", "memory"])
    with pytest.raises(SystemExit) as ended:
        benchmarks_main()
    assert ended.value.code == FAILED
    assert "memory left out: not on this system" in capsys.readouterr().out
