"""`--scheme ckks` in every command: both endings, the warning, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Command, Ran, at_once, before, is_one_line, secagg

import fl
from fl.cli.drops import Drop, in_plain
from fl.data.shard import write_shard
from secagg import Counts, Masking, RemoteProtocolError
from secagg.ckks import CKKS, WARNING
from transport.frames import CHUNK_BYTES

ROUNDS = ["join", "advertise-keys", "share-keys", "input", "decrypt"]
WARNED = f"warning: {WARNING}\n"
CLIENTS, LENGTH = 3, 50
Here = Callable[..., Ran]


def demo(here: Here, ending: str, *more: str) -> Ran:
    ran = here("demo", "--scheme", "ckks", "--ending", ending, "--clients", "4", "--seed", "5", *more)
    assert (ran.code, ran.err) == (0, WARNED)
    return ran


# The demonstration


def test_a_demo_whose_clients_keep_the_sum(tmp_path: Path, without_torch: dict[str, str]) -> None:
    """One is lost in mid-upload, one when the sum is there: it is theirs all the same."""
    drops = ["--drop", "1@input:50%", "--drop", "4@decrypt"]
    flags = ["--scheme", "ckks", "--ending", "keep", "--clients", "6", "--length", "90000"]
    env = without_torch | {"TMPDIR": str(tmp_path)}
    ran = secagg("demo", *flags, *drops, "--json", env=env)
    assert (ran.code, ran.err) == (0, WARNED)
    *rounds, total, words, traffic, parts = ran.records
    assert [report["round"] for report in rounds] == ROUNDS
    assert rounds[3]["lost"] == {"1": "vanished"}
    assert rounds[4]["lost"] == {"4": "vanished"}
    assert (total["survivors"], total["exact"]) == ([0, 2, 3, 4, 5], True)
    assert 0 < total["largest_error"] <= total["error_bound"]
    assert len(words["residues"]) == len(words["words"]) == len(words["input"]) == 6
    assert not set(words["residues"]) & set(words["words"])
    upload = rounds[3]["bytes_up"] // 5
    assert upload > CHUNK_BYTES
    assert traffic["bytes_up"] > upload
    assert parts["ciphertext_bytes"] == rounds[3]["bytes_up"] + rounds[4]["bytes_down"]
    assert parts["released_bytes"] == rounds[4]["bytes_up"] < 100
    assert parts["key_bytes"] > 3 * 8 * 2048 * 2
    assert sum(parts[f"{name}_bytes"] for name in ("key", "ciphertext", "released")) < parts["message_bytes"]
    assert parts["message_bytes"] == sum(report["bytes_up"] + report["bytes_down"] for report in rounds)
    assert parts["wire_bytes"] > parts["message_bytes"]
    assert list(tmp_path.iterdir()) == []


def test_a_demo_that_releases_the_sum_tells_its_story(here: Here) -> None:
    ran = demo(here, "release", "--length", "20", "--drop", "0@decrypt")
    lines = ran.out.splitlines()
    at = [next(i for i, line in enumerate(lines) if line.startswith(f"{round}: ")) for round in ROUNDS]
    assert at == sorted(at)
    assert "three clients decrypt the sum, flood it and release it" in ran.out
    assert "survivors: 0, 1, 2, 3" in lines
    assert "exactly" not in ran.out
    assert "residues of its ciphertexts, as sent" not in ran.out  # client 0 is the one to be shown
    assert "client 0 sent no ciphertexts: it vanished before" in ran.out
    assert "it learns the sum and no single vector. Correct for honest clients only: CKKS" in ran.out
    assert "all clients, both ways: keys " in ran.out


def test_a_demo_that_keeps_the_sum_tells_its_story(here: Here) -> None:
    ran = demo(here, "keep", "--length", "20")
    assert "each client decrypts the sum, the server never does" in ran.out
    assert "the sum that each client keeps equals the sum of the words of 4 survivors exactly" in ran.out
    assert "residues of its ciphertexts, as sent" in ran.out
    assert "it learns no vector and no sum; its clients learn the sum" in ran.out


def test_a_mean_beyond_its_bound_ends_with_code_4(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = CKKS.aggregate

    def wrong(scheme: CKKS, survivors: frozenset[int], values: Any) -> Any:
        return decode(scheme, survivors, {name: value + 0.01 for name, value in values.items()})

    monkeypatch.setattr(CKKS, "aggregate", wrong)
    ran = here("demo", "--scheme", "ckks", "--clients", "3", "--length", "9", "--quiet")
    is_one_line(ran, 4, "the mean is ", " off, and its bound is ")


def test_clients_that_do_not_keep_the_same_sum_end_with_code_4(tmp_path: Path) -> None:
    from fl.cli.demo import kept
    from secagg import Bounded

    scheme = CKKS.for_cohort(3, Bounded(length=2, bound=1.0))
    for u in range(3):
        (tmp_path / f"{u}").mkdir()
        np.save(tmp_path / f"{u}" / "sum.npy", np.array([5, 7 + u // 2]))
    folders = [tmp_path / f"{u}" for u in range(3)]
    np.testing.assert_array_equal(kept(scheme, frozenset({0, 1}), folders[:2]).codes[""], [5, 7])
    with pytest.raises(RemoteProtocolError, match="the clients that keep the sum do not all have the same"):
        kept(scheme, frozenset({0, 1, 2}), folders)


# Training


@pytest.fixture(scope="module")
def kept_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """Two training rounds; the first client is lost in the second, so the next one's record counts."""
    folder = tmp_path_factory.mktemp("train") / "run"
    flags = ["--scheme", "ckks", "--ending", "keep", "--clients", "4", "--model", "logistic", "--rounds", "2"]
    return folder, secagg("train", *flags, "--drop", "0@input:2", "--out", str(folder))


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_says_in_one_line_what_ckks_does_not_protect_from(kept_run: tuple[Path, Ran]) -> None:
    _, ran = kept_run
    assert (ran.code, ran.err) == (0, WARNED)
    assert "ckks, 4 clients on digits: honest-but-curious server" in ran.out
    assert "round 2/2  the clients keep the model  3 of 4 clients" in ran.out
    assert "what the sums of this run reveal" not in ran.out  # the server has none


