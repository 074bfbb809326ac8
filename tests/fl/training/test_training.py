"""Local training by its definitions, its evaluation, and what an experiment may listen to."""

from __future__ import annotations

import contextlib
import hashlib
import io
import subprocess
import sys
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from fl import data
from fl.config.plan import LocalPlan
from fl.config.secret import permutations
from fl.config.section import ConfigError
from fl.models.architectures import build
from fl.models.weights import from_vector, to_vector
from fl.training import local, step
from fl.training.local import Diverged, LocalResult, batches, device, evaluate, train
from fl.training.server import GlobalModel
from fl.training.step import Gradients

CPU = torch.device("cpu")
SGD = {"epochs": 2, "batch_size": 8, "lr": 0.05, "momentum": 0.8}
ORDER, ANOTHER = bytes(range(32)), bytes(32)  # keys of orders of examples
Shard = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def shard() -> Shard:
    digits = data.load("digits")
    return torch.tensor(digits.train_x[:100]), torch.tensor(digits.train_y[:100])


@pytest.fixture
def model() -> nn.Module:
    return build("cnn", (1, 8, 8), 10, seed=0)


def trained(model: nn.Module, shard: Shard, order: bytes = ORDER, **changes: Any) -> LocalResult:
    return train(model, *shard, LocalPlan(**SGD | changes), order)


def close(one: np.ndarray, other: np.ndarray, relative: float) -> bool:
    return bool(np.linalg.norm(one - other) <= relative * np.linalg.norm(other))


# Stochastic gradient descent


def reference(shard: Shard, batch_size: int, proximal: float = 0.0) -> tuple[nn.Module, float]:
    """Two epochs by torch's own optimiser and its own gradients; and the mean loss on the way. In float64:
    in float32 the order of a sum may move a ReLU across its kink.
    """
    trained, first = (build("cnn", (1, 8, 8), 10, seed=0).double() for _ in range(2))
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.05, momentum=0.8)
    losses = []
    x, y = shard[0].double(), shard[1]
    for own in islice(permutations(ORDER, len(y)), 2):
        for batch in torch.from_numpy(own).split(batch_size):
            loss = cross_entropy(trained(x[batch]), y[batch])
            losses += [loss.item()] * len(batch)
            pairs = zip(trained.parameters(), first.parameters(), strict=True)
            apart = sum(((w - w0.detach()) ** 2).sum() for w, w0 in pairs)
            optimizer.zero_grad()
            (loss + proximal / 2 * apart).backward()
            optimizer.step()
    return trained, float(np.mean(losses))


@pytest.mark.parametrize("proximal", [0.0, 0.7])
def test_training_is_sgd_with_momentum_over_the_order_that_the_key_gives(
    model: nn.Module, shard: Shard, proximal: float
) -> None:
    """The loss of FedProx is that of the data, and mu / 2 |w - w0|^2 has no part in what is reported."""
    result = trained(model, shard, batch_size=16, proximal=proximal, precision="float64")
    expected, loss = reference(shard, 16, proximal)
    moved = local.flat(expected) - local.flat(model)
    np.testing.assert_allclose(result.upload, moved.numpy(), rtol=0, atol=1e-12)
    assert result.loss == pytest.approx(loss, rel=1e-12)


def test_a_proximal_term_changes_the_second_step_and_not_the_first(model: nn.Module, shard: Shard) -> None:
    free, held = ({"steps": steps, "momentum": 0.0} for steps in (1, 2))
    assert np.array_equal(
        trained(model, shard, **free).upload, trained(model, shard, **free, proximal=9).upload
    )
    assert not close(
        trained(model, shard, **held, proximal=9).upload, trained(model, shard, **held).upload, 0.01
    )


def test_the_larger_mu_the_nearer_a_client_stays(model: nn.Module, shard: Shard) -> None:
    moved = [
        np.linalg.norm(trained(model, shard, proximal=mu, momentum=0.0).upload) for mu in (0, 0.1, 1, 10)
    ]
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 0.4 * moved[0]


def test_correct_counts_the_received_model_on_the_own_shard(model: nn.Module, shard: Shard) -> None:
    result = trained(model, shard, epochs=8)
    x, y = shard
    assert result.correct == int((model(x).argmax(1) == y).sum())
    assert result.examples == 100
    from_vector(model, to_vector(model) + result.upload)
    assert evaluate(model, *shard)[0] * 100 > result.correct + 20


