"""The server's step: every optimiser beside its published algorithm, and what it remembers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fl.config.plan import LocalPlan, ServerStep
from fl.config.run import CHOICES
from fl.training.server import STEPS, GlobalModel

vectors = hnp.arrays(np.float32, 5, elements=st.floats(-100, 100, width=32))
several = st.lists(vectors, min_size=1, max_size=5)
OPTIMISERS = tuple(STEPS)


def test_the_optimisers_are_those_of_the_configuration() -> None:
    assert tuple(STEPS) == CHOICES["server"]


# Averaging


@given(start=vectors, updates=st.lists(vectors, max_size=5))
def test_averaging_adds_means_in_float64_and_sends_float32(
    start: np.ndarray, updates: list[np.ndarray]
) -> None:
    server = GlobalModel(start)
    for update in updates:
        server.apply(update)
    expected = start.astype(np.float64) + sum(update.astype(np.float64) for update in updates)
    np.testing.assert_allclose(server.parameters, expected, rtol=1e-12, atol=1e-10)
    assert server.parameters.dtype == np.float64
    assert server.broadcast.dtype == np.float32
    assert np.array_equal(server.broadcast, server.parameters.astype(np.float32))


def test_averaging_keeps_means_that_float32_would_lose() -> None:
    server = GlobalModel(np.ones(1, dtype=np.float32))
    for _ in range(1000):
        server.apply(np.full(1, 1e-8))
    assert server.parameters[0] == pytest.approx(1 + 1e-5, abs=1e-12)


def test_the_model_does_not_share_memory_with_its_caller() -> None:
    start = np.zeros(2)
    server = GlobalModel(start)
    server.apply(np.ones(2))
    server.broadcast[:] = 9
    assert start.tolist() == [0, 0]
    assert server.parameters.tolist() == [1, 1]


@given(start=vectors, mean=vectors, lr=st.floats(0.01, 10))
def test_what_was_sent_says_how_it_moves_the_model(start: np.ndarray, mean: np.ndarray, lr: float) -> None:
    """Updates are added, weights replace, gradients are descended."""
    w, sent = start.astype(np.float64), mean.astype(np.float64)
    for form, expected in (("fedavg", w + sent), ("fedavg-weights", sent), ("fedsgd", w - lr * sent)):
        server = GlobalModel(start)
        server.apply(mean, LocalPlan(form, lr=lr))
        np.testing.assert_allclose(server.parameters, expected, rtol=1e-12, atol=1e-10)


# By the papers


def fedavgm(w: np.ndarray, deltas: list[np.ndarray], step: ServerStep) -> np.ndarray:
    """Hsu, Qi and Brown 2019, section 4.2: v <- beta v + Delta w, w <- w - v, of which Delta w is the
    descent; the server's learning rate as in Reddi et al., algorithm 1."""
    v = np.zeros_like(w)
    for delta in deltas:
        v = step.momentum * v + delta
        w = w + step.lr * v
    return w


def reddi(w: np.ndarray, deltas: list[np.ndarray], step: ServerStep) -> np.ndarray:
    """Reddi et al. 2021, algorithm 2, coordinate by coordinate, from v_-1 = tau^2."""
    for i in range(len(w)):
        m, v = 0.0, step.tau**2
        for delta in deltas:
            d = float(delta[i])
            m = step.momentum * m + (1 - step.momentum) * d
            if step.optimiser == "adam":
                v = step.beta2 * v + (1 - step.beta2) * d * d
            else:
                v = v - (1 - step.beta2) * d * d * (1 if v > d * d else -1 if v < d * d else 0)
            w[i] += step.lr * m / (v**0.5 + step.tau)
    return w


REFERENCES: dict[str, Any] = {"momentum": fedavgm, "adam": reddi, "yogi": reddi}


@pytest.mark.parametrize("optimiser", REFERENCES)
@given(
    start=vectors,
    deltas=several,
    lr=st.floats(0.01, 2),
    beta1=st.floats(0, 0.99),
    beta2=st.floats(0, 0.999),
    tau=st.floats(1e-4, 1),
)
def test_each_optimiser_is_that_of_its_paper(
    optimiser: str,
    start: np.ndarray,
    deltas: list[np.ndarray],
    lr: float,
    beta1: float,
    beta2: float,
    tau: float,
) -> None:
    step = ServerStep(optimiser, lr, beta1, beta2, tau)
    server = GlobalModel(start, step)
    for delta in deltas:
        server.apply(delta)
    given = [delta.astype(np.float64) for delta in deltas]
    expected = REFERENCES[optimiser](start.astype(np.float64), given, step)
    np.testing.assert_allclose(server.parameters, expected, rtol=1e-9, atol=1e-9)


def test_optimisers_differ_from_one_another() -> None:
    ends = []
    for optimiser in OPTIMISERS:
        server = GlobalModel(np.zeros(3), ServerStep(optimiser, 0.5))
        for delta in ([1.0, -2.0, 0.1], [0.5, -1.0, 0.3], [0.01, 3.0, -0.2]):
            server.apply(np.array(delta))
        ends.append(server.parameters)
    for i, one in enumerate(ends):
        for other in ends[i + 1 :]:
            assert np.abs(one - other).min() > 1e-3


def test_momentum_of_zero_is_averaging() -> None:
    plain, other = GlobalModel(np.ones(2)), GlobalModel(np.ones(2), ServerStep("momentum", momentum=0.0))
    for server in (plain, other):
        server.apply(np.array([0.5, -1.0]))
        server.apply(np.array([0.25, 3.0]))
    assert np.array_equal(plain.parameters, other.parameters)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("form", ["fedavg", "fedavg-weights", "fedsgd"])
