"""`secagg train --execution ...`: all clients in this process leave what processes leave; and each kind of
training that can be asked for, once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Ran, is_one_line

import fl
from fl.config.run import RunConfig
from fl.config.secret import RUN, RunSecrets, put
from fl.data import load
from fl.data.shard import read_shard
from secagg.ckks import WARNING

Here = Callable[..., Ran]
Train = Callable[..., tuple[Path, Ran]]

SMALL = ["--clients", "4", "--model", "logistic"]
SKEWED = ["--clients", "6", "--sample", "3", "--corrupt", "1", "--model", "logistic", "--local-epochs", "1"]
LEFT = {
    *("accuracy.png", "after-round-1.npy", "config.json", "metrics.jsonl", "model.safetensors"),
    *("partition.png", "run.secret"),
}


def with_secret(folder: Path, secret: bytes) -> list[str]:
    """Flags of a run that draws from this secret: whom it asks is known."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    put(folder / RUN, secret)
    return ["--config", str(folder / "config.json")]


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def of_rounds(folder: Path, name: str) -> list[Any]:
    return [record[name] for record in metrics(folder)]


@pytest.fixture
def train(here: Here, tmp_path: Path) -> Train:
    """Run it in one process without the plain run beside it, and without an error."""

    def run(*flags: str) -> tuple[Path, Ran]:
        line = ["--execution", "sequential", "--no-baseline", *flags]
        ran = here("train", *line, "--out", str(tmp_path / "run"))
        assert (ran.code, ran.err) == (0, f"warning: {WARNING}\n" if "ckks" in flags else "")
        return tmp_path / "run", ran

    return run


# What is left


