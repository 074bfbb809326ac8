"""`secagg serve` and `secagg join`: a federation whose parties are started by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Command, Ran, at_once, is_one_line

import fl
from fl.config.run import RunConfig
from fl.data import load
from fl.data.shard import write_shard

CLIENTS = 3
LENGTH = 50
Here = Callable[..., Ran]


@pytest.fixture
def keys(tmp_path: Path, here: Here) -> Path:
    """The folder of `secagg keys cohort`."""
    assert here("keys", "cohort", str(CLIENTS), "--out", str(tmp_path / "keys")).code == 0
    return tmp_path / "keys"


def server_options(keys: Path) -> list[str]:
    return [
        *("--key", str(keys / "server.key"), "--roster", str(keys / "roster")),
        *("--bind", "tcp://127.0.0.1:*", "--json"),
    ]


def client_options(keys: Path, u: int, endpoint: str) -> list[str]:
    return [
        *("--connect", endpoint, "--key", str(keys / f"client{u}.key")),
        *("--server", str(keys / "server.pub"), "--roster", str(keys / "roster"), "--patience", "900"),
    ]


def listening(server: Command) -> str:
    """Where the server of `serve --json` listens."""
    record = json.loads(server.line_with("listening"))
    assert record["clients"] == CLIENTS
    endpoint: str = record["listening"]
    return endpoint


def vector(u: int) -> np.ndarray:
    return np.sin(np.arange(LENGTH) + u).astype(np.float32)


def test_a_weighted_mean_over_the_network(tmp_path: Path, keys: Path, without_torch: dict[str, str]) -> None:
    """Four processes, none of which imports torch. Client 2 learns that it was clipped."""
    options = ["--length", str(LENGTH), "--max-weight", "10", "--out", str(tmp_path / "mean.npy")]
    server = Command("serve", *server_options(keys), *options, env=without_torch)
    endpoint = listening(server)
    clients, vectors = [], [vector(0), vector(1), 1.5 * vector(2)]
    outside = np.count_nonzero(np.abs(vectors[2]) > 1)
    warning = f"warning: client 2: {outside} coordinates of the vector were beyond ±1 and were clipped\n"
    for u in range(CLIENTS):
        np.save(tmp_path / f"{u}.npy", vectors[u])
        given = ["--input", str(tmp_path / f"{u}.npy"), "--weight", str(u + 1)]
        clients.append(Command("join", *client_options(keys, u, endpoint), *given, env=without_torch))
    for u, client in enumerate(clients):
        ran = client.end()
        assert (ran.code, ran.err) == (0, warning if u == 2 else "")
        assert f"client {u}: connecting to {endpoint}" in ran.out
        assert "active server" in ran.out
        assert f"client {u}: the vector is sent; stay until the sum is finished" in ran.out
        assert f"client {u}: the vector is in the sum" in ran.out
    ran = server.end()
    assert (ran.code, ran.err) == (0, "")
    written = ran.records[-1]
    assert written["survivors"] == [0, 1, 2]
    mean = sum((u + 1) * np.clip(vectors[u].astype(np.float64), -1, 1) for u in range(CLIENTS)) / 6
    assert np.abs(np.load(tmp_path / "mean.npy") - mean).max() <= written["error_bound"] < 1e-3


def test_a_sum_with_blanks_is_for_clients_who_insist_on_them_and_says_what_its_mean_is(
    tmp_path: Path, keys: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """So rare that the sum needs no noise, and that every coin here falls the other way."""
    (tmp_path / "policy.toml").write_text("corrupt = 0\nblank = 1e-7\n")
    np.save(tmp_path / "x.npy", vector(0))
    for rules, code in ((["--policy", str(tmp_path / "policy.toml")], 0), (["--blank", "0.5"], 4)):
        options = ["--length", str(LENGTH), "--blank", "1e-7", "--corrupt", "0", "--new"]
        server = Command("serve", *server_options(keys), *options, "--out", str(tmp_path / f"{code}.npy"))
        endpoint = listening(server)
        given = ["--input", str(tmp_path / "x.npy"), "--new", *rules]
        with at_once(["join", *client_options(keys, u, endpoint), *given] for u in range(CLIENTS)) as joined:
            assert {client.result() for client in joined} == {code}
        told, err = capfd.readouterr()
        if code:
            assert err.count("a probability of 1e-07; this client takes 0.5") == CLIENTS
            assert server.end().code != 0
            continue
        said = "the vector is in the sum, or zeros are, with a probability of 1e-07"
        assert told.count(said) == CLIENTS
        written = server.end().records[-1]
        mean = vector(0) / (1 - 1e-7)
        assert np.abs(np.load(tmp_path / "0.npy") - mean).max() <= written["error_bound"] < 1e-3


def test_plain_must_be_asked_for_at_both_ends(
    tmp_path: Path, keys: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Client 2 does not, and is told; the sum is the others'."""
    options = ["--length", str(LENGTH), "--scheme", "plain"]
    server = Command("serve", *server_options(keys), *options, "--out", str(tmp_path / "mean.npy"))
    endpoint = listening(server)
    lines = []
    for u, allow in enumerate([["--allow", "plain"], ["--allow", "plain"], []]):
        np.save(tmp_path / f"{u}.npy", vector(u))
        given = ["--input", str(tmp_path / f"{u}.npy"), *allow]
        lines.append(["join", *client_options(keys, u, endpoint), *given])
    with at_once(lines) as joined:
        assert [client.result() for client in joined] == [0, 0, 4]
    told, err = capfd.readouterr()
    assert told.count("no single vector") == 1  # is promised to client 2 alone
    allowed = "warning: plain is allowed: if the server offers that, it reads every vector"
    assert err.count(allowed) == 2
    (refused,) = (line for line in err.splitlines() if not line.startswith(allowed))
    assert "offers the scheme plain" in refused
    assert "--allow plain" in refused
    ran = server.end()
    assert (ran.code, ran.err) == (0, "")
    assert ran.records[0]["lost"].keys() == {"2"}
    assert ran.records[0]["lost"]["2"].endswith("If you mean it: --allow plain")
    assert ran.records[-1]["survivors"] == [0, 1]
    np.testing.assert_allclose(np.load(tmp_path / "mean.npy"), (vector(0) + vector(1)) / 2, atol=1e-6)


