"""RunConfig: what is written is what is read, and what is wrong is named."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.cohort.links import MODES
from fl.cohort.selection import CLUSTERS, SELECTIONS
from fl.config.plan import (
    WITH_STATISTICS,
    Algorithm,
    Balance,
    LocalPlan,
    Optimiser,
    Precision,
    Sampling,
    ServerStep,
)
from fl.config.privacy import NOISES
from fl.config.protection import Protection
from fl.config.run import CHOICES, NOT_WITH_TASK, RunConfig
from fl.config.section import ConfigError
from fl.data import DATASETS, files
from fl.data.corrupt import CORRUPTERS
from fl.data.partition import PARTITIONS
from fl.federation.simulation import WAYS
from fl.models import architectures
from fl.models.architectures import build
from fl.poisoning import DATA, UPDATES
from fl.training.server import STEPS
from secagg.prg import Prg

positive = st.floats(min_value=0, max_value=100, exclude_min=True)
share = st.floats(min_value=0, max_value=1, exclude_max=True)
configs = st.builds(
    RunConfig.of,
    clients=st.integers(1, 10_000),
    rounds=st.integers(1, 100_000),
    local_epochs=st.integers(1, 1_000),
    batch_size=st.integers(1, 65_536),
    lr=positive,
    momentum=share,
    model=st.sampled_from(CHOICES["model"]),
    dataset=st.sampled_from(CHOICES["dataset"]),
    alpha=st.floats(min_value=1e-3, max_value=1e6),
    scheme=st.sampled_from(["masking", "plain"]),
    adversary=st.none() | st.sampled_from(CHOICES["adversary"]),
    bits=st.integers(2, 32),
    bound=positive,
    clip=st.none() | positive,
    seed=st.integers(0, 2**63 - 1),
    device=st.sampled_from(["auto", "cpu", "cuda", "cuda:1", "mps"]),
    drop=st.lists(st.text(), max_size=3).map(tuple),
    data_dir=st.none() | st.text(),
    partition=st.sampled_from(CHOICES["partition"]),
    classes_per_client=st.integers(1, 65_536),
    examples_per_client=st.none() | st.integers(1, 2**31 - 1),
    damage=st.none() | st.sampled_from(CHOICES["damage"]),
    damage_level=st.floats(min_value=0, max_value=1, exclude_min=True),
    damaged=st.floats(min_value=0, max_value=1),
    max_examples=st.none() | st.integers(1, 2**31 - 1),
    local_steps=st.integers(0, 100_000),
    proximal=st.floats(min_value=0, max_value=100),
    precision=st.sampled_from(CHOICES["precision"]),
    local_batches=st.just("poisson"),
    balance=st.sampled_from(CHOICES["balance"]),
    server=st.sampled_from(CHOICES["server"]),
    server_lr=positive,
    server_momentum=share,
    server_beta2=share,
    server_tau=st.floats(min_value=0, max_value=10, exclude_min=True),
    links=st.none() | st.sampled_from(CHOICES["links"]),
    deadline=st.none() | positive,
    corrupt=st.none() | st.integers(0, 10_000) | share,
    dropout=st.none() | st.integers(0, 10_000) | share,
    graph=st.sampled_from(CHOICES["graph"]),
    prg=st.sampled_from(CHOICES["prg"]),
    small_cohort=st.booleans(),
    alike=st.just("never"),
)
of_ckks = st.builds(
    RunConfig.of,
    alike=st.just("never"),
    scheme=st.just("ckks"),
    ending=st.none() | st.sampled_from(CHOICES["ending"]),
    baseline=st.booleans(),
    metrics=st.booleans(),
)
samplings = st.builds(
    RunConfig.of,
    alike=st.just("never"),
    clients=st.integers(100, 10_000),
    sample=st.integers(1, 100) | st.floats(min_value=0, max_value=1, exclude_min=True, exclude_max=True),
    select=st.sampled_from(CHOICES["select"]),
    cluster=st.none() | st.sampled_from(CHOICES["cluster"]),
    links=st.sampled_from(CHOICES["links"]),
    execution=st.sampled_from(CHOICES["execution"]),
    algorithm=st.sampled_from(CHOICES["algorithm"]),
    until_accuracy=st.none() | st.floats(min_value=0, max_value=1, exclude_min=True),
)


@given(configs | of_ckks | samplings)
def test_write_then_read_is_the_identity(tmp_path_factory: pytest.TempPathFactory, given: RunConfig) -> None:
    path = tmp_path_factory.mktemp("config") / "config.json"
    given.write(path)
    assert RunConfig.read(path) == given


def test_toml_is_read_and_overrides_win(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    text = '[cohort]\nclients = 5\ndrop = ["3@share-keys"]\n[training]\nlr = 1\nmodel = "mlp"\n'
    path.write_text(text, encoding="utf-8")
    read = RunConfig.read(path, clients=9, clip=None)
    assert (read.cohort.clients, read.training.lr, read.cohort.drop, read.training.model) == (
        9,
        1.0,
        ("3@share-keys",),
        "mlp",
    )
    assert type(read.training.lr) is float
    assert read.training.rounds == RunConfig().training.rounds


LOCAL = {"privacy": "local", "clip": 1.0, "noise_multiplier": 1.0}
OUT_OF_RANGE: list[tuple[str, Any, str]] = [
    ("clients", 0, "int >= 1"),
    ("clients", 10_001, "int <= 10000"),
    ("clients", "8", "got str"),
    ("clients", True, "got bool"),
    ("rounds", 0, "int >= 1"),
    ("baseline", "yes", "got str"),
    ("metrics", "no", "got str"),
    ("rounds", 2.5, "got float"),
    ("local_epochs", 0, "int >= 1"),
    ("batch_size", 0, "int >= 1"),
    ("lr", 0.0, "float > 0.0"),
    ("lr", float("nan"), "float > 0.0"),
    ("lr", float("inf"), "float <= 100.0"),
    ("momentum", 1.0, "float < 1.0"),
    ("momentum", -0.1, "float >= 0.0"),
    ("alpha", 0.0, "float >= 0.001"),
    ("bits", 1, "int >= 2"),
    ("bits", 33, "int <= 32"),
    ("bound", 0.0, "float > 0.0"),
    ("clip", 0.0, "float > 0.0"),
    ("seed", -1, "int >= 0"),
    ("model", "cmn", "did you mean 'cnn'?"),
    ("dataset", "fashion", "did you mean 'fashion-mnist'?"),
    ("scheme", "maskin", "did you mean 'masking'?"),
    ("decoys", 1, "int >= 2"),
    ("decoys", 65, "int <= 64"),
    ("relays", 1, "int >= 2"),
    ("relays", 17, "int <= 16"),
    ("ending", "kept", "give one of release, keep; did you mean 'keep'?"),
    ("device", "cuda:x", "one of auto, cpu, cuda, mps"),
    ("drop", "3@share-keys", "got str"),
    ("data_dir", "\udcff", "give text that UTF-8 can hold"),
    ("data_dir", 3, "got int"),
    ("sample", 0, "int >= 1"),
    ("sample", 10_001, "int <= 10000"),
    ("sample", 0.0, "float > 0.0"),
    ("sample", 1.0, "float < 1.0"),
    ("deadline", 0.0, "float > 0.0"),
    ("minimum", 0, "int >= 1"),
    ("minimum", 10_001, "int <= 10000"),
    ("small_cohort", "yes", "got str"),
    ("alpha", 1e7, "float <= 1000000.0"),
    ("classes_per_client", 0, "int >= 1"),
    ("classes_per_client", 65_537, "int <= 65536"),
    ("examples_per_client", 0, "int >= 1"),
    ("examples_per_client", 2**31, "int <= 2147483647"),
    ("validation", -0.1, "float >= 0.0"),
    ("validation", 0.6, "float <= 0.5"),
    ("damage_level", 0.0, "float > 0.0"),
    ("damage_level", 1.1, "float <= 1.0"),
    ("damaged", -0.1, "float >= 0.0"),
    ("damaged", 1.1, "float <= 1.0"),
    ("max_examples", 0, "int >= 1"),
    ("max_examples", 2**31, "int <= 2147483647"),
    ("task", 3, "got int"),
    ("rounds", 100_001, "int <= 100000"),
    ("until_accuracy", 0.0, "float > 0.0"),
    ("until_accuracy", 1.1, "float <= 1.0"),
    ("local_epochs", 1_001, "int <= 1000"),
    ("local_steps", -1, "int >= 0"),
    ("local_steps", 100_001, "int <= 100000"),
    ("batch_size", 65_537, "int <= 65536"),
    ("lr", 100.1, "float <= 100.0"),
    ("proximal", -0.1, "float >= 0.0"),
    ("proximal", 100.1, "float <= 100.0"),
    ("seed", 2**63, "int"),
    ("server_lr", 0.0, "float > 0.0"),
    ("server_lr", 100.1, "float <= 100.0"),
    ("server_momentum", -0.1, "float >= 0.0"),
    ("server_momentum", 1.0, "float < 1.0"),
    ("server_beta2", -0.1, "float >= 0.0"),
    ("server_beta2", 1.0, "float < 1.0"),
    ("server_tau", 0.0, "float > 0.0"),
    ("server_tau", 10.1, "float <= 10.0"),
    ("corrupt", -1, "int >= 0"),
    ("corrupt", 10_001, "int <= 10000"),
    ("corrupt", 1.0, "float < 1.0"),
    ("dropout", -1, "int >= 0"),
    ("dropout", 10_001, "int <= 10000"),
    ("dropout", 1.0, "float < 1.0"),
    ("batch", -1, "int >= 0"),
    ("batch", 10_001, "int <= 10000"),
    ("groups", -1, "int >= 0"),
    ("groups", 5_001, "int <= 5000"),
    ("group_m_min", 0, "int >= 1"),
    ("group_m_min", 10_001, "int <= 10000"),
    ("unsafe_groups", "yes", "got str"),
    ("public_weights", "yes", "got str"),
    ("bound", 1e7, "float <= 1000000.0"),
    ("clip", 1e7, "float <= 1000000.0"),
    ("noise_multiplier", 0.0, "float > 0.0"),
    ("noise_multiplier", 1e7, "float <= 1000000.0"),
    ("epsilon", 0.0, "float > 0.0"),
    ("epsilon", 1e7, "float <= 1000000.0"),
    ("delta", 0.0, "float > 0.0"),
    ("delta", 0.02, "float <= 0.01"),
    ("adaptive_clip", "yes", "got str"),
    ("noise_end", 0.0, "float > 0.0"),
    ("noise_end", 1e7, "float <= 1000000.0"),
    ("compress", -0.1, "float >= 0.0"),
    ("compress", 1.0, "float < 1.0"),
    ("blank", -0.1, "float >= 0.0"),
    ("blank", 1.0, "float < 1.0"),
    ("noise_largest", 0.0, "float > 0.0"),
    ("attack", "flp", "did you mean 'flip'?"),
    ("attackers", 0.0, "float > 0.0"),
    ("attackers", 1.1, "float <= 1.0"),
    ("availability", -0.1, "float >= 0.0"),
    ("availability", 1.1, "float <= 1.0"),
    ("attack_rounds", 3, "got int"),
    ("attack_level", -0.1, "float >= 0.0"),
    ("attack_level", 1e7, "float <= 1000000.0"),
    ("attack_boost", 0.0, "float > 0.0"),
    ("attack_boost", 1e7, "float <= 1000000.0"),
    ("attack_victim", -1, "int >= 0"),
    ("attack_victim", 65_536, "int <= 65535"),
    ("attack_target", -1, "int >= 0"),
    ("attack_target", 65_536, "int <= 65535"),
    ("omniscient", "yes", "got str"),
    ("skip_clip", "yes", "got str"),
    ("meter", "yes", "got str"),
    ("meter_rounds", 0, "int >= 1"),
    ("meter_rounds", 101, "int <= 100"),
    ("meter_memory", 0, "int >= 1"),
    ("meter_memory", 1_000_001, "int <= 1000000"),
    ("meter_time", 0.0, "float > 0.0"),
    ("meter_time", 100_001.0, "float <= 100000.0"),
    ("assumed", -0.1, "float >= 0.0"),
    ("assumed", 1.0, "float < 1.0"),
    ("root", 0, "int >= 1"),
    ("redundancy", 0, "int >= 1"),
    ("redundancy", 1_001, "int <= 1000"),
    ("noise_largest", 1.1, "float <= 1.0"),
]


@pytest.mark.parametrize(("key", "value", "says"), OUT_OF_RANGE)
def test_a_value_that_will_not_do_is_named_with_what_would(key: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.of(**{key: value})
    assert str(caught.value).startswith(f"{key} = {value!r}: give ")
    assert says in str(caught.value)
    setting = RunConfig.settings()[key]
    with pytest.raises(ConfigError, match=f"^{setting.key} = .*: give "):
        type(getattr(RunConfig(), setting.section))(**{setting.key: value})


@pytest.mark.parametrize("key", CHOICES)
def test_a_word_that_is_no_choice_is_named_with_those_that_are(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.of(**{key: "zzz"})
    assert str(caught.value) == f"{key} = 'zzz': give one of {', '.join(CHOICES[key])}"


def test_a_word_that_is_nearly_a_choice_is_named_with_it() -> None:
    with pytest.raises(ConfigError, match="ending = 'kept': give one of release, keep; did you mean 'keep'"):
        RunConfig.of(ending="kept")


def test_every_field_is_a_choice_or_has_a_value_that_will_not_do() -> None:
    tried = {key for key, _, _ in OUT_OF_RANGE}
    assert set(RunConfig.settings()) == tried | CHOICES.keys()


@pytest.mark.parametrize(
    ("together", "remedy", "says"),
    [
        ({"sample": 9}, {"clients": 9}, "sample = 9: the choice is of 8 clients"),
        ({"select": "quality"}, {"sample": 4}, "select = 'quality' chooses the clients of a round"),
        ({"select": "channel", "sample": 4}, {"links": "lte"}, "give links too"),
        ({"cluster": "place"}, {"links": "lte"}, "give links too"),
        (
            {"attack": "flip", "attackers": 0.05},
            {"clients": 20},
            "of 8 clients that is none: give a larger sh",
        ),
        (
            {"attack": "little", "omniscient": True},
            {"execution": "auto"},
            "a process has what its own client",
        ),
        (
            {"attack": "flip", "omniscient": True, "execution": "auto"},
            {"attack": "mimic"},
            "of what others h",
        ),
        ({"clip": 1.0, "skip_clip": True}, {"attack": "flip"}, "skip_clip: nobody attacks: say with attack"),
        ({"attack": "flip", "skip_clip": True}, {"clip": 1.0}, "no client clips what it sends: give clip"),
        (
            {"attack": "flip", "skip_clip": True, "privacy": "local", "clip": 1.0, "noise_multiplier": 1.0},
            {"privacy": "central"},
            "skip_clip: with privacy = 'local' attackers forge what they send after",
        ),
        (
            {
                **{"attack": "flip", "skip_clip": True, "privacy": "distributed"},
                **{"clip": 1.0, "noise_multiplier": 1.0},
            },
            {"skip_clip": False},
            "the clip is part of the encoding",
        ),
        (
            {"attack": "flip", "skip_clip": True, "privacy": "example", "clip": 1.0, "noise_multiplier": 1.0},
            {"privacy": "none", "noise_multiplier": None},
            "the clip is of each example's gradient",
        ),
        (
            {"attack": "flip", "availability": 0.5},
            {"sample": 4},
            "availability: every client is in every rou",
        ),
        (
            {"attack": "flip", "meter": True},
            {"meter": False},
            "meter: beside attackers it does not know what",
        ),
        (
            {"attack_rounds": "5:3"},
            {"attack_rounds": "3:5"},
            "attack_rounds: '5:3' names no rounds: say from",
        ),
        ({"cluster": "mode"}, {"links": "mixed"}, "give links too"),
        (
            {"task": "t.py", "execution": "batched"},
            {"execution": "auto"},
            "trained client by client, where its",
        ),
        (
            {"task": "t.py", "scheme": "decoys"},
            {"scheme": "ckks"},
            "'decoys': these are made by the trainer's",
        ),
        ({"execution": "auto", "deadline": 1.0}, {"links": "5g"}, "give links too"),
        ({"sample": 4, "scheme": "ckks", "ending": "keep"}, {"ending": None}, "no sample and no cluster"),
        (
            {"cluster": "label", "scheme": "ckks", "ending": "keep"},
            {"ending": None},
            "no sample and no cluster",
        ),
        (
            {"until_accuracy": 0.9, "scheme": "ckks", "ending": "keep"},
            {"ending": None},
            "no model to measure",
        ),
        ({"sample": 4, "scheme": "decoys"}, {"scheme": "masking"}, "no sample and no cluster"),
        (
            {"cluster": "label", "scheme": "split"},
            {"scheme": "masking"},
            "cluster: with scheme = 'split' a relay adds for one set of clients of a task",
        ),
        ({"batch": 4, "sample": 4}, {"batch": 0}, "batch cuts the whole roster"),
        ({"batch": 4, "cluster": "label"}, {"cluster": None}, "batch cuts the whole roster"),
        ({"execution": "batched", "drop": ("3@join",)}, {"execution": "processes"}, "drop kills processes"),
        ({"execution": "ray", "device": "cuda"}, {"device": "cpu"}, "of execution = 'ray' train on CPUs"),
        ({"until_accuracy": 0.9, "validation": 0.0}, {"validation": 0.2}, "measured on validation data"),
        ({"algorithm": "fedsgd", "proximal": 0.1}, {"proximal": 0.0}, "nobody moves away"),
        ({"algorithm": "fedavg-weights", "clip": 1.0}, {"clip": None}, "clip, compress would change whole"),
        ({"algorithm": "fedavg-weights", "compress": 0.1}, {"compress": 0.0}, "would change whole models: w"),
        (
            {"validation": 0.1, "scheme": "ckks", "ending": "keep"},
            {"ending": None},
            "until_accuracy, validation: with ending = 'keep'",
        ),
        ({"minimum": 5, "sample": 4}, {"minimum": 4}, "minimum = 5: a round has 4 clients"),
        (
            {"algorithm": "fedsgd", "sample": 4},
            {"alike": "never"},
            "no sample and no cluster with it, or alike",
        ),
        ({"local_steps": 1, "cluster": "label"}, {"local_steps": 2}, "no sample and no cluster with it, or"),
        ({"alike": "any", "sample": 4}, {"alike": "always"}, "no sample and no cluster with it, or"),
        (
            {"batch_size": 65, "scheme": "ckks"},
            {"scheme": "masking"},
            "with ckks a client helps to one sum of them: take masking",
        ),
        ({"batch_size": 65, "scheme": "decoys"}, {"alike": "never"}, "with decoys a client helps to one sum"),
        ({"blank": 0.5, "algorithm": "fedavg-weights"}, {"algorithm": "fedavg"}, "is no model: with fedavg"),
        ({"blank": 0.5, "batch_size": 65}, {"alike": "never"}, "with blank and no noise a client helps to o"),
        (
            {"blank": 0.5} | LOCAL,
            {"privacy": "distributed"},
            "blank: with privacy = 'local' a client that contributes nothing adds no noise either: take priv",
        ),
        ({"algorithm": "fedsgd", "local_steps": 3}, {"local_steps": 0}, "local_steps: with fedsgd"),
        (
            {"algorithm": "fedsgd", "local_batches": "poisson"},
            {"local_batches": "shuffled"},
            "local_batches: with fedsgd",
        ),
        ({"balance": "sampling"}, {"balance": "loss"}, "balance = 'sampling': passes take every example as"),
        (
            {"noise": "gaussian", "adaptive_clip": True},
            LOCAL | {"privacy": "central"},
            "noise, adaptive_clip: nobody adds noise: say who with privacy",
        ),
        (
            LOCAL | {"scheme": "decoys"},
            {"scheme": "masking"},
            "every candidate is computed from the client's data and would be a release of its own",
        ),
        (
            LOCAL | {"noise": "skellam"},
            {"noise": "laplace"},
            "noise = 'skellam': with privacy = 'local' it is gaussian or laplace",
        ),
        (LOCAL | {"clip": None}, {"clip": 1.0}, "privacy = 'local' needs a clip: the largest L2 norm"),
        (
            LOCAL | {"epsilon": 1.0},
            {"noise_multiplier": None},
            "epsilon, from which it is found, not both",
        ),
        (
            LOCAL | {"adaptive_clip": True},
            {"privacy": "central"},
            "adaptive_clip: the count that the clip foll",
        ),
        (
            LOCAL | {"privacy": "central", "sensitivity": "l2-max"},
            {"privacy": "local"},
            "no client adds all of its noise: leave them out",
        ),
        (
            LOCAL | {"privacy": "distributed", "noise_largest": 0.1},
            {"privacy": "local"},
            "no client adds all of its noise: leave them out",
        ),
        (
            LOCAL | {"noise_multiplier": None, "epsilon": 1.0, "noise_largest": 0.1},
            {"noise_largest": None},
            "the noise depends on the data, and there is none to keep to",
        ),
        (
            LOCAL | {"privacy": "distributed", "scheme": "ckks"},
            {"scheme": "masking"},
            "its noise is of integers in the ring of the sum",
        ),
        (
            LOCAL | {"privacy": "distributed", "scheme": "plain"},
            {"scheme": "split"},
            "take scheme = 'masking' or 'split', or local or central noise",
        ),
        (
            LOCAL | {"privacy": "distributed", "bound": 1.0},
            {"bound": None},
            "the range of a sum follows from clip, bits and noise",
        ),
        (
            LOCAL | {"privacy": "central", "scheme": "ckks", "ending": "keep"},
            {"privacy": "local"},
            "with ending = 'keep' the server has no mean to add noise to",
        ),
        (
            LOCAL | {"select": "quality", "sample": 4},
            {"select": "chance"},
            "select = 'quality', cluster: what clients declare has no noise",
        ),
        (LOCAL | {"cluster": "label"}, {"cluster": None}, "cluster: what clients declare has no noise"),
        (LOCAL | {"model": "tolpegin-fmnist"}, {"model": "cnn"}, "its running variances would be noise"),
        (LOCAL | {"noise_end": 0.5}, {"noise_schedule": "linear"}, "noise_end: with noise_schedule = 'const"),
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused_with_what_would_do(
    together: dict[str, Any], remedy: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        RunConfig.of(**together)
    RunConfig.of(**together | remedy)


def test_models_with_running_statistics_are_those_that_are_called_so() -> None:
    shapes = {"gru": (64,), "bag-of-words": (64,)}
    built = {name: build(name, shapes.get(name, (3, 32, 32)), 10, 0) for name in architectures.MODELS}
    assert [name for name, model in built.items() if any(True for _ in model.buffers())] == list(
        WITH_STATISTICS
    )


def test_a_threshold_is_of_a_single_sum() -> None:
    with pytest.raises(ConfigError, match="threshold: in training it follows from corrupt and dropout"):
        RunConfig(protection=Protection(threshold=5))


def test_the_numbers_that_follow_from_others() -> None:
    assert RunConfig().cohort.per_round == 8
    assert RunConfig.of(sample=3).cohort.per_round == 3
    assert RunConfig.of(clients=100, sample=0.1).cohort.per_round == 10
    assert RunConfig.of(clients=3, sample=0.01).cohort.per_round == 1
    assert [RunConfig.of(**more).held_out for more in ({}, {"until_accuracy": 0.9}, {"validation": 0.2})] == [
        0,
        0.1,
        0.2,
    ]
    config = RunConfig.of(
        algorithm="fedavg-weights",
        local_epochs=3,
        local_steps=4,
        batch_size=5,
        lr=0.6,
        momentum=0.7,
        proximal=8.0,
        precision="float64",
        local_batches="poisson",
        balance="loss",
        server="adam",
        server_lr=0.1,
        server_momentum=0.2,
        server_beta2=0.3,
        server_tau=0.4,
    )
    plan = LocalPlan("fedavg-weights", 3, 4, 5, 0.6, 0.7, 8.0, "float64", "poisson", "loss")
    assert config.training.plan == plan
    assert config.server.step == ServerStep("adam", 0.1, 0.2, 0.3, 0.4)
    assert RunConfig.of(local_epochs=3).training.plan.steps_of(17) == 9
    hidden = RunConfig.of(corrupt=2, dropout=0.2, graph="complete", batch=4, small_cohort=True).protection
    assert (hidden.corrupt, hidden.dropout, hidden.graph, hidden.batch, hidden.small_cohort) == (
        2,
        0.2,
        "complete",
        4,
        True,
    )


def test_a_fault_of_the_file_names_the_file_and_an_option_does_not(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("lr = nan\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"run\.toml: lr = nan"):
        RunConfig.read(path)
    assert RunConfig.read(path, lr=0.1).training.lr == 0.1
    path.write_text("lr = 0.1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^lr = -1\.0"):
        RunConfig.read(path, lr=-1.0)


def _valid(folder: Path) -> Path:
    path = folder / "valid.json"
    RunConfig().write(path)
    return path


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("run.yaml", b"rounds: 3", "ends in .toml or .json"),
        ("run.toml", b"rounds = ", "not TOML"),
        ("run.toml", b"lr = 1\n\xff = 1", "run.toml: not UTF-8, from byte 7 on: save it in that encoding"),
        ("run.toml", "lr = 1".encode("utf-16"), "run.toml: not UTF-8, from byte 0 on"),
        ("run.toml", b"lr = 1\rseed = 2", "not TOML"),
        ("run.toml", b"drop = " + b"[" * 2000 + b"]" * 2000, "run.toml: not TOML: nested too deeply"),
        ("run.json", b"[" * 2000, "run.json: not JSON: nested too deeply"),
        (
            "run.json",
            b'{"lr": ' + b"[" * 100 + b"]" * 100 + b"}",
            "run.json: lr = [[[[[[[...]]]]]]]: give float",
        ),
        ("run.json", b"{", "run.json: not JSON: Input data was truncated"),
        ("run.json", b'{"lr": NaN}', "not JSON"),
        ("run.json", b"[1]", "tables of keys"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        RunConfig.read(tmp_path / name)
    assert says in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.toml", b"[cohort]\nclients = 5\n[training]\nlr = 1\n"),
        ("run.json", b'{"cohort": {\n"clients": 5},\n"training": {"lr": 1\n}}'),
    ],
)
def test_files_of_every_system_are_read(tmp_path: Path, name: str, content: bytes, mark: bytes) -> None:
    for text in (content, content.replace(b"\n", b"\r\n")):
        (tmp_path / name).write_bytes(mark + text)
        assert RunConfig.read(tmp_path / name) == RunConfig.of(clients=5, lr=1.0)


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "run.toml").mkdir()
    with pytest.raises(ConfigError, match=r"run\.toml is not a file"):
        RunConfig.read(tmp_path / "run.toml")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: not readable"):
        RunConfig.read(tmp_path / "absent.toml")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _valid(tmp_path)
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        RunConfig.of(rounds=3).write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_written_is_plain_json(tmp_path: Path) -> None:
    assert json.loads(_valid(tmp_path).read_text(encoding="utf-8"))["data"]["dataset"] == "digits"


@pytest.mark.parametrize(
    ("key", "there_are"),
    [
        ("model", architectures.MODELS),
        ("dataset", DATASETS),
        ("partition", PARTITIONS),
        ("damage", CORRUPTERS),
        ("attack", (*DATA, *UPDATES)),
        ("select", SELECTIONS),
        ("cluster", CLUSTERS),
        ("links", (*MODES, "mixed")),
        ("algorithm", get_args(Algorithm)),
        ("server", STEPS),
        ("server", get_args(Optimiser)),
        ("precision", get_args(Precision)),
        ("local_batches", get_args(Sampling)),
        ("balance", get_args(Balance)),
        ("execution", WAYS),
        ("prg", get_args(Prg)),
        ("privacy", NOISES),
        ("noise", {noise for noises in NOISES.values() for noise in noises}),
    ],
)
def test_the_words_of_a_field_are_those_there_are(key: str, there_are: Iterable[str]) -> None:
    assert sorted(CHOICES[key]) == sorted(there_are)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        RunConfig().training.rounds = 3  # type: ignore[misc]


def test_configuration_data_and_package_do_not_import_torch() -> None:
    program = (
        "import sys, fl, fl.config.run, fl.data, fl.data.partition, fl.data.shard; fl.data.found();"
        "import fl.cohort.layout, fl.cohort.links, fl.config.plan, fl.config.presets, fl.cohort.selection;"
        "print([m for m in ('torch', 'torchvision', 'sklearn') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# A task of one's own

NOT_BESIDE = {
    "model": "mlp",
    "dataset": "text",
    "partition": "iid",
    "alpha": 1.0,
    "classes_per_client": 3,
    "examples_per_client": 40,
    "validation": 0.2,
    "damage": "noise",
    "damage_level": 0.5,
    "damaged": 0.5,
    "until_accuracy": 0.9,
    "root": 40,
    "redundancy": 2,
    "attack": "opposite",
    "meter": True,
}
"""What a task brings itself, or what looks into data of the package."""


def test_all_that_does_not_go_with_a_task_is_tried() -> None:
    assert NOT_BESIDE.keys() == set(NOT_WITH_TASK)


@pytest.mark.parametrize("name", NOT_BESIDE)
def test_what_does_not_go_with_a_task_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} = .*: a task of one's own brings its model and its data"):
        RunConfig.of(task="mine.py", **{name: NOT_BESIDE[name]})


def test_a_task_in_a_file_is_looked_for_beside_it_and_on_the_command_line_where_one_is(
    tmp_path: Path,
) -> None:
    (tmp_path / "run.toml").write_text('[training]\ntask = "mine.py"\n')
    assert RunConfig.read(tmp_path / "run.toml").training.task == str(tmp_path / "mine.py")
    assert RunConfig.read(tmp_path / "run.toml", task="mine.py").training.task == "mine.py"
    (tmp_path / "run.toml").write_text('[training]\ntask = "/srv/mine.py"\n')
    assert RunConfig.read(tmp_path / "run.toml").training.task == "/srv/mine.py"
