"""`--task`: a model and data of one's own, in one process, in processes and over a network."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import Ran, is_one_line, secagg
from test_serve_join import client_options, server_options

import fl
from fl.cli.own import check
from fl.config.run import RunConfig
from fl.config.section import ConfigError
from fl.own import OwnTask

Here = Callable[..., Ran]
ROOT = Path(__file__).parents[2]
TASK = ROOT / "examples" / "my_task.py"
SMALL = ["--clients", "3", "--rounds", "1", "--no-baseline"]
LOOP = """

def train(model, x, y, plan):
    loss = torch.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= plan.lr * p.grad
    return {"examples": len(y), "loss": loss.item()}
"""
NORMED = "def model():\n    import torch\n    return torch.nn.BatchNorm1d(30)\n"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The example, as its reader would copy it."""
    return Path(shutil.copy(TASK, tmp_path / "mine.py"))


def told(ran: Ran) -> Ran:
    assert (ran.code, ran.err) == (0, ""), ran
    return ran


# On one machine


def test_a_run_of_ones_own_is_trained_evaluated_and_repeated_and_goes_on(
    here: Here, tmp_path: Path, mine: Path
) -> None:
    folder, again = tmp_path / "run", tmp_path / "again"
    ran = told(here("train", "--task", str(mine), *SMALL, "--execution", "auto", "--out", str(folder)))
    digest = OwnTask.read(mine).digest
    assert f"the task is {mine}, SHA-256 {digest}: every party runs a copy of its own" in ran.out
    assert f"fl.load('{folder}', task='{folder}/task.py')" in ran.out
    mine.write_text("raise SystemExit('nobody needs it any more')\n", encoding="utf-8")
    config = ["--config", str(folder / "config.json"), "--no-baseline", "--out", str(again)]
    told(here("train", *config))
    assert (folder / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    ran = told(here("train", "--resume", "--rounds", "2", "--no-baseline", "--out", str(folder)))
    assert "round 2/2" in ran.out
    ran = told(here("evaluate", str(folder), "--per-class", "--per-client"))
    assert "the task on the test set of the task, 143 examples: accuracy 0.9" in ran.out
    assert sum(each.numel() for each in fl.load(folder, task=folder / "task.py").parameters()) == 530
    ran = here("evaluate", str(folder), "--backdoor", "--target", "1")
    is_one_line(
        ran, 2, "--backdoor: the trigger is a pattern of pixels, and examples of a task may be anything"
    )
    ran = here("evaluate", str(folder), "--per-class", "--victim", "2")
    is_one_line(ran, 2, "the classes are 0 to 1")


def test_a_run_does_not_go_on_with_another_file(here: Here, tmp_path: Path, mine: Path) -> None:
    folder = tmp_path / "run"
    told(here("train", "--task", str(mine), *SMALL, "--execution", "auto", "--out", str(folder)))
    was = OwnTask.read(folder / "task.py").digest
    (folder / "task.py").write_text(mine.read_text(encoding="utf-8") + "\n")
    ran = here("train", "--resume", "--rounds", "2", "--out", str(folder))
    is_one_line(
        ran, 2, f"its task had the SHA-256 {was}, and {folder}/task.py is another file: put that back"
    )
    ran = here("evaluate", str(folder))
    is_one_line(ran, 1, f"is of another task than this one: of the file with the SHA-256 {was}")


def test_a_mistake_in_a_task_is_one_line_and_debug_shows_the_rest(
    here: Here, tmp_path: Path, mine: Path
) -> None:
    wrong = TASK.read_text().replace("x.std(axis=0)", "x.sdt(axis=0)")
    mine.write_text(wrong, encoding="utf-8")
    line = ["train", "--task", str(mine), *SMALL, "--out", str(tmp_path / "run")]
    at = wrong[: wrong.index("x.sdt")].count("\n") + 1
    words = f"{mine}, data(), line {at}: AttributeError: 'numpy.ndarray' object has no attribute 'sdt'"
    is_one_line(here(*line), 1, words)
    assert not (tmp_path / "run").exists()
    ran = here(*line, "--debug")
    assert ran.code == 1
    assert "Traceback" in ran.err
    wrong = TASK.read_text() + LOOP.replace("plan.lr", "plan.rate")
    mine.write_text(wrong, encoding="utf-8")
    at = wrong[: wrong.index("plan.rate")].count("\n") + 1
    ran = here(*line, "--execution", "auto")
    words = f"mine.py, train(), line {at}: AttributeError: 'LocalPlan' object has no attribute"
    is_one_line(ran, 1, words)


def test_a_task_brings_what_other_flags_would_say(here: Here, mine: Path) -> None:
    for flags in (["--model", "cnn"], ["--dataset", "digits"], ["--partition", "dirichlet"]):
        ran = here("train", "--task", str(mine), *flags)
        is_one_line(ran, 2, f"{flags[0]} or --task, which brings it: give one of them")
    ran = here("train", "--task", str(mine), "--preset", "wei-mnist", "--scheme", "plain")
    is_one_line(ran, 2, "a task of one's own brings its model and its data")
    is_one_line(
        here("train", "--task", str(mine), "--max-examples", "2"), 2, "a client holds", "give as many"
    )


@pytest.mark.parametrize(
    ("parts", "settings", "words"),
    [
        (
            LOOP,
            {"algorithm": "fedsgd"},
            "algorithm is of the trainer's own steps, and this task has a train()",
        ),
        (LOOP, {"local_batches": "poisson"}, "local_batches is of the trainer's own steps"),
        (LOOP, {"proximal": 1.0}, "proximal is of the trainer's own steps"),
        (
            LOOP,
            {"privacy": "example", "clip": 1.0, "noise_multiplier": 1.0},
            "'example': noise in every step",
        ),
        (
            LOOP,
            {"sample": 4},
            "no plan says whether what it sends comes out alike, so it counts as if it did",
        ),
        (LOOP, {"scheme": "ckks"}, "no sample, cluster, ckks or blanks without noise with it, or alike"),
        (
            NORMED,
            {"privacy": "local", "clip": 1.0, "noise_multiplier": 1.0},
            "keeps running statistics, which",
        ),
    ],
)
def test_what_the_code_of_a_task_does_not_do_is_refused(
    mine: Path, parts: str, settings: dict[str, object], words: str
) -> None:
    mine.write_text(TASK.read_text() + parts, encoding="utf-8")
    own = OwnTask.read(mine)
    with pytest.raises(ConfigError, match=words.replace("(", r"\(").replace(")", r"\)")):
        check(RunConfig.of(**settings), own)
    check(RunConfig.of(**settings), OwnTask.read(TASK))
    if settings.keys() <= {"sample", "scheme"}:
        check(RunConfig.of(**settings, alike="never"), own)


@pytest.mark.parametrize(
    "flags",
    [
        ["--privacy", "distributed", "--clip", "1", "--noise-multiplier", "0.5"],
        ["--privacy", "example", "--clip", "1", "--noise-multiplier", "0.5"],
        ["--scheme", "plain", "--robust", "median"],
        ["--scheme", "ckks", "--ending", "keep", "--preflight", "refuse"],
    ],
)
def test_what_protects_a_run_protects_one_of_ones_own(
    here: Here, tmp_path: Path, mine: Path, flags: list[str]
) -> None:
    line = ["train", "--task", str(mine), *SMALL, "--execution", "auto", "--out", str(tmp_path / "run")]
    ran = here(*line, *flags)
    assert ran.code == 0, ran
    assert "round 1/1" in ran.out


@pytest.mark.slow
def test_processes_do_as_one_process_does_and_refuse_anothers_file(
    here: Here, tmp_path: Path, mine: Path
) -> None:
    """To the bit after a round. A party's own copy is the one that counts."""
    mine.write_text(TASK.read_text() + LOOP, encoding="utf-8")
    one, many = tmp_path / "one", tmp_path / "many"
    line = ["train", "--task", str(mine), *SMALL]
    told(here(*line, "--execution", "auto", "--out", str(one)))
    config = ["--config", str(one / "config.json"), "--execution", "processes", "--no-baseline"]
    told(here("train", *config, "--out", str(many)))
    assert np.array_equal(np.load(one / "after-round-1.npy"), np.load(many / "after-round-1.npy"))
    for u in range(3):
        (many / "parties" / f"client{u}" / "task.py").write_text(mine.read_text(encoding="utf-8") + "\n")
    ran = secagg("train", "--resume", "--rounds", "2", "--no-baseline", "--out", str(many))
    assert ran.code == 3
    assert ran.err.count("the server's task is another file than this client's: SHA-256") >= 3
    assert "Traceback" not in ran.err


# Over a network


@pytest.fixture
def keys(tmp_path: Path, here: Here) -> Path:
    assert here("keys", "cohort", "3", "--out", str(tmp_path / "keys")).code == 0
    return tmp_path / "keys"


def test_what_a_server_and_a_client_need_for_a_task_is_said(
    here: Here, tmp_path: Path, keys: Path, mine: Path
) -> None:
    server = ["serve", *server_options(keys), "--task", str(mine)]
    is_one_line(here(*server), 2, "max_examples: what clients hold, a task tells them alone: say in [data]")
    is_one_line(here(*server, "--length", "5"), 2, "and not both")
    client = ["join", *client_options(keys, 0, "tcp://127.0.0.1:1"), "--task", str(mine)]
    is_one_line(here(*client, "--input", "x.npy"), 2, "--task trains: give it --data, a folder")
    is_one_line(
        here(*client, "--data", str(tmp_path / "none")), 2, "none is no folder: make the one in which"
    )
    bare = [
        "join",
        "--connect",
        "tcp://127.0.0.1:1",
        "--key",
        "k",
        "--task",
        str(mine),
        "--data",
        str(tmp_path),
    ]
    is_one_line(here(*bare), 2, "--task: its data() is told how many clients there are, and --roster says it")
    mine.write_text("x = 1\n", encoding="utf-8")
    is_one_line(here(*client, "--data", str(tmp_path)), 1, "mine.py defines no model() and no data()")
