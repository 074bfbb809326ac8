"""A task of one's own: what its file may be, and that each mistake in it is told in a line saying where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import fl
from fl.cohort.layout import lay_out
from fl.config.limits import Limits
from fl.config.plan import LocalPlan
from fl.config.run import RunConfig
from fl.data import DataError
from fl.data.shard import Shard, read_shard, write_shard
from fl.federation.client import LocalTrainer
from fl.federation.simulation import simulated
from fl.federation.task import read_instructions, write_instructions
from fl.models.architectures import Description, ModelError, build
from fl.models.weights import save, to_vector
from fl.own import MOST_WORDS, OwnTask, TaskError
from fl.training.local import Diverged, train
from fl.training.own import train_own
from secagg import Bounded, Decoys, Masking, Policy, RemoteProtocolError

Made = Callable[..., OwnTask]

IMPORTS = "import numpy as np\nimport torch\n"
MODEL = """
def model():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
"""
DATA = """
def data(client, clients, folder):
    rng = np.random.default_rng(0 if client is None else client + 1)
    x = rng.normal(size=(12, 3))
    return (x, x[:, 0] > 0), (x[:5], x[:5, 0] > 0)
"""
LOOP = """
def train(model, x, y, plan):
    loss = torch.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= plan.lr * p.grad
    return {"examples": len(y), "loss": loss.item()}
"""
RUN = {"clients": 3, "rounds": 2, "baseline": False, "execution": "auto", "batch_size": 4, "max_examples": 12}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A task of these parts."""

    def of(*parts: str, name: str = "mine.py") -> OwnTask:
        (tmp_path / name).write_text("".join((IMPORTS, *parts)))
        return OwnTask.read(tmp_path / name)

    return of


def shard_of(own: OwnTask, u: int = 0) -> Shard:
    (x, y), _ = own.examples(u, 3, None)
    return Shard(x, y, own.classes(x), own.name)


def task_of(own: OwnTask, **settings: object) -> bytes:
    config = RunConfig.of(**RUN | {"task": "mine.py"} | settings)
    model = build(own.name, (3,), 2, 0, own.models)
    return write_instructions(config, b"r" * 16, 1, Description(own.name, (3,), 2), to_vector(model))


# What it is


def test_the_smallest_task_is_a_model_and_data(made: Made) -> None:
    own = made(MODEL, DATA)
    (x, y), (test_x, _) = own.examples(1, 3, None)
    assert (x.dtype, y.dtype, x.shape, test_x.shape) == (np.float32, np.int64, (12, 3), (5, 3))
    served = own.served(3, None)
    assert (served.classes, served.shape, len(served.train_y), len(served.test_y)) == (2, (3,), 0, 5)
    assert not own.trains
    assert served.name == own.name == f"task:{own.digest}"


def test_its_data_are_told_who_asks_and_where(made: Made, tmp_path: Path) -> None:
    own = made(
        MODEL,
        "asked = []\n",
        "def data(client, clients, folder):\n",
        "    asked.append((client, clients, folder))\n",
        "    return (np.ones((1, 3)), [0]), (np.ones((1, 3)), [1])\n",
    )
    own.examples(2, 5, tmp_path)
    own.served(5, None)
    assert own.functions["data"].__globals__["asked"] == [(2, 5, tmp_path), (None, 5, None)]


def test_what_is_run_is_what_was_read_and_what_the_digest_is_of(made: Made, tmp_path: Path) -> None:
    own = made(MODEL, DATA)
    (tmp_path / "mine.py").write_text("raise SystemExit\n")
    assert isinstance(own.model(), torch.nn.Module)
    own.write(tmp_path)
    assert OwnTask.read(tmp_path / "task.py").digest == own.digest
    assert made(MODEL, DATA, "\n").digest != own.digest


def test_the_first_weights_follow_the_seed_and_torchs_generator_stays_as_it_was(made: Made) -> None:
    own = made(MODEL, DATA)
    before = torch.random.get_rng_state()
    first, again, other = (to_vector(build(own.name, (3,), 2, seed, own.models)) for seed in (1, 1, 2))
    own.classes(np.ones((1, 3), np.float32))
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_dataclass_in_a_task_is_one(made: Made) -> None:
    of_fields = "from __future__ import annotations\n" + IMPORTS
    source = "from dataclasses import dataclass\n@dataclass\nclass Size:\n    inner: int = 4\n"
    own = made(MODEL, DATA)
    own.path.write_text(of_fields + source + MODEL + DATA)
    assert OwnTask.read(own.path).trains is False


