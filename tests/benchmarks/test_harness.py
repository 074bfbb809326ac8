"""What every benchmark has of the harness: it goes on after a stop, takes all cores, names a control."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from benchmarks import harness, report
from benchmarks.cores import Case, cores, finished, outcome
from benchmarks.harness import Control, NoControlError, Row, Table
from benchmarks.spread import by_seed, difference, paired, seeds, spread
from fl.cli.output import Output

EVERY = [(folder, name) for folder in report.folders() for name in harness.names(folder)]
MEASURED = [(folder, name) for folder in report.folders() for name in report.measured(folder)]
QUIET = Output(quiet=True)


def unwatched(case: str, what: str) -> None:
    pass


# It goes on


class StoppedError(Exception):
    pass


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The cases a, b and c of a benchmark, as they are measured."""
    measured: list[str] = []

    def work(name: str) -> Row:
        measured.append(name)
        return {"name": name, "what": "peer"}

    benchmark = SimpleNamespace(
        CLAIM="It goes on.",
        CONTROL=Control("a peer", lambda row: row["what"] == "peer"),
        ALONE=True,
        cases=lambda size, seed: [Case(name, partial(work, name)) for name in "abc"],
        table=lambda rows: Table.of(("name",), [(row["name"],) for row in rows]),
        work=work,
    )
    monkeypatch.setattr(harness, "load", lambda folder, name: benchmark)
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setattr(harness, "commit", lambda: "0123456789ab")
    monkeypatch.setattr(harness, "code", lambda: "as it was")
    return measured


def stop_at(monkeypatch: pytest.MonkeyPatch, last: str) -> None:
    """The next run ends in the midst of this case."""

    def stopping(cases: Sequence[Case], at_once: int, say: Any) -> Iterator[tuple[Case, list[Row]]]:
        for case in cases:
            if case.name == last:
                raise StoppedError
            yield case, case.rows(say)

    with monkeypatch.context() as patched:
        patched.setattr(harness, "finished", stopping)
        with pytest.raises(StoppedError):
            harness.measure("folder", "name", "quick", 0, QUIET)


def test_a_run_that_was_stopped_goes_on_with_the_cases_it_lacks(
    monkeypatch: pytest.MonkeyPatch, done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    stop_at(monkeypatch, "b")
    assert done == ["a"]
    path = harness.measure("folder", "name", "quick", 0, Output())
    assert done == ["a", "b", "c"]
    record = msgspec.json.decode(path.read_bytes())
    assert [row["name"] for row in record["rows"]] == ["a", "b", "c"]
    assert "claim" not in record  # the module's own is read, which is mended where it is not true
    assert "goes on after 1 of 3 cases" in capsys.readouterr().out
    assert list(path.parent.iterdir()) == [path]  # nothing is left of what was begun
    harness.measure("folder", "name", "quick", 0, QUIET)
    assert done == ["a", "b", "c"] * 2


@pytest.mark.parametrize(
    ("seed", "changed", "goes_on"),
    [
        (0, {"commit": lambda: "another, with the same code"}, True),
        (0, {"code": lambda: "changed"}, False),
        (0, {"machine": lambda: {"cores": 1024}}, False),
        (1, {}, False),
    ],
)
def test_rows_of_another_seed_code_or_machine_are_not_taken(
    monkeypatch: pytest.MonkeyPatch,
    done: list[str],
    seed: int,
    changed: Mapping[str, Callable[[], object]],
    goes_on: bool,
) -> None:
    stop_at(monkeypatch, "c")
    for name, value in changed.items():
        monkeypatch.setattr(harness, name, value)
    harness.measure("folder", "name", "quick", seed, QUIET)
    assert done == ["a", "b", *(["c"] if goes_on else ["a", "b", "c"])]


def test_what_was_left_out_is_tried_again(monkeypatch: pytest.MonkeyPatch, done: list[str]) -> None:
    """Data that were absent may have come."""
    benchmark = harness.load("folder", "name")
    cases = [Case("a", lambda: {"skipped": "no data", "what": ""}), *benchmark.cases("quick", 0)[1:]]
    with monkeypatch.context() as patched:
        patched.setattr(benchmark, "cases", lambda size, seed: cases)
        stop_at(monkeypatch, "c")
    harness.measure("folder", "name", "quick", 0, QUIET)
    assert done == ["b", "a", "c"]


def test_where_every_case_is_left_out_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, done: list[str]
) -> None:
    benchmark = harness.load("folder", "name")
    cases = [Case(name, lambda: {"skipped": "no data", "what": ""}) for name in "ab"]
    monkeypatch.setattr(benchmark, "cases", lambda size, seed: cases)
    with pytest.raises(NotImplementedError, match=r"^no data$"):
        harness.measure("folder", "name", "full", 0, QUIET)
    assert not harness.file("folder", "name").exists()


