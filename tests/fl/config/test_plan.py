"""A client's part of a round and the server's: what travels, and how many steps that is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.config.plan import LocalPlan, ServerStep
from fl.config.run import RunConfig
from secagg import LocalProtocolError

ENDS: list[tuple[type[Any], str, Any, Any]] = [
    (LocalPlan, "epochs", (1, 100_000), (0, 100_001)),
    (LocalPlan, "steps", (0, 100_000), (-1, 100_001)),
    (LocalPlan, "batch_size", (1, 100_000), (0, 100_001)),
    (LocalPlan, "lr", (0.0, 100.0), (-0.1, 100.1)),
    (LocalPlan, "momentum", (0.0, 0.99), (-0.1, 1.0)),
    (LocalPlan, "proximal", (0.0, 100.0), (-0.1, 100.1)),
    (LocalPlan, "algorithm", ("fedavg", "fedavg-weights", "fedsgd"), ("fedprox", "")),
    (LocalPlan, "precision", ("float32", "float64", "bfloat16"), ("float16", "")),
    (LocalPlan, "sampling", ("shuffled", "poisson"), ("balanced", "")),
    (LocalPlan, "balance", ("none", "sampling", "loss"), ("classes", "")),
    (ServerStep, "optimiser", ("average", "momentum", "adam", "yogi"), ("adagrad", "")),
    (ServerStep, "lr", (0.0, 100.0), (-0.1, 100.1)),
    (ServerStep, "momentum", (0.0, 0.99), (-0.1, 1.0)),
    (ServerStep, "beta2", (0.0, 0.99), (-0.1, 1.0)),
    (ServerStep, "tau", (0.0, 100.0), (-0.1, 100.1)),
]


def travelled(part: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(part), type=type(part))


def refuses(kind: type[Any], name: str, value: Any) -> None:
    """Whether it is made here or comes from the network."""
    with pytest.raises(LocalProtocolError, match=rf"{name} .* of a plan: give "):
        kind(**{name: value})
    fields = [value if field == name else getattr(kind(), field) for field in kind.__struct_fields__]
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=kind)


@pytest.mark.parametrize(("kind", "name", "inside", "outside"), ENDS)
def test_a_field_is_taken_in_its_range_and_refused_outside(
    kind: type[Any], name: str, inside: tuple[Any, ...], outside: tuple[Any, ...]
) -> None:
    for value in inside:
        part = msgspec.structs.replace(kind(), **{name: value})
        assert travelled(part) == part
    for value in outside:
        refuses(kind, name, value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_none_is_outside_of_every_range(number: float) -> None:
    for kind in (LocalPlan, ServerStep):
        for name in kind.__struct_fields__:
            refuses(kind, name, number)


def test_every_field_is_tried() -> None:
    for kind in (LocalPlan, ServerStep):
        assert {name for of, name, _, _ in ENDS if of is kind} == set(kind.__struct_fields__)


def test_whatever_a_run_can_be_configured_to_can_travel() -> None:
    """The limits of a configuration are within those of the task."""
    for lr in (1e-9, 100.0):
        for config in (
            RunConfig.of(lr=lr, local_epochs=1000, batch_size=65_536, server_lr=lr, server_tau=10.0),
            RunConfig.of(lr=lr, local_steps=100_000, proximal=100.0, server_tau=1e-9),
        ):
            assert travelled(config.training.plan) == config.training.plan
            assert travelled(config.server.step) == config.server.step


@given(n=st.integers(1, 10_000), size=st.integers(1, 100), epochs=st.integers(1, 9), steps=st.integers(0, 99))
def test_the_steps_of_a_client(n: int, size: int, epochs: int, steps: int) -> None:
    """So many as asked; else as few as cover its examples, in each epoch; one for a gradient."""
    plan = LocalPlan(epochs=epochs, steps=steps, batch_size=size)
    if steps:
        assert plan.steps_of(n) == steps
    else:
        a_pass = plan.steps_of(n) // epochs
        assert a_pass * epochs == plan.steps_of(n)
        assert (a_pass - 1) * size < n <= a_pass * size
    assert msgspec.structs.replace(plan, algorithm="fedsgd").steps_of(n) == 1
