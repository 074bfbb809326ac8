"""`secagg train --privacy ...`: what it says of its noise, what it leaves, and when it ends."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Ran, is_one_line, secagg

from fl.cli.report import draw_accuracy, reckoned
from fl.privacy.accounting import epsilon
from fl.privacy.releases import Gaussian, Sampled
from fl.privacy.spending import Charge
from fl.training.checkpoint import Checkpoint, write_checkpoint

Here = Callable[..., Ran]

SMALL = ["--clients", "5", "--model", "logistic", "--local-epochs", "1", "--clip", "0.5", "--rounds", "3"]
ONE = [*SMALL, "--execution", "sequential", "--no-baseline"]


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_multiplier_is_shown_and_what_is_spent_after_each_round_and_in_the_end(
    here: Here, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    ran = here("train", *ONE, "--privacy", "central", "--epsilon", "3", "--out", str(folder))
    assert (ran.code, ran.err) == (0, "")
    assert "the clients' own loss and accuracy are not summed" in ran.out
    before, *_ = ran.out.split("round 1/3")
    assert "epsilon is at delta 1e-05, and holds against who sees the model, not the server" in before
    records = lines(folder / "metrics.jsonl")
    found = lines(folder / "privacy.jsonl")[0]["releases"][0]["multiplier"]
    assert f"its deviation is {found:.4g} x the clip of 0.5; found for epsilon 3 in all rounds" in ran.out
    assert [record["epsilon"] for record in records] == [
        epsilon([Gaussian(found)] * n, 1e-5) for n in (1, 2, 3)
    ]
    for record in records:
        assert f"epsilon {record['epsilon']:.4g}  5 clients" in ran.out
    assert "at delta 1e-05 for 3 rounds: holds against who sees the model, not the server" in ran.out
    assert "epsilon at delta 1e-05" in ran.out  # a column of the result
    assert "weights: constant" not in ran.out  # none are sent


def test_a_round_that_was_begun_and_has_left_no_record_counts_in_the_end(here: Here, tmp_path: Path) -> None:
    folder, spent = tmp_path / "run", tmp_path / "run" / "privacy.jsonl"
    here("train", *ONE, "--privacy", "central", "--noise-multiplier", "2", "--out", str(folder))
    first, *_ = lines(spent)
    with spent.open("a") as file:
        file.write(json.dumps(first | {"round": 4}) + "\n")
    ran = here("train", "--resume", "--out", str(folder))
    four = epsilon([Gaussian(2.0)] * 4, 1e-5)
    assert f"epsilon {four:.4g} at delta 1e-05 for 4 rounds, 1 of them not finished" in ran.out


def test_a_run_that_ends_by_what_it_learned_promises_what_all_its_rounds_would_have_cost(
    here: Here, tmp_path: Path
) -> None:
    """Else it could go on until it has told more than usual, and say what is spent on average."""
    noise = ["--privacy", "central", "--noise-multiplier", "2", "--until-accuracy", "0.01"]
    ran = here("train", *ONE, *noise, "--out", str(tmp_path / "run"))
    one, three = (epsilon([Gaussian(2.0)] * rounds, 1e-5) for rounds in (1, 3))
    assert f"epsilon {one:.4g} at delta 1e-05 for 1 round: holds" in ran.out
    assert f"promised is no less than epsilon {three:.4g}, of all 3 rounds" in ran.out


def test_what_is_spent_is_json_too(here: Here, tmp_path: Path) -> None:
    line = [*ONE, "--privacy", "local", "--noise-multiplier", "2", "--json", "--out", str(tmp_path / "run")]
    records = here("train", *line).records
    (spent,) = [record["spent"] for record in records if "spent" in record]
    assert spent["epsilon"] == epsilon([Gaussian(2.0)] * 3, 1e-5)
    assert (spent["delta"], spent["against"], spent["honest"]) == (1e-5, "everybody", None)
    (row,) = records[-1]["summary"]["runs"]
    assert (row["epsilon"], row["delta"]) == (spent["epsilon"], 1e-5)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--sensitivity", "l2-max"], "no epsilon: the noise depends on the data"),
        (["--sensitivity", "l2-max"], "of 3 x the largest norm there is, at most the clip of 0.5"),
        (["--noise-largest", "0.1"], "no epsilon: the noise depends on the data"),
        (["--noise", "laplace"], "by the L1 norm, which is up to sqrt(650) x the clip: 12.75"),
        (["--noise-schedule", "linear"], "of 3 x the clip of 0.5 at first, 1.5 x at last (linear)"),
    ],
)
def test_what_one_has_to_know_of_the_noise_is_said(
    here: Here, tmp_path: Path, flags: list[str], says: str
) -> None:
    line = [*ONE, "--privacy", "local", "--noise-multiplier", "3", *flags, "--out", str(tmp_path / "run")]
    ran = here("train", *line)
    assert (ran.code, ran.err) == (0, "")
    assert says in ran.out.replace("its deviation is ", "of ")
    assert ("holds against" in ran.out) != ("no epsilon" in ran.out)


def test_a_round_that_was_begun_and_not_finished_is_charged(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_at_the_third(folder: Path, checkpoint: Checkpoint) -> None:
        if checkpoint.round == 3:
            raise OSError("no space left")
        write_checkpoint(folder, checkpoint)

    folder = tmp_path / "run"
    line = [*ONE, "--privacy", "local", "--epsilon", "18", "--out", str(folder)]
    with monkeypatch.context() as patched:
        patched.setattr("fl.cli.rounds.write_checkpoint", full_at_the_third)
        assert here("train", *line).code == 1
    ran = here("train", "--resume", "--out", str(folder))
    assert (ran.code, ran.err) == (0, "")
    assert "round 3 would bring epsilon to " in ran.out
    (folder / "privacy.jsonl").unlink()
    ran = here("train", "--resume", "--out", str(folder))
    is_one_line(ran, 2, "privacy.jsonl does not have round 1: what the run has spent is not known")


def test_noise_that_was_found_for_an_epsilon_is_not_found_anew(here: Here, tmp_path: Path) -> None:
    """For more rounds, or for fewer: whoever asks for that may have seen what the model has become."""
    folder = tmp_path / "run"
    line = [*ONE, "--privacy", "central", "--out", str(folder)]
    assert here("train", *line, "--epsilon", "3").code == 0
    ran = here("train", "--resume", "--rounds", "4", "--out", str(folder))
    is_one_line(ran, 2, "--resume goes on with the run as it was, with rounds = 3 (not 4)")
    assert here("train", *line, "--noise-multiplier", "2", "--force").code == 0
    ran = here("train", "--resume", "--rounds", "4", "--out", str(folder))
    assert (ran.code, ran.err) == (0, "")


def test_of_an_epsilon_that_promises_nothing_that_is_said(here: Here, tmp_path: Path) -> None:
    """Up to e^20 times the odds are left without a word. What is beyond is said wherever it is printed."""
    assert (reckoned(20.0), reckoned(20.01)) == ("20", "20.01 (promises nothing)")
    noise = ["--privacy", "central", "--noise-multiplier", "0.05", "--until-accuracy", "0.01"]
    ran = here("train", *ONE, *noise, "--out", str(tmp_path / "run"))
    one, three = (f"{epsilon([Gaussian(0.05)] * n, 1e-5):.4g} (promises nothing)" for n in (1, 3))
    assert f"epsilon {one}  " in ran.out  # of a round
    assert f"epsilon {one} at delta 1e-05 for 1 round" in ran.out
    assert f"promised is no less than epsilon {three}, of all 3 rounds" in ran.out
    assert ran.out.count(one) == 3  # and in the result
    ran = here("train", *ONE, "--privacy", "local", "--epsilon", "50", "--out", str(tmp_path / "other"))
    assert "found for epsilon 50 (promises nothing) in all rounds" in ran.out


def test_how_many_add_enough_and_how_much_more_there_was_is_said(here: Here, tmp_path: Path) -> None:
    line = [*ONE, "--privacy", "distributed", "--noise-multiplier", "3", "--out", str(tmp_path / "run")]
    ran = here("train", *line)
    assert (ran.code, ran.err) == (0, "")
    (record, *_) = lines(tmp_path / "run" / "metrics.jsonl")
    honest = record["honest"]
    assert f"each client adds its share of skellam noise, of which {honest} together are enough" in ran.out
    assert f"holds against the server and the corrupt clients, if {honest} clients of each sum" in ran.out
    assert f"the sums carried up to {math.sqrt(5 / honest):.2f} times the noise that is counted" in ran.out
    assert "less than one coordinate of all sums left the ring" in ran.out


def test_with_blanks_it_is_said_that_who_took_part_is_hidden_from_whom_and_by_what(
    here: Here, tmp_path: Path
) -> None:
    noise = ["--privacy", "distributed", "--noise-multiplier", "3", "--blank", "0.5"]
    ran = here("train", *ONE, *noise, "--out", str(tmp_path / "run"))
    assert (ran.code, ran.err) == (0, "")
    before, after = ran.out.split("round 1/3")
    assert "a client contributes nothing with a probability of 0.5, in each round by a coin" in before
    records = lines(tmp_path / "run" / "metrics.jsonl")
    charge = Charge.of((tmp_path / "run" / "privacy.jsonl").read_bytes().splitlines()[0])
    (told,) = charge.releases
    assert isinstance(told, Sampled)
    coin = epsilon(told.releases, 1e-5)
    assert f"from the server and the corrupt clients up to epsilon {coin:.4g} at delta 1e-05" in before
    whom = "holds against the server and the corrupt clients, who do not learn who took part, if"
    assert whom in before
    assert f"epsilon {epsilon([told] * 3, 1e-5):.4g} at delta 1e-05 for 3 rounds: {whom}" in after
    assert [record["epsilon"] for record in records] == [epsilon([told] * n, 1e-5) for n in (1, 2, 3)]
    assert f"epsilon {records[0]['epsilon']:.4g}  5 clients" in after


def test_blanks_without_noise_hide_nobody_and_that_is_said(here: Here, tmp_path: Path) -> None:
    run = [*ONE, "--blank", "1e-7", "--corrupt", "1", "--dropout", "0", "--out", str(tmp_path / "run")]
    run = [word for word in run if word not in ("--clip", "0.5")]
    ran = here("train", *run)
    assert (ran.code, ran.err) == (0, "")
    assert "who took part is not hidden by noise: the sums may tell how many did" in ran.out
    assert "epsilon" not in ran.out


def test_what_is_spent_is_drawn_beside_the_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import pyplot

    drawn: list[Any] = []
    monkeypatch.setattr(pyplot, "close", drawn.append)
    for spent in ([None, None], [1.0, 2.0]):
        draw_accuracy(tmp_path / "accuracy.png", {"masking": [0.5, 0.6]}, "a run", spent)
    plain, noised = drawn
    assert [axes.get_ylabel() for axes in plain.axes] == ["test accuracy"]
    assert [axes.get_ylabel() for axes in noised.axes] == ["test accuracy", "epsilon spent"]
    assert noised.axes[1].lines[0].get_ydata().tolist() == [1.0, 2.0]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--adaptive-clip", "--execution", "sequential"]])
def test_a_ring_of_so_few_bits_that_no_noise_is_enough_is_named_before_a_client_is_started(
    here: Here, tmp_path: Path, more: list[str]
) -> None:
    asked = [
        "--privacy",
        "distributed",
        "--epsilon",
        "1",
        "--bits",
        "6",
        *more,
        "--out",
        str(tmp_path / "run"),
    ]
    words = "epsilon = 1.0: no noise keeps within it: rounding to 6 bits alone tells more: give more bits, a"
    is_one_line(here("train", *SMALL, *more, *asked), 2, words)


@pytest.mark.parametrize("privacy", ["local", "central", "distributed"])
def test_over_processes_there_is_the_same_noise(tmp_path: Path, privacy: str) -> None:
    folder = tmp_path / "run"
    flags = ["--privacy", privacy, "--noise-multiplier", "0.01", "--out", str(folder)]
    ran = secagg("train", *SMALL, *flags)
    assert (ran.code, ran.err) == (0, "")
    records = lines(folder / "metrics.jsonl")
    charges = [Charge.of(line) for line in (folder / "privacy.jsonl").read_bytes().splitlines()]
    assert [charge.round for charge in charges] == [1, 2, 3]
    assert charges[0].releases == (Gaussian(0.01),) or privacy == "distributed"
    assert [record["epsilon"] for record in records] == [
        epsilon(charges[0].releases * n, 1e-5) for n in (1, 2, 3)
    ]
    assert records[-1]["train_loss"] is None
    assert lines(folder / "plain" / "metrics.jsonl")[-1]["epsilon"] is None
    assert "it has no noise: no epsilon is of what" in ran.out
    assert "none" in ran.out
