"""`--scheme decoys` in the commands: its warning, its story, a run over processes, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import Ran, is_one_line, secagg

from secagg.decoys import WARNING

WARNED = f"warning: {WARNING}\n"
Here = Callable[..., Ran]


def test_a_demo_shows_a_candidate_and_the_sum_is_that_of_the_true_vectors(here: Here) -> None:
    flags = ["--scheme", "decoys", "--decoys", "3", "--clients", "4", "--length", "20", "--drop", "2@input"]
    ran = here("demo", *flags, "--json")
    assert (ran.code, ran.err) == (0, WARNED)
    *rounds, total, words, traffic = ran.records
    assert [report["round"] for report in rounds] == [
        "join",
        "advertise-keys",
        "share-keys",
        "input",
        "decrypt",
    ]
    assert (total["survivors"], total["exact"]) == ([0, 1, 3], True)
    assert len(words["candidate"]) == len(words["input"]) == 6
    assert max(map(abs, words["candidate"])) < 2**15
    assert traffic["bytes_up"] > 3 * 2 * 20


def test_a_demo_tells_its_story(here: Here) -> None:
    ran = here("demo", "--scheme", "decoys", "--clients", "3", "--length", "4")
    assert ran.code == 0
    for words in (
        "of 8 candidates each, who keep the sum: an experiment",
        "each sends its vector among others in the clear, and encrypted under that key which one it is",
        "the server has added what was chosen; each client decrypts the sum, the server never does",
        "its first candidate, as sent",
        "the sum that each client keeps equals the sum of the words of 3 survivors exactly",
        "ckks with the ending keep shows it no candidate, and is the better one.",
    ):
        assert words in ran.out


@pytest.mark.slow
def test_a_run_over_processes_is_the_one_in_this_process(tmp_path: Path) -> None:
    """Each client makes its own decoys, the second round's from the model of the first, too."""
    flags = ["--scheme", "decoys", "--decoys", "4", "--clients", "3", "--model", "logistic", "--rounds", "2"]
    out = tmp_path / "run"
    ran = secagg("train", *flags, "--no-baseline", "--examples-per-client", "20", "--out", str(out))
    assert (ran.code, ran.err) == (0, WARNED)
    assert "the clients' own loss and accuracy are not summed: the server would read them" in ran.out
    assert "round 2/2  the clients keep the model  3 clients" in ran.out
    kept = [np.load(folder / "after-round-1.npy") for folder in sorted((out / "parties").glob("client*"))]
    assert len(kept) == 3
    assert len({parameters.tobytes() for parameters in kept}) == 1
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [record["alive"] for record in records] == [3, 3]


@pytest.fixture
def keys(tmp_path: Path, here: Here) -> Path:
    assert here("keys", "cohort", "3", "--out", str(tmp_path)).code == 0
    return tmp_path


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("demo --scheme decoys --ending release", "the true candidate is found by linear algebra"),
        ("train --scheme decoys --ending release --out out", "the true candidate is found by linear algebra"),
        ("demo --scheme decoys --adversary active", "decoys are not for a server that is active"),
        ("demo --scheme decoys --decoys 1", "decoys"),
        ("demo --decoys 4", "--decoys 4 is for --scheme decoys: masking sends none"),
        (
            "demo --scheme decoys --bits 32",
            "8 candidates of each of 8 clients with these vectors could overflow",
        ),
        (
            "serve --length 5 --scheme decoys",
            "--scheme decoys is for training, of which decoys are made: give --config",
        ),
        (
            "join --connect tcp://127.0.0.1:9 --key client0.key --input x.npy --allow decoys",
            "decoys are made by training: allow them with --data, not for an --input",
        ),
    ],
)
def test_what_decoys_cannot_keep_is_refused(
    here: Here, keys: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    monkeypatch.chdir(keys)
    np.save("x.npy", np.zeros(5))
    is_one_line(here(*line.split()), 2, words)
    assert not (keys / "out").exists()
