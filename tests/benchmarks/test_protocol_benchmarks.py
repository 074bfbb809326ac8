"""The benchmarks run, at a size at which they say nothing; what is committed of them says what it should."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from benchmarks import harness
from benchmarks.protocol import ckks, cost, growth, masks, memory, scale, traffic, upload, workers
from fl.cli.output import Output
from tests.benchmarks.cases import rows_of

QUIET = Output(quiet=True)


def committed(name: str) -> Sequence[Mapping[str, Any]]:
    record = harness.read("protocol", name)
    assert record["size"] == "full"
    return record["rows"]


def only(rows: Sequence[Mapping[str, Any]], **of: Any) -> Mapping[str, Any]:
    (row,) = [row for row in rows if all(row[name] == value for name, value in of.items())]
    return row


# They run


TINY: dict[Any, dict[str, Any]] = {
    ckks: {"CLIENTS": 6, "LENGTH": 500, "UPLOADS": 2, "COHORTS": (4, 6), "COHORT_LENGTH": 300},
    cost: {"CLIENTS": (12,), "LENGTH": 100},
    growth: {"CASES": [("clients", n, 50, "complete") for n in (6, 9)], "_LEAST_SECONDS": 1e-9},
    masks: {"LENGTHS": (1000,), "BYTES": 1 << 14, "REPETITIONS": 1},
    memory: {"CASES": [(4, 1000, "active", "complete"), (4, 1000, "semi-honest", "complete")]},
    traffic: {"CASES": [(6, 50, 0.2, "active", "complete"), (50, 50, 0.2, "semi-honest", "sparse")]},
    workers: {"CASES": [(5, 1000)], "REPETITIONS": 1},
}


@pytest.mark.parametrize("benchmark", TINY, ids=lambda module: module.__name__.split(".")[-1])
def test_it_runs_and_its_table_has_a_cell_for_each_column(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if benchmark is ckks:
        pytest.importorskip("tenseal")
    for name, value in TINY[benchmark].items():
        if isinstance(getattr(benchmark, name), dict):
            monkeypatch.setitem(getattr(benchmark, name), "quick", value)
        else:
            monkeypatch.setattr(benchmark, name, value)
    monkeypatch.setattr(workers, "POOLS", {"threads": workers.POOLS["threads"]})
    monkeypatch.setattr(workers, "warm", abs)
    rows = rows_of(benchmark)
    assert len(rows) >= len(benchmark.cases("quick", 0))
    benchmark.CONTROL.check(rows)
    table = benchmark.table(rows)
    assert {len(line) for line in table.rows} == {len(table.header)}
    harness.show(table, QUIET)
    if hasattr(benchmark, "plot"):
        assert benchmark.plot(rows).axes


def test_a_session_with_losses_in_every_round_is_exact() -> None:
    row = scale.run_case(60, "active", seed=0)
    assert row["exact"]
    assert all(row["lost"].values())
    scale.CONTROL.check([row])
    harness.show(scale.table([row]), QUIET)


def test_measured_bytes_are_those_of_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [(20, 100, 0.2, adversary, "complete") for adversary in ("semi-honest", "active")]
    monkeypatch.setitem(traffic.CASES, "quick", cases)
    for row in rows_of(traffic):
        assert row["up"] == row["formula_up"]
        assert row["down"] == row["formula_down"]


@pytest.fixture
def ckks_rows(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """Of 6 clients, 2 of whom have vectors of their own."""
    pytest.importorskip("tenseal")
    monkeypatch.setattr(ckks, "CLIENTS", 6)
    x = (2, 5000, 1)
    sets = [ckks.ours(ending, bits, *x) for ending, bits in ckks.SETS]
    return [*sets, ckks.nvflare(*x), ckks.masking(*x), ckks.plain(*x)]


def test_every_step_of_ckks_is_timed_and_its_means_are_within_their_bounds(
    ckks_rows: list[Mapping[str, Any]],
) -> None:
    for row in ckks_rows[:4]:
        ciphertexts = -(-5000 // row["degree"])  # a coordinate a slot
        decrypting = 2 if row["ending"] == "keep" else 3
        assert {name: len(each) for name, each in row["seconds"].items()} == {
            **{"encrypt": 2, "serialise": row["uploads"], "add": row["uploads"], "decrypt": decrypting}
        }
        assert row["uploads"] == (6 if row["ending"] == "release" else 2)
        bits = sum(row["primes"])
        assert 0 <= row["upload_bytes"] - ciphertexts * 2 * row["degree"] * bits / 8 < 100
        assert 8 * row["degree"] * (len(row["primes"]) + 1) < row["key_bytes"] < row["upload_bytes"] + 35_000
    for row in ckks_rows:
        assert 0 <= row["error_rms"] <= row["error"]
        assert row["error_bound"] is None or row["error"] <= row["error_bound"]


def test_tenseal_is_taken_as_nvflare_takes_it(ckks_rows: list[Mapping[str, Any]]) -> None:
    """Two vectors of 5000 in two ciphertexts each, of about 236 kB: 57.6 bytes for each of 4096 slots."""
    row = only(ckks_rows, who=ckks.NVFLARE)
    assert {name: len(each) for name, each in row["seconds"].items()} == {
        **{"encrypt": 2, "serialise": 2, "add": 1, "decrypt": 1}
    }
    assert 57 <= row["upload_bytes"] / (2 * 4096) <= 58
    assert row["error"] < 1e-8


def test_a_server_of_more_clients_takes_no_more_for_an_upload() -> None:
    pytest.importorskip("tenseal")
    few, many = (ckks.cohort(n, 20_000, seed=0) for n in (4, 16))
    assert [len(row["seconds"]["add"]) for row in (few, many)] == [4, 16]
    ratios = [row["server_bytes"] / row["accumulator_bytes"] for row in (few, many)]
    assert 1 < ratios[0] == pytest.approx(ratios[1], rel=0.05)


def test_a_wrong_mean_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    right = cost.play

    def wrong(*args: Any, **kwargs: Any) -> Any:
        costs, result = right(*args, **kwargs)
        result.codes[""][0] += 100_000
        return costs, result

    monkeypatch.setattr(cost, "play", wrong)
    scheme = growth.Masking.for_cohort(5, growth.Bounded(length=10, bound=1.0))
    with pytest.raises(AssertionError, match="is not that vector"):
        cost.measure(scheme, None, {1}, seed=0)


# What is committed says what the documents say


def test_masks_take_little_more_than_their_cipher() -> None:
    assert all(row["ratio"] >= 0.75 for row in committed("masks"))


def test_the_committed_sessions_were_exact_and_as_large_as_is_said() -> None:
    rows = committed("scale")
    assert all(row["exact"] for row in rows)
    assert {(1000, "active"), (5000, "semi-honest")} <= {(row["clients"], row["adversary"]) for row in rows}


def test_the_committed_uploads_are_those_of_the_formula() -> None:
    rows = rows_of(upload, size="full")
    assert committed("upload") == rows
    within = {(r["clients"], r["adversary"], r["dropout"]) for r in rows if r["above"] <= 0.01}
    assert {(100, "active", 0.3), (1000, "semi-honest", 0.3), (1000, "active", 0.1)} <= within


def test_flower_takes_as_many_times_as_long_as_is_said() -> None:
    rows = [row for row in committed("flower") if row["clients"] == 100 and row["graph"] == "complete"]
    alike = only(rows, who="this project", bits=22)
    assert alike["client_ratio"] >= 20
    assert alike["server_ratio"] >= 300
    assert alike["upload_ratio"] <= 0.45


def test_ckks_sends_a_third_of_what_nvflare_does_and_is_as_precise_as_is_said() -> None:
    rows = committed("ckks")
    ours = [row for row in rows if row["who"] == ckks.US]
    assert sorted((row["ending"], row["bits"]) for row in ours) == sorted(ckks.SETS)
    for row in ours:
        assert row["coordinates"] == 10**6
        assert row["upload_bytes"] <= 16 * row["coordinates"]
        assert row["error"] <= min(2 * 2**-12, row["error_bound"])  # of -1..1
    nvflare = only(rows, who=ckks.NVFLARE)
    assert nvflare["upload_bytes"] > 50 * nvflare["coordinates"]
    assert all(3 * row["upload_bytes"] < nvflare["upload_bytes"] for row in ours)
    assert only(rows, who="masking")["upload_bytes"] < 3 * 10**6


def test_a_server_of_ckks_takes_the_same_for_an_upload_of_any_cohort() -> None:
    few, *_, many = (row for row in committed("ckks") if row["who"] == "the server")
    assert many["clients"] >= 16 * few["clients"]
    for row in (few, many):
        assert row["server_bytes"] <= 4.5 * row["accumulator_bytes"]
    seconds = [statistics.median(row["seconds"]["add"]) for row in (few, many)]
    assert seconds[1] <= 1.5 * seconds[0]


def test_memory_stays_within_its_aims() -> None:
    rows = committed("memory")
    assert max(row["coordinates"] for row in rows) == 10**8
    assert all(row["server_bytes"] <= row["server_allowed"] for row in rows)
    assert all(row["client_bytes"] <= row["client_allowed"] for row in rows)


@pytest.mark.parametrize(
    ("graph", "adversary", "client_ms"),
    [("complete", "semi-honest", 250), ("complete", "active", 500), ("sparse", "semi-honest", 60)],
)
def test_a_client_among_a_thousand_took_what_was_aimed_at(
    graph: str, adversary: str, client_ms: float
) -> None:
    row = only(committed("cost"), clients=1000, graph=graph, adversary=adversary)
    assert statistics.median(row["client_ms"]) <= client_ms


@pytest.mark.parametrize(("graph", "server_s"), [("complete", 1.05 * 25), ("sparse", 3)])
def test_a_server_of_a_thousand_took_what_was_aimed_at(graph: str, server_s: float) -> None:
    """On the complete graph it is measured once, and differs from run to run: 23.9 to 25.9 s were seen."""
    row = only(committed("cost"), clients=1000, graph=graph, adversary="semi-honest")
    assert statistics.median(row["server_s"]) <= server_s


def test_growth_was_measured_as_far_as_is_said() -> None:
    rows = committed("growth")
    assert max(row["clients"] for row in rows) == 10_000
    assert max(row["coordinates"] for row in rows) == 10**8


def test_committed_traffic_is_that_of_the_formula() -> None:
    for row in committed("traffic"):
        if row["graph"] == "complete":
            assert (row["up"], row["down"]) == (row["formula_up"], row["formula_down"])
        else:
            assert traffic.off_formula(row) <= 0.05


def test_committed_growth_is_that_of_the_formulas_over_a_whole_series() -> None:
    for (grows, graph), rows in growth.series(committed("growth")).items():
        for _, name, _ in growth.PARTIES:
            measured, said = (growth.slope(grows, rows[0], rows[-1], p + name) for p in ("", "predicted_"))
            assert abs(measured - said) <= 0.2, (grows, graph, name)


def test_two_processes_unmask_almost_twice_as_fast_as_one() -> None:
    rows = [row for row in committed("workers") if row["executor"] == "processes"]
    assert rows
    for one in (row for row in rows if row["workers"] == 1):
        two = only(rows, clients=one["clients"], workers=2)
        assert statistics.median(one["seconds"]) >= 1.6 * statistics.median(two["seconds"])


def test_the_transport_moves_seven_tenths_of_what_bare_sockets_do() -> None:
    assert only(committed("transport"), kind="transport")["of_bare"] >= 0.7


def test_the_transport_adds_less_than_a_hundredth() -> None:
    for kind in ("transport", "plain"):
        row = only(committed("transport"), kind=kind)
        assert row["clients"] == 200
        for each in row["repetitions"]:
            assert each["exact"]
            assert each["tcp"] <= 1.01 * each["messages"]
