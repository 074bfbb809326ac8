"""`secagg train --robust`: the same over processes and in one; what is refused, and who was left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from commands import Ran, is_one_line

from fl.cli.left_out import tell
from fl.cli.output import Output
from fl.cli.rounds import Progress
from fl.cli.serve import described, serving, training_job
from fl.config.run import RunConfig
from fl.config.secret import RUN, put
from fl.config.section import ConfigError
from fl.training.checkpoint import Checkpoint, write_checkpoint

Here = Callable[..., Ran]
SMALL = ["--scheme", "plain", "--clients", "6", "--model", "logistic", "--rounds", "2"]


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "flags",
    [
        ["--robust", "fltrust", "--root", "40"],
        ["--robust", "leave-one-out", "--validation", "0.1"],
        ["--robust", "krum"],
        ["--robust", "draco", "--redundancy", "3", "--algorithm", "fedsgd"],
        ["--robust", "reputation"],
    ],
    ids=" ".join,
)
def test_processes_and_one_process_leave_the_same(here: Here, tmp_path: Path, flags: list[str]) -> None:
    left = []
    for execution in ("processes", "sequential"):
        told = tmp_path / f"{execution}-told"
        told.mkdir()
        (told / "config.json").write_text("{}")
        put(told / RUN, bytes(32))
        folder = tmp_path / execution
        line = [*SMALL, *flags, "--execution", execution, "--out", str(folder)]
        ran = here("train", "--config", str(told / "config.json"), *line, "--json")
        assert (ran.code, ran.err) == (0, "")
        by_round = [(record["accuracy"], record["left_out"]) for record in metrics(folder)]
        (table,) = [record["left_out"] for record in ran.records if "left_out" in record]
        assert table["updates"] == 12
        assert table["left_out"] == sum(len(out) for _, out in by_round)
        left.append((by_round, table))
    assert left[0] == left[1]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            ["--robust", "median"],
            "the server does not: take scheme = 'masking' with groups, or scheme = 'plain'",
        ),
        (["--robust", "fltrust", "--scheme", "plain"], "say on how many examples with root"),
        (
            ["--robust", "test-weighting", "--scheme", "plain"],
            "say what share is kept for it with validation",
        ),
        (
            ["--robust", "krum", "--scheme", "plain", "--clients", "4", "--assumed", "0.3"],
            "robust = 'krum': krum needs 5 updates to withstand 1 of them, and this round has 4",
        ),
        (["--root", "30"], "--root counts with --robust fltrust only"),
        (["--assumed", "0.1"], "--assumed counts with --robust median or"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_before_anything_is_touched(
    here: Here, tmp_path: Path, flags: list[str], says: str
) -> None:
    is_one_line(here("train", *flags, "--out", str(tmp_path / "run")), 2, says)
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_what_its_rule_remembers(here: Here, tmp_path: Path) -> None:
    """And the table is of all of it."""
    line = [*SMALL, "--robust", "reputation", "--execution", "sequential", "--json", "--out"]
    folder = str(tmp_path / "run")
    assert here("train", *line, folder).code == 0
    resumed = here("train", "--resume", "--rounds", "4", "--json", "--out", folder)
    whole = [*line, str(tmp_path / "whole"), "--rounds", "4", "--config", f"{folder}/config.json"]
    straight = here("train", *whole)
    assert resumed.records[-1]["left_out"] == straight.records[-1]["left_out"]
    assert resumed.records[-1]["left_out"]["updates"] == 24
    assert metrics(tmp_path / "run")[3]["accuracy"] == metrics(tmp_path / "whole")[3]["accuracy"]


# Who was left out


def run_that_left(folder: Path, left_out: list[list[int] | None], survivors: list[list[int]]) -> Path:
    records = [{"round": t, "left_out": out} for t, out in enumerate(left_out, start=1)]
    progress = Progress(records, [[some] for some in survivors], {})
    write_checkpoint(
        folder, Checkpoint(bytes(16), len(records), np.zeros(1), {}, msgspec.json.encode(progress))
    )
    return folder


def told(capsys: pytest.CaptureFixture[str], folder: Path, *attackers: Any) -> tuple[str, dict[str, Any]]:
    tell(Output(), folder, *attackers)
    people = capsys.readouterr().out
    tell(Output(json=True), folder, *attackers)
    return people, json.loads(capsys.readouterr().out)["left_out"]


def test_who_was_left_out_how_often(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of rounds in which a client was; one that was abandoned counts for nobody."""
    run = run_that_left(tmp_path, [[0, 3], [3], None], [[0, 1, 2, 3], [1, 3], []])
    people, record = told(capsys, run)
    assert people.splitlines()[1:] == [
        "who  clients  updates  left out  share",
        "all  4        6        3         50.0%",
        "left out most often: client 3 in 2 of 2 rounds, client 0 in 1 of 1 round",
    ]
    of_each = {"0": [1, 1], "1": [0, 2], "2": [0, 1], "3": [2, 2]}
    assert record == {"clients": 4, "updates": 6, "left_out": 3, "of_each": of_each}