# Mistakes, each in a line

NO_DATA = "\ndef data(client, clients, folder):\n    return None\n"


def gives(x: str, y: str = "[0]") -> str:
    return f"\ndef data(client, clients, folder):\n    return ({x}, {y}), ({x}, {y})\n"


def models(module: str) -> str:
    return f"\ndef model():\n    return {module}\n"


FILES = {
    "def model(:": "mine.py, line 3: not Python: invalid syntax",
    "import nosuch": "mine.py, line 3: ModuleNotFoundError: No module named 'nosuch'",
    "raise SystemExit('enough')": "mine.py, line 3: SystemExit: enough",
    "0 / 0": "mine.py, line 3: ZeroDivisionError: division by zero",
    "def helper():\n    return nosuch\nhelper()": "mine.py, helper(), line 4: NameError: name 'nosuch'",
    "\0": "mine.py, line 1: not Python: source code string cannot contain null",
    "x = 1": r"mine.py defines no model() and no data(): a task has both, as functions",
    MODEL: "mine.py defines no data(): a task has both, as functions",
    MODEL + DATA + "train = 3": "mine.py: train is no function: a task's model, data and train are",
}


@pytest.mark.parametrize("source", FILES)
def test_a_file_that_is_no_task_is_told(made: Made, tmp_path: Path, source: str) -> None:
    with pytest.raises(TaskError) as told:
        made(source)
    assert str(told.value).startswith(f"{tmp_path}/{FILES[source]}")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"none\.py: not readable: No such file"):
        OwnTask.read(tmp_path / "none.py")


TIED = """
def model():
    one = torch.nn.Linear(2, 2)
    two = torch.nn.Linear(2, 2)
    two.weight = one.weight
    return torch.nn.Sequential(one, two)
"""
FAULTY = {
    models("[1]"): "model(), line 4: it gives a list, not a torch.nn.Module",
    models("torch.nn.ReLU()"): "model(), line 4: its module has no parameters to train",
    models(
        "torch.nn.Linear(3, 2).double()"
    ): "line 4: weight is torch.float64 on cpu: give it as float32, on",
    models("torch.nn.Linear(3, 2, device='meta')"): "model(), line 4: weight is torch.float32 on meta: give",
    TIED: "model(), line 4: two of its layers share a tensor: give each its own",
    models("torch.nn.Linear(4, 2)"): "line 4, outside of the file: RuntimeError: mat1 and mat2 shapes",
    models("torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Flatten(0))"): (
        "model(), line 4: of one example its module gives (2,), not logits (1, classes)"
    ),
    models("nosuch()"): "model(), line 5: NameError: name 'nosuch' is not defined",
    MODEL + NO_DATA: "for the server it gives nothing, not ((x, y), (x, y)) to train and to test on",
    MODEL + "\ndef data(client, clients, folder):\n    return 1, 2\n": (
        "for the server to test on it gives a int, not (x, y)"
    ),
    MODEL + gives("[[1, 2, 3], [1]]"): "to test on it gives what is no array: setting an array",
    MODEL + gives("np.ones(3)"): "x must be of real numbers or integers, of two to four dimensions",
    MODEL + gives("np.ones((0, 3))", "[]"): "and not empty, not float32 (0, 3)",
    MODEL + gives("np.array([['a', 'b', 'c']])"): "and not empty, not <U1 (1, 3)",
    MODEL + gives("np.full((1, 3), np.nan)"): "for the server to test on: x holds NaN or infinity",
    MODEL + gives("np.ones((1, 3))", "[0.5]"): "to test on: y must be int64 (1,), not float32 (1,)",
    MODEL + gives("np.ones((1, 3))", "[0, 1]"): "to test on: y must be int64 (1,), not int64 (2,)",
    MODEL + gives("np.ones((1, 3))", "[2]"): "labels run from 2 to 2, and model() gives 2 logits, for 0 to 1",
    MODEL + gives("np.ones((1, 3))", "[-1]"): "labels run from -1 to -1, and model() gives 2 logits",
    MODEL + "\ndef data(client, clients):\n    pass\n": (
        "data(), line 7, outside of the file: TypeError: data() takes 2 positional arguments but 3 were given"
    ),
    MODEL + "\ndef data(client, clients, folder):\n    return {}[client]\n": "data(), line 8: KeyError: None",
}


