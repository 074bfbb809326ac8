"""All clients as one computation, beside one client after the other: the same training, and the faster way.

How near the two are is the norm of the difference of a client's two uploads over the norm of the sequential
one: of what training changed, not of the weights, which are larger. That they compute the same is seen in
float64, where no model is farther off than 1e-12, nor was after 20 steps. In float32 the processor's
kernels decide how far they are: rounding moves a ReLU across its kink and a maximum to its neighbour, and
BatchNorm over a few examples amplifies that from step to step, to 1e-6 with some kernels and to 1e-3 with
others. So there the models without a kink take those steps, and of the others the loss is compared, which
has no jump.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fl import data
from fl.config.plan import LocalPlan, Way
from fl.models.architectures import FOR_TEXT, MODELS, build
from fl.models.weights import to_vector
from fl.training import batched, clients, local, step
from fl.training.clients import LocalClients
from fl.training.local import Diverged, LocalResult

CPU = torch.device("cpu")
WAYS = ("sequential", "batched")
SIZES = (13, 30, 7)  # examples of each client
ORDERS = {u: bytes([u]) * 32 for u in range(3)}
LR = {"tolpegin-cifar10": 1e-3, "resnet18": 1e-3}
PLAN = LocalPlan(steps=6, batch_size=8, lr=0.01, momentum=0.5)
"""Steps enough for a second pass of some clients, and a short batch of each kind."""


def examples(name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """(x, y, classes): real digits in the smallest shape that the model takes, or random words."""
    if name in FOR_TEXT:
        rng = np.random.default_rng(0)
        return rng.integers(0, 50, (60, 5)), rng.integers(0, 50, 60), 50
    digits = data.load("digits")
    x, y = digits.train_x[:60], digits.train_y[:60]
    if name == "fed-cdp":
        x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    elif name == "tolpegin-cifar10":
        x = np.repeat(x, 3, axis=1)
    elif name == "resnet18":  # 11 million parameters, whatever the picture
        x = np.ascontiguousarray(x[:, :, 2::4, 2::4])
    return x, y, 10


def both(
    name: str, plan: LocalPlan, sizes: tuple[int, ...] = SIZES, **more: Any
) -> tuple[dict[int, LocalResult], dict[int, LocalResult]]:
    """A round of the clients, in each way."""
    x, y, classes = examples(name)
    model, shares = build(name, tuple(x.shape[1:]), classes, 0), shares_of(sizes)
    orders = {u: ORDERS[u] for u in shares}
    sequential, together = (LocalClients(x, y, shares, CPU, way).train(model, plan, orders) for way in WAYS)
    return sequential, together


def shares_of(sizes: tuple[int, ...]) -> dict[int, np.ndarray]:
    return {u: own.numpy() for u, own in enumerate(batched.as_shares(sizes))}


def apart(one: LocalResult, other: LocalResult) -> float:
    """Relative to the first's upload."""
    difference = one.upload.astype(np.float64) - other.upload
    return float(np.linalg.norm(difference) / np.linalg.norm(one.upload))


def agree(sequential: dict[int, LocalResult], together: dict[int, LocalResult], relative: float) -> None:
    assert sequential.keys() == together.keys()
    for u, one in sequential.items():
        other = together[u]
        assert apart(one, other) <= relative
        assert one.upload.dtype == other.upload.dtype
        assert other.loss == pytest.approx(one.loss, rel=relative)
        assert (one.examples, one.correct) == (other.examples, other.correct)


# Both ways


SMALL = [name for name in MODELS if name != "resnet18"]
SMOOTH = ("logistic", "lenet-zhu", "lenet-4conv", "gru", "bag-of-words")
FLOAT32 = 3e-4
"""A sum of n products is off by n units of 6e-8 at most, in whatever order, and no n here is above 4,608."""


@pytest.mark.parametrize("name", SMALL)
def test_after_some_steps_both_ways_agree(name: str) -> None:
    agree(*both(name, local_plan(lr=LR.get(name, PLAN.lr), precision="float64")), 1e-12)


