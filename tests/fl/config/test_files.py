"""A run's description in a file: in sections, as it is written, or without, as older versions wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
import typer
from msgspec import Meta
from typer.testing import CliRunner

from fl.cli.options import given, takes
from fl.config.run import RunConfig
from fl.config.section import ConfigError, fields_of, setting, settle


def toml(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def as_older_versions_wrote(config: RunConfig) -> dict[str, Any]:
    flat = config.flat()
    return flat | {"local_steps": flat["local_steps"] or None}


# Sections


def test_each_key_is_in_its_section(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    config = RunConfig.of(clients=4, local_epochs=3, lr=0.1, server="adam", server_lr=0.2, small_cohort=True)
    config.write(path)
    written = json.loads(path.read_text(encoding="utf-8"))
    sections = ["cohort", "data", "training", "server", "protection", "privacy", "robust", "attack"]
    assert list(written) == [*sections, "meter"]
    assert written["cohort"]["clients"] == 4
    assert (written["training"]["epochs"], written["training"]["lr"]) == (3, 0.1)
    assert (written["server"]["optimiser"], written["server"]["lr"]) == ("adam", 0.2)
    assert written["protection"]["small_cohort"] is True


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[training]\nbatchsize = 4", "[training] has no key 'batchsize'; did you mean 'batch_size' in [tr"),
        ("[training]\nrate = 4", "[training] has no key 'rate'"),
        ("[server]\nlearning = 4", "[server] has no key 'learning'"),
        ("[server]\nmomentun = 0.4", "[server] has no key 'momentun'; did you mean 'momentum' in [server]?"),
        ("[training]\nmomentun = 0.4", "[training] has no key 'momentun'; did you mean 'momentum' in [train"),
        ("[cohort]\nscheme = 'plain'", "[cohort] has no key 'scheme': it is scheme in [protection]"),
        ("[data]\nlr = 0.1", "[data] has no key 'lr': it is lr in [training] or lr in [server]"),
        ("[training]\nlocal_epochs = 3", "[training] has no key 'local_epochs': it is epochs in [training]"),
        ("rounds = 3\n[training]\nlr = 0.1", "'rounds' stands in no section: it is rounds in [training]"),
        ("zzz = 3\n[training]\nlr = 0.1", "'zzz' stands in no section"),
        ("[trainig]\nlr = 0.1", "unknown section 'trainig'; did you mean 'training'?"),
        ("[protection]\nthreshold = 3", "[protection] has no key 'threshold'"),
        ("[training]\nlr = -1", "[training] lr = -1: give float > 0.0"),
        ("[training]\nepochs = 1_001", "[training] epochs = 1001: give int <= 1000"),
        ("[protection]\nending = 'kept'", "[protection] ending = 'kept': give one of release, keep; did you"),
    ],
)  # fmt: skip
def test_what_stands_in_the_wrong_place_is_told_the_right_one(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.read(toml(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path / 'run.toml'}: {says}")


def test_what_an_override_replaces_may_be_wrong(tmp_path: Path) -> None:
    path = toml(tmp_path, "[training]\nlr = -1\n[server]\nlr = 0.5\n")
    read = RunConfig.read(path, lr=0.1)
    assert (read.training.lr, read.server.lr) == (0.1, 0.5)


# Without sections


def test_a_file_without_sections_is_read_and_told_how_it_is_written_now(tmp_path: Path) -> None:
    told: list[str] = []
    path = toml(tmp_path, "lr = 1\nclients = 5\nserver = 'adam'\nlocal_epochs = 3\nrounds = 4\n")
    assert RunConfig.read(path, tell=told.append) == RunConfig.of(
        clients=5, rounds=4, local_epochs=3, lr=1.0, server="adam"
    )
    assert told == [
        f"{path} has no sections, and is read as it was before; now it is [cohort] clients, "
        "[training] rounds, epochs (was local_epochs), lr, [server] optimiser (was server)"
    ]


def test_of_a_file_with_sections_and_of_none_there_is_nothing_to_tell(tmp_path: Path) -> None:
    told: list[str] = []
    assert RunConfig.read(toml(tmp_path, ""), tell=told.append) == RunConfig()
    assert RunConfig.read(toml(tmp_path, "[server]\nlr = 1"), tell=told.append) == RunConfig()
    assert told == []


@pytest.mark.parametrize("config", [RunConfig(), RunConfig.of(local_steps=4, sample=3, drop=("1@join",))])
def test_what_older_versions_left_of_a_run_is_that_run(tmp_path: Path, config: RunConfig) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(msgspec.json.encode(as_older_versions_wrote(config)))
    assert RunConfig.read(path) == config


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("batchsize = 4", "no setting is called 'batchsize'; did you mean 'batch_size' in [training]?"),
        ("epochs = 4", "no setting is called 'epochs': it is epochs in [training]"),
        ("training = 4", "no setting is called 'training'"),
        ("lr = nan", "lr = nan: give float > 0.0"),
    ],
)
def test_without_sections_a_key_is_named_alone(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.read(toml(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path / 'run.toml'}: {says}")


# By name


def test_a_setting_is_changed_by_its_name_whatever_its_section() -> None:
    config = RunConfig.of(clients=4, scheme="ckks", ending="keep", server_lr=0.5)
    changed = config.with_(scheme="plain", ending=None, local_steps=3)
    assert changed == RunConfig.of(clients=4, scheme="plain", server_lr=0.5, local_steps=3)
    assert RunConfig.of(**changed.flat()) == changed
    with pytest.raises(ConfigError, match="no setting is called 'epoch'"):
        config.with_(epoch=3)


def test_names_of_settings_are_those_of_one_field_each() -> None:
    """Or one would be lost in the table of them."""
    kinds = [type(getattr(RunConfig(), section)) for section in RunConfig.sections()]
    assert len(RunConfig.settings()) == sum(bool(field.help) for kind in kinds for field in fields_of(kind))


# A new section


class Weather(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    wind: Annotated[float, setting("Of the air.", ge=0, le=10)] = 0.0
    gust: Annotated[float, setting("Of the worst of it.", name="storm", gt=0)] | None = None

    def __post_init__(self) -> None:
        settle(self)
        ConfigError.unless(not self.wind or self.gust is not None, "wind: say gust too")


class WithWeather(RunConfig, frozen=True, kw_only=True):
    weather: Annotated[Weather, Meta(title="Weather")] = Weather()


def test_a_section_is_a_struct_and_a_line(tmp_path: Path) -> None:
    """Names, files, errors and flags follow."""
    config = WithWeather.of(wind=1, storm=2.0, bits=9)
    assert (config.weather, config.protection.bits) == (Weather(wind=1.0, gust=2.0), 9)
    config.write(tmp_path / "config.json")
    assert WithWeather.read(tmp_path / "config.json") == config
    with pytest.raises(ConfigError, match="wind: say gust too"):
        config.with_(storm=None)
    for text, says in (
        ("[weather]\nwind = 11", r"\[weather\] wind = 11: give float <= 10.0"),
        ("[data]\nwind = 1", r"\[data\] has no key 'wind': it is wind in \[weather\]"),
    ):
        with pytest.raises(ConfigError, match=says):
            WithWeather.read(toml(tmp_path, text))
    app, asked = typer.Typer(), list[dict[str, Any]]()

    @app.command()
    @takes(WithWeather.settings(), WithWeather)
    def train(ctx: typer.Context) -> None:
        asked.append(given(ctx, WithWeather.settings()))

    assert CliRunner().invoke(app, ["--wind", "1", "--storm", "2", "--bits", "9"]).exit_code == 0
    assert asked == [{"wind": 1.0, "storm": 2.0, "bits": 9}]
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    assert shown.index(" Privacy ") < shown.index(" Weather ") < shown.index("--storm")