def test_training_leaves_the_received_model_and_the_global_generator_alone(
    model: nn.Module, shard: Shard
) -> None:
    before, state = to_vector(model), torch.get_rng_state()
    result = trained(model, shard)
    assert np.array_equal(to_vector(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert result.upload.dtype == np.float32
    assert result.upload.shape == before.shape
    assert result.upload.any()


# Steps and epochs


@given(n=st.integers(1, 60), size=st.integers(1, 20), steps=st.integers(1, 50), order=st.binary(min_size=32))
def test_just_so_many_steps_whatever_a_client_holds(n: int, size: int, steps: int, order: bytes) -> None:
    plan = LocalPlan(steps=steps, batch_size=size, epochs=7)
    taken = list(batches(n, plan, order))
    assert len(taken) == steps == plan.steps_of(n)
    assert all(1 <= len(batch) <= size for batch in taken)


@given(n=st.integers(1, 60), size=st.integers(1, 20), epochs=st.integers(1, 4), order=st.binary(min_size=32))
def test_each_pass_takes_every_example_once(n: int, size: int, epochs: int, order: bytes) -> None:
    plan = LocalPlan(epochs=epochs, batch_size=size)
    taken = list(batches(n, plan, order))
    assert len(taken) == plan.steps_of(n)
    a_pass = len(taken) // epochs
    for first in range(0, len(taken), a_pass):
        own = torch.cat(taken[first : first + a_pass])
        assert sorted(own.tolist()) == list(range(n))
        assert all(len(batch) == size for batch in taken[first : first + a_pass - 1])
    stepwise = batches(n, LocalPlan(steps=len(taken), batch_size=size), order)
    assert all(torch.equal(one, other) for one, other in zip(taken, stepwise, strict=True))


@given(n=st.integers(1, 60))
def test_fedsgd_takes_all_at_once_whatever_else_is_asked(n: int) -> None:
    plan = LocalPlan("fedsgd", epochs=3, steps=9, batch_size=2)
    (batch,) = batches(n, plan, ORDER)
    assert batch.tolist() == list(range(n))
    assert plan.steps_of(n) == 1


def test_training_takes_the_steps_that_it_says(model: nn.Module, shard: Shard) -> None:
    heard = Heard()
    small = shard[0][:10], shard[1][:10]
    train(model, *small, LocalPlan(steps=7, batch_size=4), ORDER, tap=heard)
    assert [len(examples) for _, _, examples, _ in heard.steps] == [4, 4, 2, 4, 4, 2, 4]


# The forms of federated averaging


def averaged(model: nn.Module, shards: list[Shard], plan: LocalPlan) -> np.ndarray:
    """How a round of these clients moves the global model."""
    results = [train(model, x, y, plan, bytes([k]) * 32) for k, (x, y) in enumerate(shards)]
    mean = np.average(
        [result.upload.astype(np.float64) for result in results],
        axis=0,
        weights=[result.examples for result in results],
    )
    server = GlobalModel(to_vector(model), trained=sum(p.numel() for p in model.parameters()))
    server.apply(mean, plan)
    return server.parameters - to_vector(model)


def split(shard: Shard, *ends: int) -> list[Shard]:
    x, y = shard
    return [(x[a:b], y[a:b]) for a, b in zip((0, *ends[:-1]), ends, strict=True)]


@settings(max_examples=30)
@given(ends=st.tuples(st.integers(1, 30), st.integers(31, 60), st.integers(61, 100)))
def test_the_mean_of_weights_is_the_mean_of_updates(shard: Shard, ends: tuple[int, ...]) -> None:
    """McMahan et al., algorithm 1: sum n_k/n w_k, as the weights n_k/n sum to 1; to float32's rounding."""
    model, shards = build("logistic", (1, 8, 8), 10, 0), split(shard, *ends)
    plans = [LocalPlan(form, **SGD) for form in ("fedavg", "fedavg-weights")]
    updates, weights = (averaged(model, shards, plan) for plan in plans)
    assert close(weights, updates, 1e-6)


def test_unlike_weights_would_not_be(model: nn.Module, shard: Shard) -> None:
    """The two differ as soon as the mean is not one."""
    sent = [
        train(model, *part, LocalPlan(form, **SGD), ORDER).upload.astype(np.float64)
        for form in ("fedavg", "fedavg-weights")
        for part in split(shard, 20, 100)
    ]
    servers = [GlobalModel(to_vector(model)) for _ in range(2)]
    servers[0].apply(0.6 * (sent[0] + sent[1]), LocalPlan())
    servers[1].apply(0.6 * (sent[2] + sent[3]), LocalPlan("fedavg-weights"))
    assert not close(servers[0].parameters, servers[1].parameters, 0.01)


FULL = {"epochs": 1, "batch_size": 100, "lr": 0.05}


@pytest.mark.parametrize("name", ["cnn", "gru", "tolpegin-fmnist"])
def test_fedsgd_is_fedavg_of_one_step_with_the_whole_shard(
    name: str, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """McMahan et al., section 2: w - lr sum n_k/n g_k. With BatchNorm where a shard fits one chunk.
    In float64: float32 rounds a weight of 1 that moves by 1e-4 in the fourth digit of its change.
    """
    shards = split(shard, 20, 50, 100)
    if name == "gru":
        tokens = torch.tensor(np.random.default_rng(0).integers(0, 40, (100, 6)))
        shards = split((tokens, tokens[:, 0]), 20, 50, 100)
    model = build(name, tuple(shards[0][0].shape[1:]), 40 if name == "gru" else 10, 0)
    if name != "tolpegin-fmnist":
        monkeypatch.setattr(step, "GRADIENT_CHUNK", 7)  # a sum of chunks is the whole
    sgd, avg = (
        averaged(model, shards, LocalPlan(**FULL | form, precision="float64"))
        for form in ({"algorithm": "fedsgd"}, {})
    )
    assert close(sgd, avg, 1e-12)
    assert np.linalg.norm(sgd) > 0


@pytest.mark.parametrize("more", [{"epochs": 2}, {"momentum": 0.5, "steps": 2}, {"batch_size": 30}], ids=str)
def test_fedsgd_is_not_fedavg_of_more(model: nn.Module, shard: Shard, more: dict[str, Any]) -> None:
    shards = split(shard, 20, 50, 100)
    sgd = averaged(model, shards, LocalPlan("fedsgd", lr=0.05, momentum=0.5))
    assert not close(sgd, averaged(model, shards, LocalPlan(**FULL | more)), 0.05)


def test_momentum_begins_with_the_second_step(model: nn.Module, shard: Shard) -> None:
    for steps, same in ((1, True), (2, False)):
        with_it, without = (trained(model, shard, steps=steps, momentum=m).upload for m in (0.5, 0.0))
        assert close(with_it, without, 1e-6) is same


def test_fedsgd_moves_running_statistics_to_their_mean(shard: Shard) -> None:
    """They have no gradient: what is sent is their change."""
    model, shards = build("tolpegin-fmnist", (1, 8, 8), 10, 0), split(shard, 20, 50)
    trained = sum(p.numel() for p in model.parameters())
    sgd, avg = (averaged(model, shards, plan) for plan in (LocalPlan("fedsgd", lr=0.01), LocalPlan(**FULL)))
    assert close(sgd[trained:], avg[trained:], 1e-5)
    assert np.abs(avg[trained:]).max() > 0.01


# Precision


@pytest.mark.parametrize("algorithm", ["fedavg", "fedsgd"])
def test_the_loss_has_the_precision_of_the_plan(model: nn.Module, shard: Shard, algorithm: str) -> None:
    """In float64 it is that of the same sums by torch, to the last digits."""
    plan = LocalPlan(algorithm, steps=1, batch_size=100, precision="float64")
    x, y = shard
    exact = cross_entropy(model.double()(x.double()), y).item()
    result = train(model.float(), x, y, plan, ORDER)
    assert result.upload.dtype == np.float64
    assert result.loss == pytest.approx(exact, rel=1e-13)


@pytest.mark.parametrize("name", ["cnn", "tolpegin-fmnist", "gru"])
def test_bfloat16_is_finite_and_near_float32(name: str, shard: Shard) -> None:
    """At steps that do not amplify rounding themselves, as large ones with BatchNorm do."""
    x, y = shard
    if name == "gru":
        x = torch.tensor(np.random.default_rng(0).integers(0, 10, (100, 6)))
    model = build(name, tuple(x.shape[1:]), 10, 0)
    coarse, fine = (
        train(model, x, y, LocalPlan(**SGD | {"precision": precision, "lr": 0.005}), ORDER)
        for precision in ("bfloat16", "float32")
    )
    assert coarse.upload.dtype == np.float32
    assert np.isfinite(coarse.upload).all()
    assert not np.array_equal(coarse.upload, fine.upload)
    assert close(coarse.upload, fine.upload, 0.1)
    assert coarse.loss == pytest.approx(fine.loss, rel=0.05)
    assert coarse.correct == fine.correct  # of the received model, in float32


# Repetition


PROGRAM = """
import hashlib, torch
torch.set_num_threads(1)
from fl import data
from fl.models import architectures
from fl.config.plan import LocalPlan
from fl.training.local import train
digits = data.load("digits")
model = architectures.build("cnn", (1, 8, 8), 10, seed=0)
x, y = torch.tensor(digits.train_x[:100]), torch.tensor(digits.train_y[:100])
result = train(model, x, y, LocalPlan(epochs=2, batch_size=8, lr=0.05, momentum=0.8), bytes(32))
print(hashlib.sha256(result.upload.tobytes()).hexdigest(), result.loss, result.correct)
"""


def test_the_same_order_gives_the_same_bits_in_another_process() -> None:
    there = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    said, threads = io.StringIO(), torch.get_num_threads()
    with contextlib.redirect_stdout(said):
        exec(PROGRAM)  # noqa: S102 - the same few lines
    torch.set_num_threads(threads)
    assert len(there.split()[0]) == len(hashlib.sha256().hexdigest())
    assert there == said.getvalue()


def test_another_order_gives_another_update(model: nn.Module, shard: Shard) -> None:
    same = trained(model, shard).upload
    assert np.array_equal(trained(model, shard).upload, same)
    assert not np.array_equal(trained(model, shard, order=ANOTHER).upload, same)


def test_training_that_diverges_says_what_to_lower(model: nn.Module, shard: Shard) -> None:
    with pytest.raises(Diverged, match=r"training diverged .*: lower lr"):
        trained(model, shard, lr=100.0, epochs=20, momentum=0.99)


# What an experiment hears


class Heard:
    """A tap that keeps all."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, np.ndarray, Gradients]] = []

    def step(self, u: int, step: int, examples: np.ndarray, gradients: Gradients) -> None:
        self.steps.append((u, step, examples, gradients))


@pytest.mark.parametrize("algorithm", ["fedavg", "fedavg-weights", "fedsgd"])
def test_a_tap_hears_every_step_and_changes_nothing(model: nn.Module, shard: Shard, algorithm: str) -> None:
    heard, plan = Heard(), LocalPlan(algorithm, **SGD)
    result = train(model, *shard, plan, ORDER, u=7, tap=heard)
    assert np.array_equal(result.upload, train(model, *shard, plan, ORDER).upload)
    assert [(u, step) for u, step, _, _ in heard.steps] == [(7, step) for step in range(plan.steps_of(100))]
    taken = [batch.tolist() for batch in batches(100, plan, ORDER)]
    assert [examples.tolist() for _, _, examples, _ in heard.steps] == taken


# Evaluation and devices


def test_evaluation_is_accuracy_and_mean_loss_in_batches(
    model: nn.Module, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = shard
    logits = model(x).detach()
    expected = ((logits.argmax(1) == y).float().mean().item(), cross_entropy(logits, y).item())
    assert evaluate(model, *shard) == pytest.approx(expected, abs=1e-5)
    monkeypatch.setattr(local, "EVALUATION_BATCH", 7)
    assert evaluate(model, *shard) == pytest.approx(expected, abs=1e-5)


def test_a_model_that_was_evaluated_can_be_trained_on(model: nn.Module, shard: Shard) -> None:
    before = to_vector(model)
    evaluate(model, *shard)
    assert model.training
    assert np.array_equal(to_vector(model), before)
    assert all(parameter.requires_grad for parameter in model.parameters())
    cross_entropy(model(shard[0]), shard[1]).backward()
    from_vector(model, before)
    assert np.array_equal(trained(model, shard).upload, trained(build("cnn", (1, 8, 8), 10, 0), shard).upload)


def test_devices_are_resolved_or_refused() -> None:
    assert device("cpu") == CPU
    assert device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("cuda:99", "warp"):
        with pytest.raises(ConfigError, match="try auto or cpu"):
            device(name)


def test_convolutions_on_what_is_no_image_yet() -> None:
    """Only images have the layout in which convolutions are fastest."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    result = train(model, torch.rand(6, 16), torch.arange(6) % 3, LocalPlan(steps=2, batch_size=3), ORDER)
    assert np.isfinite(result.upload).all()
