"""Clipping and noise of every example's gradient, in both ways in which clients are computed. In float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch

from fl.config.plan import LocalPlan
from fl.config.privacy import Perturbation
from fl.config.section import ConfigError
from fl.privacy.noise import real_noise
from fl.privacy.step import asked_for, per_example
from fl.training.local import LocalResult
from fl.training.step import PerExample
from tests.fl.training.test_batched import SIZES, WAYS, agree, shares_of
from tests.fl.training.test_step import Heard, gradient_of, near, trained

CLIP, SIZE = 0.5, 8
SEED = bytes(range(32))


def asking(**changes: Any) -> Perturbation:
    return Perturbation(**{"mechanism": "example", "clip": CLIP, "multiplier": 2.0} | changes)


def steps(
    perturbation: Perturbation,
    way: str,
    *,
    name: str = "mlp",
    seeds: Callable[[], bytes] | None = None,
    **plan: Any,
) -> tuple[Heard, dict[int, LocalResult]]:
    """What is heard of a round of three clients, and what they send."""
    plan = {"batch_size": SIZE} | plan
    asked = per_example(perturbation, LocalPlan(**plan), **{} if seeds is None else {"seeds": seeds})
    heard = Heard()
    return heard, trained(name, way, asked, heard, **plan)


def clipped_sum(name: str, examples: np.ndarray) -> torch.Tensor:
    """(d,), by the definition."""
    gradients = [gradient_of(name, np.array([example])) for example in examples]
    return torch.stack([g * min(1.0, CLIP / float(g.norm())) for g in gradients]).sum(dim=0)


def noises(heard: Heard, name: str = "mlp") -> list[torch.Tensor]:
    """Of every client's first step, whose model is the one all received: what its sum is more than that."""
    return [
        heard.steps[u, 0][1].along * SIZE - clipped_sum(name, own[heard.steps[u, 0][0]])
        for u, own in shares_of(SIZES).items()
    ]


# The step


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_a_step_is_the_sum_of_clipped_gradients_by_the_plans_batch_size(name: str, way: str) -> None:
    """Of batches of 8, and of 7, the last of which is all that its client has."""
    heard, _ = steps(asking(multiplier=0.0), way, name=name)
    for u, own in shares_of(SIZES).items():
        batch, gradients = heard.steps[u, 0]
        near(gradients.along, clipped_sum(name, own[batch]) / SIZE)
    assert {len(batch) for batch, _ in heard.steps.values()} >= {7, 8}
    assert (
        max(float(gradients.each.norm(dim=1).max()) for _, gradients in heard.steps.values()) <= CLIP + 1e-12
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_gradient_for_the_server_is_divided_by_what_the_client_holds(way: str) -> None:
    heard, _ = steps(asking(multiplier=0.0), way, algorithm="fedsgd")
    for u, own in shares_of(SIZES).items():
        near(heard.steps[u, 0][1].along, clipped_sum("mlp", own) / len(own))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("noise", "kurtosis"), [("gaussian", 3.0), ("laplace", 6.0)])
def test_the_noise_of_a_sum_is_the_multiplier_times_the_clip(noise: Any, kurtosis: float, way: str) -> None:
    seeds = (n.to_bytes(32, "big") for n in count())
    drawn = torch.cat(noises(steps(asking(noise=noise), way, seeds=lambda: next(seeds))[0])) / (2 * CLIP)
    d = len(drawn)
    assert abs(float(drawn.mean())) < 5 / math.sqrt(d)
    assert float(drawn.std()) == pytest.approx(1.0, rel=5 * math.sqrt((kurtosis - 1) / 4 / d))
    assert float((drawn**4).mean()) == pytest.approx(kurtosis, rel=0.2)


@pytest.mark.parametrize("way", WAYS)
def test_every_client_and_step_has_noise_of_its_own(way: str) -> None:
    """And each time it is done: none of it is of the secret from which the order is drawn."""
    first, again = (noises(steps(asking(), way)[0]) for _ in range(2))
    drawn = torch.stack([*first, *again])
    between = torch.corrcoef(drawn) - torch.eye(len(drawn))
    assert float(between.abs().max()) < 6 / math.sqrt(drawn.shape[1])
    heard, _ = steps(asking(multiplier=1e6), way, steps=2)  # beside which gradients are nothing
    pair = torch.stack([heard.steps[0, k][1].along for k in range(2)])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 6 / math.sqrt(pair.shape[1])


@pytest.mark.parametrize("way", WAYS)
def test_training_moves_along_the_noised_step_and_nothing_else(way: str) -> None:
    heard, results = steps(asking(), way, steps=3)
    for u, result in results.items():
        taken = [gradients.along for (v, _), (_, gradients) in heard.steps.items() if u == v]
        moved = -0.05 * torch.stack(taken).sum(dim=0)
        torch.testing.assert_close(torch.tensor(result.upload), moved, rtol=1e-9, atol=1e-12)


# Both ways


