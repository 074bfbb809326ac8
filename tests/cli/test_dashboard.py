"""`--dashboard`: what a run under way shows, while it goes as it would without."""

from __future__ import annotations

import http.client
import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partialmethod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from commands import PATIENCE, Command, Ran, at_once, is_one_line
from test_serve_join import CLIENTS, LENGTH, client_options, server_options, vector

from fl.cli.watching import Watching
from fl.config.run import RunConfig
from fl.data import load
from fl.data.shard import write_shard
from fl.page import live
from fl.page.state import RunState
from transport.router import Router

Here = Callable[..., Ran]


@pytest.fixture
def keys(tmp_path: Path, here: Here) -> Path:
    assert here("keys", "cohort", str(CLIENTS), "--out", str(tmp_path / "keys")).code == 0
    return tmp_path / "keys"


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Where the dashboard of a command of this process is."""
    where, listen = Future[int](), live.listen

    def listening(port: int) -> socket.socket:
        made = listen(port)
        where.set_result(made.getsockname()[1])
        return made

    monkeypatch.setattr(live, "listen", listening)
    monkeypatch.setattr(live, "LINGER_SECONDS", 0.0)  # nobody comes to see the end
    monkeypatch.setattr("fl.page.following.bundle", lambda: "")  # which takes seconds
    return lambda: where.result(PATIENCE)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when the server listens again, so has taken all that it has heard, and when its page changes."""
    event = threading.Event()

    def telling(self: object, through: Callable[..., Any], *args: Any) -> Any:
        try:
            return through(self, *args)
        finally:
            event.set()

    for owner, name in ((Router, "receive"), (live.Live, "change")):
        monkeypatch.setattr(owner, name, partialmethod(telling, getattr(owner, name)))
    return event


def get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read()
    finally:
        connection.close()


