"""`secagg evaluate`: of models made by hand, whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Ran, is_one_line
from torch import nn

from fl.cli import pictures
from fl.cli.rounds import OUTPUTS
from fl.cohort.layout import lay_out
from fl.config.run import RunConfig
from fl.config.secret import RUN, SERVER, put
from fl.data import DATASETS, Dataset, load
from fl.data.shard import write_shard
from fl.models.architectures import Description, build
from fl.models.weights import save
from fl.poisoning.data import stamp
from fl.scores import Fairness

Here = Callable[..., Ran]
DIGITS = {"dataset": "digits", "model": "logistic", "clients": 4, "execution": "sequential"}
LOGISTIC = Description("logistic", (1, 8, 8), 10)
ALWAYS = 3


def saying(answer: int, described: Description = LOGISTIC) -> nn.Module:
    """A model that takes everything for one class, and gives it a likelihood of a half."""
    made = build(described.model, described.shape, described.classes, 0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
        list(made.parameters())[-1][answer] = np.log(described.classes - 1)
    return made


def left(folder: Path, made: nn.Module | None, accuracy: float | None = None, **settings: Any) -> RunConfig:
    """A run's folder, as `secagg train` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = RunConfig.of(**DIGITS | settings)
    config.write(folder / "config.json")
    put(folder / RUN, bytes(32))
    if accuracy is not None:
        (folder / "metrics.jsonl").write_text(json.dumps({"round": 1, "accuracy": accuracy}) + "\n")
    if made is not None:
        save(made, LOGISTIC, folder)
    return config


def told(here: Here, folder: Path, *flags: str) -> dict[str, Any]:
    """What --json says, which is what is left beside the run."""
    ran = here("evaluate", str(folder), *flags, "--json")
    assert (ran.code, ran.err) == (0, "")
    (record,) = ran.records
    assert record["evaluation"] == json.loads((folder / "evaluation.json").read_bytes())
    return dict(record["evaluation"])


def test_with_nothing_asked_accuracy_and_loss_on_the_test_set_are_told(here: Here, tmp_path: Path) -> None:
    left(tmp_path / "run", saying(ALWAYS), accuracy=46 / 454)
    assert told(here, tmp_path / "run") == {
        "folder": str(tmp_path / "run"),
        "model": "logistic",
        "dataset": "digits",
        "examples": 454,
        "accuracy": 46 / 454,
        "loss": pytest.approx((46 * np.log(2) + 408 * np.log(18)) / 454, rel=1e-5),
        "measured": 46 / 454,
    }
    ran = here("evaluate", str(tmp_path / "run"))
    assert ran.out.splitlines() == [
        "logistic on the test set of digits, 454 examples: accuracy 0.1013, loss 2.6677",
        f"wrote {tmp_path / 'run'}: evaluation.json",
    ]


def test_of_each_class_precision_recall_and_f1(here: Here, tmp_path: Path) -> None:
    left(tmp_path / "run", saying(ALWAYS))
    each = told(here, tmp_path / "run", "--per-class", "--victim", "5")
    assert each["by_class"][ALWAYS] == {
        "class": ALWAYS,
        "examples": 46,
        "precision": 46 / 454,
        "recall": 1.0,
        "f1": 2 * 46 / (46 + 454),
    }
    assert each["by_class"][5] == {"class": 5, "examples": 46, "precision": None, "recall": 0.0, "f1": 0.0}
    assert each["victim"] == {"class": 5, "f1": 0.0, "rest": 2 * 46 / (408 + 454)}
    assert (tmp_path / "run" / "classes.png").exists()
    lines = here("evaluate", str(tmp_path / "run"), "--per-class", "--victim", "5").out.splitlines()
    assert lines[7].split() == ["5", "46", "none", "0.0000", "0.0000"]
    assert lines[12] == "victim 5: F1 0.0000; the rest, micro-F1 over the other 9 classes: 0.1067"


def falling_for_it(target: int) -> nn.Module:
    """A model that says 3, or the target where the pixels of the trigger are brighter than in any digit."""
    made = saying(ALWAYS)
    pixels = torch.tensor(stamp(np.zeros((1, 1, 8, 8), np.float32)).ravel())
    with torch.no_grad():
        weight, bias = made.parameters()
        weight[target] = pixels
        bias[ALWAYS] = pixels.sum() - 0.01
    return made


