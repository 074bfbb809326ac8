"""The library names its arguments and no flags; the command line says the flags in their place, every one."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest
import typer

from fl.cli import app, explain
from fl.cli.flags import FLAGS, in_flags
from fl.cli.output import Output
from fl.cli.report import round_fields
from secagg import Policy, RemoteProtocolError, TooFewClients
from secagg.alike import refuse_as_too_near
from secagg.wire import FIRST_RELAY
from transport import RoundReport

ROOT = Path(__file__).parents[2]
LIBRARY = ("secagg", "transport", "secagg_flower")
FLAG = re.compile(r"(?<![\w-])--\w")
ARGUMENT = re.compile(r"\(\w+=\)|\b\w+=True|\bPolicy\(")

ENTRIES = pytest.mark.parametrize(("argument", "flag"), FLAGS.items(), ids=FLAGS.values())


def texts(source: str) -> Iterator[str]:
    """Every string of the source, NAME for what is filled in; docstrings too, which are read in Python."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.JoinedStr(values=parts):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "NAME" for part in parts)
            case ast.Constant(value=str(text)):
                yield text


@functools.cache
def of_the_library() -> Mapping[str, list[str]]:
    paths = sorted(path for package in LIBRARY for path in (ROOT / package).rglob("*.py"))
    return {str(path.relative_to(ROOT)): [*texts(path.read_text(encoding="utf-8"))] for path in paths}


def named(argument: str) -> re.Pattern[str]:
    return re.compile(re.escape(argument).replace("NAME", r"[\w-]+"))


# The library


def test_no_text_of_the_library_has_a_flag() -> None:
    assert [(path, text) for path, of in of_the_library().items() for text in of if FLAG.search(text)] == []


@pytest.mark.parametrize(
    ("source", "has"),
    [
        ('raise E("choose another " "with --bind")', True),
        ('raise E(f"{path}: give --{name}")', True),
        ('def f():\n    """As `--new` does."""', True),
        ('raise E("two - or -- so - more")', False),
        ('KEY = "-----BEGIN"', False),
    ],
)
def test_a_flag_is_seen_where_it_stands(source: str, has: bool) -> None:
    assert any(FLAG.search(text) for text in texts(source)) == has


def test_an_argument_that_the_library_names_is_in_the_table_and_no_entry_is_unused() -> None:
    said = [text for of in of_the_library().values() for text in of]
    assert {argument for argument in FLAGS if not any(map(named(argument).search, said))} == set()
    advice = [text for text in said if ARGUMENT.search(text) and not text.endswith('({"')]  # half an f-string
    assert len(advice) >= len(FLAGS)
    assert [text for text in map(in_flags, advice) if ARGUMENT.search(text)] == []


# The command line


def flags_of(command: click.Command) -> set[str]:
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return {name for each in command.params for name in each.opts}.union(*map(flags_of, below))


def test_every_flag_of_the_table_can_be_typed() -> None:
    flags = {re.findall(r"--[\w-]+", flag)[0] for flag in FLAGS.values()}
    assert len(flags) == len(FLAGS) - 4  # --batch, --sample, --groups and --group-m-min are of two each
    assert flags - flags_of(typer.main.get_command(app)) == set()


@ENTRIES
def test_whoever_types_is_told_the_flag(argument: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"it is so: {argument}, or else".replace("NAME", "word")
    shown = f"it is so: {flag}, or else".replace("NAME", "word")
    out = Output(verbose=True)
    out.error(explain(RemoteProtocolError(text, [7]))[1])
    out.warn(text)
    out.say(text)
    out.detail(text)
    said, err = capsys.readouterr()
    assert err.splitlines() == [f"error: {shown} (culprits: clients 7)", f"warning: {shown}"]
    assert said.splitlines() == [shown, shown]


def test_of_those_who_left_programs_and_pages_have_the_flags_too() -> None:
    split, trusting = 'left: Policy(schemes=frozenset({"split"}))', 'left: Policy(adversary="semi-honest")'
    lost = {3: split, FIRST_RELAY: trusting}
    fields = round_fields(RoundReport("join", frozenset(), lost, {}, {}, 0, 0, 0.0))
    assert fields["lost"] == {"3": "left: --allow split"}
    assert fields["relays_lost"] == {"0": "left: --semi-honest"}


@pytest.mark.parametrize(
    "text",
    [
        "no file /runs/state=1/new/roster=: check the path",
        "unknown key 'batch'; did you mean 'bind'?",
        "Policy(schemes=frozenset())",
    ],
)
def test_what_names_no_argument_of_the_table_is_shown_as_it_is(text: str) -> None:
    assert in_flags(text) == text


def test_what_a_text_names_is_python() -> None:
    """As whoever calls the library would write it."""
    for argument in FLAGS:
        if argument.startswith("Policy"):
            made = eval(argument.replace("NAME", "split"), {"Policy": Policy, "frozenset": frozenset})  # noqa: S307
            assert made in (Policy(adversary="semi-honest"), Policy(schemes=frozenset({"split"})))


def test_whoever_trains_hears_what_a_training_can_do_about_sums_too_near() -> None:
    """Where every input is new, and none is anybody's to call so."""
    said = []
    with pytest.raises(RemoteProtocolError) as refused:
        refuse_as_too_near()
    said.append(in_flags(str(refused.value)))
    said.append(in_flags(str(TooFewClients(4, 5, "masked-input", too_near=2))))
    assert all("more steps, of fewer examples each (--local-steps)" in each for each in said)
    assert said[0].endswith("or whole batches (--batch)")