def state_once(
    port: int, moved: threading.Event, holds: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """The first state of which it holds."""
    while True:
        moved.clear()
        state: dict[str, Any] = json.loads(get(port, "/state.json"))
        if holds(state):
            return state
        assert moved.wait(PATIENCE), state


def held(name: str, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Until the event is set nobody comes through this function."""
    module, _, function = name.rpartition(".")
    go, through = threading.Event(), getattr(__import__(module, fromlist=[function]), function)

    def waiting(*args: Any, **options: Any) -> Any:
        assert go.wait(PATIENCE)
        return through(*args, **options)

    monkeypatch.setattr(name, waiting)
    return go


def free() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as some:
        return f"tcp://127.0.0.1:{some.getsockname()[1]}"


def secret_words(folder: Path) -> Iterator[str]:
    """All that is in files of private keys."""
    for path in folder.rglob("*.key"):
        yield from re.findall(r"[^\s:=\"]{16,}", path.read_text())


def test_a_sum_over_a_network_is_followed_and_is_what_it_would_be(
    tmp_path: Path,
    keys: Path,
    port: Callable[[], int],
    moved: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clients come one by one, and the third refuses; the end is held until it was looked at."""
    go = held("fl.cli.serve.write_result", monkeypatch)
    endpoint = free()
    options = ["--length", str(LENGTH), "--scheme", "plain", "--out", str(tmp_path / "mean.npy")]
    where = [*server_options(keys), "--bind", endpoint, "--dashboard", "0"]

    def join(u: int) -> list[str]:
        np.save(tmp_path / f"{u}.npy", vector(u))
        rules = [] if u == 2 else ["--allow", "plain"]
        return ["join", *client_options(keys, u, endpoint), "--input", str(tmp_path / f"{u}.npy"), *rules]

    with at_once([["serve", *where, *options]]) as (server,):
        at = port()
        nobody = state_once(at, moved, lambda state: state["open"])["open"]
        assert (nobody["round"], nobody["answered"], nobody["awaited"]) == ("join", [], [0, 1, 2])
        with at_once([join(1)]) as (first,):
            one = state_once(at, moved, lambda state: state["open"]["answered"])["open"]
            assert (one["answered"], one["awaited"], one["done"], one["total"]) == ([1], [0, 2], 1, 3)
            with at_once([join(0), join(2)]) as (second, refusing):
                state = state_once(at, moved, lambda state: len(state["protocol"]) == 2)
                seen = b"".join(get(at, path) for path in ("/", "/run", "/state.json")).decode()
                go.set()
        assert [each.result() for each in (server, first, second, refusing)] == [0, 0, 0, 4]
    assert state["title"] == f"plain: a sum of {LENGTH} coordinates, 3 clients"
    assert [each["round"] for each in state["protocol"]] == ["join", "input"]
    assert [each["alive"] for each in state["protocol"]] == [[0, 1], [0, 1]]
    (lost,) = state["lost"]
    assert (lost["who"], lost["round"]) == ("client 2", "join")
    assert "the scheme plain" in lost["why"]
    assert lost["why"].endswith("--allow plain")
    assert state["protocol"][1]["bytes_up"] >= 2 * 4 * LENGTH
    assert not [word for word in (*secret_words(keys), str(tmp_path)) if word in seen]
    np.testing.assert_allclose(np.load(tmp_path / "mean.npy"), (vector(0) + vector(1)) / 2, atol=1e-6)


SMALL = ("--clients", "3", "--rounds", "2", "--model", "logistic", "--no-baseline")
NOISE = ("--privacy", "distributed", "--clip", "0.5", "--noise-multiplier", "0.5")


def looking(port: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """States as they are after each training round, while that round's thread waits."""
    states, hear = list[dict[str, Any]](), Watching.training_round

    def heard(self: Watching, record: dict[str, Any]) -> None:
        hear(self, record)
        states.append(json.loads(get(port(), "/state.json")))

    monkeypatch.setattr(Watching, "training_round", heard)
    return states


def test_a_training_is_followed_round_by_round(
    tmp_path: Path, here: Here, port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = looking(port, monkeypatch)
    out = tmp_path / "run"
    ran = here("train", *SMALL, *NOISE, "--execution", "sequential", "--out", str(out), "--dashboard", "0")
    assert (ran.code, ran.err) == (0, "")
    assert f"dashboard: http://127.0.0.1:{port()}/" in ran.out
    written = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for number, state in enumerate(states, 1):
        assert (state["name"], state["status"], state["total"]) == ("run", "running", 2)
        trained = {"round": "training", "done": 3, "total": 3, "answered": [0, 1, 2], "awaited": []}
        assert state["open"] == trained
        assert [each["accuracy"] for each in state["rounds"]] == [
            each["accuracy"] for each in written[:number]
        ]
        last = written[number - 1]
        assert (state["epsilon"], state["against"]) == (last["epsilon"], last["against"])
        assert state["unfinished"] == 0
    assert [state["ledger"]["report"]["sessions"] for state in states] == [1, 2]
    assert states[1]["rounds"] == json.loads(msgspec.json.encode(RunState.of_folder(out).rounds))
    told = json.dumps(states)
    assert str(tmp_path) not in told
    assert (out / "run.secret").read_bytes().hex() not in told


def test_a_run_is_the_same_with_a_dashboard_and_without(
    tmp_path: Path, here: Here, port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = looking(port, monkeypatch)
    with_one, without = tmp_path / "with", tmp_path / "without"
    options = ("--execution", "sequential", "--out", str(with_one), "--dashboard", "0")
    assert here("train", *SMALL, *options).code == 0
    assert len(states) == 2
    monkeypatch.undo()
    again = ("--config", str(with_one / "config.json"), "--out", str(without))
    assert here("train", *again).code == 0
    models = [(folder / "model.safetensors").read_bytes() for folder in (with_one, without)]
    assert models[0] == models[1]


def test_a_training_over_a_network_is_followed_round_by_round(
    tmp_path: Path, keys: Path, port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    states, endpoint = looking(port, monkeypatch), free()
    RunConfig.of(clients=CLIENTS, rounds=2, model="logistic").write(tmp_path / "run.json")
    data = load("digits")
    for u in range(CLIENTS):
        write_shard(tmp_path / f"{u}", data.train_x[u::10], data.train_y[u::10], data.classes, data.name)
    where = [*server_options(keys), "--bind", endpoint, "--dashboard", "0"]
    run = ["--config", str(tmp_path / "run.json"), "--out", str(tmp_path / "run")]
    joins = [
        ["join", "--data", str(tmp_path / f"{u}"), *client_options(keys, u, endpoint)] for u in range(CLIENTS)
    ]
    with at_once([["serve", *where, *run], *joins]) as parties:
        assert [each.result() for each in parties] == [0] * (1 + CLIENTS)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    for number, state in enumerate(states, 1):
        assert (state["name"], state["status"], state["total"]) == ("run", "running", 2)
        assert state["title"] == "masking: logistic on digits, 3 clients"
        said = [(each["accuracy"], each["bytes_up"], each["alive"]) for each in state["rounds"]]
        written = [json.loads(line) for line in lines[:number]]
        assert said == [(each["accuracy"], each["bytes_up"], each["alive"]) for each in written]
        assert [each["round"] for each in state["protocol"]][-1] == "unmasking"
        assert state["protocol"][-1]["alive"] == [0, 1, 2]
    assert [state["ledger"]["report"]["sessions"] for state in states] == [1, 2]
    told = json.dumps(states)
    secrets = (path.read_bytes().hex() for path in tmp_path.rglob("*.secret"))
    assert not [word for word in (*secret_words(keys), *secrets, str(tmp_path)) if word in told]


def test_of_processes_it_is_the_servers_that_shows_it(tmp_path: Path) -> None:
    options = (
        *SMALL,
        "--execution",
        "processes",
        "--out",
        str(tmp_path / "run"),
        "--dashboard",
        "0",
        "--json",
    )
    command = Command("train", *options)
    url = json.loads(command.line_with("dashboard"))["dashboard"]
    assert json.loads(get(int(url.rsplit(":")[-1].strip("/")), "/state.json"))["status"] == "running"
    assert command.end().code == 0


def test_a_port_that_is_taken_is_an_error_before_anything_is_touched(
    tmp_path: Path, keys: Path, here: Here
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "metrics.jsonl").write_text("of another run")
        out = ("--out", str(tmp_path / "run"), "--force", "--dashboard", taken)
        is_one_line(here("train", *SMALL, *out), 2, f"--dashboard {taken}: nothing can listen on 127.0.0.1")
        assert (tmp_path / "run" / "metrics.jsonl").read_text() == "of another run"
        serve = ("serve", *server_options(keys), "--length", "5", "--dashboard", taken)
        is_one_line(here(*serve), 2, "choose another port, or 0 for a free one")


def test_without_what_draws_pages_it_says_what_to_install(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    ran = here("train", *SMALL, "--out", str(tmp_path / "run"), "--dashboard", "0")
    is_one_line(ran, 1, "this needs vl_convert: pip install 'secagg[")
    assert not (tmp_path / "run").exists()
