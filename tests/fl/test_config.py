"""RunConfig: what is written is what is read, and what is wrong is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl import config, models
from fl.config import CHOICES, ConfigError, RunConfig
from fl.data import files

positive = st.floats(min_value=0, max_value=100, exclude_min=True)
configs = st.builds(
    RunConfig,
    clients=st.integers(1, 10_000),
    rounds=st.integers(1, 100_000),
    local_epochs=st.integers(1, 1_000),
    batch_size=st.integers(1, 65_536),
    lr=positive,
    momentum=st.floats(min_value=0, max_value=1, exclude_max=True),
    model=st.sampled_from(CHOICES["model"]),
    dataset=st.sampled_from(CHOICES["dataset"]),
    alpha=st.floats(min_value=1e-3, max_value=1e6),
    scheme=st.sampled_from(CHOICES["scheme"]),
    adversary=st.none() | st.sampled_from(CHOICES["adversary"]),
    ending=st.none() | st.sampled_from(CHOICES["ending"]),
    bits=st.integers(2, 32),
    bound=positive,
    clip=st.none() | positive,
    seed=st.integers(0, 2**63 - 1),
    device=st.sampled_from(["auto", "cpu", "cuda", "cuda:1", "mps"]),
    drop=st.lists(st.text(), max_size=3).map(tuple),
    data_dir=st.none() | st.text(),
)


@given(configs)
def test_write_then_read_is_the_identity(tmp_path_factory: pytest.TempPathFactory, given: RunConfig) -> None:
    path = tmp_path_factory.mktemp("config") / "config.json"
    given.write(path)
    assert RunConfig.read(path) == given


def test_toml_is_read_and_overrides_win(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('clients = 5\nlr = 1\ndrop = ["3@share-keys"]\nmodel = "mlp"\n', encoding="utf-8")
    read = RunConfig.read(path, clients=9, clip=None)
    assert (read.clients, read.lr, read.drop, read.model) == (9, 1.0, ("3@share-keys",), "mlp")
    assert type(read.lr) is float
    assert read.rounds == RunConfig().rounds


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("clients", 0, "int >= 1"),
        ("clients", 10_001, "int <= 10000"),
        ("clients", "8", "got str"),
        ("clients", True, "got bool"),
        ("rounds", 0, "int >= 1"),
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
        ("ending", "kept", "give one of release, keep; did you mean 'keep'?"),
        ("device", "cuda:x", "one of auto, cpu, cuda, mps"),
        ("drop", "3@share-keys", "got str"),
        ("data_dir", "\udcff", "give text that UTF-8 can hold"),
    ],
)
def test_a_value_that_will_not_do_is_named_with_what_would(key: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig(**{key: value})
    assert str(caught.value).startswith(f"{key} = {value!r}: give ")
    assert says in str(caught.value)


def test_a_fault_of_the_file_names_the_file_and_an_option_does_not(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("lr = nan\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"run\.toml: lr = nan"):
        RunConfig.read(path)
    assert RunConfig.read(path, lr=0.1).lr == 0.1
    path.write_text("lr = 0.1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^lr = -1\.0"):
        RunConfig.read(path, lr=-1.0)


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_an_unknown_key_names_its_nearest_neighbour_and_the_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"run{suffix}"
    path.write_text("batchsize = 4\n" if suffix == ".toml" else '{"batchsize": 4}', encoding="utf-8")
    with pytest.raises(
        ConfigError, match=rf"run\{suffix}: unknown key 'batchsize'; did you mean 'batch_size'"
    ):
        RunConfig.read(path)
    with pytest.raises(ConfigError, match=r"unknown key 'zzz'$"):
        RunConfig.read(_valid(tmp_path), zzz=1)


def _valid(folder: Path) -> Path:
    path = folder / "valid.json"
    RunConfig().write(path)
    return path


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("run.yaml", b"rounds: 3", "ends in .toml or .json"),
        ("run.toml", b"rounds = ", "not TOML"),
        ("run.toml", b"\xff = 1", "not TOML"),
        ("run.json", b"{", "run.json: not JSON: Input data was truncated"),
        ("run.json", b'{"lr": NaN}', "not JSON"),
        ("run.json", b"[1]", "one table of keys"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        RunConfig.read(tmp_path / name)
    assert says in str(caught.value)
    assert name in str(caught.value)


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
        RunConfig(rounds=3).write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_written_is_plain_json(tmp_path: Path) -> None:
    assert json.loads(_valid(tmp_path).read_text(encoding="utf-8"))["dataset"] == "digits"


def test_the_names_of_models_are_those_there_are() -> None:
    assert set(config.MODELS) == set(models.MODELS)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        RunConfig().rounds = 3  # type: ignore[misc]


def test_configuration_data_and_package_do_not_import_torch() -> None:
    program = (
        "import sys, fl, fl.config, fl.data, fl.data.partition, fl.data.shard; fl.data.found();"
        "print([m for m in ('torch', 'torchvision', 'sklearn') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