def test_buffers_are_averaged_whatever_the_optimiser(optimiser: str, form: str) -> None:
    """And whatever its learning rate: running statistics are no parameters."""
    plan, moved = LocalPlan(form, lr=0.25), np.array([1.0, -2.0])
    server = GlobalModel(np.array([3.0, 4.0, 5.0, 6.0]), ServerStep(optimiser, lr=0.1), trained=2)
    expected = server.parameters[2:]
    for _ in range(3):
        expected = expected + moved
        sent = {"fedavg": moved, "fedavg-weights": expected, "fedsgd": moved}[form]
        server.apply(np.concatenate([[0.3, 0.2], sent]), plan)
        np.testing.assert_allclose(server.parameters[2:], expected, rtol=1e-12)
    assert all(len(kept) in (0, 2) for kept in server.memory.values())


# Memory


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@settings(max_examples=25)
@given(start=vectors, before=several, after=several)
def test_a_model_that_goes_on_from_memory_has_the_same_bits(
    optimiser: str, start: np.ndarray, before: list[np.ndarray], after: list[np.ndarray]
) -> None:
    step = ServerStep(optimiser, 0.3)
    whole = GlobalModel(start, step, trained=3)
    for delta in before:
        whole.apply(delta)
    resumed = GlobalModel(whole.parameters, step, trained=3)
    resumed.remember({name: kept.copy() for name, kept in whole.memory.items()})
    for delta in after:
        whole.apply(delta)
        resumed.apply(delta)
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()


def test_without_its_memory_it_goes_on_otherwise() -> None:
    for optimiser in ("momentum", "adam", "yogi"):
        whole = GlobalModel(np.zeros(2), ServerStep(optimiser))
        whole.apply(np.ones(2))
        forgetful = GlobalModel(whole.parameters, ServerStep(optimiser))
        for server in (whole, forgetful):
            server.apply(np.full(2, 0.5))
        assert not np.allclose(whole.parameters, forgetful.parameters)


def test_memory_is_not_shared() -> None:
    server = GlobalModel(np.zeros(2), ServerStep("adam"))
    memory = server.memory
    server.apply(np.ones(2))
    assert memory["m"].tolist() == [0, 0]
    kept = {name: part.copy() for name, part in memory.items()}
    server.remember(kept)
    kept["m"][:] = 7
    assert server.memory["m"].tolist() == [0, 0]


def test_memory_that_is_not_finite_is_refused() -> None:
    for broken in (np.array([0, np.nan]), np.array([0, np.inf])):
        server = GlobalModel(np.zeros(2), ServerStep("adam"))
        for memory in ({"m": broken, "v": np.zeros(2)}, {"m": np.zeros(2), "v": broken}):
            with pytest.raises(ValueError, match="the memory of the optimiser holds NaN or infinity"):
                server.remember(memory)
        assert server.memory["m"].tolist() == [0, 0]


@pytest.mark.parametrize(
    "foreign",
    [
        GlobalModel(np.zeros(3), ServerStep("adam")).memory,
        GlobalModel(np.zeros(2), ServerStep("momentum")).memory,
        GlobalModel(np.zeros(2)).memory,
        {},
        {"m": np.zeros(2)},
        {"m": np.zeros(2), "v": np.zeros(2), "w": np.zeros(2)},
        {"m": np.zeros((2, 1)), "v": np.zeros(2)},
    ],
    ids=["other model", "momentum's", "average's", "none", "half", "more", "not flat"],
)
def test_foreign_memory_is_refused(foreign: dict[str, np.ndarray]) -> None:
    server = GlobalModel(np.zeros(2), ServerStep("adam"))
    with pytest.raises(ValueError, match="this is not the memory of such an optimiser"):
        server.remember(foreign)
    assert server.memory["m"].tolist() == [0, 0]


# What does not fit


@pytest.mark.parametrize(
    ("update", "says"),
    [
        (np.zeros(2), r"the mean update has shape \(2,\), the model \(3,\)"),
        (np.zeros((3, 1)), r"the mean update has shape \(3, 1\)"),
        (np.array([0, 0, np.nan]), "the mean update holds NaN"),
        (np.full(3, np.inf), "the mean update holds NaN, or what float32 does not hold"),
    ],
)
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_mean_that_does_not_fit_is_refused(update: np.ndarray, says: str, optimiser: str) -> None:
    server = GlobalModel(np.ones(3), ServerStep(optimiser))
    before = {name: kept.tolist() for name, kept in server.memory.items()}
    with pytest.raises(ValueError, match=says):
        server.apply(update)
    assert server.parameters.tolist() == [1, 1, 1]
    assert {name: kept.tolist() for name, kept in server.memory.items()} == before


@pytest.mark.parametrize("optimiser", ["average", "momentum"])
def test_a_step_out_of_what_clients_can_receive_is_not_taken(optimiser: str) -> None:
    server = GlobalModel(np.full(2, 3e38), ServerStep(optimiser, lr=100.0))
    before = {name: kept.tolist() for name, kept in server.memory.items()}
    with pytest.raises(ValueError, match="the step leads out of what float32 holds: take a smaller one"):
        server.apply(np.full(2, 1e38))
    assert server.parameters.tolist() == [3e38, 3e38]
    assert {name: kept.tolist() for name, kept in server.memory.items()} == before


@pytest.mark.parametrize("start", [np.ones((2, 2)), np.array([np.nan]), np.array([1e39])])
def test_a_start_that_is_not_flat_and_finite_is_refused(start: np.ndarray) -> None:
    with pytest.raises(ValueError, match="one flat vector, finite as float32"):
        GlobalModel(start)