def test_a_file_that_cannot_be_read_is_begun_anew(done: list[str]) -> None:
    path = harness.file("folder", "name", "quick").with_suffix(".begun.json")
    path.parent.mkdir()
    path.write_text('{"settings": ', encoding="utf-8")
    harness.measure("folder", "name", "quick", 0, QUIET)
    assert done == ["a", "b", "c"]


def test_where_rows_cannot_be_kept_it_measures_all_the_same(
    done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    harness.file("folder", "name", "quick").with_suffix(".begun.json").mkdir(parents=True)
    path = harness.measure("folder", "name", "quick", 0, Output())
    assert len(msgspec.json.decode(path.read_bytes())["rows"]) == 3
    assert capsys.readouterr().err.count("could not be written (Is a directory)") == 3


def test_the_digest_of_the_code_changes_with_a_module_and_not_with_a_document(tmp_path: Path) -> None:
    from benchmarks.provenance import code

    (tmp_path / "fl").mkdir()
    (tmp_path / "fl" / "one.py").write_text("1", encoding="utf-8")
    before = code(tmp_path)
    (tmp_path / "fl" / "one.md").write_text("1", encoding="utf-8")
    assert code(tmp_path) == before
    (tmp_path / "fl" / "one.py").rename(tmp_path / "fl" / "other.py")
    assert code(tmp_path) != before


# On all cores


def where() -> Row:
    """What a case finds in its process."""
    return {"pid": os.getpid(), "cores": len(cores()), "threads": os.environ.get("OMP_NUM_THREADS")}


def after(kept: Path) -> Row:
    """Once the rows of another case are kept."""
    with kept.open("rb") as told:
        return {"after": told.read(1) == b"."}


def watched() -> Iterator[Row | str]:
    yield "at it"
    yield where()


def test_cases_run_side_by_side_on_a_core_each_and_their_rows_stand_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    os.mkfifo(tmp_path / "kept")
    told, add = os.open(tmp_path / "kept", os.O_RDWR), harness.Begun.add

    def telling(*args: Any) -> None:
        add(*args)
        os.write(told, b".")

    monkeypatch.setattr(harness.Begun, "add", telling)
    cases = [Case("first", partial(after, tmp_path / "kept")), Case("second", watched)]
    begun = harness.Begun({})
    try:
        rows = harness.run(cases, begun, tmp_path / "begun.json", 2, QUIET)
    finally:
        os.close(told)
    assert list(begun.rows) == ["second", "first"]  # as they were done; neither would be if they took turns
    assert [sorted(row) for row in rows] == [["after"], ["cores", "pid", "threads"]]
    assert rows[1]["pid"] != os.getpid()
    assert (rows[1]["threads"], os.environ["OMP_NUM_THREADS"]) == ("1", "4")
    if hasattr(os, "sched_getaffinity"):
        assert rows[1]["cores"] == 1


def test_what_measures_time_runs_here_one_after_the_other() -> None:
    outcomes = finished([Case(name, where) for name in "ab"], 1, unwatched)
    assert [(case.name, rows[0]["pid"]) for case, rows in outcomes] == [
        ("a", os.getpid()),
        ("b", os.getpid()),
    ]


def failing(error: Exception) -> Row:
    raise error


def dying() -> Row:
    os._exit(9)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (NotImplementedError("no data"), NotImplementedError, "no data"),
        (ModuleNotFoundError("no", name="flwr"), ModuleNotFoundError, "no"),
        (ValueError("wrong mean"), RuntimeError, "one: ValueError: wrong mean"),
    ],
)
def test_an_error_crosses_from_a_process_as_one_that_can(
    error: Exception, kind: type[Exception], words: str
) -> None:
    crossed = pickle.loads(pickle.dumps(outcome(Case("one", partial(failing, error)), unwatched)))  # noqa: S301
    assert (type(crossed), str(crossed)) == (kind, words)
    assert getattr(crossed, "name", "flwr") == "flwr"  # of which the command says how to install it