@pytest.mark.parametrize(
    "plan",
    [
        {"momentum": 0.5, "proximal": 0.3},
        {"algorithm": "fedsgd"},
        {"sampling": "poisson", "steps": 4},
        {"sampling": "poisson", "steps": 9, "batch_size": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "asked",
    [asking(), asking(noise="laplace", sensitivity="l2-max"), asking(largest=0.1)],
    ids=["clip", "l2-max", "largest"],
)
def test_both_ways_agree_where_the_noise_does(asked: Perturbation, plan: dict[str, Any]) -> None:
    """Batches of no example, too: they go along the noise."""
    (one, sequential), (other, together) = (steps(asked, way, seeds=lambda: SEED, **plan) for way in WAYS)
    agree(sequential, together, 1e-11)
    assert one.steps.keys() == other.steps.keys()
    for place, (own, gradients) in one.steps.items():
        assert own.tolist() == other.steps[place][0].tolist()
        near(other.steps[place][1].along, gradients.along)
        near(other.steps[place][1].each, gradients.each)
        assert len(gradients.each) == len(own)


@pytest.mark.parametrize("way", WAYS)
def test_a_step_of_no_example_goes_along_the_noise_alone(way: str) -> None:
    plan = {"sampling": "poisson", "steps": 9, "batch_size": 1}
    heard, _ = steps(asking(), way, seeds=lambda: SEED, **plan)
    empty = [gradients.along for batch, gradients in heard.steps.values() if not len(batch)]
    assert 0 < len(empty) < len(heard.steps)
    drawn = torch.from_numpy(real_noise("gaussian", 2.0, len(empty[0]), SEED)) * CLIP
    for along in empty:
        near(along, drawn)


# Without an epsilon


@pytest.mark.parametrize("way", WAYS)
def test_noise_by_the_largest_norm_in_the_batch(way: str) -> None:
    """Which is below the clip, and another for each client; at most the clip."""
    heard, _ = steps(asking(clip=1e6, sensitivity="l2-max"), way, seeds=lambda: SEED)
    drawn = torch.from_numpy(real_noise("gaussian", 2.0, len(heard.steps[0, 0][1].along), SEED))
    for u in range(3):
        gradients = heard.steps[u, 0][1]
        near(gradients.along * SIZE - gradients.each.sum(dim=0), drawn * gradients.each.norm(dim=1).max())
    for one in noises(steps(asking(sensitivity="l2-max"), way, seeds=lambda: SEED)[0]):
        torch.testing.assert_close(one, drawn * CLIP, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_noise_on_the_largest_coordinates_alone(way: str) -> None:
    heard, _ = steps(asking(largest=0.01), way)
    for u, drawn in enumerate(noises(heard)):
        batch, _ = heard.steps[u, 0]
        summed = clipped_sum("mlp", shares_of(SIZES)[u][batch]).abs()
        noised = drawn.abs() > 1e-12
        assert int(noised.sum()) == math.ceil(0.01 * len(drawn))
        assert float(summed[noised].min()) >= float(summed[~noised].max())


# Whatever a gradient is


def test_an_example_whose_gradient_is_not_finite_adds_nothing() -> None:
    """Nor does it hide the others."""
    inf, nan = math.inf, math.nan
    rows = torch.tensor([[[3.0, 4.0], [inf, 1.0], [nan, 0.0], [-inf, nan], [0.0, 0.0]]])
    asked = per_example(asking(), LocalPlan())
    left, more = asked.bounded([rows, torch.zeros(1, 5, 1, 2)])
    expected = torch.zeros(1, 5, 2)
    expected[0, 0] = torch.tensor([0.3, 0.4])
    torch.testing.assert_close(left, expected)
    assert not more.any()


def test_many_equal_numbers_in_float32_are_clipped_as_far_as_others() -> None:
    """Added up one after the other their squares give a norm that is 1 % too small."""
    gradients = [torch.full((1, 1, 20_000_000), 0.1)]
    (clipped,) = per_example(asking(), LocalPlan()).bounded(gradients)
    assert float(clipped.double().norm()) == pytest.approx(CLIP, rel=1e-4)


def test_the_norm_is_over_all_parameters() -> None:
    left = per_example(asking(), LocalPlan()).bounded(
        [torch.full((1, 1, 2), 3.0), torch.full((1, 1, 1, 2), 3.0)]
    )
    torch.testing.assert_close(torch.cat([g.flatten() for g in left]), torch.full((4,), CLIP / 2))


# Where a task asks for it


def test_only_the_mechanism_of_examples_is_done_in_the_step() -> None:
    assert asked_for(None, LocalPlan()) is None
    assert asked_for(asking(mechanism="local"), LocalPlan()) is None
    assert isinstance(asked_for(asking(), LocalPlan()), PerExample)


@pytest.mark.parametrize("mechanism", ["example", "local"])
def test_noise_needs_a_clip(mechanism: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{mechanism} noise is a multiple of the clip: give a clip$"):
        Perturbation(mechanism=mechanism)
