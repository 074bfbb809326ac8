"""`secagg join` with a budget of privacy in its policy: no more is told, whatever servers ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Command, Ran, at_once, is_one_line
from test_serve_join import CLIENTS, client_options, keys, listening, server_options

import transport
from fl.cli.output import Output
from fl.cli.report import tell_clipping
from fl.config.run import RunConfig
from fl.data import load
from fl.data.shard import write_shard
from secagg import Aggregate, Bounded, Clipping, Masking, Policy, Private
from secagg.specs import Spec

__all__ = ["keys"]  # the fixture

Here = Callable[..., Ran]
TRUSTING = Policy(adversary="semi-honest")
BUDGET = "adversary = 'semi-honest'\n[privacy]\nepsilon = 4.0\n"


@pytest.fixture
def joins(tmp_path: Path, keys: Path, here: Here) -> Callable[[Spec], tuple[Ran, Aggregate | None]]:
    """A sum for which client 0 is asked by command; the others are there. The aggregate, if there is one."""
    np.save(tmp_path / "x.npy", np.full(5, 0.1))
    (tmp_path / "policy.toml").write_text(BUDGET)

    def join(asked: Spec) -> tuple[Ran, Aggregate | None]:
        server = transport.serve("tcp://127.0.0.1:*", keys / "server.key", keys / "roster")
        with ThreadPoolExecutor(CLIENTS) as threads, server as cohort:
            scheme = Masking.for_cohort(CLIENTS, asked)

            def other(u: int) -> None:
                files = keys / f"client{u}.key", keys / "server.pub", keys / "roster"
                with transport.join(cohort.endpoint, *files, policy=TRUSTING) as peer:
                    peer.contribute(lambda task: np.full(5, 0.1))

            total = threads.submit(cohort.aggregate, scheme, np.random.bytes(16))
            for u in range(1, CLIENTS):
                threads.submit(other, u)
            options = ["--policy", str(tmp_path / "policy.toml"), "--new", "--input", str(tmp_path / "x.npy")]
            ran = here("join", *client_options(keys, 0, cohort.endpoint), *options)
            # Also where it fails, before the server is closed: a socket is of one thread.
            wait([total])
            return ran, total.result() if ran.code == 0 else None

    return join


def spent(keys: Path) -> int:
    """Sessions that the client's own record counts."""
    record = keys / "client0.key.spent"
    return len(record.read_bytes().splitlines()) if record.exists() else 0


def test_sums_under_noise_are_joined_until_the_budget_is_spent(
    keys: Path, joins: Callable[[Spec], tuple[Ran, Aggregate | None]]
) -> None:
    asked = Private(length=5, clip=1.0, multiplier=1.5)
    ran, total = joins(asked)
    assert (ran.code, ran.err, spent(keys)) == (0, "", 1)
    assert "100% of this client's privacy budget is left: epsilon 4 at delta 1e-05 of one client" in ran.out
    assert total is not None
    assert total.noise[""] > 0
    ran, _ = joins(asked)
    assert (ran.code, spent(keys)) == (4, 1)
    assert "this client's privacy budget allows no more: the session costs " in ran.err


def test_a_sum_without_noise_is_not_joined(
    keys: Path, joins: Callable[[Spec], tuple[Ran, Aggregate | None]]
) -> None:
    ran, _ = joins(Bounded(length=5, bound=1.0))
    is_one_line(ran, 4, "the server asks for vectors without noise, which no budget allows")
    assert spent(keys) == 0


def test_who_trains_is_charged_round_by_round(tmp_path: Path, keys: Path, here: Here) -> None:
    """Noise of the client's own; the budget of one ends first, and the others have no sum without it."""
    config: dict[str, Any] = {"privacy": "local", "clip": 0.5, "noise_multiplier": 2.0}
    RunConfig.of(clients=CLIENTS, rounds=4, model="logistic", **config).write(tmp_path / "run.json")
    options = ["--config", str(tmp_path / "run.json"), "--out", str(tmp_path / "run")]
    server = Command("serve", *server_options(keys), *options)
    data, endpoint = load("digits"), listening(server)
    lines = []
    for u in range(CLIENTS):
        write_shard(tmp_path / f"{u}", data.train_x[u::10], data.train_y[u::10], data.classes, data.name)
        lines.append(["join", "--data", str(tmp_path / f"{u}"), *client_options(keys, u, endpoint)])
    (tmp_path / "policy.toml").write_text("[privacy]\nepsilon = 4.0\n")
    lines[0] += ["--policy", str(tmp_path / "policy.toml")]
    with at_once(lines) as joined:
        assert joined[0].result() == 4
        assert server.end().code == 3
    assert spent(keys) == 2
    rounds = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [each["round"] for each in rounds] == [1, 2]
    assert re.search("everybody", rounds[1]["against"])


def test_a_client_is_told_how_many_coordinates_its_noise_took_out_of_the_ring(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scheme = Masking.for_cohort(CLIENTS, {"update": Private(length=5, clip=1.0)})
    wrapped = transport.Contribution(True, "", scheme, {"update": Clipping(0, 1.0, 3)})
    tell_clipping(Output(verbose=True), 1, wrapped)
    assert capsys.readouterr().out == "client 1: its own noise took 3 coordinates of update out of the ring\n"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("epsilon = 0", "Expected `float` > 0.0 - at `$.epsilon`"),
        ("delta = 1e-5", "missing required field `epsilon`"),
        ("epsilon = 1\ndelta = 0.5", "Expected `float` <= 0.01 - at `$.delta`"),
        ("epsilon = 1\norder = 1", "Expected `float` > 1.0 - at `$.order`"),
        ("epsilon = 1\nepsilom = 1", "unknown key 'epsilom'; did you mean 'epsilon'?"),
        ("epsilon = 0.01\norder = 2", "leave nothing to spend at order 2"),
    ],
)
def test_a_budget_that_cannot_be(tmp_path: Path, keys: Path, here: Here, table: str, words: str) -> None:
    (tmp_path / "p.toml").write_text(f"[privacy]\n{table}\n")
    np.save(tmp_path / "x.npy", np.zeros(5))
    options = ["--policy", str(tmp_path / "p.toml"), "--input", str(tmp_path / "x.npy")]
    ran = here("join", *client_options(keys, 0, "tcp://127.0.0.1:9"), *options)
    is_one_line(ran, 2, "p.toml, privacy: ", words)