@pytest.mark.parametrize("source", FAULTY)
def test_a_faulty_model_or_data_is_told_with_its_line(made: Made, source: str) -> None:
    own = made(source, "" if "def data" in source else DATA)
    with pytest.raises((TaskError, DataError)) as told:
        own.served(3, None)
    assert f"{own.path}, " in str(told.value)
    assert FAULTY[source] in str(told.value)
    assert "\n" not in str(told.value)


def test_examples_of_one_client_that_are_not_as_the_servers_are_told(made: Made) -> None:
    wider = "\ndef data(client, clients, folder):\n    x = np.ones((2, 3 if client is None else 4))\n"
    own = made(MODEL, wider, "    return (x, [0, 1]), (x, [0, 1])\n")
    with pytest.raises(TaskError, match=r"client 1 an example is float32 of shape \(4,\), elsewhere float32"):
        own.examples(1, 3, None, own.served(3, None))


def test_a_long_message_is_cut(made: Made) -> None:
    with pytest.raises(TaskError) as told:
        made("raise ValueError('long\\n' * 1000)\n")
    assert str(told.value).endswith("long lon...")
    assert len(str(told.value)) < MOST_WORDS + 200


# Its training

TRAINS = {
    "return None": "it gives nothing, not {'examples': ..., 'loss': ...}",
    "return {'loss': 1.0}": "it gives ['loss'], not {'examples': ..., 'loss': ...}",
    "return {'loss': 1.0, 'examples': 0}": "0 examples are none of 1 to 12, which it has",
    "return {'loss': 1.0, 'examples': 13}": "13 examples are none of 1 to 12, which it has",
    "return {'loss': 1.0, 'examples': 1.5}": "1.5 examples are none of 1 to 12, which it has",
    "return {'loss': 'low', 'examples': 1}": "examples and loss are numbers: could not convert",
    "model.more = torch.nn.Linear(1, 1)\n    return {'loss': 1.0, 'examples': 1}": (
        "it leaves a model of 28 numbers, and was given one of 26"
    ),
    "return model.nosuch": "line 13: AttributeError: 'Sequential' object has no attribute 'nosuch'",
    "return model(x[:, :2])": "line 13: RuntimeError: mat1 and mat2 shapes cannot be multiplied",
}


@pytest.mark.parametrize("body", TRAINS)
def test_a_loop_that_fails_is_told_with_its_line(made: Made, body: str) -> None:
    own = made(MODEL, DATA, f"\ndef train(model, x, y, plan):\n    {body}\n")
    trainer = LocalTrainer(0, shard_of(own), "cpu", own=own)
    with pytest.raises(TaskError) as told:
        trainer(task_of(own))
    assert str(told.value).startswith(f"{own.path}, train(), line 1")
    assert TRAINS[body] in str(told.value)


def test_an_own_loop_makes_the_update_and_says_its_weight(made: Made) -> None:
    own = made(MODEL, DATA, LOOP)
    shard = shard_of(own)
    sent = LocalTrainer(0, shard, "cpu", own=own)(task_of(own, lr=0.5))
    model = build(own.name, (3,), 2, 0, own.models)
    one_step = train(
        model, torch.tensor(shard.x), torch.tensor(shard.y), LocalPlan(algorithm="fedsgd"), b"o" * 32
    )
    np.testing.assert_allclose(sent["update"], -0.5 * one_step.upload, atol=1e-6)
    assert sent["examples"] == 12
    assert sent["correct"] == one_step.correct
    assert sent["loss"] == pytest.approx(one_step.loss)


def test_whole_models_are_sent_where_they_are_asked_for(made: Made) -> None:
    own = made(MODEL, DATA, LOOP)
    whole, change = (
        LocalTrainer(0, shard_of(own), "cpu", own=own)(task_of(own, algorithm=algorithm))["update"]
        for algorithm in ("fedavg-weights", "fedavg")
    )
    start = to_vector(build(own.name, (3,), 2, 0, own.models))
    np.testing.assert_allclose(whole - start, change, atol=1e-6)


