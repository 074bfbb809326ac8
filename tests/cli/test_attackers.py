"""`secagg train --attack`: who attacks is told and left for whoever reads of the run; over processes
attackers are clients like others, and the sums are those of one process.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Ran, is_one_line

from fl.cli.malicious import found_in
from fl.cohort.layout import lay_out
from fl.config.run import RunConfig
from fl.config.section import ConfigError

Here = Callable[..., Ran]

SMALL = ["--clients", "5", "--model", "logistic", "--examples-per-client", "40", "--partition", "iid"]


def read(folder: Path) -> dict[str, Any]:
    who: dict[str, Any] = json.loads((folder / "attackers.json").read_text())
    return who


@pytest.mark.parametrize(
    ("flags", "files"),
    [
        (["--attack", "little", "--attackers", "0.4", "--attack-level", "3"], 2),
        (
            [
                *("--attack", "backdoor", "--attackers", "0.4", "--attack-boost", "2"),
                *("--clip", "0.05", "--skip-clip"),
            ],
            1,
        ),
    ],
    ids=["colluding", "with a backdoor, skipping the clip"],
)
def test_over_processes_the_sum_is_the_one_of_one_process(
    here: Here, tmp_path: Path, flags: list[str], files: int
) -> None:
    """To the bit, with masks, a plain run beside it, and rounds before and after those of the attack."""
    many, one = tmp_path / "many", tmp_path / "one"
    line = [*SMALL, *flags, "--attack-rounds", "1:2", "--rounds", "3", "--no-metrics"]
    ran = here("train", *line, "--out", str(many))
    assert (ran.code, ran.err) == (0, "")
    layout = lay_out(RunConfig.read(many / "config.json"))
    assert sorted(layout.attackers) == read(many)["attackers"]
    for u in range(5):  # who is honest has nothing of it
        members = many / "parties" / f"client{u}" / "members"
        assert members.exists() == (u in layout.attackers)
        assert not members.exists() or len(list(members.iterdir())) == files
    assert not [path for path in (many / "parties" / "server").rglob("*") if "attack" in path.name]

    config = tmp_path / "config.json"
    RunConfig.read(many / config.name, execution="sequential").write(config)
    shutil.copy(many / "run.secret", tmp_path)
    assert here("train", "--config", str(config), "--out", str(one)).code == 0
    for folder in (Path(), Path("plain")):
        for name in ("after-round-1.npy", "model.safetensors"):
            assert (many / folder / name).read_bytes() == (one / folder / name).read_bytes()
    honest = here(
        *("train", "--config", str(config), "--out", str(tmp_path / "honest"), "--no-baseline"),
        *("--attack-rounds", "3:3"),
    )
    assert honest.code == 0
    after = [np.load(folder / "after-round-1.npy") for folder in (one, tmp_path / "honest")]
    assert np.abs(after[0] - after[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--attack", "flip"], "1 attacker of 5 clients: flip, in every round ("),
        (
            ["--attack", "mimic", "--omniscient", "--attack-rounds", "1:2,4", "--attackers", "0.6"],
            "3 attackers of 5 clients: mimic, in rounds 1 to 2,4, knowing what everybody has trained (",
        ),
        (
            ["--attack", "flip", "--clip", "1", "--skip-clip"],
            "1 attacker of 5 clients: flip, in every round, skipping the clip (",
        ),
    ],
)
def test_who_attacks_is_told_and_left_in_the_folder(
    here: Here, tmp_path: Path, flags: list[str], said: str
) -> None:
    out = tmp_path / "run"
    line = [*SMALL, "--attackers", "0.2", *flags, "--rounds", "1", "--execution", "batched", "--no-baseline"]
    ran = here("train", *line, "--out", str(out))
    assert (ran.code, ran.err) == (0, "")
    assert said in ran.out
    who = read(out)
    assert who["attack"] == flags[1]
    assert len(who["attackers"]) == int(said[0])
    assert (
        here("train", *SMALL, "--rounds", "1", "--execution", "batched", "--out", str(out), "--force").code
        == 0
    )
    assert not (out / "attackers.json").exists()


def test_nobody_is_told_to_make_room_for_an_attacker(here: Here, tmp_path: Path) -> None:
    line = [*SMALL, "--attack", "scale", "--attack-level", "1e6", "--attackers", "0.2", "--no-baseline"]
    ran = here("train", *line, "--rounds", "1", "--execution", "batched", "--out", str(tmp_path / "run"))
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"attackers": "all"}'])
def test_a_damaged_note_of_who_attacks_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "attack.json").write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"attack.json does not say who attacks .*: begin the run anew, with --force"
    ):
        found_in(tmp_path, RunConfig.of(attack="flip"))


def test_of_a_run_with_a_rule_it_is_told_how_well_that_found_them(here: Here, tmp_path: Path) -> None:
    """In the rounds of their attack, and in no other."""
    line = [*SMALL, "--clients", "8", "--scheme", "plain", "--robust", "multi-krum", "--execution", "batched"]
    line += ["--attack", "scale", "--attack-level", "30", "--attackers", "0.2", "--attack-rounds", "1:2"]
    ran = here("train", *line, "--rounds", "3", "--json", "--out", str(tmp_path / "run"))
    assert ran.code == 0
    (told,) = [
        record["left_out"] for text in ran.out.splitlines() if "left_out" in (record := json.loads(text))
    ]
    attackers, honest = told["attackers"], told["honest"]
    assert (attackers["clients"], attackers["updates"], attackers["left_out"]) == (2, 4, 4 * told["recall"])
    assert honest["updates"] == 20
    assert told["recall"] > 0


def test_more_rounds_of_a_run_have_their_attackers_there(here: Here, tmp_path: Path) -> None:
    """Over processes the server reads who is there from its folder."""
    out = tmp_path / "run"
    line = [*SMALL, "--clients", "8", "--sample", "4", "--corrupt", "1", "--no-baseline", "--out", str(out)]
    line += ["--attack", "sign-flip", "--attackers", "0.5", "--availability", "1", "--rounds", "1"]
    assert here("train", *line).code == 0
    assert here("train", "--resume", "--out", str(out), "--rounds", "2").code == 0
    attackers = set(read(out)["attackers"])
    told = json.loads((out / "parties" / "server" / "declared.json").read_text())["there"]
    assert {round: set(there) for round, there in told.items()} == {"1": attackers, "2": attackers}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--attackers 0.2", "--attackers counts with --attack labels or flip or"),
        ("--attack scale --attack-boost 2", "--attack-boost counts with --attack labels or flip or backdoor"),
        ("--attack backdoor --attack-victim 2", "--attack-victim counts with --attack flip or clean-label"),
        ("--attack flip --omniscient --execution auto", "omniscient: of what others have trained only"),
        ("--attack little --omniscient", "give execution = 'auto' with it"),
        ("--skip-clip --clip 1", "skip_clip: nobody attacks"),
        ("--attack flip --skip-clip", "skip_clip: no client clips what it sends: give clip with it"),
        ("--attack flop", "attack = 'flop': give one of"),
        (
            "--attack flip --attack-target 7 --attackers 0.5",
            "victim or target 7 and 7: give classes of 0 to 9",
        ),
        ("--attack clean-label --attack-level 0.5 --attackers 0.5", "give one below .5"),
    ],
)
def test_an_attack_that_cannot_be_is_refused_in_a_line(
    here: Here, tmp_path: Path, line: str, words: str
) -> None:
    ran = here("train", *line.split(), "--out", str(tmp_path / "run"))
    is_one_line(ran, 1 if "give classes" in words or "below" in words else 2, words)
    assert not (tmp_path / "run").exists()
