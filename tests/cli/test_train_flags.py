"""The flags of `secagg train` are the fields of a run's description, and a preset is some of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Ran, is_one_line, secagg

from fl.config.presets import PRESETS
from fl.config.run import RunConfig

Here = Callable[..., Ran]

ASKED: dict[str, tuple[str, Any]] = {
    "clients": ("--clients 9", 9),
    "sample": ("--sample 3", 3),
    "select": ("--select quality", "quality"),
    "cluster": ("--cluster label", "label"),
    "links": ("--links mixed", "mixed"),
    "deadline": ("--deadline 2.5", 2.5),
    "minimum": ("--minimum 5", 5),
    "drop": ("--drop 1@join --drop 2@unmasking", ("1@join", "2@unmasking")),
    "small_cohort": ("--small-cohort", True),
    "dataset": ("--dataset text", "text"),
    "data_dir": ("--data-dir here", "here"),
    "partition": ("--partition shards", "shards"),
    "alpha": ("--alpha 0.1", 0.1),
    "classes_per_client": ("--classes-per-client 3", 3),
    "examples_per_client": ("--examples-per-client 40", 40),
    "validation": ("--validation 0.2", 0.2),
    "damage": ("--damage labels", "labels"),
    "damage_level": ("--damage-level 0.5", 0.5),
    "damaged": ("--damaged 0.6", 0.6),
    "max_examples": ("--max-examples 500", 500),
    "model": ("--model mlp-200", "mlp-200"),
    "task": ("--task mine.py", "mine.py"),
    "algorithm": ("--algorithm fedsgd", "fedsgd"),
    "rounds": ("--rounds 3", 3),
    "until_accuracy": ("--until-accuracy 0.9", 0.9),
    "local_epochs": ("--local-epochs 4", 4),
    "local_steps": ("--local-steps 12", 12),
    "batch_size": ("--batch-size 16", 16),
    "lr": ("--lr 0.2", 0.2),
    "momentum": ("--momentum 0", 0.0),
    "proximal": ("--proximal 1", 1.0),
    "precision": ("--precision bfloat16", "bfloat16"),
    "local_batches": ("--local-batches poisson", "poisson"),
    "balance": ("--balance loss", "loss"),
    "execution": ("--execution batched", "batched"),
    "device": ("--device cuda:1", "cuda:1"),
    "seed": ("--seed 7", 7),
    "preflight": ("--preflight refuse", "refuse"),
    "baseline": ("--no-baseline", False),
    "metrics": ("--no-metrics", False),
    "server": ("--server yogi", "yogi"),
    "server_lr": ("--server-lr 0.3", 0.3),
    "server_momentum": ("--server-momentum 0.5", 0.5),
    "server_beta2": ("--server-beta2 0.9", 0.9),
    "server_tau": ("--server-tau 0.01", 0.01),
    "scheme": ("--scheme plain", "plain"),
    "adversary": ("--adversary semi-honest", "semi-honest"),
    "ending": ("--ending release", "release"),
    "decoys": ("--decoys 3", 3),
    "relays": ("--relays 3", 3),
    "corrupt": ("--corrupt 2", 2),
    "dropout": ("--dropout 0.25", 0.25),
    "graph": ("--graph sparse", "sparse"),
    "batch": ("--batch 4", 4),
    "groups": ("--groups 2", 2),
    "group_m_min": ("--group-m-min 3", 3),
    "unsafe_groups": ("--unsafe-groups", True),
    "public_weights": ("--public-weights", True),
    "prg": ("--prg chacha20", "chacha20"),
    "alike": ("--alike always", "always"),
    "blank": ("--blank 0.25", 0.25),
    "bits": ("--bits 12", 12),
    "bound": ("--bound 2", 2.0),
    "clip": ("--clip 1.5", 1.5),
    "privacy": ("--privacy local", "local"),
    "noise": ("--noise laplace", "laplace"),
    "noise_multiplier": ("--noise-multiplier 0.7", 0.7),
    "epsilon": ("--epsilon 8", 8.0),
    "delta": ("--delta 1e-6", 1e-6),
    "adaptive_clip": ("--adaptive-clip", True),
    "noise_schedule": ("--noise-schedule linear", "linear"),
    "noise_end": ("--noise-end 0.5", 0.5),
    "sensitivity": ("--sensitivity l2-max", "l2-max"),
    "compress": ("--compress 0.1", 0.1),
    "noise_largest": ("--noise-largest 0.1", 0.1),
    "robust": ("--robust median", "median"),
    "assumed": ("--assumed 0.3", 0.3),
    "root": ("--root 40", 40),
    "redundancy": ("--redundancy 2", 2),
    "attack": ("--attack flip", "flip"),
    "attackers": ("--attackers 0.25", 0.25),
    "availability": ("--availability 0.6", 0.6),
    "attack_rounds": ("--attack-rounds 3:5", "3:5"),
    "attack_level": ("--attack-level 0.5", 0.5),
    "attack_boost": ("--attack-boost 4", 4.0),
    "attack_victim": ("--attack-victim 5", 5),
    "attack_target": ("--attack-target 3", 3),
    "omniscient": ("--omniscient", True),
    "skip_clip": ("--skip-clip", True),
    "meter": ("--meter", True),
    "meter_rounds": ("--meter-rounds 5", 5),
    "meter_memory": ("--meter-memory 64", 64),
    "meter_time": ("--meter-time 0.5", 0.5),
}
"""Field -> what is typed, and what the run then has."""
LOCAL = {"privacy": "local", "clip": 1.0, "noise_multiplier": 1.0}
BESIDE: dict[str, dict[str, Any]] = {
    "select": {"sample": 3, "damage": "noise"},
    "classes_per_client": {"partition": "shards"},
    "damage_level": {"damage": "noise"},
    "damaged": {"damage": "noise"},
    "server_momentum": {"server": "momentum"},
    "server_beta2": {"server": "adam"},
    "server_tau": {"server": "yogi"},
    "ending": {"scheme": "ckks"},
    "decoys": {"scheme": "decoys"},
    "relays": {"scheme": "split"},
    **{name: {"groups": 2} for name in ("group_m_min", "unsafe_groups", "public_weights")},
    "privacy": {"clip": 1.0, "noise_multiplier": 1.0},
    "noise": LOCAL,
    "noise_multiplier": {"privacy": "central", "clip": 1.0},
    "epsilon": {"privacy": "central", "clip": 1.0},
    "adaptive_clip": {"privacy": "central", "clip": 1.0, "noise_multiplier": 1.0},
    "noise_schedule": LOCAL,
    "noise_end": LOCAL | {"noise_schedule": "staircase"},
    "sensitivity": LOCAL,
    "noise_largest": LOCAL,
    "robust": {"scheme": "plain"},
    "assumed": {"scheme": "plain", "robust": "median"},
    "root": {"scheme": "plain", "robust": "fltrust"},
    **{name: {"attack": "flip"} for name in ("attackers", "attack_rounds", "attack_level", "attack_boost")},
    **{name: {"attack": "flip"} for name in ("attack_victim", "attack_target")},
    "availability": {"attack": "flip", "sample": 3},
    "omniscient": {"attack": "little", "execution": "auto"},
    "skip_clip": {"attack": "flip", "clip": 1.0},
    **{name: {"meter": True} for name in ("meter_rounds", "meter_memory", "meter_time")},
}
"""Field -> what has to be typed beside it."""


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """The runs that the command would have begun."""
    runs: list[RunConfig] = []
    monkeypatch.setattr("fl.cli.train.run", lambda out, config, folder, **options: runs.append(config) or 0)
    return runs


# Fields


def test_every_field_is_tried() -> None:
    assert ASKED.keys() == set(RunConfig.settings())


@pytest.mark.parametrize("field", RunConfig.settings())
def test_every_field_is_a_flag_that_reaches_the_run(
    here: Here, asked_for: list[RunConfig], field: str
) -> None:
    line, value = ASKED[field]
    others = BESIDE.get(field, {})
    said = {f"--{name.replace('_', '-')}": word for name, word in others.items()}
    more = [part for flag, word in said.items() for part in ([flag] if word is True else [flag, str(word)])]
    assert here("train", *line.split(), *more).code == 0
    (config,) = asked_for
    reached = config.flat()[field]
    assert reached == value != RunConfig().flat()[field]
    assert type(reached) is type(value)
    assert config == RunConfig.of(**{field: value}, **others)


def test_the_engine_is_a_second_name_of_the_execution(here: Here, asked_for: list[RunConfig]) -> None:
    assert here("train", "--engine", "ray").code == 0
    assert asked_for == [RunConfig.of(execution="ray")]


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("sample", "8", 8),
        ("sample", "0.5", 0.5),
        ("corrupt", "0", 0),
        ("corrupt", "0.25", 0.25),
        ("dropout", "1", 1),
        ("dropout", ".25", 0.25),
    ],
)
def test_a_count_or_a_fraction(
    here: Here, asked_for: list[RunConfig], field: str, text: str, value: float
) -> None:
    assert here("train", f"--{field}", text).code == 0
    given = asked_for[0].flat()[field]
    assert (given, type(given)) == (value, type(value))


@pytest.mark.parametrize("text", ["0", "1.5", "-1", "half"])
def test_neither_a_number_nor_a_fraction_of_clients_to_ask(
    here: Here, asked_for: list[RunConfig], text: str
) -> None:
    is_one_line(here("train", "--sample", text), 2, "sample")
    assert asked_for == []


def test_help_has_every_flag_in_its_panel_and_loads_no_torch(without_torch: dict[str, str]) -> None:
    ran = secagg("train", "--help", env=without_torch | {"COLUMNS": "200"})
    assert (ran.code, ran.err) == (0, "")
    panels = [ran.out.index(f" {panel} ") for panel in RunConfig.sections().values()]
    assert panels == sorted(panels)
    for field in RunConfig.settings():
        assert f"--{field.replace('_', '-')} " in ran.out, field
    assert "Learning rate of SGD. [default: 0.05]" in ran.out


# Presets


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_settings_and_nothing_else(here: Here, asked_for: list[RunConfig], name: str) -> None:
    assert here("train", "--preset", name).code == 0
    assert asked_for == [RunConfig.of(**PRESETS[name].settings)]


def test_flags_win_over_a_preset(here: Here, asked_for: list[RunConfig]) -> None:
    assert here("train", "--preset", "mcmahan-mnist", "--rounds", "3", "--dataset", "digits").code == 0
    settings = PRESETS["mcmahan-mnist"].settings
    assert asked_for == [RunConfig.of(**settings | {"rounds": 3, "dataset": "digits"})]


def test_epochs_win_over_the_steps_of_a_preset(here: Here, asked_for: list[RunConfig]) -> None:
    assert here("train", "--preset", "wei-lfw", "--local-epochs", "2").code == 0
    (config,) = asked_for
    assert (config.training.epochs, config.training.steps) == (2, 0)


@pytest.mark.parametrize("line", ["--partition quantity --alpha 3", "--partition dirichlet --alpha 3"])
def test_each_partition_takes_its_own_numbers(here: Here, asked_for: list[RunConfig], line: str) -> None:
    assert here("train", *line.split()).code == 0
    assert asked_for[0].data.alpha == 3


def test_an_unknown_preset_is_named_with_those_there_are(here: Here, asked_for: list[RunConfig]) -> None:
    is_one_line(here("train", "--preset", "wei"), 2, "--preset wei: there are ", *PRESETS)
    assert asked_for == []


def test_a_preset_does_not_go_with_a_file(here: Here, asked_for: list[RunConfig], tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[training]\nrounds = 3\n")
    line = ["--preset", "ma-mnist", "--config", str(tmp_path / "run.toml")]
    is_one_line(here("train", *line), 2, "--preset or --config: give one of them")
    assert asked_for == []


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_what_it_does(name: str) -> None:
    """Its line has the numbers of its settings."""
    config, line = RunConfig.of(**PRESETS[name].settings), PRESETS[name].line
    assert line.startswith(f"{config.data.dataset}: {config.cohort.clients} clients")
    if config.cohort.sample is not None:
        assert f"{config.cohort.sample} a round" in line
    if config.training.steps:
        assert f"{config.training.steps} steps" in line
    if config.data.examples_per_client is not None:
        assert f"{config.data.examples_per_client} examples" in line
    assert config.flat().items() >= PRESETS[name].settings.items()