def test_a_loop_that_leaves_the_finite_numbers_has_diverged(made: Made) -> None:
    own = made(MODEL, DATA, LOOP.replace("loss.item()", "float('nan')"))
    with pytest.raises(Diverged):
        LocalTrainer(0, shard_of(own), "cpu", own=own)(task_of(own))


DRAWS = """
def train(model, x, y, plan):
    with torch.no_grad():
        for p in model.parameters():
            p += torch.randn_like(p)
    return {"examples": 1, "loss": 1.0}
"""


def test_what_a_loop_draws_is_its_clients_secret_and_comes_again_with_it(made: Made) -> None:
    own = made(MODEL, DATA, DRAWS)
    before = torch.random.get_rng_state()
    sent = [
        LocalTrainer(0, shard_of(own), "cpu", secret, own=own)(task_of(own))["update"]
        for secret in (bytes(32), bytes(32), b"1" * 32)
    ]
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(sent[0], sent[1])
    assert not np.array_equal(sent[0], sent[2])


def test_without_a_loop_the_trainers_steps_are_taken_to_the_bit(made: Made) -> None:
    own = made(MODEL, DATA)
    shard, plan = shard_of(own), LocalPlan(batch_size=4)
    model = build(own.name, (3,), 2, 0, own.models)
    x, y = torch.tensor(shard.x), torch.tensor(shard.y)
    ours = train_own(own, model, x, y, plan, b"o" * 32)
    assert np.array_equal(ours.upload, train(model, x, y, plan, b"o" * 32).upload)


BATCHNORM = """
def model():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
"""


@pytest.mark.parametrize("parts", [(MODEL, DATA), (MODEL, DATA, LOOP), (BATCHNORM, DATA)])
def test_a_run_in_one_process_sums_it_and_its_model_is_kept(
    made: Made, tmp_path: Path, parts: tuple[str, ...]
) -> None:
    """Also one with counters, which no sum holds, and statistics, which all do."""
    own, config = made(*parts), RunConfig.of(**RUN, task="mine.py", alike="never")
    server = simulated(config, lay_out(config, own), own=own)
    first = server.model.broadcast
    records = [trained.record for trained in server.rounds()]
    assert [record.alive for record in records] == [3, 3]
    assert not np.array_equal(server.model.broadcast, first)
    model = build(own.name, (3,), 2, 0, own.models)
    save(model, server.description, tmp_path)
    assert np.array_equal(to_vector(fl.load(tmp_path, task=own.path)), to_vector(model))


def test_a_model_file_holds_no_code_and_says_which_task_it_is_of(made: Made, tmp_path: Path) -> None:
    own, other = made(MODEL, DATA), made(MODEL, DATA, LOOP, name="other.py")
    description = Description(own.name, (3,), 2)
    save(build(own.name, (3,), 2, 0, own.models), description, tmp_path)
    with pytest.raises(ModelError, match=f"holds no code: give task=, a file with SHA-256 {own.digest}"):
        fl.load(tmp_path)
    with pytest.raises(
        ModelError, match=f"another task than this one: of the file with the SHA-256 {own.digest}"
    ):
        fl.load(tmp_path, task=other.path)
    save(build("mlp", (1, 8, 8), 10, 0), Description("mlp", (1, 8, 8), 10), tmp_path)
    with pytest.raises(ModelError, match="is a mlp, and no model of a task: leave the task out"):
        fl.load(tmp_path, task=own.path)


def test_a_clients_file_holds_its_examples_whatever_their_shape(made: Made, tmp_path: Path) -> None:
    shard = shard_of(made(MODEL, DATA))
    write_shard(tmp_path, shard.x, shard.y, shard.classes, shard.dataset)
    assert np.array_equal(read_shard(tmp_path).x, shard.x)
    with pytest.raises(DataError, match="x must be float32"):
        write_shard(tmp_path, shard.x, shard.y, shard.classes, "digits")


# Whose task a client trains


def test_a_client_with_another_file_refuses_and_so_does_one_without(made: Made) -> None:
    own, other = made(MODEL, DATA), made(MODEL, DATA, "\n", name="other.py")
    theirs = f"another file than this client's: SHA-256 {own.digest} there, {other.digest} here"
    with pytest.raises(RemoteProtocolError, match=theirs):
        LocalTrainer(0, shard_of(other), "cpu", own=other)(task_of(own))
    with pytest.raises(RemoteProtocolError, match=f"SHA-256 {own.digest}, and this client was given none"):
        LocalTrainer(0, shard_of(own), "cpu")(task_of(own))
    # Also of a session whose sum it has yet to think about.
    with pytest.raises(RemoteProtocolError, match="another file"):
        LocalTrainer(0, shard_of(other), "cpu", own=other).likeness(task_of(own), Policy(alike="any"))