NOISE = {"privacy": "distributed", "clip": 0.5, "noise_multiplier": 0.1}


@pytest.mark.parametrize("noise", [{}, NOISE | {"adaptive_clip": True}, NOISE | {"blank": 0.25}])
def test_a_model_is_trained_over_the_network(
    tmp_path: Path, keys: Path, capfd: pytest.CaptureFixture[str], noise: dict[str, Any]
) -> None:
    """The server a process of its own, the clients threads of this one, each with a shard in its folder."""
    description = RunConfig.of(clients=CLIENTS, rounds=2, model="logistic", **noise)
    description.write(tmp_path / "run.json")
    options = ["--config", str(tmp_path / "run.json"), "--out", str(tmp_path / "run")]
    server = Command("serve", *server_options(keys), *options)
    data = load("digits")
    for u in range(CLIENTS):
        write_shard(tmp_path / f"{u}", data.train_x[u::10], data.train_y[u::10], data.classes, data.name)
    endpoint = listening(server)
    (tmp_path / "policy.toml").write_text("noise = 0.05\n")
    rules = ["--policy", str(tmp_path / "policy.toml")] if "blank" in noise else []
    join = ["join", "--json", *rules, "--data"]
    with at_once(
        [*join, str(tmp_path / f"{u}"), *client_options(keys, u, endpoint)] for u in range(CLIENTS)
    ) as joined:
        assert [client.result() for client in joined] == [0] * CLIENTS
    ran = server.end()
    assert (ran.code, ran.err) == (0, "")
    assert ran.records[-1]["wrote"] == str(tmp_path / "run")
    told, err = capfd.readouterr()
    assert err == ""
    told_by = [json.loads(record) for record in re.findall(r"{.*?}", told)]  # threads share their lines
    assert len(told_by) == 2 * CLIENTS
    assert all(record["summed"] for record in told_by)
    assert sum(parameter.numel() for parameter in fl.load(tmp_path / "run").parameters()) == 650
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["alive"] for line in lines] == [CLIENTS] * 2
    assert [json.loads(line)["epsilon"] is not None for line in lines] == [bool(noise)] * 2
    for u in range(CLIENTS):
        assert (tmp_path / f"{u}" / "client.secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "run" / "server.secret").stat().st_mode & 0o777 == 0o600


def test_over_a_network_a_rule_combines_what_the_server_sees(tmp_path: Path, keys: Path) -> None:
    """Of plain updates alone, for which clients have to ask; of a Krum of three two are left out."""
    settings = {"scheme": "plain", "robust": "krum", "assumed": 0.0}
    RunConfig.of(clients=CLIENTS, rounds=2, model="logistic", **settings).write(tmp_path / "run.json")
    options = ["--config", str(tmp_path / "run.json"), "--out", str(tmp_path / "run")]
    server = Command("serve", *server_options(keys), *options)
    data = load("digits")
    for u in range(CLIENTS):
        write_shard(tmp_path / f"{u}", data.train_x[u::10], data.train_y[u::10], data.classes, data.name)
    endpoint = listening(server)
    join = ["join", "--allow", "plain", "--data"]
    with at_once(
        [*join, str(tmp_path / f"{u}"), *client_options(keys, u, endpoint)] for u in range(CLIENTS)
    ) as joined:
        assert [client.result() for client in joined] == [0] * CLIENTS
    ran = server.end()
    assert (ran.code, ran.err) == (0, "")
    told = ran.records[-1]["left_out"]
    assert (told["updates"], told["left_out"]) == (6, 4)


def grouped(tmp_path: Path, here: Here, rules: list[str], **settings: Any) -> tuple[Ran, set[int]]:
    """Six clients, each by these rules of its own, in a training that is served with these settings: what the
    server came to, and the clients' codes.
    """
    keys, number = tmp_path / "of-six", 6
    name = f"run-{len([*tmp_path.glob('run-*.json')])}"
    if not keys.exists():
        assert here("keys", "cohort", str(number), "--out", str(keys)).code == 0
    RunConfig.of(clients=number, model="logistic", **settings).write(tmp_path / f"{name}.json")
    data = load("digits")
    for u in range(number):
        some = slice(60 * u, 60 * u + 60)
        write_shard(tmp_path / f"{u}", data.train_x[some], data.train_y[some], data.classes, data.name)
    files = ["--config", str(tmp_path / f"{name}.json"), "--out", str(tmp_path / name)]
    server = Command("serve", *server_options(keys), *files)
    endpoint = json.loads(server.line_with("listening"))["listening"]
    with at_once(
        ["join", *client_options(keys, u, endpoint), "--data", str(tmp_path / f"{u}"), *rules]
        for u in range(number)
    ) as joined:
        codes = {client.result() for client in joined}
    return server.end(), codes


@pytest.mark.slow
def test_groups_are_for_clients_who_take_them(
    tmp_path: Path, here: Here, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of six, each by its own option: three each, of whom all have to be left, for one may be corrupt."""
    june, apart = ["--smallest-group", "3", "--one-cut", "june"], "the server sums groups of 3 clients apart"
    again = "another name (--one-cut)"  # that run is cut anew, as is a server that begins without its folder
    for rules, words in ((june, ""), (june, again), (["--smallest-group", "4"], apart), ([], apart)):
        ran, codes = grouped(tmp_path, here, rules, rounds=2, groups=2, robust="median")
        code = 4 if words else 0
        assert codes == {code}
        err = capfd.readouterr().err
        if code:
            assert err.count(words) == 6
            assert words == again or "--smallest-group" in err
            continue
        assert ran.code == 0
        records = [record["training_round"] for record in ran.records if "training_round" in record]
        assert [(each["sums"], each["sums_asked"], each["alive"]) for each in records] == [(2, 2, 6)] * 2


@pytest.mark.slow
def test_of_unsafe_groups_server_and_clients_mark_what_they_say(
    tmp_path: Path, here: Here, capfd: pytest.CaptureFixture[str]
) -> None:
    rules = ["--smallest-group", "2", "--unsafe-groups"]
    ran, codes = grouped(tmp_path, here, rules, rounds=1, groups=3, unsafe_groups=True)
    assert codes == {0}
    assert ran.code == 0
    # Not by lines: two of them come as one where two threads print at once.
    assert capfd.readouterr().out.count("round 1: in the sum (unsafe groups)") == 6
    assert {"wrote", "ledger"} <= set().union(*ran.records)
    assert all(record["unsafe_groups"] for record in ran.records)


def test_a_client_whose_update_gives_its_examples_away_sends_nothing_and_says_why(
    tmp_path: Path, keys: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of two examples each; its own exit code, and the server does not hear why."""
    RunConfig.of(clients=CLIENTS, rounds=1, model="mlp").write(tmp_path / "run.json")
    options = ["--config", str(tmp_path / "run.json"), "--out", str(tmp_path / "run")]
    server = Command("serve", *server_options(keys), *options)
    data = load("digits")
    for u in range(CLIENTS):
        some = slice(2 * u, 2 * u + 2)
        write_shard(tmp_path / f"{u}", data.train_x[some], data.train_y[some], data.classes, data.name)
    (tmp_path / "policy.toml").write_text("[preflight]\nshares = [[1, 0.0]]\n")
    endpoint = listening(server)
    rules = ["--policy", str(tmp_path / "policy.toml")]
    with at_once(
        ["join", *client_options(keys, u, endpoint), "--data", str(tmp_path / f"{u}"), *rules]
        for u in range(CLIENTS)
    ) as joined:
        assert [client.result() for client in joined] == [5] * CLIENTS
    why = r"error: nothing was sent: .*of the 2 examples in this client's update can be read off its first"
    assert len(re.findall(why, capfd.readouterr().err)) == CLIENTS
    ran = server.end()
    assert ran.code == 3
    assert "it could not take part" in ran.out + ran.err
    assert "first layer" not in ran.out + ran.err
    for u in range(CLIENTS):
        assert not (keys / f"client{u}.key.journal").exists()


def test_groups_and_the_least_number_are_of_all_who_are_listed(tmp_path: Path, here: Here) -> None:
    """And not of as many clients as `secagg train` has unless told."""
    assert here("keys", "cohort", "10", "--out", str(tmp_path)).code == 0
    (tmp_path / "run.toml").write_text(
        "[protection]\ngroups = 10\nunsafe_groups = true\n[cohort]\nminimum = 10\n"
    )
    options = ["--config", str(tmp_path / "run.toml"), "--out", str(tmp_path / "run")]
    server = Command("serve", *server_options(tmp_path), *options)
    assert json.loads(server.line_with("listening"))["clients"] == 10
    server.interrupt()
    assert server.end().code == 130
    (tmp_path / "run.toml").write_text("[protection]\ngroups = 11\nunsafe_groups = true\n")
    is_one_line(here("serve", *server_options(tmp_path), *options), 2, "groups = 11: a round has 10 clients")


def test_ctrl_c_ends_a_server_that_waits(tmp_path: Path, keys: Path) -> None:
    server = Command("serve", *server_options(keys), "--length", "5", cwd=tmp_path)
    listening(server)
    server.interrupt()
    ran = server.end()
    assert (ran.code, ran.err) == (130, "error: interrupted\n")
    assert not (tmp_path / "mean.npy").exists()


def test_ctrl_c_ends_a_client_that_waits(tmp_path: Path, keys: Path) -> None:
    np.save(tmp_path / "0.npy", np.zeros(5))
    options = client_options(keys, 0, "tcp://127.0.0.1:9")
    client = Command("join", *options, "--input", str(tmp_path / "0.npy"))
    client.line_with("connecting to")
    client.interrupt()
    ran = client.end()
    assert (ran.code, ran.err) == (130, "error: interrupted\n")
