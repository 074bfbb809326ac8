"""What a client's update would give away of its own examples, as the client sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.crafted import imprint, traps
from fl.config.plan import LocalPlan
from fl.config.preflight import SHARES, Preflight
from fl.data import load
from fl.models.architectures import Description, build
from fl.models.weights import from_vector
from fl.preflight import NEAR, Verdict, preflight
from fl.training.local import train

STEP = LocalPlan(steps=1, batch_size=1000, momentum=0.0)
DIGITS = load("digits")
PUBLIC = DIGITS.train_x[-500:]


def looked(
    examples: int,
    model: str = "mlp",
    plan: LocalPlan = STEP,
    *,
    parameters: NDArray[np.float32] | None = None,
    noise: float = 0.0,
    rules: Preflight = Preflight(),  # noqa: B008 - frozen
    like: int | None = None,
) -> Verdict:
    """like: all examples are this one."""
    x, y = DIGITS.train_x[:examples], DIGITS.train_y[:examples]
    if like is not None:
        x, y = np.repeat(x[like : like + 1], examples, axis=0), np.repeat(y[like], examples)
    net = build(model, DIGITS.shape, DIGITS.classes, 0)
    if parameters is not None:
        from_vector(net, parameters)
    result = train(net, torch.tensor(x), torch.tensor(y), plan, bytes(32))
    return preflight(net, x, result.upload, plan, rules, noise=noise)


def crafted(model: str = "mlp-1000", **how: Any) -> NDArray[np.float32]:
    description = Description(model, DIGITS.shape, DIGITS.classes)
    return imprint(description, PUBLIC, np.random.default_rng(0), **how)


@pytest.mark.parametrize("model", ["mlp", "mlp-200", "logistic"])
@pytest.mark.parametrize("algorithm", ["fedavg", "fedavg-weights", "fedsgd"])
def test_an_example_that_trains_alone_comes_out_whatever_is_sent_and_however_it_enters(
    model: str, algorithm: Any
) -> None:
    """Of one step and of several: a row stays that one image."""
    once = STEP if algorithm != "fedsgd" else LocalPlan()
    for plan in (once, LocalPlan(epochs=5)):
        verdict = looked(1, model, plan if algorithm == "fedavg" else LocalPlan(algorithm=algorithm))
        assert (verdict.out, verdict.examples, verdict.share) == (1, 1, 1.0)
        assert not verdict.leaks  # of so few any share will do


def test_of_many_examples_an_honest_model_gives_few_away_and_one_made_for_it_most() -> None:
    honest, made = looked(100, "mlp-1000"), looked(100, "mlp-1000", parameters=crafted())
    assert honest.share < 0.3 < 0.5 < made.share
    assert not honest.leaks
    assert made.leaks
    assert not honest.alike
    assert made.alike == 1000
    assert "neurons have weights that point the same way" in made.sentence()


@pytest.mark.parametrize("how", [{"jitter": 0.05}, {"directions": 2}, {"uneven": True}])
def test_rows_that_are_hidden_among_others_are_differenced_all_the_same(how: dict[str, Any]) -> None:
    """Not two of them alike; measuring two things in turns; counting behind by factors of the server's."""
    assert looked(100, "mlp-1000", parameters=crafted(**how)).leaks


def test_traps_are_read_without_differences() -> None:
    description = Description("mlp-1000", DIGITS.shape, DIGITS.classes)
    trapped = traps(description, PUBLIC, np.random.default_rng(0), strength=0.5)
    verdict = looked(100, "mlp-1000", parameters=trapped)
    assert verdict.leaks
    assert not verdict.alike


def test_only_what_is_in_the_update_counts() -> None:
    """Eight examples of a hundred: at most those come out, and they are the share of eight."""
    plan = LocalPlan(steps=1, batch_size=8, momentum=0.0)
    verdict = looked(100, "mlp-1000", plan)
    assert verdict.examples == 8
    assert 6 <= verdict.out <= 8


def test_noise_that_is_still_to_come_hides_what_it_is_larger_than() -> None:
    bare, faint, loud = (looked(1, noise=noise).out for noise in (0.0, 1e-9, 1.0))
    assert (bare, faint, loud) == (1, 1, 0)


def test_examples_that_are_alike_come_out_together() -> None:
    assert looked(30, like=3).out == 30


def test_where_no_linear_layer_sees_the_pixels_nothing_is_said_to_be_safe() -> None:
    verdict = looked(1, "cnn")
    assert (verdict.out, verdict.leaks) == (0, False)
    assert "this model begins with another" in verdict.sentence()


def test_no_pair_of_a_row_and_an_example_is_missed() -> None:
    """Beside all of them compared in all their pixels."""
    x, y = DIGITS.train_x[:60], DIGITS.train_y[:60]
    net = build("mlp-1000", DIGITS.shape, DIGITS.classes, 3)
    result = train(net, torch.tensor(x), torch.tensor(y), STEP, bytes(32))
    weight, bias = result.upload[:64000].reshape(1000, 64), result.upload[64000:65000]
    rows = weight[bias != 0] / bias[bias != 0, None]
    errors = np.square(rows[:, None] - x.reshape(60, -1)).mean(axis=2)
    out = preflight(net, x, result.upload, STEP, Preflight()).out
    assert out == np.count_nonzero(errors.min(axis=0) < NEAR)
    assert out > 10


def test_how_much_may_come_out_goes_by_how_many_there_are() -> None:
    assert [Preflight().largest(n) for n in (1, 49, 50, 99, 10**6)] == [1.0, 1.0, 0.6, 0.6, SHARES[-1][1]]
    strict = Preflight(shares=((1, 0.0),))
    assert looked(1, rules=strict).leaks
    assert not looked(200, "logistic", rules=strict).leaks