def test_a_client_with_a_task_trains_no_model_of_the_package(made: Made) -> None:
    own = made(MODEL, DATA)
    model = to_vector(build("mlp", (1, 8, 8), 10, 0))
    config = RunConfig.of(model="mlp")
    task = write_instructions(config, b"r" * 16, 1, Description("mlp", (1, 8, 8), 10), model)
    with pytest.raises(RemoteProtocolError, match="the model mlp, and this client trains its own task alone"):
        LocalTrainer(0, shard_of(own), "cpu", own=own)(task)


@pytest.mark.parametrize("name", ["task:", "task:xyz", "task:" + "A" * 64, "task:" + "0" * 63])
def test_what_is_no_digest_is_no_task(name: str) -> None:
    with pytest.raises(ModelError, match="no model"):
        Description(name, (3,), 2)


def test_limits_hold_before_the_code_of_a_task_is_run(made: Made) -> None:
    own = made("\ndef model():\n    return torch.nn.Linear(3, 2)\n", DATA)
    task = task_of(own)
    own.functions["model"].__globals__["torch"] = None  # it would fail
    with pytest.raises(RemoteProtocolError, match="parameters of 8"):
        read_instructions(task, limits=Limits(parameters=7), models=own.models)
    with pytest.raises(TaskError, match="'NoneType' object has no attribute 'nn'"):
        read_instructions(task, models=own.models)


def test_a_model_of_other_weights_than_the_servers_is_refused(made: Made) -> None:
    """A file of one digest gives one model, unless it looks at where it is."""
    own = made("WIDE = [4]\n", MODEL.replace("4", "WIDE[0]"), DATA)
    task = task_of(own)
    own.functions["model"].__globals__["WIDE"][0] = 5
    with pytest.raises(RemoteProtocolError, match="not a training round: this model is a vector of shape"):
        LocalTrainer(0, shard_of(own), "cpu", own=own)(task)


# What is not for a loop of one's own


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"algorithm": "fedsgd"},
            "asks for algorithm = fedsgd, of which this client's own loop knows",
        ),
        ({"proximal": 0.5}, "asks for proximal = 0.5"),
        ({"precision": "float64"}, "asks for precision = float64"),
        ({"balance": "loss"}, "asks for balance = loss"),
        (
            {"privacy": "example", "clip": 1.0, "noise_multiplier": 1.0},
            "asks for noise in every step, and this client's own loop adds none",
        ),
    ],
)
def test_a_loop_does_not_pretend_to_steps_that_it_does_not_take(
    made: Made, settings: dict[str, object], words: str
) -> None:
    own = made(MODEL, DATA, LOOP)
    with pytest.raises(RemoteProtocolError, match=words):
        LocalTrainer(0, shard_of(own), "cpu", own=own)(task_of(own, **settings))
    steps = made(MODEL, DATA)
    trainer = LocalTrainer(0, shard_of(steps), "cpu", own=steps)
    trainer.offered(Masking.for_cohort(4, {"update": Bounded(length=26, bound=1.0)}, adversary="semi-honest"))
    assert trainer(task_of(steps, **settings)).keys() == {"update"}


def test_decoys_are_made_of_no_task(made: Made) -> None:
    own = made(MODEL, DATA)
    trainer = LocalTrainer(0, shard_of(own), "cpu", own=own)
    trainer.offered(Decoys.for_cohort(4, {"update": Bounded(length=26, bound=1.0)}, adversary="semi-honest"))
    with pytest.raises(RemoteProtocolError, match="decoys: of a task of its own a client makes none"):
        trainer(task_of(own))


def test_what_a_loop_sends_counts_as_alike_whatever_the_plan(made: Made) -> None:
    for parts, alike in (((MODEL, DATA), False), ((MODEL, DATA, LOOP), True)):
        own = made(*parts)
        trainer = LocalTrainer(0, shard_of(own), "cpu", own=own)
        assert (trainer.likeness(task_of(own), Policy()) is not None) == alike
        assert trainer.likeness(task_of(own), Policy(alike="never")) is None
