"""What `secagg report` shows is what the committed results give."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks import harness, matrices, published
from benchmarks.adversaries import CLIENT, SERVER
from benchmarks.matrix.resilience import ATTACKS
from fl.config.section import ConfigError
from fl.page.published import DATA, PICTURES, Matrix, Published, read
from tests.benchmarks.test_joined import RULED, TABLES, UNDER, attacked


def test_the_data_of_the_page_are_what_the_results_give() -> None:
    assert DATA.read_bytes() == published.encoded(), "run `python -m benchmarks report`"
    assert read() == published.published()


def test_the_pictures_of_the_page_are_those_of_the_docs() -> None:
    shown = {each.file: (PICTURES / each.file).read_bytes() for each in read().pictures}
    assert shown == {name: (harness.FIGURES / name).read_bytes() for name in shown}
    assert {path.name for path in PICTURES.iterdir()} == set(shown)


def test_data_and_pictures_are_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "DATA", tmp_path / DATA.name)
    monkeypatch.setattr(published, "PICTURES", tmp_path / PICTURES.name)
    written = {path.relative_to(tmp_path): path.read_bytes() for path in published.write()}
    assert written == {path: (DATA.parent / path).read_bytes() for path in written}
    assert len(written) == 1 + len(read().pictures)


def matrix(name: str) -> Matrix:
    (found,) = (each for each in read().matrices if each.name == name)
    return found


@pytest.mark.parametrize(
    ("name", "row", "column", "number"),
    [
        ("leakage-cohorts", "images above 20 dB", "10", 66.6667),
        ("leakage-cohorts", "images above 20 dB", "50", None),
        ("leakage-cohorts", "labels counted right", "50", 99.75),
        ("leakage-sums", "20 rounds", "16 bits, tight", 74.8667),
        ("leakage-perturbed", "50 % left out", "knows what was done", 71.3088),
        ("poisoning-breakdown", "mean", "20 %", 47.9957),
        ("poisoning-breakdown", "bulyan*", "30 %", None),
    ],
)
def test_a_number_is_at_its_place(name: str, row: str, column: str, number: float | None) -> None:
    """As docs/benchmarks has them: 67 %, 100 % of labels, .749, 71.3 dB, and 48 % of the mean."""
    of = matrix(name)
    assert dict(of.rows)[row][of.columns.index(column)] == number


def test_every_row_is_as_long_as_its_columns_and_has_a_number_where_there_is_something_to_read() -> None:
    for each in read().matrices:
        assert {len(numbers) for _, numbers in each.rows} == {len(each.columns)}
        empty = [row for row, numbers in each.rows if not any(number is not None for number in numbers)]
        nothing = each.name in ("matrix-leakage-server", "matrix-leakage-told")
        assert empty == (["ckks, keep"] if nothing else [])
        assert each.low < each.high


def test_another_number_in_a_result_gives_other_data(monkeypatch: pytest.MonkeyPatch) -> None:
    right = harness.read

    def other(folder: str, name: str, size: str = "full") -> object:
        record = dict(right(folder, name, size))
        if (folder, name) == ("leakage", "sums"):
            record["rows"] = [row | {"share": row["share"] / 2} for row in record["rows"]]
        return record

    monkeypatch.setattr(harness, "read", other)
    assert published.encoded() != DATA.read_bytes()


def test_what_is_not_measured_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    empty = published.published()
    assert (empty.points, empty.matrices, empty.growth, empty.sources) == ((), (), (), ())


def test_the_curves_are_those_of_the_results() -> None:
    (growth,) = read().growth
    rows = harness.read("protocol", "growth")["rows"]
    drawn = [point for panel in growth.panels for curve in panel.curves for point in curve.points]
    assert len(drawn) == 4 * len(rows)  # client and server, measured and predicted
    assert {(panel.x, panel.name) for panel in growth.panels} == {
        ("clients", "growth-clients-complete"),
        ("clients", "growth-clients-sparse"),
        ("coordinates", "growth-coordinates-complete"),
    }


TOLD = {"images": 4, "labels": 5, "chance": 2.0, "linkage": 1.0}
LEAKS = [
    {"protection": "plain", "adversary": SERVER, "clients": 10, "round": 1, "share": 0.9} | TOLD,
    {"protection": "plain", "adversary": SERVER, "clients": 10, "round": 1, "share": 0.7}
    | {"images": 4, "labels": 1, "chance": 2.0, "linkage": 0.8},
    {"protection": "plain", "adversary": SERVER, "clients": 50, "round": 20, "share": 0.1},
    {"protection": "plain", "adversary": CLIENT, "clients": 10, "round": 1, "share": 0.0},
    {"protection": "ckks, keep", "adversary": SERVER, "clients": 10, "round": 1, "share": None},
]


@pytest.fixture
def leaking(monkeypatch: pytest.MonkeyPatch) -> list[Matrix]:
    """The matrices of these rows."""
    of = matrices.source("leakage", "cohorts")
    monkeypatch.setattr(matrices, "measured", lambda folder, name, size: LEAKS)
    monkeypatch.setattr(matrices, "source", lambda folder, name, size: of)
    return list(matrices.by_adversary())


def test_leakage_is_by_who_looks_and_for_the_server_by_session(leaking: list[Matrix]) -> None:
    """What cannot be read is none, and not 0."""
    who, session, told = leaking
    assert (who.name, who.columns) == ("matrix-leakage", (SERVER, CLIENT))
    assert who.rows == (("plain", (80.0, 0.0)), ("ckks, keep", (None, None)))
    assert session.columns == ("10, 1", "50, 20")
    assert session.rows == (("plain", (80.0, 10.0)), ("ckks, keep", (None, None)))
    assert told.name == "matrix-leakage-told"
    assert told.rows == (("plain", (75.0, 50.0, 90.0)), ("ckks, keep", (None, None, None)))


def test_what_an_attack_leaves_is_by_protection_and_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    of = matrices.source("leakage", "cohorts")
    rows = [*attacked("plain", RULED, "median"), *attacked("plain", UNDER)]
    monkeypatch.setattr(matrices, "measured", lambda folder, name, size: rows)
    monkeypatch.setattr(matrices, "source", lambda folder, name, size: of)
    (matrix,) = matrices.under_attack()
    assert matrix.columns == ("none", *ATTACKS)
    means, medians = (numbers for _, numbers in matrix.rows)
    assert [name for name, _ in matrix.rows] == ["plain: mean", "plain: median"]
    assert means[matrix.columns.index("opposite")] == pytest.approx(35)  # .4 and .3
    assert medians[matrix.columns.index("opposite")] == pytest.approx(75)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the matrix's results, in which there are quick costs, and full leakage."""
    record = {name: harness.read("matrix", "cost")[name] for name in ("commit", "date", "machine", "seed")}
    (tmp_path / "matrix").mkdir()
    rows = {"cost.quick": TABLES["cost"], "leakage": TABLES["leakage"]}
    for name, some in rows.items():
        told = record | {"size": "quick" if "quick" in name else "full", "rows": some}
        (tmp_path / "matrix" / f"{name}.json").write_bytes(msgspec.json.encode(told))
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    return tmp_path / "matrix"


