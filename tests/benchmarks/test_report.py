"""docs/benchmarks.md says what was measured and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import harness, report
from benchmarks.__main__ import main as benchmarks_main
from fl.cli import FAILED, USAGE, main
from fl.cli.bench import run
from fl.cli.output import Output
from fl.config.run import ConfigError


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


@pytest.fixture
def quick_result() -> Iterator[Path]:
    """Of `upload`, in the checkout, where the developer's own is put back."""
    path = harness.file("protocol", "upload", "quick")
    own = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    yield path
    path.unlink(missing_ok=True)
    if own is not None:
        path.write_bytes(own)


def test_a_benchmark_is_measured_by_its_command(quick_result: Path) -> None:
    """Quick results stand beside the committed ones, and change no page."""
    before = report.text()
    assert main(["bench", "protocol", "upload"]) == 0
    assert quick_result.is_file()
    assert report.text() == before


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("protocol cots", "no benchmark in protocol 'cots': there are ckks, cost, "),
        ("protocol cost --size fll", "no size 'fll': there are quick, full; did you mean 'full'?"),
        (
            "protocl",
            "no benchmarks 'protocl': there are protocol, training, report; did you mean 'protocol'?",
        ),
    ],
)
def test_a_benchmark_that_is_not_there_is_a_usage_error(
    capfd: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    assert main(["bench", *line.split()]) == USAGE
    (error,) = capfd.readouterr().err.splitlines()
    assert error.startswith(f"error: {words}")


@pytest.mark.parametrize(
    "name", [(folder, name) for folder in report.folders() for name in harness.names(folder)], ids="/".join
)
def test_the_committed_results_are_readable_at_80_columns(
    name: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    harness.show(harness.load(*name), harness.read(*name)["rows"], Output())
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert max(map(len, lines)) <= 80


def test_a_table_too_wide_is_told_in_blocks_and_what_all_rows_share_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    header = ("graph", "clients", "time", "")
    cells = [("sparse", "10", "3 s", "1.5"), ("sparse", "200", "4 s", "")]
    benchmark = SimpleNamespace(table=lambda rows: (header, cells))
    for width, lines in {
        80: ["graph   clients  time", "sparse  10       3 s   1.5", "sparse  200      4 s"],
        30: ["all: graph sparse", "clients  time", "10       3 s   1.5", "200      4 s"],
        20: ["all: graph sparse", "clients 10,", "    time 3 s (1.5)", "clients 200,", "    time 4 s"],
    }.items():
        monkeypatch.setattr(harness, "PIPE_WIDTH", width)
        harness.show(benchmark, [], Output())
        assert capsys.readouterr().out.splitlines() == lines


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
            "sys.argv = ['x', 'protocol', 'flower']; from benchmarks.__main__ import main; sys.exit(main())",
        ],
        capture_output=True,
        text=True,
        cwd=harness.ROOT.parent,
    )
    assert said.returncode == 1
    assert said.stderr == "error: flower cannot be measured: this needs flwr: pip install 'secagg[flower]'\n"


def test_where_a_benchmark_cannot_be_it_says_so_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cannot(*args: object) -> None:
        raise NotImplementedError("not on this system")

    monkeypatch.setattr(harness, "measure", cannot)
    assert benchmarks_main(["protocol", "memory"]) == FAILED
    assert capsys.readouterr().err == "error: memory cannot be measured: not on this system\n"
    assert benchmarks_main(["training"]) == 0
    assert "warning: users left out: not on this system\n" in capsys.readouterr().err