@pytest.mark.parametrize("name", SMOOTH)
def test_in_float32_models_without_a_kink_agree_too(name: str) -> None:
    sequential, together = both(name, PLAN)
    agree(sequential, together, FLOAT32)
    assert {result.upload.dtype for result in together.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", [name for name in MODELS if name not in SMOOTH])
def test_in_float32_the_loss_of_all_others_agrees(name: str) -> None:
    """Before the first step, with BatchNorm as in training."""
    sequential, together = both(name, local_plan(steps=1), sizes=(8, 4))
    for u, one in sequential.items():
        assert together[u].loss == pytest.approx(one.loss, rel=FLOAT32)
        assert together[u].upload.dtype == one.upload.dtype == np.float32


def local_plan(**changes: Any) -> LocalPlan:
    fields = {name: getattr(PLAN, name) for name in PLAN.__struct_fields__}
    return LocalPlan(**fields | changes)


@pytest.mark.slow
def test_of_eleven_million_parameters_too() -> None:
    plan = local_plan(lr=LR["resnet18"], precision="float64", batch_size=2, steps=2)
    agree(*both("resnet18", plan, sizes=(2, 1)), 1e-12)


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": "fedsgd"},
        {"algorithm": "fedavg-weights"},
        {"proximal": 0.3},
        {"momentum": 0.0},
        {"momentum": 0.9},
        {"steps": 0, "epochs": 2},  # clients with fewer examples stop before the others
        {"steps": 0, "epochs": 1, "batch_size": 30},
        {"steps": 3, "batch_size": 100},
        {"sampling": "poisson"},
        {"balance": "loss"},
        {"balance": "sampling", "sampling": "poisson"},
        {"sampling": "poisson", "batch_size": 1, "steps": 12},  # batches of 0 to 4, and some steps of none
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["cnn", "tolpegin-fmnist", "gru", "mlp"])
def test_in_every_kind_of_training_they_agree(name: str, changes: dict[str, Any]) -> None:
    agree(*both(name, local_plan(precision="float64", **changes)), 1e-12)


