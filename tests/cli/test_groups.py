"""`secagg train --groups`: the same over processes and in one; what is refused, said and marked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from commands import Ran, is_one_line

from fl.cli.book import Book
from fl.cli.join import tell_policy
from fl.cli.left_out import tell
from fl.cli.output import Output
from fl.cli.report import training_cells, warn_of_training
from fl.cli.rounds import Progress
from fl.cli.rules import policy_of
from fl.config.run import RunConfig
from fl.config.secret import RUN, put
from fl.training.checkpoint import Checkpoint, write_checkpoint
from secagg import Policy
from transport import RoundReport

Here = Callable[..., Ran]
SMALL = ["--clients", "9", "--groups", "3", "--corrupt", "0", "--model", "logistic", "--no-baseline"]


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "flags",
    [
        ["--clip", "1", "--public-weights"],
        pytest.param(["--robust", "median", "--unsafe-groups"], marks=pytest.mark.slow),
        pytest.param(
            ["--privacy", "distributed", "--clip", "1", "--noise-multiplier", "1"], marks=pytest.mark.slow
        ),
    ],
    ids=" ".join,
)
def test_processes_and_one_process_leave_the_same(here: Here, tmp_path: Path, flags: list[str]) -> None:
    """But for who is in which group, which follows from keys, and makes no difference to the mean alone."""
    left, models = [], []
    for execution in ("processes", "sequential"):
        told, folder = tmp_path / f"{execution}-told", tmp_path / execution
        told.mkdir()
        (told / "config.json").write_text("{}")
        put(told / RUN, bytes(32))
        line = [*SMALL, *flags, "--rounds", "2", "--execution", execution, "--out", str(folder)]
        ran = here("train", "--config", str(told / "config.json"), *line, "--json")
        assert ran.code == 0, ran
        (ledger,) = [record["ledger"] for record in ran.records if "ledger" in record]
        assert (ledger["sessions"], ledger["seen"]) == (6, 9)
        assert ledger["alike"]["clients"] == []  # the same groups twice
        kept = ("sums", "sums_asked", "alive", "too_long", "unsafe_groups", "bytes_up", "left_out")
        left.append([[record[name] for name in kept] for record in metrics(folder)])
        models.append(np.load(folder / "after-round-1.npy"))
    assert left[0] == left[1]
    if "--public-weights" in flags:
        np.testing.assert_allclose(*models, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_a_group_of_whom_too_many_are_lost_is_not_opened(here: Here, tmp_path: Path) -> None:
    """Four of twelve are lost, two or more of a group of four; and the others go on, in the same groups."""
    line = ["--clients", "12", "--groups", "3", "--corrupt", "0", "--dropout", "4", "--adversary"]
    line += ["semi-honest", "--group-m-min", "3", "--model", "logistic", "--no-baseline", "--rounds", "1"]
    lost = [part for u in range(4) for part in ("--drop", f"{u}@masked-input")]
    ran = here("train", *line, *lost, "--out", str(tmp_path / "run"), "--json")
    assert ran.code == 0, ran
    (record,) = metrics(tmp_path / "run")
    assert record["sums"] < record["sums_asked"] == 3
    assert record["alive"] < 8
    (ledger,) = [each["ledger"] for each in ran.records if "ledger" in each]
    assert ledger["sessions"] == record["sums"]


def test_a_demo_shows_who_was_summed_apart(here: Here) -> None:
    ran = here("demo", "--clients", "6", "--groups", "2", "--length", "50", "--adversary", "semi-honest")
    assert ran.code == 0, ran
    assert ran.out.count("a group of them, with a sum of its own: ") == 2
    assert "the server's sum equals the sum of the words of 6 survivors exactly" in ran.out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            ["--groups", "8", "--clients", "40", "--corrupt", "4"],
            "Use 6 at most (--groups 6), or for an experiment --unsafe",
        ),
        (["--groups", "3", "--clients", "4"], "Use one sum of all (--groups 0), or for"),
        (["--groups", "1"], "1 group of 8 clients cannot be: from 2 to 8 (--groups)"),
        (
            ["--groups", "2", "--group-m-min", "5"],
            "--group-m-min 5 is impossible: of groups of 4 clients it is",
        ),
        (["--groups", "2", "--scheme", "ckks"], "there is one sum of all: leave it out"),
        (["--groups", "2", "--scheme", "plain"], "plain shows every update"),
        (
            ["--groups", "2", "--robust", "krum"],
            "take more groups, or assume fewer attackers (neither would do here: take another rule",
        ),
        (
            ["--groups", "4", "--clients", "100", "--robust", "krum", "--assumed", "0.02"],
            "krum needs 7 groups to withstand 2 of them, and this round has 4: take more groups, or assume "
            "fewer attackers (groups = 7 or assumed = 0 would do)",
        ),
        (["--groups", "2", "--sample", "6", "--algorithm", "fedsgd"], "no sample and no cluster with it"),
    ],
)
def test_groups_that_cannot_be_are_refused_before_anything_is_touched(
    here: Here, tmp_path: Path, flags: list[str], says: str
) -> None:
    is_one_line(here("train", *flags, "--out", str(tmp_path / "run")), 2, says)
    assert not (tmp_path / "run").exists()


def test_a_single_sum_has_no_use_for_groups(here: Here) -> None:
    is_one_line(here("serve", "--length", "5", "--groups", "2"), 2, "is for training, where a rule combines")


def said(capsys: pytest.CaptureFixture[str], **settings: Any) -> tuple[str, str]:
    warn_of_training(Output(), RunConfig.of(**{"clients": 40} | settings))
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_what_groups_give_away_and_what_no_rule_makes_of_them_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, err = said(capsys, groups=4)
    assert "are not summed: they would be told of each group" in out
    assert err == ""
    _, err = said(capsys, groups=4, sample=20)
    assert "its groups are drawn anew" in err
    assert "of 40 clients after 5 to 13 rounds" in err  # as `leakage redrawn` measures it
    assert "number of examples" not in err
    _, err = said(capsys, groups=4, sample=20, public_weights=True)
    assert "what it sends alike in each, as its number of examples, comes out of few of them" in err
    _, err = said(capsys, groups=4, algorithm="fedsgd")
    assert "a client helps to two different sums of them at most" in err
    assert "--batch" not in err
    needless = "these groups are large enough, so leave --unsafe-groups out"
    assert needless in said(capsys, groups=4, unsafe_groups=True)[1]
    assert needless not in said(capsys, groups=20, unsafe_groups=True)[1]
    assert needless not in said(capsys, groups=4, unsafe_groups=True, group_m_min=2)[1]
    _, err = said(capsys, groups=20, robust="median", assumed=0.2)
    assert err == ""
    _, err = said(capsys, groups=16, robust="median", assumed=0.2)
    assert (
        "with 8 attackers assumed of 40 clients, up to 8 of 16 may have one. If no more than 7 attack" in err
    )
    assert "say so with --assumed 0.175; else no groups withstand them: 17 it would take, and of 40 cl" in err
    assert err.endswith("there may be 6\n")
    _, err = said(capsys, groups=16, robust="median", assumed=0.175)
    assert err == ""
    _, err = said(capsys, groups=2, robust="median", assumed=0.05)
    assert "If nobody attacks, say so with --assumed 0; else take --groups 5" in err
    _, err = said(capsys, groups=5, robust="median", assumed=0.05)
    assert err == ""
    _, err = said(capsys, groups=16, robust="fltrust", root=20, assumed=0.2)
    assert err == ""


def test_a_round_says_how_many_groups_were_left_out() -> None:
    record = {"round": 1, "accuracy": 0.5, "validation": None, "loss": None, "bytes_up": 1, "seconds": 1.0}
    record |= {"alive": 9, "chosen": 9, "abandoned": "", "sums": 2, "sums_asked": 3}
    cells = training_cells(record | {"too_long": [[0, 4, 7]]}, 3)
    assert cells[3:5] == ["2 of 3 sums", "1 group left out: too long"]
    assert not any("left out" in cell for cell in training_cells(record | {"too_long": []}, 3))


def test_who_was_in_groups_all_of_which_were_left_out_is_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """But not who was in a round that was abandoned for another reason."""
    records = [
        {"round": 1, "left_out": [0, 1, 2, 3], "abandoned": "every group's sum is longer"},
        {"round": 2, "left_out": [0, 1], "abandoned": ""},
        {"round": 3, "left_out": None, "abandoned": "too few groups"},
    ]
    progress = Progress(records, [[[0, 1], [2, 3]]] * 3, {})
    rest = msgspec.json.encode(progress)
    write_checkpoint(tmp_path, Checkpoint(bytes(16), 3, np.zeros(1), {}, rest))
    tell(Output(json=True), tmp_path)
    told = json.loads(capsys.readouterr().out)["left_out"]
    assert told["of_each"] == {"0": [2, 2], "1": [2, 2], "2": [1, 2], "3": [1, 2]}


# The ledger


def report(round: str, alive: set[int], asked: set[int]) -> RoundReport:
    up, down = dict.fromkeys(alive, 1), dict.fromkeys(asked, 1)
    return RoundReport(round, frozenset(alive), {}, up, down, 1, 1, 0.1)


def sums_of(book: Book, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> int:
    with book.told(Output(json=True), tmp_path):
        pass
    sessions: int = json.loads(capsys.readouterr().out)["ledger"]["sessions"]
    return sessions


def test_each_groups_sum_is_a_row_and_of_a_session_that_failed_each_group_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everybody, groups = set(range(6)), [frozenset({0, 1, 2}), frozenset({3, 4, 5})]
    book = Book("masked-input", "masked-input", groups=lambda asked: [group & asked for group in groups])
    book.watch(report("masked-input", everybody, everybody))
    book.opened(groups[:1])  # one was not: none of its inputs
    book.watch(report("masked-input", everybody, everybody))
    book.opened(())
    assert book.known().sets == (groups[0], *groups)
    assert sums_of(book, tmp_path, capsys) == 3


# A client's own rules


def test_a_client_says_of_how_many_its_group_is_at_least(tmp_path: Path) -> None:
    assert policy_of(None, None, {}).smallest_group is None
    policy = policy_of(None, None, {"smallest_group": 5, "unsafe_groups": True, "one_cut": "june"})
    assert (policy.smallest_group, policy.unsafe_groups, policy.public_weights) == (5, True, False)
    assert policy.one_cut == "june"
    (tmp_path / "rules.toml").write_text("smallest_group = 7\npublic_weights = true\none_cut = 'july'\n")
    policy = policy_of(tmp_path / "rules.toml", None, {})
    assert (policy.smallest_group, policy.unsafe_groups, policy.public_weights) == (7, False, True)
    assert policy.one_cut == "july"


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({}, "sums over a quorum and no single vector"),
        ({"smallest_group": 6}, "sums over a quorum of a group and no single vector"),
        (
            {"smallest_group": 2, "unsafe_groups": True},
            "unsafe groups are allowed: of an unsafe group the server",
        ),
    ],
)
def test_a_client_is_told_what_it_agrees_to(
    capsys: pytest.CaptureFixture[str], rules: dict[str, Any], says: str
) -> None:
    tell_policy(Output(), Policy(adversary="active", **rules))
    told, warned = capsys.readouterr()
    assert says in told + warned
    assert ("no single vector" in told) == ("unsafe_groups" not in rules)
