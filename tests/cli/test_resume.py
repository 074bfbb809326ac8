"""`secagg train --resume`: a run that was killed comes to the end it would have had, to the bit. And clients
that are not chosen for a round wait for another."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from commands import Command, Ran, at_once, before, is_one_line, once, secagg

from fl.cli.rounds import MAY_CHANGE, Progress, going_on, lasting_settings
from fl.config.run import RunConfig
from fl.config.secret import put
from fl.config.section import ConfigError
from fl.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

Here = Callable[..., Ran]
Killed = Callable[..., Path]

ONE = ["--clients", "4", "--model", "logistic", "--local-epochs", "1", "--no-baseline"]

KILLER = """
import os, signal, sys, time
left = int(os.environ["KILLED_BEFORE_CHECKPOINT"])
def kill(event, args):
    global left
    if event == "os.rename" and os.fsdecode(args[1]).endswith("checkpoint.bin"):
        left -= 1
        if left == 0:
            os.kill(os.getpgrp(), signal.SIGKILL)
            time.sleep(600)
sys.addaudithook(kill)
"""
"""Kills the command, which leads its group, at the worst moment: a round's line is written, its checkpoint is
not yet in place. The process that did it waits to be taken along."""


def killing(folder: Path, checkpoint: int) -> dict[str, str]:
    """An environment in which a command is killed before it has put down its `checkpoint`th."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(KILLER)
    return {"PYTHONPATH": before(folder), "KILLED_BEFORE_CHECKPOINT": f"{checkpoint}"}


@pytest.fixture
def killed(tmp_path: Path) -> Killed:
    """Run the command until it is killed; its other processes have ended then too."""

    def run(folder: Path, *flags: str, before: int) -> Path:
        line = ["train", *flags, "--out", str(folder)]
        ran = secagg(*line, env=killing(tmp_path / "killer", before))
        assert (ran.code, ran.err) == (-9, "")
        return folder

    return run


