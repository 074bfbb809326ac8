"""Local training, evaluation, and the server's state."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn
from torch.nn.functional import cross_entropy

from fl import data
from fl.config import ConfigError
from fl.data.examples import Images, Labels
from fl.models import build, from_vector, to_vector
from fl.training import local
from fl.training.fedavg import FedAvg
from fl.training.local import Diverged, LocalResult, device, evaluate, train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shard() -> tuple[Images, Labels]:
    digits = data.load("digits")
    return digits.train_x[:100], digits.train_y[:100]


@pytest.fixture
def model() -> nn.Module:
    return build("cnn", (1, 8, 8), 10, seed=0)


def trained(model: nn.Module, shard: tuple[Images, Labels], **changes: float) -> LocalResult:
    how = {"epochs": 2, "batch_size": 8, "lr": 0.05, "momentum": 0.8, "seed": 3, "device": CPU} | changes
    return train(model, *shard, **how)  # type: ignore[arg-type]


def test_training_is_sgd_with_momentum_over_the_order_that_the_seed_gives(
    model: nn.Module, shard: tuple[Images, Labels]
) -> None:
    result = trained(model, shard, batch_size=16)
    reference = build("cnn", (1, 8, 8), 10, seed=0)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.05, momentum=0.8)
    order = torch.Generator().manual_seed(3)
    x, y = torch.tensor(shard[0]), torch.tensor(shard[1])
    losses = []
    for _ in range(2):
        for batch in torch.randperm(len(y), generator=order).split(16):
            loss = cross_entropy(reference(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += [loss.item()] * len(batch)
    np.testing.assert_allclose(result.update, to_vector(reference) - to_vector(model), atol=1e-5)
    assert result.loss == pytest.approx(np.mean(losses), rel=1e-4)


def test_correct_counts_the_received_model_on_the_own_shard(
    model: nn.Module, shard: tuple[Images, Labels]
) -> None:
    result = trained(model, shard, epochs=8)
    x, y = torch.tensor(shard[0]), torch.tensor(shard[1])
    assert result.correct == int((model(x).argmax(1) == y).sum())
    assert result.examples == 100
    received = to_vector(model)
    from_vector(model, received + result.update)
    assert evaluate(model, *shard, CPU)[0] * 100 > result.correct + 20


def test_training_leaves_the_received_model_and_the_global_generator_alone(
    model: nn.Module, shard: tuple[Images, Labels]
) -> None:
    before, state = to_vector(model), torch.get_rng_state()
    result = trained(model, shard)
    assert np.array_equal(to_vector(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert result.update.dtype == np.float32
    assert result.update.shape == before.shape
    assert result.update.any()


PROGRAM = """
import hashlib, torch
torch.set_num_threads(1)
from fl import data, models
from fl.training.local import train
digits = data.load("digits")
model = models.build("cnn", (1, 8, 8), 10, seed=0)
result = train(model, digits.train_x[:100], digits.train_y[:100], epochs=2, batch_size=8, lr=0.05,
               momentum=0.8, seed=3, device=torch.device("cpu"))
print(hashlib.sha256(result.update.tobytes()).hexdigest(), result.loss, result.correct)
"""


def test_the_same_seed_gives_the_same_bits_in_another_process(shard: tuple[Images, Labels]) -> None:
    one, other = (
        subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert len(one.split()[0]) == len(hashlib.sha256().hexdigest())
    assert one == other


def test_another_seed_gives_another_update(model: nn.Module, shard: tuple[Images, Labels]) -> None:
    same = trained(model, shard).update
    assert np.array_equal(trained(model, shard).update, same)
    assert not np.array_equal(trained(model, shard, seed=4).update, same)


@pytest.mark.parametrize("lr", [1e30, 100.0])
def test_training_that_diverges_says_what_to_lower(
    model: nn.Module, shard: tuple[Images, Labels], lr: float
) -> None:
    with pytest.raises(Diverged, match="training diverged"):
        trained(model, shard, lr=lr, epochs=20 if lr == 100.0 else 2, momentum=0.99)


def test_evaluation_is_accuracy_and_mean_loss_in_batches(
    model: nn.Module, shard: tuple[Images, Labels], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = torch.tensor(shard[0]), torch.tensor(shard[1])
    logits = model(x).detach()
    expected = ((logits.argmax(1) == y).float().mean().item(), cross_entropy(logits, y).item())
    assert evaluate(model, *shard, CPU) == pytest.approx(expected, abs=1e-5)
    monkeypatch.setattr(local, "EVALUATION_BATCH", 7)
    assert evaluate(model, *shard, CPU) == pytest.approx(expected, abs=1e-5)
    assert model.training


def test_devices_are_resolved_or_refused() -> None:
    assert device("cpu") == CPU
    assert device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("cuda:99", "warp"):
        with pytest.raises(ConfigError, match="try auto or cpu"):
            device(name)


vectors = hnp.arrays(np.float32, 5, elements=st.floats(-100, 100, width=32))


@given(start=vectors, updates=st.lists(vectors, max_size=5))
def test_fedavg_adds_means_in_float64_and_sends_float32(start: np.ndarray, updates: list[np.ndarray]) -> None:
    server = FedAvg(start)
    for update in updates:
        server.apply(update)
    expected = start.astype(np.float64) + sum(update.astype(np.float64) for update in updates)
    np.testing.assert_allclose(server.parameters, expected, rtol=1e-12, atol=1e-10)
    assert server.parameters.dtype == np.float64
    assert server.broadcast.dtype == np.float32
    assert np.array_equal(server.broadcast, server.parameters.astype(np.float32))


def test_fedavg_keeps_means_that_float32_would_lose() -> None:
    server = FedAvg(np.ones(1, dtype=np.float32))
    for _ in range(1000):
        server.apply(np.full(1, 1e-8))
    assert server.parameters[0] == pytest.approx(1 + 1e-5, abs=1e-12)


def test_fedavg_does_not_share_memory_with_its_caller() -> None:
    start = np.zeros(2)
    server = FedAvg(start)
    server.apply(np.ones(2))
    server.broadcast[:] = 9
    assert start.tolist() == [0, 0]
    assert server.parameters.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("update", "says"),
    [
        (np.zeros(2), r"the mean update has shape \(2,\), the model \(3,\)"),
        (np.zeros((3, 1)), r"the mean update has shape \(3, 1\)"),
        (np.array([0, 0, np.nan]), "the mean update holds NaN"),
        (np.full(3, np.inf), "the mean update holds NaN or infinity"),
    ],
)
def test_fedavg_refuses_a_mean_that_does_not_fit(update: np.ndarray, says: str) -> None:
    server = FedAvg(np.ones(3))
    with pytest.raises(ValueError, match=says):
        server.apply(update)
    assert server.parameters.tolist() == [1, 1, 1]


@pytest.mark.parametrize("start", [np.ones((2, 2)), np.array([np.nan])])
def test_fedavg_refuses_a_start_that_is_not_flat_and_finite(start: np.ndarray) -> None:
    with pytest.raises(ValueError, match="flat, finite"):
        FedAvg(start)
