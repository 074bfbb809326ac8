"""docs/benchmarks says what was measured and nothing else, and can be read at 80 columns."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import harness, report
from benchmarks.__main__ import main as benchmarks_main
from benchmarks.harness import UNMEASURED, Table
from benchmarks.tables import fitted, markdown
from fl.cli import FAILED, USAGE, main
from fl.cli.bench import run
from fl.cli.output import Output
from fl.config.section import ConfigError

FOLDERS = report.folders()
EVERY = [(folder, name) for folder in FOLDERS for name in report.measured(folder)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_page_is_what_the_results_give(folder: str) -> None:
    page = report.page(folder).read_text(encoding="utf-8")
    assert page == report.text(folder), "run `python -m benchmarks report`"


def test_another_number_in_a_result_gives_another_page(monkeypatch: pytest.MonkeyPatch) -> None:
    right = harness.read

    def other(folder: str, name: str, size: str = "full") -> object:
        record = dict(right(folder, name, size))
        if name == "upload":
            record["rows"] = [row | {"bits": row["bits"] + 1} for row in record["rows"]]
        return record

    page = report.text("protocol")
    monkeypatch.setattr(harness, "read", other)
    assert report.text("protocol") != page


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_was_not_measured_claims_nothing_and_is_said(folder: str) -> None:
    silent = {name for name in harness.names(folder) if harness.load(folder, name).CLAIM == UNMEASURED}
    assert silent == set(report.unmeasured(folder))
    page = report.page(folder).read_text(encoding="utf-8")
    assert all(f"- `{name}`: " in page.partition("## Not measured yet")[2] for name in silent)


@pytest.mark.parametrize(("folder", "name"), EVERY)
def test_every_result_is_a_full_one_and_has_its_picture(folder: str, name: str) -> None:
    record = harness.read(folder, name)
    assert record["size"] == "full"
    assert record["machine"]["cores"] >= 1
    assert record["commit"] != "unknown"
    if hasattr(harness.load(folder, name), "plot"):
        assert (report.FIGURES / f"{folder}-{name}.svg").is_file()


def test_pages_and_pictures_are_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here of one benchmark a folder."""
    monkeypatch.setattr(report, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(report, "PAGES", tmp_path / "benchmarks")
    monkeypatch.setattr(report.published, "write", list)
    monkeypatch.setattr(
        report,
        "measured",
        lambda folder: {
            "embedding": ["flower"],
            "leakage": ["single"],
            "matrix": [],
            "poisoning": ["byzfl"],
            "privacy": ["cost"],
            "protocol": ["cost"],
            "training": ["users"],
        }[folder],
    )
    for path in report.write():
        assert path.stat().st_size > 0
    assert {path.stem for path in report.FIGURES.iterdir()} == {
        "protocol-cost",
        "training-users",
        "protections",
    }
    for folder in FOLDERS:
        assert report.page(folder).read_text(encoding="utf-8") == report.text(folder)


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
    before = report.text("protocol")
    assert main(["bench", "protocol", "upload"]) == 0
    assert quick_result.is_file()
    assert report.text("protocol") == before


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("protocol cots", "no benchmark in protocol 'cots': there are ckks, cost, "),
        ("protocol cost --size fll", "no size 'fll': there are quick, full, gpu; did you mean 'full'?"),
        (
            "protocl",
            "no benchmarks 'protocl': there are embedding, leakage, matrix, poisoning, privacy, protocol, "
            "training, report, page; did you mean 'protocol'?",
        ),
    ],
)
def test_a_benchmark_that_is_not_there_is_a_usage_error(
    capfd: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    assert main(["bench", *line.split()]) == USAGE
    (error,) = capfd.readouterr().err.splitlines()
    assert error.startswith(f"error: {words}")


@pytest.mark.parametrize("name", EVERY, ids="/".join)
def test_the_committed_results_are_readable_at_80_columns(
    name: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """In a pipe, and on the page."""
    table = harness.load(*name).table(harness.read(*name)["rows"])
    harness.show(table, Output())
    lines = capsys.readouterr().out.splitlines()
    drawn = [line for line in report.section(*name).splitlines() if line.startswith(("|", "All: "))]
    assert lines
    assert drawn
    assert max(map(len, [*lines, *drawn])) <= 80


WIDE = Table.of(
    ("graph", "clients", "time", "", "memory"),
    [("sparse", "10", "3 s", "1.5", "2 MB"), ("sparse", "200", "4 s", "", "9 MB")],
)


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (
            80,
            [
                *("graph   clients  time       memory", "sparse  10       3 s   1.5  2 MB"),
                "sparse  200      4 s        9 MB",
            ],
        ),
        (
            34,
            [
                *("all: graph sparse", "clients  time       memory", "10       3 s   1.5  2 MB"),
                "200      4 s        9 MB",
            ],
        ),
        (
            30,
            [
                *("all: graph sparse", "clients  time", "10       3 s   1.5", "200      4 s", ""),
                *("clients  memory", "10       2 MB", "200      9 MB"),
            ],
        ),
        (
            20,
            [
                *("all: graph sparse", "clients 10,", "    time 3 s (1.5),", "    memory 2 MB"),
                *("clients 200,", "    time 4 s,", "    memory 9 MB"),
            ],
        ),
    ],
)
def test_a_table_too_wide_is_split_and_what_all_rows_share_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, lines: list[str]
) -> None:
    """Columns without a name stay beside theirs; where no column can stand, the rows are told."""
    monkeypatch.setattr(harness, "PAGE_WIDTH", width)
    harness.show(WIDE, Output())
    assert capsys.readouterr().out.splitlines() == lines


def test_rows_that_their_first_columns_do_not_tell_apart_are_numbered() -> None:
    table = Table.of(("a" * 30, "b" * 30), [("same", "1"), ("same", "2"), ("other", "1")])
    (one, two) = fitted(table, 50).tables
    assert (one.header, one.rows) == (("#", "a" * 30), (("1", "same"), ("2", "same"), ("3", "other")))
    assert (two.header, two.rows) == (("#", "b" * 30), (("1", "1"), ("2", "2"), ("3", "1")))


def test_a_page_is_aligned_and_a_bar_in_a_cell_is_no_border() -> None:
    assert list(markdown(Table.of(("name", "n"), [("a|b", "1"), ("c", "2000")]))) == [
        "| name | n    |",
        "| ---- | ---- |",
        "| a\\|b | 1    |",
        "| c    | 2000 |",
    ]


def test_a_group_of_benchmarks_is_measured_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = list[str]()
    monkeypatch.setattr(harness, "names", lambda folder: ["cost", "dummy_blank", "dummy_split"])
    monkeypatch.setattr(harness, "measure", lambda folder, name, size, seed, out: measured.append(name))
    assert benchmarks_main(["privacy", "dummy"]) == 0
    assert benchmarks_main(["privacy", "cost"]) == 0
    assert measured == ["dummy_blank", "dummy_split", "cost"]


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


@pytest.mark.parametrize("kind", [NotImplementedError, harness.NoControlError])
def test_where_a_benchmark_cannot_be_it_says_so_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: type[Exception]
) -> None:
    def cannot(*args: object) -> None:
        raise kind("not on this system")

    monkeypatch.setattr(harness, "measure", cannot)
    assert benchmarks_main(["protocol", "memory"]) == FAILED
    assert capsys.readouterr().err == "error: memory cannot be measured: not on this system\n"
    assert benchmarks_main(["training"]) == 0
    assert "warning: users left out: not on this system\n" in capsys.readouterr().err