def test_an_error_of_a_case_in_a_process_is_raised_here_and_the_others_end() -> None:
    cases = [Case("one", partial(failing, ValueError("wrong mean"))), Case("two", signal.pause)]
    with pytest.raises(RuntimeError, match=r"^one: ValueError: wrong mean$"):
        list(finished(cases, 2, unwatched))


def test_a_process_that_dies_is_missed() -> None:
    with pytest.raises(RuntimeError, match="the process of one has ended in the midst of it"):
        list(finished([Case("one", dying)], 2, unwatched))


@pytest.mark.parametrize("name", EVERY, ids="/".join)
def test_the_cases_of_a_benchmark_have_names_of_their_own_and_can_be_sent(name: tuple[str, str]) -> None:
    benchmark = harness.load(*name)
    if name[1] == "ckks":
        pytest.importorskip("tenseal")
    for size in harness.SIZES:
        cases = benchmark.cases(size, 3)
        assert len({case.name for case in cases}) == len(cases) > 0
        assert pickle.loads(pickle.dumps(cases)) is not None  # noqa: S301


# A control


PEER = Control("a peer", lambda row: row["who"] == "peer", by=("n",))


def test_a_claim_without_its_control_is_refused() -> None:
    ours, peer = {"n": 5, "who": "us"}, {"n": 5, "who": "peer"}
    PEER.check([ours, peer])
    with pytest.raises(NoControlError, match=r"no row is the control \(a peer\) of n 5"):
        PEER.check([ours])
    with pytest.raises(NoControlError, match="of n 6"):
        PEER.check([ours, peer, ours | {"n": 6}])
    PEER.check([ours, peer, ours | {"n": 6, "skipped": "too few"}])  # nothing is claimed of it


def test_a_control_that_was_left_out_stands_in_a_table_and_in_no_document() -> None:
    rows = [{"n": 5, "who": "us"}, {"n": 5, "who": "peer", "skipped": "not installed"}]
    PEER.check(rows)
    with pytest.raises(NoControlError, match="a peer"):
        PEER.check(rows, measured=True)


def test_a_measurement_without_its_control_is_not_written(
    monkeypatch: pytest.MonkeyPatch, done: list[str]
) -> None:
    monkeypatch.setattr(harness.load("folder", "name"), "CONTROL", PEER)
    monkeypatch.setattr(
        harness.load("folder", "name"), "cases", lambda s, i: [Case("a", lambda: {"who": "us"})]
    )
    with pytest.raises(NoControlError):
        harness.measure("folder", "name", "full", 0, QUIET)
    assert not harness.file("folder", "name").exists()


@pytest.mark.parametrize("name", MEASURED, ids="/".join)
def test_a_committed_result_without_its_control_is_no_page(
    monkeypatch: pytest.MonkeyPatch, name: tuple[str, str]
) -> None:
    control, record = harness.load(*name).CONTROL, dict(harness.read(*name))
    assert report.section(*name)
    record["rows"] = [row for row in record["rows"] if not control.is_it(row)]
    monkeypatch.setattr(harness, "read", lambda *of: record)
    with pytest.raises(NoControlError):
        report.section(*name)


# Numbers over seeds


def test_mean_and_standard_deviation_over_seeds() -> None:
    assert spread([0.4, 0.6]) == "0.500 ± 0.141"
    assert spread([0.5]) == "0.500"
    assert list(seeds(4, 3)) == [4, 5, 6]


def test_a_paired_difference_has_the_error_of_its_pairs() -> None:
    """Of -2, -1 and 0: mean -1, standard deviation 1. That the seeds are far apart cancels out."""
    without = {0: 10.0, 1: 20.0, 2: 30.0, 3: 7.0}
    with_it = {2: 30.0, 0: 8.0, 1: 19.0}
    assert difference(with_it, without) == pytest.approx((-1, 3**-0.5))
    assert paired(with_it, without) == "-1.000 ± 0.577"
    assert paired({0: 11.0}, without) == "+1.000"


def test_rows_that_do_not_pair_are_an_error() -> None:
    with pytest.raises(ValueError, match="no seed was measured with and without"):
        difference({0: 1.0}, {1: 1.0})
    assert by_seed([{"seed": 4, "x": 1}], lambda row: row["x"]) == {4: 1}
    with pytest.raises(ValueError, match="a seed was measured twice"):
        by_seed([{"seed": 4, "x": 1}, {"seed": 4, "x": 2}], lambda row: row["x"])