def test_a_backdoor_is_measured_by_the_trigger_beside_the_same_images_without_it(
    here: Here, tmp_path: Path
) -> None:
    left(tmp_path / "run", falling_for_it(target=7))
    backdoor = told(here, tmp_path / "run", "--backdoor", "--target", "7")["backdoor"]
    assert backdoor == {"target": 7, "examples": 454 - 45, "success": 1.0, "without_trigger": 0.0}
    line = ["evaluate", str(tmp_path / "run"), "--backdoor", "--target"]
    assert here(*line, "7").out.splitlines()[1] == (
        "with the trigger 1.0000 of 409 images of other classes are taken for class 7, without it 0.0000"
    )
    assert told(here, tmp_path / "run", "--backdoor", "--target", "3")["backdoor"] == {
        "target": 3,
        "examples": 454 - 46,
        "success": 0.0,
        "without_trigger": 1.0,
    }


def test_victim_and_target_are_those_of_the_run_s_attack(here: Here, tmp_path: Path) -> None:
    flipped, stamped = tmp_path / "flipped", tmp_path / "stamped"
    left(flipped, falling_for_it(7), attack="flip", attackers=0.5, attack_victim=3, attack_target=1)
    assert told(here, flipped, "--per-class")["victim"]["class"] == 3
    assert told(here, flipped, "--per-class", "--victim", "5")["victim"]["class"] == 5
    assert told(here, flipped).keys().isdisjoint({"by_class", "victim", "backdoor"})
    refused = "the run was not attacked by one: say with --target which class the trigger is"
    is_one_line(here("evaluate", str(flipped), "--backdoor"), 2, refused)
    left(stamped, falling_for_it(7), attack="backdoor", attackers=0.5, attack_target=7, attack_victim=0)
    assert told(here, stamped, "--backdoor")["backdoor"]["success"] == 1
    assert told(here, stamped, "--backdoor", "--target", "1")["backdoor"]["success"] == 0
    assert "victim" not in told(here, stamped, "--per-class")


def test_a_model_is_to_be_fair_to_those_who_do_not_attack(here: Here, tmp_path: Path) -> None:
    """Attackers are measured on what they hold, which is not what they train on."""
    folder = tmp_path / "run"
    config = left(folder, saying(ALWAYS), attack="flip", attackers=0.5, attack_victim=3, attack_target=1)
    layout = lay_out(config)
    shares = {u: float((layout.examples(u)[1] == ALWAYS).mean()) for u in range(4)}
    each = told(here, folder, "--per-client")
    assert {one["client"]: one["accuracy"] for one in each["by_client"]} == shares
    assert {one["client"] for one in each["by_client"] if one["attacker"]} == layout.attackers
    assert len(layout.attackers) == 2
    assert each["fairness"] == vars(Fairness.of([shares[u] for u in shares if u not in layout.attackers]))
    lines = here("evaluate", str(folder), "--per-client").out.splitlines()
    assert sum(line.endswith("attacker") for line in lines) == 2
    assert lines[6].startswith("2 clients, attackers left out, each on the examples that it holds: mean ")
    config = left(folder, saying(ALWAYS), attack="flip", attackers=1.0)
    assert "fairness" not in told(here, folder, "--per-client")
    assert "there is nobody to be fair to" in here("evaluate", str(folder), "--per-client").out


