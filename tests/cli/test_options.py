"""What a command line gives reaches the command, wins over a file, and is nothing more than was given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import click
import pytest
import typer
from commands import Ran

from fl.cli import app
from fl.cli.demo import Demo
from fl.cli.options import count_or_fraction
from fl.cli.output import Output
from fl.cli.serve import described
from fl.config.protection import Protection
from fl.config.run import RunConfig

Here = Callable[..., Ran]

PROTECTION = [
    *("--scheme", "masking", "--adversary", "semi-honest", "--corrupt", "2", "--dropout", "0.25"),
    *("--graph", "complete", "--batch", "0", "--prg", "chacha20", "--small-cohort"),
]
OF_CKKS = ["--scheme", "ckks", "--ending", "keep"]
FLAGS = [*PROTECTION, "--drop", "1@join", "--drop", "2@unmasking", "--seed", "0"]
GIVEN = {
    "scheme": "masking",
    "adversary": "semi-honest",
    "corrupt": 2,
    "dropout": 0.25,
    "graph": "complete",
    "batch": 0,
    "prg": "chacha20",
    "small_cohort": True,
}


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """With what the command's own function is called, in its place."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    for command in ("demo", "train", "serve"):
        monkeypatch.setattr(f"fl.cli.{command}.run", lambda *args, **options: calls.append((args, options)))
    return calls


def test_a_demo_is_what_was_asked_for(here: Here, called: list[Any]) -> None:
    assert here("demo", *FLAGS, "--threshold", "5", "--bits", "9").code == 0
    assert here("demo").code == 0
    assert here("demo", *OF_CKKS).code == 0
    demos = [args[1] for args, _ in called]
    drops = ("1@join", "2@unmasking")
    assert demos == [
        Demo(8, 100_000, 9, drops, 0, 0, Protection(**GIVEN, threshold=5), None),
        Demo(8, 100_000, 16, (), 0, 0, Protection(), None),
        Demo(8, 100_000, 16, (), 0, 0, Protection(scheme="ckks", ending="keep"), None),
    ]
    assert type(demos[0].protection.corrupt) is int


def test_flags_win_over_the_file_and_those_not_given_do_not(
    here: Here, called: list[Any], tmp_path: Path
) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        "[cohort]\ndrop = ['0@join']\n[training]\nseed = 7\nrounds = 3\n"
        "[protection]\nbatch = 5\ncorrupt = 0.2\nbits = 12\n"
    )
    for args in ([], OF_CKKS, FLAGS, ["--config", str(file)], ["--config", str(file), *FLAGS]):
        assert here("train", *args).code == 0
    flags = {**GIVEN, "seed": 0, "drop": ("1@join", "2@unmasking")}
    of_file = {"batch": 5, "seed": 7, "corrupt": 0.2, "rounds": 3, "bits": 12, "drop": ("0@join",)}
    assert [args[1] for args, _ in called] == [
        RunConfig(),
        RunConfig.of(scheme="ckks", ending="keep"),
        RunConfig.of(**flags),
        RunConfig.of(**of_file),
        RunConfig.of(**of_file | flags),
    ]


def test_a_file_without_sections_is_read_with_one_line_that_says_where_its_keys_stand_now(
    here: Here, tmp_path: Path, called: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.toml"
    file.write_text("rounds = 3\nlocal_steps = 7\n")
    told = f"{file} has no sections, and is read as it was before; now it is [training] rounds, steps (was "
    ran = here("train", "--config", str(file))
    assert (ran.code, ran.err) == (0, f"warning: {told}local_steps)\n")
    assert [args[1] for args, _ in called] == [RunConfig.of(rounds=3, local_steps=7)]
    assert described(Output(), file, {}) == RunConfig.of(rounds=3, local_steps=7)
    assert capfd.readouterr().err == ran.err


def test_a_server_is_told_the_flags_that_were_given(here: Here, called: list[Any]) -> None:
    assert here("serve", "--length", "5", *PROTECTION, "--threshold", "5").code == 0
    assert here("serve", "--length", "5").code == 0
    assert here("serve", "--length", "5", *OF_CKKS).code == 0
    flags = [{**GIVEN, "threshold": 5}, {}, {"scheme": "ckks", "ending": "keep"}]
    assert [options["flags"] for _, options in called] == flags


@pytest.mark.parametrize("command", ["demo", "train", "serve"])
@pytest.mark.parametrize("option", ["--corrupt", "--dropout"])
@pytest.mark.parametrize("text", ["many", "1/10", "", "9" * 5000])
def test_neither_a_number_nor_a_fraction_of_clients(
    here: Here, called: list[Any], command: str, option: str, text: str
) -> None:
    ran = here(command, option, text)
    assert (ran.code, called) == (2, [])
    assert f"Invalid value for '{option}': {text}: a number of clients such as 2" in ran.err


def of_numbers(group: click.Group, *path: str) -> Iterator[tuple[click.Context, click.Parameter]]:
    """Every option of every command that takes a number with a fraction."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from of_numbers(command, *path, name)
            continue
        context = click.Context(command, info_name=" ".join((*path, name)))
        fraction = click.types.FloatParamType
        for option in command.params:
            if isinstance(option.type, fraction) or getattr(option.type, "func", None) is count_or_fraction:
                yield context, option


def test_infinity_and_what_is_no_number_are_refused_wherever_a_number_is_asked_for() -> None:
    options = [*of_numbers(cast(click.Group, typer.main.get_command(app)))]
    assert {"time", "lr", "alpha", "patience", "dropout"} <= {option.name for _, option in options}
    for context, option in options:
        assert option.process_value(context, "1") == 1
        for text in ("nan", "inf", "-inf"):
            with pytest.raises(click.BadParameter):
                option.process_value(context, text)