@pytest.mark.parametrize("name", ["cnn", "tolpegin-fmnist", "mlp"])
def test_where_no_step_has_an_example_nothing_moves(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even BatchNorm's statistics; and nobody has a loss that is no number."""
    monkeypatch.setattr(local, "samples", lambda *_: iter([np.arange(0)] * 3))
    for results in both(name, local_plan(sampling="poisson", steps=3)):
        for result in results.values():
            assert not result.upload.any()
            assert result.loss == 0.0


@pytest.mark.parametrize("name", ["cnn", "tolpegin-fmnist"])
def test_a_gradient_in_chunks_agrees(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of shards of other sizes: some have a last chunk, some none, and BatchNorm sees chunk by chunk."""
    monkeypatch.setattr(step, "GRADIENT_CHUNK", 6)
    agree(*both(name, LocalPlan("fedsgd", precision="float64")), 1e-12)


@pytest.mark.parametrize("name", ["cnn", "tolpegin-fmnist", "gru"])
def test_in_bfloat16_they_are_near(name: str) -> None:
    sequential, together = both(name, local_plan(precision="bfloat16"))
    exact, _ = both(name, PLAN)
    for u, result in together.items():
        assert np.isfinite(result.upload).all()
        assert 0 < apart(exact[u], result) <= 0.1  # 25 units of 2^-8, which are 0 in float32
        assert apart(sequential[u], result) <= 0.1
        assert result.correct == sequential[u].correct == exact[u].correct


def test_they_would_not_agree_of_another_training() -> None:
    """What the tolerances let pass is little: a step, some momentum, or the order of examples is not."""
    sequential, _ = both("cnn", PLAN)
    for changed in (local_plan(steps=5), local_plan(batch_size=6), local_plan(momentum=0.49)):
        _, together = both("cnn", changed)
        assert min(apart(sequential[u], together[u]) for u in together) > 1e-3


def test_a_client_with_fewer_steps_stops() -> None:
    """It is as it is alone, however long the others go on."""
    plan = LocalPlan(epochs=3, batch_size=4, lr=0.05, momentum=0.5, precision="float64")
    _, together = both("cnn", plan)
    _, alone = both("cnn", plan, sizes=SIZES[:1])
    assert plan.steps_of(13) < plan.steps_of(30)
    assert apart(alone[0], together[0]) <= 1e-12
    assert together[0].loss == pytest.approx(alone[0].loss, rel=1e-12)


@pytest.mark.parametrize("most", [1, 8, 16, 10_000])
@pytest.mark.parametrize("algorithm", ["fedavg", "fedsgd"])
def test_groups_change_nothing(most: int, algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One client at a time, two, or all."""
    plan = LocalPlan(algorithm, epochs=2, batch_size=8, lr=0.05, precision="float64")
    sequential, expected = both("tolpegin-fmnist", plan)
    monkeypatch.setattr(batched, "MOST_EXAMPLES", {"cpu": most})
    _, together = both("tolpegin-fmnist", plan)
    agree(expected, together, 1e-12)
    agree(sequential, together, 1e-12)


def test_groups_are_those_with_the_most_steps_first() -> None:
    shares = batched.as_shares((3, 50, 8, 20, 9))
    assert list(batched._groups(shares, LocalPlan(batch_size=8), 16)) == [[1, 3], [4, 0], [2]]


def test_clients_may_share_examples_and_have_them_in_any_order() -> None:
    x, y, classes = examples("cnn")
    model = build("cnn", (1, 8, 8), classes, 0)
    shares = {3: np.array([5, 4, 9, 1]), 8: np.array([1, 9, 40, 41, 42, 5])}
    plan, orders = LocalPlan(batch_size=3, precision="float64"), {3: ORDERS[0], 8: ORDERS[1]}
    results = [LocalClients(x, y, shares, CPU, way).train(model, plan, orders) for way in WAYS]
    agree(results[0], results[1], 1e-12)
    alone = local.train(model, torch.tensor(x[shares[8]]), torch.tensor(y[shares[8]]), plan, orders[8])
    assert apart(alone, results[1][8]) <= 1e-12


def test_a_round_is_of_those_who_have_an_order() -> None:
    x, y, classes = examples("mlp")
    model = build("mlp", (1, 8, 8), classes, 0)
    for way in WAYS:
        clients = LocalClients(x, y, shares_of(SIZES), CPU, way)
        assert clients.train(model, PLAN, {2: ORDERS[2], 0: ORDERS[0]}).keys() == {0, 2}


@pytest.mark.parametrize("way", WAYS)
def test_the_received_model_stays_as_it_was(way: str) -> None:
    """Its weights, its running statistics, its mode and its precision."""
    x, y, classes = examples("tolpegin-fmnist")
    model = build("tolpegin-fmnist", (1, 8, 8), classes, 0)
    before, state = to_vector(model), torch.get_rng_state()
    plan = local_plan(precision="float64", steps=2)
    LocalClients(x, y, shares_of(SIZES), CPU, way).train(model, plan, ORDERS)
    assert np.array_equal(to_vector(model), before)
    assert model.training
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_that_was_evaluated_trains_as_before() -> None:
    """Evaluation leaves it in another layout, with the same numbers."""
    x, y, classes = examples("cnn")
    fresh, evaluated = (build("cnn", (1, 8, 8), classes, 0) for _ in range(2))
    local.evaluate(evaluated, torch.tensor(x), torch.tensor(y))
    clients, plan = LocalClients(x, y, shares_of(SIZES), CPU, "batched"), local_plan(precision="float64")
    agree(clients.train(fresh, plan, ORDERS), clients.train(evaluated, plan, ORDERS), 1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_training_that_diverges_is_said_in_both_ways(way: str) -> None:
    x, y, classes = examples("cnn")
    clients = LocalClients(x, y, shares_of(SIZES), CPU, way)
    with pytest.raises(Diverged, match="training diverged"):
        clients.train(build("cnn", (1, 8, 8), classes, 0), local_plan(lr=100.0, momentum=0.99), ORDERS)


# The faster way


@pytest.mark.parametrize("faster", WAYS)
def test_the_first_round_measures_both_ways_and_all_take_the_faster(
    faster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y, classes = examples("mlp")
    clients, model = LocalClients(x, y, shares_of(SIZES), CPU), build("mlp", (1, 8, 8), classes, 0)
    measured, taken = [], []

    def tried(model: nn.Module, plan: LocalPlan, orders: dict[int, bytes], _: None) -> dict[str, float]:
        measured.append(sorted(orders))
        return {way: 2.0 if way == faster else 1.0 for way in WAYS}

    train = clients._train

    def watched(way: str, *rest: Any) -> dict[int, LocalResult]:
        taken.append(way)
        return train(way, *rest)

    monkeypatch.setattr(clients, "_tried", tried)
    monkeypatch.setattr(clients, "_train", watched)
    for _ in range(3):
        clients.train(model, PLAN, ORDERS)
    assert measured == [[0, 1, 2]]
    assert taken == [faster] * 3
    assert clients.way == faster
    assert clients.rates[faster] == 2.0


@pytest.mark.parametrize("slow", WAYS)
def test_a_way_is_measured_by_the_clock(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that ticks 50 times as fast while one of them runs; of few clients, for few steps."""
    x, y, classes = examples("mlp")
    clients = LocalClients(x, y, shares_of(SIZES), CPU)
    train, now, steps = clients._train, [0.0], []

    def timed(way: str, model: nn.Module, plan: LocalPlan, orders: dict[int, bytes], *rest: None) -> Any:
        now[0] += 50.0 if way == slow else 1.0
        steps.append((plan.steps, len(orders)))
        return train(way, model, plan, orders, *rest)

    monkeypatch.setattr("fl.training.clients.TRIED_CLIENTS", 2)
    monkeypatch.setattr(clients, "_train", timed)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    clients.train(build("mlp", (1, 8, 8), classes, 0), local_plan(steps=30), ORDERS)
    assert clients.way != slow
    assert clients.rates[clients.way] == pytest.approx(50 * clients.rates[slow])
    assert clients.rates[clients.way] == 2 * 4  # client-steps in that one second
    assert steps == [(4, 2)] * 4 + [(30, 3)]


@pytest.mark.parametrize("way", WAYS)
def test_a_way_that_is_given_is_not_measured(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, classes = examples("mlp")
    clients = LocalClients(x, y, shares_of(SIZES), CPU, way)
    monkeypatch.setattr(clients, "_tried", None)
    clients.train(build("mlp", (1, 8, 8), classes, 0), PLAN, ORDERS)
    assert (clients.way, clients.rates) == (way, {})


def test_measuring_changes_no_result() -> None:
    x, y, classes = examples("cnn")
    model, plan = build("cnn", (1, 8, 8), classes, 0), local_plan(steps=6)
    measured = LocalClients(x, y, shares_of(SIZES), CPU)
    first = measured.train(model, plan, ORDERS)
    again = LocalClients(x, y, shares_of(SIZES), CPU, measured.way).train(model, plan, ORDERS)
    assert all(np.array_equal(first[u].upload, again[u].upload) for u in ORDERS)


def test_the_names_of_the_ways_are_those_measured() -> None:
    assert set(Way.__args__) == set(WAYS)


def test_what_pads_a_batch_is_the_clients_own() -> None:
    """Another's examples, not finite, are nowhere looked at."""
    x = torch.rand(8, 1, 8, 8)
    x[0] = torch.nan
    y, shares = torch.arange(8) % 3, [torch.arange(1, 3), torch.arange(3, 8)]
    for name in ("logistic", "cnn"):
        plan = LocalPlan(steps=2, batch_size=4)
        model, orders = build(name, (1, 8, 8), 3, 0), [ORDERS[0], ORDERS[1]]
        for result in batched.train_batched(model, x, y, shares, plan, orders):
            assert np.isfinite(result.upload).all()


def test_a_process_that_is_bound_to_some_cores_trains_on_those(monkeypatch: pytest.MonkeyPatch) -> None:
    side_by_side: list[int] = []

    class Pool(clients.ThreadPoolExecutor):
        def __init__(self, workers: int, **more: Any) -> None:
            side_by_side.append(workers)
            super().__init__(workers, **more)

    monkeypatch.setattr(clients, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {5, 7, 9}, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    x, y, _ = examples("mlp")
    LocalClients(x, y, shares_of(SIZES), CPU)
    assert side_by_side == [3]
