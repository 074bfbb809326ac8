"""Words of which one may be chosen: help lists them all, and who mistypes one is told which was meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Ran, is_one_line

from fl.cli.options import PROTECTION
from fl.config.presets import PRESETS
from fl.config.run import CHOICES

Here = Callable[..., Ran]


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("tran", "train"),
        ("train --modle cnn", "--model"),
        ("train --model cn", "cnn"),
        ("train --dataset mnits", "mnist"),
        ("train --preset wei-mnst", "wei-mnist"),
        ("train --config run.toml", "execution"),
        ("demo --graph spars", "sparse"),
        ("demo --drop 1@share-key", "share-keys"),
        ("serve --length 5 --scheme mask", "masking"),
        ("serve --length 5 --deadline masked-inputs=3", "masked-input"),
        ("join --connect tcp://h:1 --key k --input x --allow plane", "plain"),
        ("join --connect tcp://h:1 --key k --input x --allow ckks --ending kept", "keep"),
        ("join --connect tcp://h:1 --key k --input x --policy key.toml", "smallest_cohort"),
        ("join --connect tcp://h:1 --key k --input x --policy word.toml", "active"),
        ("join --connect tcp://h:1 --key k --input x --policy scheme.toml", "masking"),
        ("join --connect tcp://h:1 --key k --input x --policy table.toml", "training"),
        ("join --connect tcp://h:1 --key k --data . --policy limit.toml", "steps"),
        ("trian", "train"),
        ("list model", "models"),
        ("data fetch minst", "mnist"),
        ("data check cifar10", "cifar-10"),
        ("data picture --partition shard", "shards"),
    ],
)
def test_a_word_that_is_mistyped_is_answered_with_the_nearest(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text("[training]\nexection = 'auto'\n", encoding="utf-8")
    Path("key.toml").write_text("smallest_cohrt = 5\n", encoding="utf-8")
    Path("word.toml").write_text("adversary = 'activ'\n", encoding="utf-8")
    Path("scheme.toml").write_text("schemes = ['maskin']\n", encoding="utf-8")
    Path("table.toml").write_text("[trainng]\nsteps = 5\n", encoding="utf-8")
    Path("limit.toml").write_text("[training]\nstep = 5\n", encoding="utf-8")
    ran = here(*line.split())
    is_one_line(ran, 2)
    assert re.search(rf"[Dd]id you mean (one of: )?'{meant}'", ran.err)
    assert ran.err.lower().count("did you mean") == 1


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train", [word for known in CHOICES.values() for word in known] + list(PRESETS)),
        ("serve", [word for name in PROTECTION for word in CHOICES.get(name, ())]),
        ("demo", [word for name in PROTECTION for word in CHOICES.get(name, ())]),
        ("join", ["ckks", "plain", *CHOICES["ending"], *CHOICES["device"]]),
        ("data picture", [*CHOICES["dataset"], *CHOICES["partition"]]),
        ("data fetch", CHOICES["dataset"]),
        ("data check", CHOICES["dataset"]),
        ("list", ["models", "data", "schemes", "presets"]),
        ("bench", ["protocol", "training", "report", "quick", "full"]),
    ],
)
def test_help_lists_every_choice_at_80_columns(
    here: Here, monkeypatch: pytest.MonkeyPatch, command: str, words: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = here(*command.split(), "--help").out
    assert {word for word in words if not re.search(rf"[\[| ]{re.escape(word)}[\]|, ]", shown)} == set()


def test_a_policy_of_the_wrong_type_is_none(here: Here, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("smallest_cohort = 'many'\n", encoding="utf-8")
    line = ["join", "--connect", "tcp://h:1", "--key", "k", "--input", "x", "--policy", str(file)]
    is_one_line(here(*line), 2, "policy.toml is not a policy: Expected `int`")