@pytest.mark.slow
def test_the_metrics_of_a_kept_model_are_a_surviving_clients(kept_run: tuple[Path, Ran]) -> None:
    folder, _ = kept_run
    records, own = metrics(folder), metrics(folder / "parties" / "client1")
    assert len(metrics(folder / "parties" / "client0")) == 1
    assert [record["alive"] for record in records] == [4, 3]
    for record, learned in zip(records, own, strict=True):
        assert record.items() >= learned.items()
        assert record["bytes_up"] > 0
        assert 0 < record["accuracy"] <= 1
        assert 0 < record["train_accuracy"] <= 1
    plain = metrics(folder / "plain")  # in the first round, of the same orders of examples
    assert records[0]["accuracy"] == pytest.approx(plain[0]["accuracy"], abs=0.01)


@pytest.mark.slow
def test_a_kept_model_is_at_every_surviving_client_and_not_at_the_server(kept_run: tuple[Path, Ran]) -> None:
    folder, ran = kept_run
    parties = folder / "parties"
    names = {path.name for path in folder.iterdir()}
    left = {"accuracy.png", "config.json", "metrics.jsonl", "partition.png", "run.secret"}
    assert names == left | {"parties", "plain"}
    assert {path.name for path in (parties / "server").iterdir()} == {
        "server.key",
        "server.secret",
        "roster",
        "roster.pub",
        "declared.json",
    }
    models = {(parties / f"client{u}" / "model.safetensors").read_bytes() for u in (1, 2, 3)}
    assert len(models) == 1
    assert sum(parameter.numel() for parameter in fl.load(parties / "client1").parameters()) == 650
    assert f"each client the model: fl.load('{parties / 'client1'}')" in ran.out