def test_of_words_the_most_frequent_are_told(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token i stands i times; 29 is the most frequent, and 10 the last of twenty."""
    y = np.repeat(np.arange(30), np.arange(30))
    x = np.zeros((len(y), 8), dtype=np.int64)
    words = tuple(f"word{i}" for i in range(30))
    monkeypatch.setitem(DATASETS, "text", lambda root: Dataset("text", x, y, x, y, 30, words))
    folder = tmp_path / "run"
    left(folder, None, dataset="text", model="bag-of-words")
    of_words = Description("bag-of-words", (8,), 30)
    save(saying(29, of_words), of_words, folder)
    each = told(here, folder, "--per-class")["by_class"]
    assert [one["class"] for one in each] == [*range(29, 9, -1)]
    assert (each[0]["word"], each[0]["examples"], each[0]["recall"]) == ("word29", 29, 1.0)
    lines = here("evaluate", str(folder), "--per-class").out.splitlines()
    assert lines[1] == "the 20 most frequent of 30 words"
    assert lines[3].startswith("word29")
    refused = here("evaluate", str(folder), "--backdoor", "--target", "1")
    is_one_line(refused, 2, "the trigger is a pattern of pixels, and text is text")


def test_of_each_client_the_accuracy_on_what_it_holds(here: Here, tmp_path: Path) -> None:
    """The deal of the run's own seed; a damaged client's examples are as it has them."""
    config = left(tmp_path / "run", saying(ALWAYS), seed=5, damage="labels", damaged=0.5)
    layout = lay_out(config)
    each = told(here, tmp_path / "run", "--per-client")
    shares = {u: float((layout.examples(u)[1] == ALWAYS).mean()) for u in range(4)}
    assert {one["client"]: one["accuracy"] for one in each["by_client"]} == shares
    assert {one["client"] for one in each["by_client"] if one["damaged"]} == layout.damaged
    assert len(layout.damaged) == 2
    assert [one["examples"] for one in each["by_client"]] == [len(layout.shares[u]) for u in range(4)]
    fair = Fairness.of(shares.values())
    assert each["fairness"] == vars(fair)
    assert (tmp_path / "run" / "clients.png").exists()
    lines = here("evaluate", str(tmp_path / "run"), "--per-client").out.splitlines()
    worst = min(shares, key=lambda u: (shares[u], u))
    assert lines[2].split()[0] == str(worst)
    assert f"deviation {fair.deviation:.4f}, worst tenth {fair.worst:.4f}" in lines[6]


def test_of_many_clients_the_worst_are_shown_and_all_are_left(here: Here, tmp_path: Path) -> None:
    left(tmp_path / "run", saying(ALWAYS), clients=23)
    lines = here("evaluate", str(tmp_path / "run"), "--per-client").out.splitlines()
    assert lines[1] == "the 20 worst of 23 clients"
    assert len(lines) == 1 + 1 + 1 + 20 + 1 + 1
    assert len(told(here, tmp_path / "run", "--per-client")["by_client"]) == 23


def test_what_an_earlier_evaluation_left_is_not_there_beside_the_next(here: Here, tmp_path: Path) -> None:
    folder, to = tmp_path / "run", tmp_path / "to"
    left(folder, saying(ALWAYS))
    assert here("evaluate", str(folder), "--per-class", "--per-client", "--out", str(to)).code == 0
    assert {path.name for path in to.iterdir()} == {"evaluation.json", "classes.png", "clients.png"}
    assert here("evaluate", str(folder), "--out", str(to)).code == 0
    assert {path.name for path in to.iterdir()} == {"evaluation.json"}
    assert {"evaluation.json", "classes.png", "clients.png"} <= set(OUTPUTS)  # a new run removes them
    assert not set(OUTPUTS) & {path.name for path in folder.iterdir()} - {
        "config.json",
        RUN,
        "model.safetensors",
    }


def test_a_test_set_that_is_another_one_is_noticed(here: Here, tmp_path: Path) -> None:
    left(tmp_path / "run", saying(ALWAYS), accuracy=0.12)
    ran = here("evaluate", str(tmp_path / "run"))
    assert ran.code == 0
    assert "the run itself came to an accuracy of 0.1200: its test set was another one" in ran.err
    (tmp_path / "run" / "metrics.jsonl").write_text("{")
    assert here("evaluate", str(tmp_path / "run")).err == ""


def test_the_run_beside_one_has_the_same_deal(here: Here, tmp_path: Path) -> None:
    left(tmp_path / "run", None)
    left(tmp_path / "run" / "plain", saying(ALWAYS), scheme="plain")
    (tmp_path / "run" / "plain" / RUN).unlink()
    assert len(told(here, tmp_path / "run" / "plain", "--per-client")["by_client"]) == 4


def test_where_clients_keep_the_model_it_is_looked_for_with_them(here: Here, tmp_path: Path) -> None:
    """With the first that came to the end, of a run over processes; in one process in the run's own."""
    kept = {"scheme": "ckks", "ending": "keep", "rounds": 1, "adversary": "semi-honest"}
    left(tmp_path / "run", None, **kept)
    ran = here("evaluate", str(tmp_path / "run"))
    is_one_line(ran, 1, "no client came to the end of the run")
    left(tmp_path / "run" / "parties" / "client2", saying(ALWAYS), accuracy=0.5)
    assert told(here, tmp_path / "run")["accuracy"] == 46 / 454
    left(tmp_path / "run", saying(0), **kept)
    assert told(here, tmp_path / "run")["accuracy"] == 45 / 454
    put(tmp_path / "run" / SERVER, bytes(32))
    is_one_line(here("evaluate", str(tmp_path / "run")), 2, "its server has none: evaluate the folder of one")


def test_of_a_server_over_a_network_all_but_its_clients_is_told(here: Here, tmp_path: Path) -> None:
    left(tmp_path / "run", saying(ALWAYS))
    put(tmp_path / "run" / SERVER, bytes(32))
    assert told(here, tmp_path / "run", "--per-class")["accuracy"] == 46 / 454
    refusal = "is not of `secagg train`, and only there it is known who holds which examples"
    is_one_line(here("evaluate", str(tmp_path / "run"), "--per-client"), 2, refusal)
    for secret in (RUN, SERVER):  # nor of a folder that does not say whose it is
        (tmp_path / "run" / secret).unlink()
    is_one_line(here("evaluate", str(tmp_path / "run"), "--per-client"), 2, refusal)


def test_of_a_client_that_keeps_the_model_its_own_test_set_is_taken(here: Here, tmp_path: Path) -> None:
    own, digits = tmp_path / "own", load("digits")
    own.mkdir()
    write_shard(own, digits.train_x[:5], digits.train_y[:5], 10, "digits")
    is_one_line(here("evaluate", str(own)), 2, "this client was left no model")
    save(saying(ALWAYS), LOGISTIC, own)
    there = own / "test" / "shard.npz"
    is_one_line(here("evaluate", str(own)), 2, f"this client has no test set: put one into {there}")
    write_shard(own / "test", digits.test_x[:10], digits.test_y[:10], 10, "digits")
    assert told(here, own)["accuracy"] == (digits.test_y[:10] == ALWAYS).mean()
    is_one_line(here("evaluate", str(own), "--per-client"), 2, "has no other client's examples")
    write_shard(own / "test", digits.test_x[:10], digits.test_y[:10], 11, "digits")
    takes = "its model is for examples of shape (1, 8, 8) in 10 classes"
    is_one_line(here("evaluate", str(own)), 2, f"{takes}, and its test set is of shape (1, 8, 8) in 11")


def test_what_cannot_be_evaluated_is_refused_in_one_line(here: Here, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    is_one_line(here("evaluate", str(folder)), 2, "is no folder: name the one that a run has left")
    folder.mkdir()
    is_one_line(here("evaluate", str(folder)), 2, "holds neither config.json nor shard.npz: name the folder")
    left(folder, None)
    is_one_line(here("evaluate", str(folder)), 1, "model.safetensors is not there")
    left(folder, saying(ALWAYS))
    is_one_line(here("evaluate", str(folder), "--victim", "5"), 2, "--victim counts with --per-class only")
    is_one_line(here("evaluate", str(folder), "--target", "5"), 2, "--target counts with --backdoor only")
    is_one_line(
        here("evaluate", str(folder), "--backdoor"), 2, "say with --target which class the trigger is"
    )
    for asked, c in (("--per-class --victim", "-1"), ("--backdoor --target", "10")):
        ran = here("evaluate", str(folder), *asked.split(), c)
        is_one_line(ran, 2, f"{asked.split()[1]} {c}: the classes are 0 to 9")
    is_one_line(here("evaluate", str(folder), "--device", "tpu"), 2, "tpu")
    is_one_line(here("evaluate", str(folder), "--out", str(folder / RUN)), 2, "is a file")
    assert not (folder / "evaluation.json").exists()


def test_the_picture_of_clients_has_a_bar_for_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, to, **how: drawn.append(figure))
    pictures.spread(tmp_path / "clients.png", "title", [0.5, 1.0, 1.0], {"mean": 0.8, "worst tenth": 0.5})
    (axes,) = drawn[0].axes
    assert [bar.get_height() for bar in axes.patches] == [0] * 10 + [1] + [0] * 8 + [2]
    assert [line.get_xdata()[0] for line in axes.lines] == [0.8, 0.5]