def rounds(folder: Path) -> list[int]:
    return [json.loads(line)["round"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def model(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def learned(folder: Path) -> list[dict[str, Any]]:
    """Of each round, what does not depend on the clock."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record | {"seconds": None} for record in records]


# In one process


def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path, here: Here, killed: Killed) -> None:
    flags = [*ONE, "--rounds", "4", "--scheme", "plain", "--execution", "batched", "--server", "adam"]
    flags += ["--server-lr", "0.1", "--sample", "3"]
    folder = killed(tmp_path / "run", *flags, before=3)
    assert rounds(folder) == [1, 2, 3]
    assert read_checkpoint(folder).round == 2
    assert not (folder / "model.safetensors").exists()
    ran = here("train", "--resume", "--no-baseline", "--out", str(folder))
    assert (ran.code, ran.err) == (0, "")
    assert "going on after round 2" in ran.out
    assert "round 3/4" in ran.out
    assert "round 2/4" not in ran.out
    again = ["--config", str(folder / "config.json"), "--no-baseline", "--out", str(tmp_path / "whole")]
    ran = here("train", *again)
    assert f"with the secrets of the run in {folder}: unchanged, it is repeated to the bit" in ran.out
    assert model(folder) == model(tmp_path / "whole")
    assert learned(folder) == learned(tmp_path / "whole")
    assert here("train", *flags, "--out", str(tmp_path / "whole"), "--force").code == 0  # secrets anew
    assert learned(folder) != learned(tmp_path / "whole")
    assert rounds(folder) == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_run_that_is_killed_twice_ends_as_one_that_is_killed_once(
    tmp_path: Path, here: Here, killed: Killed
) -> None:
    """Other masks, the same sums; what its sums reveal is told of all of them, those of the rounds that were
    cut off, too.
    """
    once = killed(tmp_path / "once", *ONE, "--rounds", "4", "--execution", "auto", before=2)
    twice = shutil.copytree(once, tmp_path / "twice")
    assert rounds(killed(twice, "--resume", "--no-baseline", before=2)) == [1, 2, 3]
    for folder, cut_off in ((once, 1), (twice, 2)):
        ran = here("train", "--resume", "--no-baseline", "--json", "--out", str(folder))
        assert (ran.code, ran.err) == (0, "")
        (ledger,) = [record["ledger"] for record in ran.records if "ledger" in record]
        assert ledger["sessions"] == 4 + cut_off
        assert rounds(folder) == [1, 2, 3, 4]
    assert model(once) == model(twice)
    assert learned(once) == learned(twice)


@pytest.mark.parametrize("end", ["--rounds 1", "--rounds 9 --until-accuracy 0.1"])
def test_a_run_that_has_ended_stays_as_it_is(tmp_path: Path, here: Here, end: str) -> None:
    folder = tmp_path / "run"
    flags = [*ONE, *end.split(), "--scheme", "plain", "--execution", "sequential"]
    assert here("train", *flags, "--out", str(folder)).code == 0
    assert len(rounds(folder)) < 9
    ended = model(folder), (folder / "metrics.jsonl").read_bytes()
    assert here("train", "--resume", "--no-baseline", "--out", str(folder)).code == 0
    assert (model(folder), (folder / "metrics.jsonl").read_bytes()) == ended


# Over processes


FLAGS = ["--clients", "4", "--sample", "3", "--corrupt", "1", "--model", "logistic", "--rounds", "5"]
ON = ["train", "--resume", "--no-baseline", "--json", "--out"]

Resumed = Callable[[int], tuple[Path, Ran]]


@pytest.fixture
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    """Five rounds of three clients of four, masked, in the folders `once` and `twice` of one that all tests
    share: 0, killed; 1, `twice` is resumed and killed; 2, `once` is resumed; 3, `twice` is resumed again.
    `killed` stays as it was after 0.
    """

    def to(step: int) -> tuple[Path, Ran]:
        def make(own: Path) -> Ran:
            base = to(step - 1)[0] if step else own
            if step >= 2:
                return secagg(*ON, str(base / ("once" if step == 2 else "twice")))
            folder, env = base / ("twice" if step else "once"), killing(own / "killer", 2)
            ran = secagg(*(ON if step else ["train", *FLAGS, "--out"]), str(folder), env=env)
            if step == 0:
                for name in ("twice", "killed"):
                    shutil.copytree(folder, base / name)
            return ran

        own, ran = once(tmp_path_factory, f"resumed-{step}", make)
        return own.with_name("resumed-0"), ran

    return to


@pytest.mark.slow
def test_a_run_that_is_killed_takes_its_processes_with_it(resumed: Resumed) -> None:
    """Which `secagg` has looked for. The line of the second round is written, its checkpoint is not."""
    base, ran = resumed(0)
    assert (ran.code, ran.err) == (-9, "")
    assert rounds(base / "killed") == [1, 2]
    assert read_checkpoint(base / "killed").round == 1


@pytest.mark.slow
def test_a_run_that_goes_on_can_be_killed_again(resumed: Resumed) -> None:
    _, ran = resumed(1)
    assert (ran.code, ran.err) == (-9, "")
    assert [record["training_round"]["round"] for record in ran.records if "training_round" in record] == [2]


@pytest.mark.slow
def test_clients_that_are_not_chosen_wait_for_a_later_round(resumed: Resumed) -> None:
    """Every round is of three, every client is in one and misses another, and none ends before the run."""
    base, ran = resumed(2)
    assert (ran.code, ran.err) == (0, "")
    assert rounds(base / "once") == [1, 2, 3, 4, 5]
    assert [record["alive"] for record in learned(base / "once")] == [3] * 5
    joins = [record["alive"] for record in ran.records if record.get("round") == "join"]
    assert [len(chosen) for chosen in joins] == [3] * 4
    taken = Counter(u for chosen in joins for u in chosen)
    assert taken.keys() == {0, 1, 2, 3}
    assert min(taken.values()) < len(joins)
    (waited,) = {0, 1, 2, 3} - {*joins[0]}
    assert any(waited in chosen for chosen in joins[1:])


@pytest.mark.slow
def test_processes_that_are_killed_twice_come_to_the_same_model(resumed: Resumed) -> None:
    resumed(2)
    base, ran = resumed(3)
    assert (ran.code, ran.err) == (0, "")
    assert model(base / "once") == model(base / "twice")
    assert rounds(base / "twice") == [1, 2, 3, 4, 5]
    accuracies = [[record["accuracy"] for record in learned(base / name)] for name in ("once", "twice")]
    assert accuracies[0] == accuracies[1]


@pytest.mark.slow
def test_clients_of_a_run_that_has_ended_hear_so(resumed: Resumed, tmp_path: Path) -> None:
    """They come when the server has long had nothing left to do."""
    folder = tmp_path / "ended"
    shutil.copytree(resumed(3)[0] / "once", folder)
    ran = secagg(*ON, str(folder))
    assert (ran.code, ran.err) == (0, "")
    assert model(folder) == model(resumed(3)[0] / "once")


@pytest.mark.slow
@pytest.mark.parametrize("execution", ["sequential", "batched"])
def test_in_one_process_sampled_clients_learn_as_much(
    resumed: Resumed, tmp_path: Path, here: Here, execution: str
) -> None:
    folder = resumed(2)[0] / "once"
    line = ["--config", str(folder / "config.json"), "--execution", execution, "--no-baseline"]
    assert here("train", *line, "--out", str(tmp_path / "one")).code == 0
    for one, many in zip(learned(tmp_path / "one"), learned(folder), strict=True):
        assert one["accuracy"] == pytest.approx(many["accuracy"], abs=0.06)  # orders differ from round 2 on


@pytest.mark.slow
def test_clusters_of_processes_have_a_sum_each(tmp_path: Path) -> None:
    """At this seed the most common label of three clients of six is the same, and the others go together."""
    line = ["--clients", "6", "--partition", "iid", "--seed", "60", "--cluster", "label", "--corrupt", "1"]
    line += ["--model", "logistic", "--rounds", "2", "--local-epochs", "1", "--no-baseline"]
    ran = secagg("train", *line, "--out", str(tmp_path / "run"), "--json")
    assert (ran.code, ran.err) == (0, "")
    assert [(record["sums"], record["alive"]) for record in learned(tmp_path / "run")] == [(2, 6)] * 2
    joins = [record["alive"] for record in ran.records if record.get("round") == "join"]
    assert joins == [[0, 3, 4], [1, 2, 5]] * 2


# What cannot be resumed


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """The folder of a run with a checkpoint."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = RunConfig.of(clients=4, model="logistic", rounds=2, execution="sequential")
    config.write(folder / "config.json")
    rest = msgspec.json.encode(Progress([], [], lasting_settings(config)))
    memory = {"m": np.zeros(0), "v": np.zeros(0)}
    write_checkpoint(folder, Checkpoint(bytes(16), 1, np.zeros(650), memory, rest))
    put(folder / "run.secret", bytes(32))
    return folder


@pytest.mark.parametrize(
    "flags",
    ["--seed 20", "--preset ma-mnist", "--config run.toml", "--scheme plain", "--drop 1@join"],
)
def test_a_run_goes_on_as_it_was_or_not_at_all(here: Here, ended: Path, flags: str) -> None:
    ran = here("train", "--resume", *flags.split(), "--out", str(ended))
    is_one_line(
        ran, 2, "as it was: with it go --out, --rounds, --device, --data-dir, --no-baseline and --meter alone"
    )


def test_an_edited_description_is_another_run(here: Here, ended: Path) -> None:
    path = ended / "config.json"
    RunConfig.read(path, clients=5, seed=7, lr=0.01, rounds=3).write(path)
    ran = here("train", "--resume", "--out", str(ended))
    words = "clients = 4 (not 5), seed = 0 (not 7), lr = 0.05 (not 0.01): put that back, or begin another run"
    is_one_line(ran, 2, "--resume goes on with the run as it was, with", words)


def test_a_run_of_before_there_were_sections_goes_on(ended: Path) -> None:
    """Its description and its checkpoint are flat, steps that nobody asked for are null in both, and of what
    could not be left out then neither says anything.
    """
    flat = RunConfig.read(ended / "config.json").flat() | {"local_steps": None}
    del flat["metrics"]
    (ended / "config.json").write_bytes(msgspec.json.encode(flat))
    settings = {name: value for name, value in flat.items() if name not in MAY_CHANGE}
    before = replace(read_checkpoint(ended), rest=msgspec.json.encode(Progress([], [], settings)))
    write_checkpoint(ended, before)
    assert going_on(RunConfig.read(ended / "config.json", rounds=3), ended).round == 1
    with pytest.raises(ConfigError, match=r"local_steps = 0 \(not 7\)"):
        going_on(RunConfig.read(ended / "config.json", local_steps=7), ended)


def test_a_run_that_goes_on_has_no_fewer_rounds_than_it_had(here: Here, ended: Path) -> None:
    write_checkpoint(ended, replace(read_checkpoint(ended), round=2))
    ran = here("train", "--resume", "--rounds", "1", "--out", str(ended))
    is_one_line(ran, 2, "--rounds 1: the run has trained 2 already: give as many or more")


def test_more_rounds_may_be_asked_and_the_baseline_is_remembered(tmp_path: Path, here: Here) -> None:
    """To the bit as if so many had been asked at once; at every next --resume too."""
    folder, flags = tmp_path / "run", [*ONE, "--rounds", "1", "--execution", "batched"]
    assert here("train", *flags, "--out", str(folder)).code == 0
    for more in (["--rounds", "3"], []):
        assert here("train", "--resume", *more, "--out", str(folder)).code == 0
        assert rounds(folder) == [1, 2, 3]
        assert not (folder / "plain").exists()
    whole = ["--config", str(folder / "config.json"), "--out", str(tmp_path / "whole")]
    assert here("train", *whole).code == 0
    assert model(folder) == model(tmp_path / "whole")
    assert here("train", "--resume", "--baseline", "--out", str(folder)).code == 0
    assert rounds(folder / "plain") == [1, 2, 3]


def test_where_there_is_no_run_there_is_nothing_to_go_on_with(here: Here, ended: Path) -> None:
    (ended / "checkpoint.bin").unlink()
    words = (
        "checkpoint.bin is not readable (No such file or directory): a run leaves one after its first round"
    )
    is_one_line(here("train", "--resume", "--out", str(ended)), 2, words)
    (ended / "config.json").unlink()
    is_one_line(here("train", "--resume", "--out", str(ended)), 2, "config.json: not readable: No such file")


def test_a_run_whose_secret_is_gone_does_not_go_on_as_another(here: Here, ended: Path) -> None:
    (ended / "run.secret").unlink()
    words = "run.secret is gone, and with it how this run went on: begin it anew, with --force"
    is_one_line(here("train", "--resume", "--out", str(ended)), 2, words)


def cut(folder: Path) -> None:
    path = folder / "checkpoint.bin"
    path.write_bytes(path.read_bytes()[:-5])


def of_another_version(folder: Path) -> None:
    path = folder / "checkpoint.bin"
    whole = path.read_bytes()[32:]
    other = whole.replace(b"checkpoint\x01", b"checkpoint\x02", 1)
    assert other != whole
    path.write_bytes(hashlib.sha256(other).digest() + other)


def of_another_model(folder: Path) -> None:
    write_checkpoint(folder, replace(read_checkpoint(folder), parameters=np.zeros(649)))


def of_another_optimiser(folder: Path) -> None:
    write_checkpoint(folder, replace(read_checkpoint(folder), memory={"m": np.zeros(650), "v": np.zeros(0)}))


def not_finite(folder: Path) -> None:
    write_checkpoint(folder, replace(read_checkpoint(folder), parameters=np.full(650, np.nan)))


def without_progress(folder: Path) -> None:
    write_checkpoint(folder, replace(read_checkpoint(folder), rest=b"{}"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "checkpoint.bin is not as it was written: begin the run anew, with --force"),
        (of_another_version, "checkpoint.bin is of another version of this program: begin the run anew"),
        (of_another_model, "is not one of this run (649 parameters, this model has 650)"),
        (of_another_optimiser, "is not one of this run (this is not the memory of such an optimiser)"),
        (
            not_finite,
            "is not one of this run (the initial parameters must be one flat vector, finite as float32)",
        ),
        (without_progress, "the checkpoint says nothing of the rounds before it ("),
    ],
)
def test_a_damaged_checkpoint_is_refused(
    here: Here, ended: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(ended)
    is_one_line(here("train", "--resume", "--out", str(ended)), 2, words, "begin the run anew")


def test_where_the_clients_keep_the_model_nothing_can_be_resumed(here: Here, ended: Path) -> None:
    RunConfig.of(clients=4, scheme="ckks", ending="keep").write(ended / "config.json")
    words = "where the clients keep the model the server has none to go on with: begin the run anew"
    is_one_line(here("train", "--resume", "--out", str(ended)), 2, words)


def test_a_server_goes_on_with_the_run_of_the_folder_alone(here: Here, ended: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    assert here("keys", "cohort", "4", "--out", str(keys)).code == 0
    (tmp_path / "run.toml").write_text("[training]\nmodel = 'logistic'\nrounds = 3\nlr = 0.1\n")
    line = ["serve", "--key", str(keys / "server.key"), "--roster", str(keys / "roster"), "--resume"]
    line += ["--bind", "tcp://127.0.0.1:*", "--config", str(tmp_path / "run.toml"), "--out", str(ended)]
    words = (
        "--resume goes on with the run as it was, with execution = sequential (not processes), lr = 0.05",
        "(not 0.1): put that back, or begin another run",
    )
    is_one_line(here(*line), 2, *words)
    is_one_line(here(*line, "--scheme", "plain"), 2, "(not 0.1), scheme = masking (not plain): put that")


def test_clients_that_refuse_a_model_made_to_be_read_lose_nothing_of_the_run(
    tmp_path: Path, here: Here
) -> None:
    """In round 2, after the server took another model in the place of the one that was trained."""
    from fl.data import load
    from fl.leakage.imprint import crafted
    from fl.models.architectures import Description

    folder = tmp_path / "run"
    line = ["train", "--clients", "3", "--model", "mlp-1000", "--examples-per-client", "100"]
    line += ["--partition", "iid", "--local-steps", "1", "--batch-size", "99", "--no-baseline"]
    line += ["--preflight", "refuse", "--execution", "processes", "--rounds", "1"]
    assert here(*line, "--out", str(folder)).code == 0
    trained, data = read_checkpoint(folder), load("digits")
    made = crafted(Description("mlp-1000", data.shape, data.classes), data.test_x)
    write_checkpoint(folder, replace(trained, parameters=made.astype(np.float64)))
    files = [folder / name for name in ("checkpoint.bin", "metrics.jsonl", "model.safetensors")]
    left = [file.read_bytes() for file in files]
    again = ["train", "--resume", "--rounds", "2", "--no-baseline", "--out", str(folder)]
    ran = here(*again)
    assert ran.code == 3
    for u in range(3):
        assert f"error: client{u}: nothing was sent: " in ran.err
    assert "of the 99 examples in this client's update can be read off its first layer" in ran.err
    assert "3 of 3 clients refused: it could not take part" in ran.err
    assert [file.read_bytes() for file in files] == left
    write_checkpoint(folder, trained)
    assert here(*again).code == 0
    assert rounds(folder) == [1, 2]


# Over a network


@pytest.mark.slow
def test_a_server_that_was_killed_goes_on_with_the_clients_that_wait(tmp_path: Path, here: Here) -> None:
    """At its old address. The interrupted round is asked for anew, which the clients' journals allow."""
    from test_serve_join import client_options, listening

    from fl.data import load
    from fl.data.shard import write_shard

    keys, data = tmp_path / "keys", load("digits")
    assert here("keys", "cohort", "3", "--out", str(keys)).code == 0
    RunConfig.of(clients=3, rounds=4, model="logistic").write(tmp_path / "run.json")
    line = ["serve", "--key", str(keys / "server.key"), "--roster", str(keys / "roster"), "--json"]
    line += ["--config", str(tmp_path / "run.json"), "--out", str(tmp_path / "run"), "--bind"]
    server = Command(*line, "tcp://127.0.0.1:*", env=killing(tmp_path / "killer", 2))
    endpoint = listening(server)
    for u in range(3):
        write_shard(tmp_path / f"{u}", data.train_x[u::10], data.train_y[u::10], data.classes, data.name)
    lines = [["join", "--data", str(tmp_path / f"{u}"), *client_options(keys, u, endpoint)] for u in range(3)]
    with at_once(lines) as joined:
        assert server.end().code == -9
        assert rounds(tmp_path / "run") == [1, 2]
        chooses = (tmp_path / "run" / "server.secret").read_bytes()
        again = secagg(*line, endpoint, "--resume")
        assert [client.result() for client in joined] == [0] * 3
    assert (again.code, again.err) == (0, "")
    assert (tmp_path / "run" / "server.secret").read_bytes() == chooses
    assert rounds(tmp_path / "run") == [1, 2, 3, 4]
    assert [record["alive"] for record in learned(tmp_path / "run")] == [3] * 4
    assert again.records[-1]["wrote"] == str(tmp_path / "run")
