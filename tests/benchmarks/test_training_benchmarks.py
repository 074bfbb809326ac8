"""The benchmarks of training run, at a size at which they say nothing, and measure what they say they do."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import harness, plots
from benchmarks.training import sessions, steps, users, vanilla
from fl.cli.output import Output
from fl.cohort.links import Link
from fl.config.plan import LocalPlan
from fl.config.presets import PRESETS
from fl.data import DataError, Dataset
from tests.benchmarks.cases import rows_of

QUIET = Output(quiet=True)
SMALL = steps.Workload("mlp", (1, 8, 8), 10, clients=3, examples=12, steps=2, batch_size=4, lr=0.1, rounds=1)


def shown(benchmark: Any, rows: list[harness.Row]) -> None:
    """The table has a cell for each column, and a picture can be drawn."""
    benchmark.CONTROL.check(rows)
    table = benchmark.table(rows)
    assert {len(line) for line in table.rows} == {len(table.header)}
    harness.show(table, QUIET)
    assert benchmark.plot(rows).axes


def pictures(name: str) -> Dataset:
    """Noise, of which each client can have 500, in the form of the data set."""
    rng = np.random.default_rng(0)
    x, y = rng.random((1000, 1, 28, 28), dtype=np.float32), np.arange(1000) % 10
    return Dataset(name, x, y, x[:60], y[:60], classes=10)


# Accuracy


@pytest.fixture
def _two_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which one is there; two rounds of two steps."""

    def load(name: str, data_dir: object = None) -> Dataset:
        if name != "mnist":
            raise DataError(f"{name} is not there")
        return pictures(name)

    monkeypatch.setattr("fl.cohort.layout.load", load)
    monkeypatch.setattr(vanilla, "DEALT", {"quick": {"mnist": {"iid": 1}, "lfw": {"iid": 1}}})
    monkeypatch.setitem(vanilla.SHARE_OF_ROUNDS, "quick", 0.02)
    monkeypatch.setitem(vanilla.STEPS, "quick", 2)


@pytest.mark.usefixtures("_two_data_sets")
def test_training_is_measured_where_there_are_data_and_said_to_be_left_out_where_not() -> None:
    rows = rows_of(vanilla, seed=7)
    assert len(rows) == len(vanilla.cases("quick", 7)) == 2
    *taken, absent = rows
    assert [(row["dataset"], row["seed"], row["rounds"]) for row in taken] == [("mnist", 7, 2)]
    for row in taken:
        assert [round for round, _ in row["curve"]] == [1, 2]
        assert row["accuracy"] == row["curve"][-1][1]
        assert row["accuracy_last"] == pytest.approx(np.mean([a for _, a in row["curve"]]))
        assert row["client_steps_per_s"] > 0
        assert row["way"] in steps.WAYS
    assert absent["skipped"] == "lfw is not there"
    assert vanilla.table(rows).rows[-1][:3] == ("lfw", "iid", "no data")
    shown(vanilla, rows)


def test_the_full_size_is_what_the_paper_says() -> None:
    for cell in vanilla.cells("full", 0):
        config = vanilla.configuration(cell, "full")
        published = PRESETS[f"wei-{cell.dataset}"].settings
        assert config.training.rounds == published["rounds"]
        assert config.training.steps == published["local_steps"] == 100
        assert (config.data.partition, config.training.seed, config.protection.scheme) == (
            cell.partition,
            cell.seed,
            "plain",
        )
    assert {cell.dataset for cell in vanilla.cells("full", 0)} == set(vanilla.PUBLISHED)
    assert [cell.seed for cell in vanilla.cells("full", 4) if cell.dataset == "lfw"] == [4, 5, 6]


def test_the_test_set_is_looked_at_now_and_then_and_in_the_last_rounds() -> None:
    looks = [round for round in range(1, 41) if vanilla.looked_at(round, 40)]
    assert looks == [10, 20, 30, *range(36, 41)]


def test_the_first_round_which_tries_both_ways_does_not_count_for_the_pace() -> None:
    slow, fast = SimpleNamespace(chosen=10, seconds=50.0), SimpleNamespace(chosen=10, seconds=2.0)
    assert vanilla.pace([slow, fast, fast], steps=100) == 500
    assert vanilla.pace([slow], steps=100) == 20


# Speed


def test_our_ways_are_measured_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "find_spec", lambda package: None)
    monkeypatch.setitem(steps.WORKLOADS, "quick", {"small": SMALL})
    monkeypatch.setitem(steps.REPETITIONS, "quick", 2)
    turns: list[str] = []
    rows = rows_of(steps, say=lambda case, what: turns.append(what))
    assert len(rows) == len(steps.WAYS) * len(steps.precisions()) + 1
    turns.remove("")  # that the case begins
    assert [turn.split(", ")[0] for turn in turns][:2] == list(steps.WAYS)
    assert len(turns) == 2 * (len(rows) - 1)
    for row in rows[:-1]:
        assert len(row["client_steps_per_s"]) == 2
        assert row["ratio"] is None
    assert rows[-1]["skipped"] == "not installed: flwr, ray; pip install 'secagg[flower,ray]'"
    shown(steps, rows)


def test_both_ways_train_the_same_model() -> None:
    taken = [steps.ours(SMALL, way, "float64", seed=3) for way in steps.WAYS]
    np.testing.assert_allclose(taken[0].model, taken[1].model, atol=1e-5)
    steps.check_alike(SMALL, 3, *taken)