def test_where_attackers_are_known_precision_and_recall_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An attacker that does not attack in a round is as honest in it as others."""
    run = run_that_left(tmp_path, [[0, 3], [0], [1]], [[0, 1, 2, 3], [0, 1, 2, 3], [1, 2]])
    people, record = told(capsys, run, lambda round: {0, 1} if round < 3 else set())
    assert people.splitlines()[2:4] == [
        "attackers  2        4        2         50.0%",
        "honest     3        6        2         33.3%",
    ]
    assert "precision: 50.0% of what was left out was an attacker's (40.0% by chance)" in people
    assert "recall: 50.0% of what attackers sent was left out" in people
    assert (record["precision"], record["recall"], record["chance"]) == (0.5, 0.5, 0.4)
    assert record["honest"] == {"clients": 3, "updates": 6, "left_out": 2}


def test_the_referee_knows_who_attacked_and_when(here: Here, tmp_path: Path) -> None:
    """Multi-Krum leaves two of eight out in every round: both attackers, where they attack."""
    attack = ["--attack", "opposite", "--attackers", "0.25", "--attack-rounds", "2:3"]
    rule = ["--robust", "multi-krum", "--assumed", "0.25", "--execution", "sequential"]
    small = [
        "--scheme",
        "plain",
        "--clients",
        "8",
        "--model",
        "logistic",
        "--rounds",
        "4",
        "--partition",
        "iid",
    ]
    ran = here("train", *small, *attack, *rule, "--json", "--out", str(tmp_path / "run"))
    assert (ran.code, ran.err) == (0, "")
    told = ran.records[-1]["left_out"]
    assert told["attackers"] == {"clients": 2, "updates": 4, "left_out": 4}
    assert (told["left_out"], told["precision"], told["recall"]) == (8, 0.5, 1.0)


def test_nobody_left_out_has_no_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people, record = told(capsys, run_that_left(tmp_path, [[], []], [[0, 1], [0, 1]]), lambda round: {0})
    assert "no update was left out as a whole" in people
    assert (record["precision"], record["recall"]) == (None, 0.0)
    _, record = told(capsys, tmp_path, lambda round: ())
    assert record["recall"] is None


# Over a network


def test_a_server_of_others_keeps_root_and_validation_data_of_its_own(tmp_path: Path) -> None:
    config = RunConfig.of(scheme="plain", robust="fltrust", root=30, validation=0.1)
    known = serving(config, None)
    assert len(known.root[1]) == 30
    assert known.validation is not None
    config.write(tmp_path / "run.json")
    assert described(Output(), tmp_path / "run.json", {}).robust == config.robust


class OfThree:
    identities = None

    def __len__(self) -> int:
        return 3


def test_a_rule_for_more_clients_than_there_are_leaves_an_earlier_run_as_it_was(tmp_path: Path) -> None:
    config = RunConfig.of(scheme="plain", robust="krum", assumed=0.34)
    (tmp_path / "metrics.jsonl").write_text("{}")
    job = training_job(Output(quiet=True), config, tmp_path, {}, force=True, resume=False)
    cohort: Any = SimpleNamespace(roster=OfThree())
    with pytest.raises(
        ConfigError, match="krum needs 5 updates to withstand 1 of them, and this round has 3"
    ):
        job(cohort, None)
    assert (tmp_path / "metrics.jsonl").exists()


def test_a_server_of_others_does_not_know_who_holds_the_same(tmp_path: Path) -> None:
    RunConfig.of(redundancy=2).write(tmp_path / "run.json")
    with pytest.raises(
        ConfigError, match="redundancy: only `secagg train` deals the same examples to several"
    ):
        described(Output(), tmp_path / "run.json", {})
