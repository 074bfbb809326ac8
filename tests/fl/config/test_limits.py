"""What a client computes at most: a task beyond it is refused before anything is made; orders as they go."""

from __future__ import annotations

import tracemalloc
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fl.cli.learn import train
from fl.cli.output import Output
from fl.config.limits import Limits
from fl.config.plan import LocalPlan
from fl.config.run import RunConfig
from fl.data.shard import Shard, write_shard
from fl.federation.client import LocalTrainer
from fl.federation.task import write_instructions
from fl.models.architectures import Description
from fl.training.batched import _columns
from fl.training.local import batches
from secagg import Policy, RemoteProtocolError

FLAGS = {"epochs": "local_epochs", "steps": "local_steps", "batch_size": "batch_size"}


def asked(**settings: Any) -> bytes:
    """A task on the model of 15 parameters."""
    model, parameters = Description("logistic", (1, 2, 2), 3), np.zeros(15, np.float32)
    return write_instructions(RunConfig.of(**settings), bytes(16), 1, model, parameters)


def trainer(examples: int = 5, **limits: int) -> LocalTrainer:
    x, y = np.zeros((examples, 1, 2, 2), np.float32), np.zeros(examples, np.int64)
    return LocalTrainer(0, Shard(x, y, 3, "tiny"), "cpu", limits=Limits(**limits))


@pytest.mark.parametrize("name", FLAGS)
def test_a_task_up_to_a_limit_is_taken_and_beyond_it_refused(name: str) -> None:
    mine = trainer(**{name: 3})
    assert mine(asked(**{FLAGS[name]: 3}))["examples"] == 5
    words = rf"asks for {name} of 4 in training; this client takes 3 at most\. If .*--most-{name[:5]}"
    with pytest.raises(RemoteProtocolError, match=words):
        mine(asked(**{FLAGS[name]: 4}))


def test_a_model_beyond_the_limit_is_refused() -> None:
    assert trainer(parameters=15)(asked())["update"].shape == (15,)
    small, words = trainer(parameters=14), "parameters of 15 in training; this client takes 14 at"
    with pytest.raises(RemoteProtocolError, match=words):
        small(asked())
    with pytest.raises(RemoteProtocolError, match=words):  # what is asked first
        small.likeness(asked(), Policy())


def test_a_task_of_a_model_far_beyond_the_limit_is_not_even_sent(tmp_path: Path) -> None:
    asked_for: dict[str, Any] = {}

    class Peer:
        id, policy = 0, Policy()

        def contribute(self, trainer: LocalTrainer, **how: Any) -> None:
            asked_for.update(how)

    x, y = np.zeros((5, 1, 2, 2), np.float32), np.zeros(5, np.int64)
    write_shard(tmp_path, x, y, 3, "tiny")
    peer: Any = Peer()
    train(Output(quiet=True), peer, tmp_path, device="cpu", limits=Limits(parameters=1000))
    assert asked_for["largest_task"] == 8_000 + 2**16


@pytest.mark.parametrize("settings", [{"local_epochs": 101}, {"local_steps": 10_001}, {"batch_size": 1_025}])
def test_a_client_has_limits_if_nobody_set_any(settings: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError, match="at most"):
        trainer()(asked(**settings))


@pytest.mark.parametrize("settings", [{"local_epochs": 101, "batch_size": 1}, {"batch_size": 2_000}])
def test_a_refusal_says_nothing_of_what_a_client_holds(settings: dict[str, Any]) -> None:
    """With one example, of which such a task makes little, it is as with many."""
    said = set()
    for examples in (1, 400):
        with pytest.raises(RemoteProtocolError) as refused:
            trainer(examples)(asked(**settings))
        said.add(str(refused.value))
    assert len(said) == 1


def test_for_fedsgd_only_the_model_counts() -> None:
    Limits(epochs=1, steps=1, batch_size=1).check(LocalPlan("fedsgd", 1_000, 0, 5_000), 15)


def test_a_client_of_a_local_run_takes_what_its_run_asks_and_no_more() -> None:
    plan = LocalPlan(epochs=500, batch_size=4_000)
    Limits.of(plan).check(plan, 30_000_000)
    with pytest.raises(RemoteProtocolError, match="epochs of 501"):
        Limits.of(plan).check(msgspec.structs.replace(plan, epochs=501), 15)


def test_orders_are_drawn_as_they_are_needed() -> None:
    """Of 100,000 passes over 1,000 examples one by one, the first steps take no memory to speak of: all
    would take tens of gigabytes.
    """
    plan, order = LocalPlan(epochs=100_000, batch_size=1), bytes(32)
    tracemalloc.start()
    taken = list(islice(batches(1_000, plan, order), 3))
    columns = list(islice(_columns([batches(1_000, plan, order), batches(10, plan, order)]), 3))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [len(batch) for batch in taken] == [1, 1, 1]
    assert [len(column) for column in columns] == [2, 2, 2]
    assert peak < 4 * 2**20
