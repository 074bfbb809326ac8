"""`secagg train` as its user sees it: one small run and its folder, then what else can be asked for."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import PATIENCE, Command, Ran, before, is_one_line, once, secagg

import fl
from fl.cli import exit_code
from fl.cli.display import TrainingDisplay, shown
from fl.cli.output import Output
from fl.cli.parties import client_process
from fl.cli.report import duration
from fl.config.run import RunConfig
from fl.data import load
from fl.data.shard import read_shard
from fl.preflight import NOTHING
from secagg import TooFewClients
from transport import RoundReport

CLIENTS = 4
ROUNDS = ["join", "advertise-keys", "share-keys", "masked-input", "consistency-check", "unmasking"]
SMALL = ["--clients", str(CLIENTS), "--model", "logistic"]
Here = Callable[..., Ran]

WATCH = """
import os, sys
log = os.open(os.environ["WATCH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def watch(event, args):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(args[0], (str, bytes, os.PathLike)):
        path = os.path.abspath(os.fsdecode(args[0]))
        if path.startswith(os.environ["WATCH_FOLDER"]) or "digits.csv" in path:
            os.write(log, f"{os.getpid()} {path}\\n".encode())
sys.addaudithook(watch)
"""


@dataclass(frozen=True)
class Run:
    """A run that has ended. opened: process -> the files of the run and of the data that it opened."""

    folder: Path
    ran: Ran
    opened: list[set[str]]

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two training rounds with a client lost in the second, every process watched."""
    base, ran = once(tmp_path_factory, "train", watched_run)
    folder = base / "run"
    assert (ran.code, ran.err) == (0, "")
    opened: dict[str, set[str]] = {}
    for line in (base / "log").read_text().splitlines():
        pid, path = line.split(" ", 1)
        opened.setdefault(pid, set()).add(path.removeprefix(f"{folder}/"))
    return Run(folder, ran, list(opened.values()))


def watched_run(base: Path) -> Ran:
    folder = base / "run"
    (base / "sitecustomize.py").write_text(WATCH)
    env = {"PYTHONPATH": before(base), "WATCH_LOG": str(base / "log"), "WATCH_FOLDER": str(folder)}
    env["PYTHONWARNINGS"] = (
        "always::ResourceWarning"  # on stderr, by whom a stream or a socket was not closed
    )
    more = ["--drop", "2@masked-input:2", "--verbose"]
    return secagg("train", *SMALL, "--rounds", "2", "--seed", "3", "--out", str(folder), *more, env=env)


# What a run leaves


def test_the_metrics_have_an_object_a_round(run: Run) -> None:
    from fl.federation.records import RoundRecord

    assert [record["round"] for record in run.metrics] == [1, 2]
    assert [record["alive"] for record in run.metrics] == [4, 3]  # client 2 was killed in the second
    for record in run.metrics:
        assert record.keys() == RoundRecord.__dataclass_fields__.keys()
        assert (record["chosen"], record["sums"], record["abandoned"]) == (4, 1, "")
        assert record["validation"] is record["delay"] is None  # nothing was held out; no links
        assert 0 < record["accuracy"] <= 1
        assert record["loss"] > 0
        assert record["bytes_up"] > record["alive"] * 650 * 17 / 8  # 650 parameters of 16 bits and more
        assert record["bytes_down"] > record["alive"] * 650 * 4


def test_the_configuration_is_the_run(run: Run) -> None:
    description = RunConfig.read(run.folder / "config.json")
    asked = RunConfig.of(clients=CLIENTS, rounds=2, model="logistic", seed=3, drop=("2@masked-input:2",))
    assert description == asked


def test_the_curve_is_drawn(run: Run) -> None:
    assert (run.folder / "accuracy.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_the_model_is_loaded_and_is_as_accurate_as_the_run_says(run: Run) -> None:
    import torch

    from fl.training.local import evaluate

    data = load("digits")
    model = fl.load(run.folder)
    accuracy, loss = evaluate(model, torch.tensor(data.test_x), torch.tensor(data.test_y))
    assert accuracy == pytest.approx(run.metrics[-1]["accuracy"])
    assert loss == pytest.approx(run.metrics[-1]["loss"], rel=1e-4)
    assert not [path for path in run.folder.rglob("*") if path.suffix in (".pkl", ".pt", ".pth")]


def test_after_the_first_round_no_weight_is_farther_from_plain_than_the_bound(run: Run) -> None:
    masked, plain = (np.load(folder / "after-round-1.npy") for folder in (run.folder, run.folder / "plain"))
    difference = np.abs(masked - plain).max()
    assert 0 < difference <= run.metrics[0]["error_bound"]
    said = re.search(r"differs from the plain run by more than (\S+) \(bound (\S+)\)", run.ran.out)
    assert said is not None
    assert float(said[1]) == pytest.approx(difference, rel=0.01)
    assert float(said[2]) == pytest.approx(run.metrics[0]["error_bound"], rel=0.01)


def test_who_holds_what_is_drawn(run: Run) -> None:
    assert (run.folder / "partition.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("execution", ["sequential", "batched"])
def test_in_one_process_the_first_round_is_the_same(
    run: Run, tmp_path: Path, here: Here, execution: str
) -> None:
    """Before anybody is lost; with it the plain run beside it."""
    config = tmp_path / "config.json"
    RunConfig.read(run.folder / config.name, rounds=1, drop=(), execution=execution).write(config)
    shutil.copy(run.folder / "run.secret", tmp_path)
    ran = here("train", "--config", str(config), "--out", str(tmp_path / "one"))
    assert (ran.code, ran.err) == (0, "")
    for scheme in (".", "plain"):
        one, many = Run(tmp_path / "one" / scheme, ran, []), Run(run.folder / scheme, ran, [])
        assert one.metrics[0]["accuracy"] == pytest.approx(many.metrics[0]["accuracy"], abs=0.02)
        assert one.metrics[0]["train_accuracy"] == pytest.approx(many.metrics[0]["train_accuracy"])
        weights = [np.load(each.folder / "after-round-1.npy") for each in (one, many)]
        bound = one.metrics[0]["error_bound"] + many.metrics[0]["error_bound"]
        assert np.abs(weights[0] - weights[1]).max() <= max(bound, 1e-5)


# What each party holds, and touches


def test_every_client_has_examples_of_its_own_not_evenly(run: Run) -> None:
    shards = [read_shard(run.folder / "parties" / f"client{u}") for u in range(CLIENTS)]
    data = load("digits")
    dealt = Counter(image.tobytes() for shard in shards for image in shard.x)
    assert dealt == Counter(image.tobytes() for image in data.train_x)
    labels = np.array([np.bincount(shard.y, minlength=10) for shard in shards])
    shares = labels / labels.sum(axis=0)
    assert shares.max() > 0.75
    assert shares.min() < 0.1


def test_a_client_opens_nothing_but_its_own_folder(run: Run) -> None:
    for u in range(CLIENTS):
        own = f"parties/client{u}"
        processes = [opened for opened in run.opened if f"{own}/client.key" in opened]
        launcher, *clients = sorted(processes, key=len, reverse=True)
        assert any("digits.csv" in path for path in launcher)  # it has dealt the data, and made all keys
        assert len(clients) == 2  # masked, and plain beside it
        for opened in clients:
            assert f"{own}/shard.npz" in opened
            assert not [path for path in opened if path != own and not path.startswith(f"{own}/")]


def test_the_server_opens_no_clients_folder(run: Run) -> None:
    for metrics in ("metrics.jsonl", "plain/metrics.jsonl"):
        opened = min((opened for opened in run.opened if metrics in opened), key=len)  # the launcher reads it
        assert {path for path in opened if path.startswith("parties")} == {
            "parties/server/server.key",
            "parties/server/roster",
            "parties/server/roster.pub",
            "parties/server/declared.json",
            "parties/server/server.secret",
        }


# What is said


def test_progress_is_told_in_plain_lines(run: Run) -> None:
    form = r"  ([a-z-]+) +(\d) alive +([\d.]+ k?B) up +([\d.]+ k?B) down +(\d+) ms(  lost: 2 vanished)?"
    told = [match.groups() for line in run.ran.out.splitlines() if (match := re.fullmatch(form, line))]
    assert [row[0] for row in told] == ROUNDS * 2
    assert [row[1] for row in told] == ["4"] * 9 + ["3"] * 3
    assert [row[0] for row in told if row[5]] == ["masked-input"]
    ended = [line for line in run.ran.out.splitlines() if line.startswith("round ")]
    assert [line.split()[1] for line in ended] == ["1/2", "2/2"]
    assert all("accuracy" in line and " up" in line for line in ended)
    assert "  4 clients  " in ended[0]
    assert "  3 of 4 clients  " in ended[1]
    assert [line.endswith(" left") for line in ended] == [True, False]
    assert "not promised: " in run.ran.out


def test_by_default_a_training_round_is_a_line_and_little_comes_before(here: Here, tmp_path: Path) -> None:
    flags = ["--rounds", "3", "--execution", "sequential", "--no-baseline", "--out", str(tmp_path / "run")]
    lines = here("train", *SMALL, *flags).out.splitlines()
    at = [i for i, line in enumerate(lines) if line.startswith("round ")]
    assert at == [1, 2, 3]
    assert max(len(lines[i]) for i in at) <= 80
    left = sorted(path.name + "/" * path.is_dir() for path in (tmp_path / "run").iterdir())
    (closing,) = [line for line in lines if line.startswith("wrote ")]
    assert f": {', '.join(left)}; the model: fl.load(" in closing


def test_that_the_preflight_sees_nothing_of_a_model_is_said_once(here: Here, tmp_path: Path) -> None:
    flags = ["--model", "cnn", "--clients", "3", "--rounds", "2", "--examples-per-client", "2"]
    flags += ["--execution", "sequential", "--no-baseline", "--local-steps", "1", "--batch-size", "2"]
    ran = here("train", *flags, "--out", str(tmp_path / "run"))
    assert (ran.code, ran.out.count(NOTHING)) == (0, 1)


def test_the_end_compares_with_plain(run: Run) -> None:
    lines = run.ran.out.splitlines()
    header = next(line for line in lines if line.startswith("scheme"))
    assert "test accuracy" in header
    assert "up per client and round" in header
    plain = Run(run.folder / "plain", run.ran, [])
    for name, metrics in (("masking", run.metrics), ("plain", plain.metrics)):
        (row,) = [line.split() for line in lines if line.startswith(f"{name}  ")]
        assert float(row[1]) == pytest.approx(metrics[-1]["accuracy"], abs=1e-4)
        assert [record["alive"] for record in metrics] == [4, 3]
    assert "active server" in run.ran.out


@pytest.mark.slow
def test_a_client_says_once_that_it_was_clipped(here: Here, tmp_path: Path) -> None:
    flags = ["--rounds", "2", "--bound", "0.001", "--no-baseline", "--out", str(tmp_path / "run")]
    ran = here("train", *SMALL, *flags)
    assert ran.code == 0
    for u in range(CLIENTS):
        assert len(re.findall(rf"client {u}: .* were clipped \(said once\)", ran.err)) == 1


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def record(round: int) -> dict[str, Any]:
    learned = {"accuracy": 0.5, "loss": 1.25, "validation": None, "abandoned": "", "sums": 1, "sums_asked": 1}
    return learned | {"round": round, "alive": 3, "chosen": 4, "bytes_up": 1000, "seconds": 7200.0}


@pytest.mark.parametrize("columns", [60, 80])
def test_on_a_terminal_lines_fit_and_the_foot_says_what_goes_on(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    report = RoundReport("join", frozenset({0, 1}), {2: "late"}, {0: 41}, {}, 0, 0, 0.002)
    display = TrainingDisplay(Output(verbose=True), 5, in_round=lambda: ("masked-input", 2, 4))
    with display.running():
        display.protocol_round(report)
        display.training_round(record(1))
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    assert max(map(len, re.split(r"[\r\n]+", text))) <= columns
    for words in ("round 1/5  accuracy 0.5000", "3 of 4 clients", " left", "2 alive", "2 late", "round 2/5"):
        assert words in text
    assert ("1 kB up" in text) == (columns == 80)  # what matters least gives way


def test_a_long_silence_is_broken_by_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no terminal."""
    log, spoken = io.StringIO(), threading.Event()
    monkeypatch.setattr(sys, "stdout", log)
    monkeypatch.setattr("fl.cli.display.SILENCE_SECONDS", 0.001)

    def in_round() -> tuple[str, int, int]:
        if log.getvalue():
            spoken.set()
        return "advertise-keys", 2, 4

    with TrainingDisplay(Output(beside=True), 5, 1, in_round, "advertise-keys").running():
        assert spoken.wait(PATIENCE)
    assert log.getvalue().startswith("round 2/5  2 of 4 clients trained  ")


def test_a_silence_is_not_broken_to_say_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    log, asked, at = io.StringIO(), threading.Semaphore(0), ["one"]
    monkeypatch.setattr(sys, "stdout", log)
    monkeypatch.setattr("fl.cli.display.SILENCE_SECONDS", 0.001)

    def news() -> str:
        asked.release()
        return at[0]

    def silences(several: int) -> None:
        for _ in range(several):
            assert asked.acquire(timeout=PATIENCE)

    with shown(Output(beside=True), lambda: (None, f"at {at[0]}"), news):
        silences(10)
        at[0] = "two"
        silences(10)
    assert log.getvalue().splitlines() == ["at one", "at two"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((0.04, "0.0 s"), (9.9, "9.9 s"), (9.96, "10 s"), (99, "99 s"), (100, "2 min"), (3570, "1 h 0 min")),
        *((86_390, "1 d 0 h"), (90_000, "1 d 1 h")),
    ],
)
def test_a_duration_is_said_in_two_units_at_most(seconds: float, said: str) -> None:
    assert duration(seconds) == said


# What else can be asked for


def test_its_own_configuration_is_accepted_back_and_flags_win_over_it(
    run: Run, tmp_path: Path, here: Here
) -> None:
    flags = ["--config", str(run.folder / "config.json"), "--rounds", "1", "--lr", "0.2", "--no-baseline"]
    flags += ["--drop", "2@masked-input"]  # the file's is in the second round
    ran = here("train", *flags, "--out", str(tmp_path / "again"), "--json")
    assert (ran.code, ran.err) == (0, "")
    again = Run(tmp_path / "again", ran, [])
    asked = RunConfig.read(run.folder / "config.json", rounds=1, lr=0.2, baseline=False, drop=flags[-1:])
    assert RunConfig.read(again.folder / "config.json") == asked
    scheme, *rounds, training_round, ledger, summary = ran.records
    assert scheme["scheme"][0].startswith("masking, 4 clients")
    assert ledger["ledger"]["sessions"] == 1
    assert [report["round"] for report in rounds] == ROUNDS
    assert training_round["training_round"] == again.metrics[0]
    assert [row["scheme"] for row in summary["summary"]["runs"]] == ["masking"]
    assert not (again.folder / "plain").exists()


def server_that_is_killed(*args: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def server_without_clients(*args: object) -> None:
    with exit_code(Output()):
        raise TooFewClients(1, 2, "share-keys")


@pytest.mark.parametrize(
    ("server", "code", "words"),
    [
        (server_that_is_killed, 1, "the server process was killed (signal 9)"),
        (server_without_clients, 3, "1 client left in round share-keys, 2 needed"),
    ],
)
def test_the_servers_end_is_the_commands(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Any, code: int, words: str
) -> None:
    monkeypatch.setattr("fl.cli.parties.server_process", server)
    is_one_line(here("train", *SMALL, "--out", str(tmp_path / "run")), code, words)


def client_whose_process_ends_early(*args: Any) -> None:
    own: Path = args[2]
    if own.name == "client2":
        sys.exit(1)
    client_process(*args)


@pytest.mark.slow
def test_a_client_whose_process_has_ended_is_not_waited_for(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no deadline: the launcher tells the server."""
    monkeypatch.setattr("fl.cli.parties.client_process", client_whose_process_ends_early)
    flags = ["--rounds", "1", "--no-baseline", "--json", "--out", str(tmp_path / "run")]
    ran = here("train", *SMALL, *flags)
    assert (ran.code, ran.err) == (0, "")
    (join,) = [record for record in ran.records if record.get("round") == "join"]
    assert (join["alive"], join["lost"]) == ([0, 1, 3], {"2": "vanished"})


def server_that_waits_to_be_waited_for(out: Output, config: RunConfig, folder: Path, *args: object) -> None:
    with (folder.parent / "told").open("rb") as told:
        assert told.read(1)
    server_without_clients()


def test_a_server_that_starts_slowly_is_waited_for_and_that_is_said(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "told")
    told = os.open(tmp_path / "told", os.O_RDWR)  # at both ends, so that it waits for no reader

    def progress_line(out: Output, text: str) -> None:
        if text.startswith("the server process is starting, "):
            os.write(told, b".")

    monkeypatch.setattr(Output, "progress_line", progress_line)
    monkeypatch.setattr("fl.cli.display.SILENCE_SECONDS", 0.01)
    monkeypatch.setattr("fl.cli.parties.server_process", server_that_waits_to_be_waited_for)
    try:
        ran = here("train", *SMALL, "--out", str(tmp_path / "run"))
    finally:
        os.close(told)
    is_one_line(ran, 3, "1 client left in round share-keys")


@pytest.mark.slow
def test_ctrl_c_ends_every_process(tmp_path: Path) -> None:
    flags = ["--rounds", "100000", "--no-baseline", "--out", str(tmp_path / "run")]
    command = Command("train", *SMALL, *flags)
    command.line_with("round ")
    command.interrupt()
    ran = command.end()
    assert (ran.code, ran.err) == (130, "error: interrupted\n")
