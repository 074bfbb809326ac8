"""A round under SecureGrid beside a plain one and Flower's SecAgg+: what is counted, and that a wrong mean is
not measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks import harness, turns
from benchmarks.embedding import flower
from benchmarks.training.steps import Workload
from benchmarks.turns import DEPLOYMENT, LEGACY, PLAIN, SECURE, SIMULATION, Taken
from fl.cli.output import Output
from tests.benchmarks.cases import rows_of

WORK = Workload("mlp-200", (1, 28, 28), 10, 3, examples=20, steps=2, batch_size=10, lr=0.05, rounds=1)
NUMBERS = 199_210 * 3 * 4
TAKEN = {
    PLAIN: Taken([1.0], [5.0], [400], [400], 1),
    SECURE: Taken([1.4], [6.0], [300], [410], 4, off=1e-6, bound=2e-6),
    LEGACY: Taken([2.0], [7.5], [800], [410], 4, off=1e-6, bound=2e-6),
}


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("flwr", reason="needs Flower: pip install 'secagg[flower]'")
    from tests.secagg_flower import loopback

    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    return loopback


def grid_of(loopback: ModuleType, app: Any) -> Any:
    nodes = (2**63, 5, 9)
    return loopback.Loopback(app, nodes, node_config=lambda node: {"partition-id": nodes.index(node)})


def taken_over(loopback: ModuleType, grid: Any, runtime: str = SIMULATION) -> dict[str, Taken]:
    from flwr.app import Context, RecordDict

    context = Context(loopback.RUN, 1, {}, RecordDict(), {})
    return turns.in_turns(grid, context, WORK, 0, runtime, os.getpid())


def test_all_are_counted_in_the_same_units(loopback: ModuleType) -> None:
    grid = grid_of(loopback, turns.client_app(WORK, 0))
    taken = taken_over(loopback, grid)
    assert [len(taken[who].seconds) for who in (PLAIN, SECURE, LEGACY)] == [1, 1, 1]
    assert all(each.processor[0] > 0 for each in taken.values())
    assert [taken[who].messages for who in (PLAIN, SECURE, LEGACY)] == [1, 4, 4]
    for who in (SECURE, LEGACY):
        assert 0 < taken[who].off <= taken[who].bound < 1e-4
    assert NUMBERS < taken[PLAIN].up[0] < 1.01 * NUMBERS
    assert 0.6 * NUMBERS < taken[SECURE].up[0] < 0.8 * NUMBERS
    assert 2 * NUMBERS < taken[LEGACY].up[0] < 2.03 * NUMBERS
    for who in (SECURE, LEGACY):
        assert taken[PLAIN].down[0] < taken[who].down[0] < 1.01 * taken[PLAIN].down[0]


def test_flowers_own_tells_of_a_reply_all_but_its_arrays(loopback: ModuleType) -> None:
    grid = grid_of(loopback, turns.client_app(WORK, 0))
    pulled, told = grid.pull_messages, list[dict[str, Any]]()

    def seen(ids: Any) -> Any:
        for reply in (replies := list(pulled(ids))):
            if reply.metadata.message_type == "train":
                told.extend(map(dict, reply.content.metric_records.values()))
                told.extend(map(dict, reply.content.config_records.values()))
        return replies

    grid.pull_messages = seen
    taken_over(loopback, grid, DEPLOYMENT)
    assert [each["num_examples"] for each in told if "num_examples" in each] == [WORK.examples] * 3
    assert len({each["loss"] for each in told if "loss" in each}) == 3


def test_where_flower_halts_there_is_nothing_to_measure(loopback: ModuleType) -> None:
    grid = grid_of(loopback, turns.client_app(WORK, 0))
    whole = grid.answer
    grid.answer = lambda request: (
        loopback.Message(loopback.Error(5, "gone"), reply_to=request)
        if request.metadata.message_type == "train"
        else whole(request)
    )
    with pytest.raises(RuntimeError, match="halted"):
        taken_over(loopback, grid, DEPLOYMENT)


def test_ratios_are_of_flowers_own_in_the_same_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    slower = {who: replace(each, seconds=[10 * each.seconds[0]]) for who, each in TAKEN.items()}
    monkeypatch.setattr(flower, "find_spec", lambda package: True)
    monkeypatch.setattr(
        flower, "taken_by", lambda runtime, work, seed: TAKEN if runtime == SIMULATION else slower
    )
    rows = rows_of(flower)
    flower.CONTROL.check(rows)
    assert [row["runtime"] for row in rows] == [SIMULATION] * 3 + [DEPLOYMENT] * 3
    assert [[row[name] for name in flower.RATIOS] for row in rows] == [
        [1, 1, 1],
        [1.4, 1.2, 0.75],
        [2, 1.5, 2],
    ] * 2
    harness.show(flower.table(rows), Output(quiet=True))


@pytest.mark.parametrize("who", [SECURE, LEGACY])
def test_a_mean_beyond_its_bound_is_not_measured(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = TAKEN | {who: replace(TAKEN[who], off=3e-6)}
    monkeypatch.setattr(flower, "find_spec", lambda package: True)
    monkeypatch.setattr(flower, "taken_by", lambda runtime, work, seed: wrong)
    with pytest.raises(AssertionError, match=f"{who[:6]}.* is 3e-06 off, where 2e-06 is its bound"):
        rows_of(flower)


def test_without_flower_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower, "find_spec", lambda package: None)
    simulated, deployed = rows_of(flower)
    assert simulated["skipped"] == "not installed: flwr, ray; pip install 'secagg[flower,ray]'"
    assert deployed["skipped"] == "not installed: flwr; pip install 'secagg[flower,ray]'"


def test_without_a_way_to_read_processor_time_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(flower, "find_spec", lambda package: True)
    monkeypatch.setattr(turns, "PROC", tmp_path / "none")
    assert all("which this system has not: measure on Linux" in row["skipped"] for row in rows_of(flower))


BURNING = """
import subprocess, sys, time
def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
if len(sys.argv) > 1:
    burn(0.2)
    sys.exit()
subprocess.run([sys.executable, __file__, "waited for"], check=True)
burn(0.1)
print("burnt", flush=True)
input()
"""


@pytest.mark.skipif(not turns.PROC.is_dir(), reason="needs /proc")
def test_processor_time_is_that_of_all_that_a_process_has_started(tmp_path: Path) -> None:
    (tmp_path / "burning.py").write_text(BURNING)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "burning.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"burnt\n"
        spent = turns.spent_by(process.pid)
        process.kill()
    assert spent >= 0.28  # in ticks of 10 ms
    assert turns.spent_by(process.pid) == 0


@pytest.mark.slow
def test_a_round_over_processes_is_measured_and_right() -> None:
    pytest.importorskip("flwr", reason="needs Flower: pip install 'secagg[flower]'")
    rows = [row for row in flower.run_case(DEPLOYMENT, WORK, 0) if not isinstance(row, str)]
    assert [(row["who"], row["messages"]) for row in rows] == [(PLAIN, 1), (SECURE, 4), (LEGACY, 4)]
    assert all(min(row["processor"]) > 1 for row in rows)  # each message starts a program
    assert NUMBERS < rows[0]["up"][0] < 1.01 * NUMBERS