@pytest.mark.slow
def test_after_the_first_round_no_kept_weight_is_farther_from_plain_than_the_bound(
    kept_run: tuple[Path, Ran],
) -> None:
    folder, ran = kept_run
    own, plain = (
        np.load(at / "after-round-1.npy") for at in (folder / "parties" / "client1", folder / "plain")
    )
    difference = np.abs(own - plain).max()
    assert 0 < difference <= metrics(folder)[0]["error_bound"]
    assert f"by more than {difference:.2e} (bound {metrics(folder)[0]['error_bound']:.2e})" in ran.out


@pytest.mark.slow
def test_a_released_model_is_the_servers(here: Here, tmp_path: Path) -> None:
    """The ledger counts its sums; no client has it."""
    flags = ["--scheme", "ckks", "--clients", "4", "--model", "logistic", "--rounds", "1", "--no-baseline"]
    ran = here("train", *flags, "--out", str(tmp_path / "run"), "--json")
    assert (ran.code, ran.err) == (0, WARNED)
    scheme, *rounds, training_round, ledger, _ = ran.records
    assert scheme["scheme"][0] == "ckks, 4 clients, who release the sum"
    assert [report["round"] for report in rounds] == ROUNDS
    assert training_round["training_round"] == metrics(tmp_path / "run")[0]
    assert ledger["ledger"]["sessions"] == 1
    assert sum(parameter.numel() for parameter in fl.load(tmp_path / "run").parameters()) == 650
    assert not list((tmp_path / "run" / "parties").rglob("*.safetensors"))


def test_a_kept_model_of_which_nobody_came_to_the_end_is_lost(tmp_path: Path) -> None:
    from fl.cli.parties import collect
    from transport import TransportError

    (tmp_path / "client0").mkdir()
    (tmp_path / "client0" / "metrics.jsonl").write_text('{"round": 1}\n')
    with pytest.raises(TransportError, match="no client came to the end of the run"):
        collect([tmp_path / "client0", tmp_path / "client1"], tmp_path, 2)


@pytest.mark.parametrize(
    ("of", "drop", "instead"),
    [
        (Masking, Drop(1, "join", 0.0, 2), Drop(1, "join", 0.0, 2)),
        (Masking, Drop(1, "share-keys", 0.0, 2), Drop(1, "input", 0.0, 2)),
        (CKKS, Drop(1, "input", 0.5, 2), Drop(1, "input", 0.5, 2)),
        (Masking, Drop(1, "masked-input", 0.5, 2), Drop(1, "input", 0.5, 2)),
        (Masking, Drop(1, "unmasking", 0.0, 2), Drop(1, "join", 0.0, 3)),
        (CKKS, Drop(1, "decrypt", 0.0, 2), Drop(1, "join", 0.0, 3)),
    ],
    ids=str,
)
def test_in_the_plain_run_the_same_clients_are_in_each_sum(
    of: type[Masking] | type[CKKS], drop: Drop, instead: Drop
) -> None:
    assert in_plain(drop, of.for_cohort(3, Counts(length=1, maximum=1))) == instead


# Over a network


@pytest.fixture
def keys(tmp_path: Path, here: Here) -> Path:
    assert here("keys", "cohort", str(CLIENTS), "--out", str(tmp_path / "keys")).code == 0
    return tmp_path / "keys"


def server_options(keys: Path) -> list[str]:
    return [
        *("--key", str(keys / "server.key"), "--roster", str(keys / "roster")),
        *("--bind", "tcp://127.0.0.1:*", "--json", "--scheme", "ckks"),
    ]


def client_options(keys: Path, u: int, endpoint: str) -> list[str]:
    return [
        *("--connect", endpoint, "--key", str(keys / f"client{u}.key")),
        *("--server", str(keys / "server.pub"), "--roster", str(keys / "roster")),
        *("--allow", "ckks", "--semi-honest"),
    ]