def test_results_of_another_size_are_shown_as_what_they_are(results: Path) -> None:
    """Not measured is not 0, nothing is claimed of them, and nothing of the full size is among them."""
    quick = published.of_size("quick")
    assert (quick.size, quick.of) == ("quick", "5 rounds on digits, with 1 seed")
    assert [point.name for point in quick.points] == ["plain", "masking", "ckks, keep"]
    assert quick.points[0].values["leakage"] is None
    assert quick.points[0].why["leakage"] == "not measured"
    assert "--rounds 5 " in quick.points[0].command
    assert [each.command for each in quick.points_of] == ["secagg bench matrix cost --size quick --seed 0"]
    assert (quick.matrices, quick.growth, quick.pictures) == ((), (), ())
    (results / "leakage.json").rename(results / "leakage.quick.json")
    quick = published.of_size("quick")
    assert quick.points[0].values["leakage"] == pytest.approx(95)
    assert {each.claim for each in quick.matrices} == {""}
    assert msgspec.json.decode(msgspec.json.encode(quick), type=Published) == quick


def test_what_a_gpu_measured_has_the_leakage_of_the_full_size_which_needs_none(results: Path) -> None:
    with pytest.raises(
        ConfigError, match="nothing was measured here at gpu size: secagg bench matrix --size gpu"
    ):
        published.of_size("gpu")
    quick = (results / "cost.quick.json").read_bytes()
    (results / "cost.gpu.json").write_bytes(quick.replace(b'"quick"', b'"gpu"'))
    gpu = published.of_size("gpu")
    assert gpu.of == "15 rounds on mnist, with 3 seeds"
    assert gpu.points[0].values["leakage"] == pytest.approx(95)
    assert "--dataset mnist --device cuda " in gpu.points[0].command
    assert [each.command.split()[3:6] for each in gpu.points_of] == [
        ["cost", "--size", "gpu"],
        ["leakage", "--size", "full"],
    ]