def test_another_model_than_ours_is_not_compared() -> None:
    right = steps.ours(SMALL, "sequential", "float32", seed=3)
    slower = steps.ours(replace(SMALL, lr=0.08), "sequential", "float32", seed=3)
    with pytest.raises(AssertionError, match="have not trained the model"):
        steps.check_alike(SMALL, 3, right, slower)


def test_flowers_simulation_trains_the_model_that_ours_does(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("flwr", "ray"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    rows = [row for row in steps.run_case("small", SMALL, 1, 3) if not isinstance(row, str)]
    assert [row["who"] for row in rows if row["precision"] == "float32"] == [*steps.WAYS, steps.FLOWER]
    assert rows[-1]["ratio"] == 1
    for row in rows:
        assert row["ratio"] == pytest.approx(row["client_steps_per_s"][0] / rows[-1]["client_steps_per_s"][0])
    shown(steps, rows)


def test_a_simulation_that_fails_says_why() -> None:
    failing = pytest.raises(RuntimeError, match=r"(?s)failed: .*No module named 'benchmarks\.none'")
    with failing, steps.simulated("benchmarks.none", SMALL, 0):
        pytest.fail("it has nothing to run")


# Users


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(users.SETTINGS, "quick", (users.Setting("digits", "logistic", "iid", 40),))
    monkeypatch.setitem(users.USERS, "quick", (2, 6))
    monkeypatch.setattr(users, "MOST_ROUNDS", 2)
    monkeypatch.setattr(users, "DRAWS", 3)


@pytest.mark.usefixtures("_few")
def test_rounds_are_trained_once_and_delays_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "GOAL", 0.2)
    rows = rows_of(users)
    assert [row["users"] for row in rows] == [2, 6]
    assert len(rows) == len(users.cases("quick", 0))
    assert set(rows[0]["round_s"]) == {"plain, own", "plain, shared"}  # two are too few for masking
    assert set(rows[1]["round_s"]) - set(rows[0]["round_s"]) == {"masking, own", "masking, shared"}
    for row in rows:
        assert row["rounds"] in (1, 2)
        assert row["validation"] >= 0.2
        for mode in users.LINKS:
            assert row["round_s"]["plain, own"][mode] <= row["round_s"]["plain, shared"][mode]
        assert users.total(row, "plain, own", "lte") == row["rounds"] * row["round_s"]["plain, own"]["lte"]
    assert users.total(rows[0], "masking, own", "lte") is None
    shown(users, rows)


@pytest.mark.usefixtures("_few")
def test_a_goal_that_is_not_reached_has_no_delay() -> None:
    rows = rows_of(users)
    assert [(row["rounds"], row["trained"]) for row in rows] == [(None, 2), (None, 2)]
    assert users.total(rows[0], "plain, own", "lte") is None
    assert users.mean_total([rows[0], rows[0] | {"rounds": 2}], "plain, own", "lte") is None
    assert users.table(rows).rows[0][2] == "> 2"
    shown(users, rows)


@pytest.mark.usefixtures("_few")
def test_users_are_left_out_where_data_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, data_dir: object = None) -> Dataset:
        raise DataError("no digits here")

    monkeypatch.setattr("fl.cohort.layout.load", load)
    with pytest.raises(NotImplementedError, match="no digits here"):
        rows_of(users)


def test_each_mode_has_one_channel_to_divide() -> None:
    links = [Link((0.1, 0.1), mode, up=12e6, down=24e6, loss=0.1) for mode in ("lte", "wifi", "lte")]
    assert [(link.up, link.down) for link in users.divided(links)] == [(6e6, 12e6), (12e6, 24e6), (6e6, 12e6)]


def test_a_round_takes_as_long_as_its_slowest_user() -> None:
    quick, slow = (Link((0.0, 0.0), "lte", up=rate, down=rate, loss=0.0) for rate in (8e6, 8e3))
    sent = users.Bytes(up=1000, down=1000)
    assert users.delay([quick, quick], [100, 10], sent, 200) == pytest.approx(20.002)
    assert users.delay([quick, slow], [100, 100], sent, 200) == pytest.approx(4)


def test_the_users_of_a_small_cohort_are_in_every_larger_one() -> None:
    sent = users.Bytes(up=10_000, down=10_000)
    delays = [users.mean_delay(n, "mixed", sent, 100, 20, 0, shared=False) for n in (1, 5, 20)]
    assert delays == sorted(delays)


# Pictures


def test_lines_are_linear_if_asked_and_grey_before_the_first_colour() -> None:
    (axes,) = plots.lines(
        {"title": ("x", "y", {"~said": [(0, 1), (2, 1)], "seen": [(0, 0), (2, 2)]})}, log=False
    ).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")
    assert [line.get_color() for line in axes.get_lines()] == ["grey", "C0"]
    (axes,) = plots.lines({"title": ("x", "y", {"seen": [(1, 1), (2, 2)]})}).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


# Two chosen sessions


def test_a_difference_of_sums_is_the_victims_in_the_same_order_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one seed, few steps and no move; a disguise changes nothing."""
    short = LocalPlan(steps=3, batch_size=8, lr=0.05, precision="float64")
    monkeypatch.setattr(sessions, "PLANS", {"short": short})
    monkeypatch.setitem(sessions.DELTAS, "quick", (0.0, 0.01))
    rows = rows_of(sessions)
    assert len(rows) == len(sessions.listed("quick"))
    found = {(row["order"], row["moved"]): row for row in rows}
    assert {len(row["correlations"]) for row in rows} == {sessions.CLIENTS}
    for moved in (0.0, sessions.DISGUISED):
        assert found["same", moved]["least"] > 0.99
        assert sessions.median([found["secret", moved]]) < 0.7
    shown(sessions, rows)