def listening(server: Command) -> str:
    endpoint: str = json.loads(server.line_with("listening"))["listening"]
    return endpoint


def test_a_mean_that_the_clients_keep_is_written_by_them(
    tmp_path: Path, keys: Path, without_torch: dict[str, str]
) -> None:
    vectors = [np.sin(np.arange(LENGTH) + u).astype(np.float32) for u in range(CLIENTS)]
    options = [*server_options(keys), "--ending", "keep", "--length", str(LENGTH), "--max-weight", "9"]
    server = Command("serve", *options, env=without_torch, cwd=tmp_path)
    endpoint, clients = listening(server), []
    for u in range(CLIENTS):
        np.save(tmp_path / f"{u}.npy", vectors[u])
        given = ["--input", str(tmp_path / f"{u}.npy"), "--weight", str(u + 1), "--json"]
        given += ["--out", str(tmp_path / "mine.npy"), "--ending", "keep"] if u == 0 else []
        clients.append(Command("join", *client_options(keys, u, endpoint), *given, env=without_torch))
    ended = [client.end() for client in clients]
    mean = np.average(np.float64(vectors), axis=0, weights=[1, 2, 3])
    for u, ran in enumerate(ended):
        assert (ran.code, ran.err) == (0, f"warning: ckks is allowed: {WARNING}\n")
        (record,) = ran.records
        where = tmp_path / ("mine.npy" if u == 0 else f"{u}.mean.npy")
        assert (record["wrote"], record["survivors"]) == (str(where), [0, 1, 2])
        assert np.abs(np.load(where) - mean).max() <= record["error_bound"] < 1e-3
    ran = server.end()
    assert (ran.code, ran.err) == (0, WARNED)
    assert ran.records[-1] == {"wrote": None, "survivors": [0, 1, 2]}
    assert not (tmp_path / "mean.npy").exists()


def test_a_client_that_insists_on_one_ending_refuses_the_other(
    tmp_path: Path, keys: Path, without_torch: dict[str, str]
) -> None:
    options = [*server_options(keys), "--ending", "keep", "--length", str(LENGTH)]
    server = Command("serve", *options, env=without_torch, cwd=tmp_path)
    np.save(tmp_path / "0.npy", np.zeros(LENGTH, np.float32))
    insists = ["--ending", "release", "--input", str(tmp_path / "0.npy")]
    ran = secagg("join", *client_options(keys, 0, listening(server)), *insists, env=without_torch)
    assert ran.code == 4
    assert "clients keep the sum; this client insists that they release it" in ran.err
    server.terminate()
    assert server.end().code == 130


