"""Settings of published experiments, by name: `secagg train --preset NAME`. What they leave open is ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A published experiment. line: what it is. source: where its settings stand. settings: as
    `fl.config.run.RunConfig.of` takes them.
    """

    line: str
    source: str
    settings: dict[str, Any]


# corrupt is a number wherever a tenth of the roster, the default, would be a whole cohort.


def _wei(dataset: str, examples: int, batch_size: int, rounds: int, **rest: Any) -> Preset:
    """Table 2 gives data a client, L, B and T; figure 7 a tenth of 100 clients a round; the code of Fed-CDP
    the model, its learning rate and two classes a client. LFW's classes are too small for that.
    """
    settings: dict[str, Any] = {
        "dataset": dataset,
        "model": "fed-cdp",
        "clients": 100,
        "sample": 10,
        "partition": "shards",
        "classes_per_client": 2,
        "examples_per_client": examples,
        "local_steps": 100,
        "batch_size": batch_size,
        "rounds": rounds,
        "lr": 0.05,
        "momentum": 0.0,
        "corrupt": 2,
        "execution": "auto",
    }
    settings |= rest
    dealt = "dealt at random" if settings["partition"] == "iid" else "two classes each"
    return Preset(
        f"{dataset}: 100 clients of {examples} examples, {dealt}, 10 a round, {rounds} rounds of 100 steps.",
        "Wei et al., Data Poisoning and Leakage Analysis in Federated Learning: Table 2, figure 7; "
        "what that leaves open: code of Fed-CDP (ICDCS 2021).",
        settings,
    )


PRESETS: dict[str, Preset] = {
    "wei-mnist": _wei("mnist", 500, 5, 100),
    "wei-fashion-mnist": _wei("fashion-mnist", 500, 5, 100),
    "wei-cifar-10": _wei("cifar-10", 400, 4, 100),
    "wei-lfw": _wei("lfw", 300, 3, 60, partition="iid"),
    "mcmahan-mnist": Preset(
        "mnist: 100 clients of 600 examples and two classes, 10 a round, 5 epochs, batch 10.",
        "McMahan et al., AISTATS 2017: section 3, Table 2 (B = 10, E = 5, C = 0.1).",
        {
            "dataset": "mnist",
            "model": "mcmahan-cnn",
            "clients": 100,
            "sample": 10,
            "partition": "shards",
            "local_epochs": 5,
            "batch_size": 10,
            "rounds": 100,
            "lr": 0.1,
            "momentum": 0.0,
            "corrupt": 2,
            "execution": "auto",
        },
    ),
    "ma-mnist": Preset(
        "mnist: 30 clients with skewed labels, all in each round, 120 steps of 1,200 examples.",
        "Ma et al., On Safeguarding Privacy and Security in the Framework of Federated Learning: section IV.",
        {
            "dataset": "mnist",
            "model": "cnn",
            "clients": 30,
            "local_steps": 120,
            "batch_size": 1200,
            "rounds": 300,
            "lr": 0.05,
            "momentum": 0.0,
            "execution": "auto",
        },
    ),
    "tolpegin-fashion-mnist": Preset(
        "fashion-mnist: 50 clients, 5 a round, 200 rounds of an epoch of batch 4.",
        "Tolpegin et al., ESORICS 2020: section 4.1; code of DataPoisoning_FL.",
        {
            "dataset": "fashion-mnist",
            "model": "tolpegin-fmnist",
            "clients": 50,
            "sample": 5,
            "partition": "iid",
            "local_epochs": 1,
            "batch_size": 4,
            "rounds": 200,
            "lr": 0.001,
            "momentum": 0.9,
            "corrupt": 1,
            "execution": "auto",
        },
    ),
    "tolpegin-cifar-10": Preset(
        "cifar-10: 50 clients, 5 a round, 200 rounds of an epoch of batch 10.",
        "Tolpegin et al., ESORICS 2020: section 4.1; code of DataPoisoning_FL.",
        {
            "dataset": "cifar-10",
            "model": "tolpegin-cifar10",
            "clients": 50,
            "sample": 5,
            "partition": "iid",
            "local_epochs": 1,
            "batch_size": 10,
            "rounds": 200,
            "lr": 0.01,
            "momentum": 0.5,
            "corrupt": 1,
            "execution": "auto",
        },
    ),
}