@pytest.mark.parametrize(
    ("execution", "flags"),
    [
        ("auto", ["--scheme", "masking"]),
        ("batched", ["--scheme", "masking", "--adversary", "semi-honest"]),
        ("auto", ["--scheme", "ckks"]),
        ("batched", ["--scheme", "ckks", "--ending", "keep"]),
        ("sequential", ["--scheme", "plain"]),
        ("batched", ["--scheme", "plain"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value[1::2]),
)
def test_a_run_leaves_what_processes_leave(train: Train, execution: str, flags: list[str]) -> None:
    import torch

    from fl.federation.records import RoundRecord
    from fl.training.local import evaluate

    folder, ran = train(*SMALL, *flags, "--rounds", "2", "--execution", execution)
    kept = "keep" in flags
    summed = not kept and "plain" not in flags  # for the server, which learns nothing of one client alone
    left = LEFT | (set() if kept else {"checkpoint.bin"}) | ({"ledger.json"} if summed else set())
    assert {path.name for path in folder.iterdir()} == left
    asked = {name.removeprefix("--"): value for name, value in zip(flags[::2], flags[1::2], strict=True)}
    config = RunConfig.of(clients=4, model="logistic", rounds=2, execution=execution, baseline=False, **asked)
    assert RunConfig.read(folder / "config.json") == config
    for number, record in enumerate(metrics(folder), 1):
        assert list(record) == [field.name for field in fields(RoundRecord)]
        assert (record["round"], record["chosen"], record["alive"]) == (number, 4, 4)
        assert record["bytes_up"] > 4 * 650 * 17 / 8
        assert 0 < record["train_accuracy"] < 1
    data = load("digits")
    accuracy, loss = evaluate(fl.load(folder), torch.tensor(data.test_x), torch.tensor(data.test_y))
    assert accuracy == pytest.approx(metrics(folder)[-1]["accuracy"])
    assert loss == pytest.approx(metrics(folder)[-1]["loss"], rel=1e-4)
    measured = "clients were trained " in ran.out and "client-steps a second, measured: sequential" in ran.out
    assert measured == (execution == "auto")


def test_masked_and_plain_are_compared(here: Here, tmp_path: Path) -> None:
    flags = [*SMALL, "--rounds", "1", "--execution", "batched", "--json", "--out", str(tmp_path / "run")]
    ran = here("train", *flags)
    assert (ran.code, ran.err) == (0, "")
    summary = ran.records[-1]["summary"]
    masked, plain = summary["runs"]
    assert masked["accuracy"] == pytest.approx(plain["accuracy"], abs=0.02)
    assert 0 < summary["difference_after_round_1"] <= summary["bound"]


# What can be asked for


@pytest.mark.parametrize(
    "line",
    [
        "--algorithm fedavg-weights",
        "--algorithm fedsgd --lr 0.5",
        "--server adam --server-lr 0.1",
        "--server momentum",
        "--proximal 0.1",
        "--local-steps 3",
        "--precision bfloat16",
        "--damage noise --damaged 0.5 --damage-level 0.6",
        "--damage missing",
        "--damage labels",
        "--partition shards --examples-per-client 60",
        "--dataset text --model bag-of-words --local-steps 2",
    ],
)
def test_each_kind_of_training_takes_its_step(train: Train, line: str) -> None:
    """To a finite model whose weights are not all alike."""
    folder, _ = train(*SMALL, "--rounds", "2", "--scheme", "plain", *line.split())
    assert np.isfinite(of_rounds(folder, "loss")).all()
    model = np.concatenate([each.detach().numpy().ravel() for each in fl.load(folder).parameters()])
    assert np.isfinite(model).all()
    assert len(np.unique(model)) > 100


def test_links_give_a_delay_and_selection_by_channel_a_shorter_upload(train: Train, tmp_path: Path) -> None:
    secret = with_secret(tmp_path / "secret", bytes(32))
    line = [*secret, *SKEWED, "--rounds", "4", "--links", "lte", "--scheme", "plain"]
    folder, _ = train(*line)
    by_chance = of_rounds(folder, "delay")
    assert all(delay > 0 for delay in by_chance)
    assert of_rounds(folder, "chosen") == [3] * 4
    by_channel = of_rounds(train(*line, "--select", "channel", "--force")[0], "delay")
    assert by_channel != by_chance


def test_clusters_have_a_sum_each(train: Train) -> None:
    """At this seed the seven clients fall into two."""
    flags = ["--clients", "7", "--model", "logistic", "--links", "mixed", "--cluster", "mode"]
    folder, _ = train(*flags, "--rounds", "1", "--seed", "3", "--local-epochs", "1", "--corrupt", "1")
    (record,) = metrics(folder)
    assert (record["chosen"], record["alive"]) == (7, 7)
    assert record["sums"] == 2


# Rounds that are abandoned


def test_a_round_whose_clients_come_too_late_is_abandoned_and_said(train: Train, tmp_path: Path) -> None:
    """Only the fifth round chooses client 5, the slowest, and its sum needs all three."""
    secret = with_secret(tmp_path / "secret", bytes(32))
    folder, ran = train(*secret, *SKEWED, "--rounds", "5", "--links", "lte", "--deadline", "0.5")
    assert of_rounds(folder, "alive") == [3, 3, 3, 3, 0]
    *others, last = metrics(folder)
    assert {record["abandoned"] for record in others} == {""}
    assert last["abandoned"] == "2 clients left in masked-input, 3 needed"
    assert last["accuracy"] is last["error_bound"] is None
    assert "round 5/5  abandoned: 2 clients left in masked-input, 3 needed" in ran.out
    assert "abandoned 1 of 5 rounds: the model stayed as it was" in ran.out


def test_a_goal_that_is_not_reached_is_said(train: Train) -> None:
    _, ran = train(*SMALL, "--rounds", "1", "--until-accuracy", "1", "--scheme", "plain")
    assert "an accuracy of 1.0 was not reached on validation data in 1 round; the best is 0." in ran.out


def test_sums_that_were_not_asked_for_reveal_nothing(here: Here, tmp_path: Path) -> None:
    flags = [*SMALL, "--rounds", "2", "--execution", "batched", "--links", "lte", "--deadline", "0.0001"]
    ran = here("train", *flags, "--out", str(tmp_path / "run"))
    assert ran.code == 3
    assert "reveal together" not in ran.out


@pytest.mark.parametrize(("minimum", "alive"), [(4, [4]), (5, [0])])
def test_a_sum_of_fewer_uploads_than_the_minimum_is_not_opened(
    train: Train, here: Here, tmp_path: Path, minimum: int, alive: list[int]
) -> None:
    """Of six clients four are in time."""
    line = ["--clients", "6", "--model", "logistic", "--rounds", "1", "--local-epochs", "1"]
    line += ["--links", "lte", "--deadline", "0.45", "--adversary", "semi-honest", "--dropout", "2"]
    line += ["--execution", "batched", "--no-baseline", "--minimum", f"{minimum}"]
    ran = here("train", *line, "--out", str(tmp_path / "run"))
    assert of_rounds(tmp_path / "run", "alive") == alive
    if alive == [0]:
        is_one_line(ran, 3, "4 clients left in round masked-input, 5 needed: no sum, nothing revealed")
        assert "from 1 sum in all" in ran.out  # the ledger takes the worse case
    else:
        assert (ran.code, ran.err) == (0, "")


def test_where_every_round_is_abandoned_there_is_no_model(here: Here, tmp_path: Path) -> None:
    line = [*SKEWED, "--rounds", "3", "--links", "lte", "--deadline", "0.001", "--execution", "sequential"]
    ran = here("train", *line, "--out", str(tmp_path / "run"))
    is_one_line(ran, 3, "clients left in round masked-input, 3 needed: no sum, nothing revealed")
    assert "Traceback" not in ran.err + ran.out
    assert "abandoned 3 of 3 rounds: the model stayed as it was" in ran.out
    assert of_rounds(tmp_path / "run", "alive") == [0, 0, 0]
    assert not (tmp_path / "run" / "model.safetensors").exists()


# Validation


def test_a_run_stops_at_the_accuracy_asked_for(train: Train) -> None:
    folder, ran = train(*SMALL, "--rounds", "30", "--until-accuracy", "0.6", "--scheme", "plain")
    reached, last = len(metrics(folder)), metrics(folder)[-1]["validation"]
    assert f"an accuracy of 0.6 was reached on validation data in {reached} round" in ran.out
    assert f"validation {last:.4f}" in ran.out
    *before, last = of_rounds(folder, "validation")
    assert len(before) < 29
    assert all(accuracy < 0.6 for accuracy in before)
    assert last >= 0.6


def test_validation_data_are_held_out_of_the_training_data(tmp_path: Path) -> None:
    """The server's folder has them, and no client's; the test set is as it was."""
    from fl.cli.parties import lay_out_parties
    from fl.cohort.layout import VALIDATION, lay_out

    config = RunConfig.of(clients=4, until_accuracy=0.9)
    layout = lay_out(config)
    parties = lay_out_parties(config, layout, tmp_path, False, RunSecrets.fresh())
    held, data = read_shard(parties.server / VALIDATION), load("digits")
    dealt = Counter(image.tobytes() for own in parties.clients for image in read_shard(own).x)
    assert len(held.x) == pytest.approx(0.1 * len(data.train_x), rel=0.05)
    assert dealt + Counter(image.tobytes() for image in held.x) == Counter(
        image.tobytes() for image in data.train_x
    )
    np.testing.assert_array_equal(layout.serving.dataset.test_x, data.test_x)


@pytest.mark.parametrize(
    ("damage", "words"),
    [("", "Input data was truncated"), ("{}", "Object missing required field"), ("declared", "JSON is malf")],
)
def test_what_clients_declare_stands_in_a_file_that_is_whole(tmp_path: Path, damage: str, words: str) -> None:
    from fl.cohort.layout import DECLARED, lay_out, read_serving, write_serving
    from fl.data import DataError

    serving = lay_out(RunConfig.of(clients=4, links="mixed")).serving
    write_serving(tmp_path, serving)
    assert read_serving(tmp_path, serving.dataset) == serving
    (tmp_path / DECLARED).write_text(damage)
    with pytest.raises(DataError, match=f"declared.json is not readable: {words}"):
        read_serving(tmp_path, serving.dataset)


# What is said of it


def test_clipping_is_said_once(here: Here, tmp_path: Path) -> None:
    flags = [*SMALL, "--rounds", "2", "--execution", "batched", "--bound", "0.001", "--no-baseline"]
    ran = here("train", *flags, "--out", str(tmp_path / "run"))
    assert ran.err.count("were clipped: raise --bound") == 1
    assert "uploads of 4 clients were beyond ±0.001" in ran.err


def test_where_no_bound_was_given_it_is_said_which_one_uploads_were_beyond(
    here: Here, tmp_path: Path
) -> None:
    flags = [*SMALL, "--rounds", "1", "--execution", "batched", "--lr", "100", "--no-baseline"]
    ran = here("train", *flags, "--out", str(tmp_path / "run"))
    assert ran.code == 0
    assert "were beyond ±3 and were clipped: raise --bound" in ran.err


def test_clusters_are_as_large_as_a_session_has_to_be(train: Train) -> None:
    """Thirty clients, three of them assumed corrupt: four would be too few, and few labels have more. With
    one corrupt, three are enough.
    """
    flags = ["--clients", "30", "--model", "logistic", "--local-steps", "2", "--rounds", "1"]
    sums = []
    for corrupt in ("3", "1"):
        more = ["--execution", "batched", "--cluster", "label", "--corrupt", corrupt, "--force"]
        folder, _ = train(*flags, *more)
        (record,) = metrics(folder)
        assert record["alive"] == 30
        assert record["sums"] == record["sums_asked"]
        sums.append(record["sums"])
    assert sums[0] < sums[1]


def test_where_the_first_round_was_abandoned_nothing_is_compared(here: Here, tmp_path: Path) -> None:
    flags = ["--execution", "batched", "--clients", "6", "--model", "logistic", "--adversary", "semi-honest"]
    links = ["--links", "mixed", "--sample", "3", "--minimum", "3", "--deadline", "1.7", "--corrupt", "0"]
    more = [*with_secret(tmp_path / "secret", bytes([3]) * 32), "--rounds", "4", "--seed", "2", "--json"]
    ran = here("train", *flags, *links, *more, "--out", str(tmp_path / "run"))
    assert (ran.code, ran.err) == (0, "")
    records = [record["training_round"] for record in ran.records if "training_round" in record]
    assert records[0]["abandoned"]
    assert not all(record["abandoned"] for record in records)
    assert ran.records[-1]["summary"].keys() == {"folder", "runs"}


@pytest.mark.parametrize(
    "more", ["--server-lr 20", "--server momentum --server-lr 5", "--algorithm fedsgd --lr 9 --batch 4"]
)
def test_the_bound_of_a_weight_goes_with_the_servers_step(here: Here, tmp_path: Path, more: str) -> None:
    flags = [*SMALL, "--rounds", "1", "--execution", "batched", *more.split()]
    ran = here("train", *flags, "--json", "--out", str(tmp_path / "run"))
    assert (ran.code, ran.err) == (0, "")
    summary = ran.records[-1]["summary"]
    assert 0 < summary["difference_after_round_1"] <= summary["bound"]
    assert summary["bound"] > ran.records[-3]["training_round"]["error_bound"]


def test_an_adaptive_step_has_no_such_bound(here: Here, tmp_path: Path) -> None:
    flags = [*SMALL, "--rounds", "1", "--execution", "batched", "--server", "adam", "--json"]
    assert here("train", *flags, "--out", str(tmp_path / "run")).records[-1]["summary"]["bound"] is None