def test_a_served_run_whose_model_the_clients_keep(
    tmp_path: Path, keys: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Client 0 has a test set beside its own examples, the others none. Each is a thread of this process."""
    from fl.cli.learn import TEST
    from fl.data import load

    (tmp_path / "run.toml").write_text(
        "[training]\nrounds = 1\nmodel = 'logistic'\n[protection]\nscheme = 'ckks'\nending = 'keep'\n"
    )
    out = tmp_path / "run"
    options = [*server_options(keys), "--config", str(tmp_path / "run.toml"), "--out", str(out)]
    server = Command("serve", *options)
    data = load("digits")
    for u in range(CLIENTS):
        write_shard(tmp_path / f"{u}", data.train_x[u::10], data.train_y[u::10], data.classes, data.name)
    write_shard(tmp_path / "0" / TEST, data.test_x, data.test_y, data.classes, data.name)
    (tmp_path / "0" / "metrics.jsonl").write_text("of an earlier run\n")
    endpoint = listening(server)
    capfd.readouterr()
    join = ["join", "--json", "--data"]
    with at_once(
        [*join, str(tmp_path / f"{u}"), *client_options(keys, u, endpoint)] for u in range(CLIENTS)
    ) as joined:
        assert [client.result() for client in joined] == [0] * CLIENTS
    told = [json.loads(record) for record in re.findall(r"{.*?}", capfd.readouterr().out)]
    for record in sorted(told, key=lambda record: record["client"]):
        (line,) = metrics(tmp_path / f"{record['client']}")
        assert record.items() >= line.items()
        assert record["summed"]
        assert (record["accuracy"] is None) == (record["client"] > 0)
        fl.load(tmp_path / f"{record['client']}")
    assert len(told) == CLIENTS
    ran = server.end()
    assert (ran.code, ran.err) == (0, WARNED)
    assert ran.records[-1] == {"wrote": str(out), "accuracy": None}
    assert {path.name for path in out.iterdir()} == {"config.json", "metrics.jsonl", "server.secret"}
    assert metrics(out)[0]["accuracy"] is None


# What is refused


@pytest.mark.parametrize("command", ["demo", "train --out out", "serve --length 5 --bind tcp://127.0.0.1:*"])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--scheme ckks --adversary active", "CKKS is not for a server that is active"),
        ("--scheme ckks --graph sparse", "--graph is for --scheme masking: it means nothing to ckks"),
        ("--scheme ckks --corrupt 1", "--corrupt is for --scheme masking"),
        ("--ending keep", "--ending keep is for --scheme ckks: masking has one ending"),
        ("--scheme ckks --ending kept", "release, keep"),
    ],
)
def test_what_ckks_cannot_keep_is_refused(
    here: Here, keys: Path, monkeypatch: pytest.MonkeyPatch, command: str, line: str, words: str
) -> None:
    monkeypatch.chdir(keys)
    left = {path.name for path in keys.iterdir()}
    is_one_line(here(*command.split(), *line.split()), 2, words)
    assert {path.name for path in keys.iterdir()} == left


def test_a_served_run_that_cannot_be_leaves_no_folder(
    here: Here, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(keys)
    (keys / "run.toml").write_text("[protection]\nscheme = 'ckks'\n")
    line = ["serve", "--config", "run.toml", "--bind", "tcp://127.0.0.1:*", "--out", "out"]
    is_one_line(here(*line, "--adversary", "active"), 2, "CKKS is not for a server that is active")
    is_one_line(here(*line, "--batch", "2"), 2, "--batch is for --scheme masking")
    assert not (keys / "out").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "serve --length 5 --scheme ckks --ending keep --out x.npy",
            "--out: the clients keep the mean, and the server has none to write",
        ),
        (
            "join --connect tcp://127.0.0.1:9 --key client0.key --input x.npy --out y.npy",
            "--out is for --input where ckks is allowed: there the clients may keep the mean",
        ),
        (
            "join --connect tcp://127.0.0.1:9 --key client0.key --input x.npy --allow ckks",
            "x.mean.npy exists: choose another --out, or replace it with --force",
        ),
    ],
)
def test_a_mean_that_has_no_place(
    here: Here, keys: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    monkeypatch.chdir(keys)
    for name in ("x.npy", "x.mean.npy"):
        np.save(name, np.zeros(5))
    is_one_line(here(*line.split()), 2, words)


@pytest.mark.parametrize(
    "line",
    [
        "demo --scheme ckks",
        "train --scheme ckks --out out",
        "join --connect tcp://127.0.0.1:9 --key client0.key --input x.npy --allow ckks",
    ],
)
def test_without_tenseal_nothing_is_begun(tmp_path: Path, keys: Path, line: str) -> None:
    """As where the extra was not installed."""
    (tmp_path / "tenseal.py").write_text("raise ModuleNotFoundError('no tenseal', name='tenseal')\n")
    np.save(keys / "x.npy", np.zeros(5))
    ran = secagg(*line.split(), env={"PYTHONPATH": before(tmp_path)}, cwd=keys)
    is_one_line(ran, 1, "this needs tenseal: pip install 'secagg[ckks]'")
    assert not (keys / "out").exists()
