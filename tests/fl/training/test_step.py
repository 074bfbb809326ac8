"""How the gradient of a step is had, and what is heard of it: the same whether clients are taken one by one
or all at once. In float64, where both agree to the last digits.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fl.config.plan import LocalPlan
from fl.config.section import ConfigError
from fl.models.architectures import build
from fl.training import batched, step
from fl.training.clients import LocalClients
from fl.training.local import LocalResult, batches, flat
from fl.training.step import MEAN, Gradients, PerExample
from tests.fl.training import test_batched as of_batched
from tests.fl.training.test_batched import CPU, ORDERS, SIZES, WAYS, agree, shares_of

examples = cache(of_batched.examples)

PLAN = {"epochs": 1, "batch_size": 8, "lr": 0.05, "momentum": 0.0, "precision": "float64"}
CLIP, NOISE, LOT = 0.5, 0.125, 10.0  # noise that is known, so that it can be checked


def _clipped(each: step.Tensors) -> step.Tensors:
    norms = sum(g.flatten(2).square().sum(dim=2) for g in each).sqrt()  # type: ignore[union-attr]
    return [g * (CLIP / norms).clamp(max=1).view(*norms.shape, *[1] * (g.ndim - 2)) for g in each]


CLIPPED = PerExample(_clipped, lambda total, of, largest: [(g + NOISE) / LOT for g in total])
"""Abadi et al., CCS 2016, algorithm 1: clip the gradient of each, add noise to their sum, divide."""

ASKED = {"the mean": None, "of each": MEAN, "of each, clipped": CLIPPED}


class Heard:
    """A tap that keeps all, by client and step."""

    def __init__(self) -> None:
        self.steps: dict[tuple[int, int], tuple[np.ndarray, Gradients]] = {}

    def step(self, u: int, step: int, examples: np.ndarray, gradients: Gradients) -> None:
        assert (u, step) not in self.steps
        self.steps[u, step] = examples, gradients


def model_of(name: str) -> nn.Module:
    x, _, classes = examples(name)
    return build(name, tuple(x.shape[1:]), classes, 0)


def trained(
    name: str, way: str, asked: PerExample | None, tap: Heard | None = None, **changes: Any
) -> dict[int, LocalResult]:
    x, y, _ = examples(name)
    clients = LocalClients(x, y, shares_of(SIZES), CPU, way)
    return clients.train(model_of(name), LocalPlan(**PLAN | changes), ORDERS, tap=tap, per_example=asked)


def gradient_of(name: str, own: np.ndarray) -> torch.Tensor:
    """Of the mean loss of these examples, at the received model: (d,)."""
    x, y, _ = examples(name)
    model = model_of(name).double()
    some = torch.tensor(x[own])
    some = some.double() if some.is_floating_point() else some
    loss = cross_entropy(model(some), torch.tensor(y[own]))
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def near(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


# One by one and all at once


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("changes", [{"momentum": 0.5, "proximal": 0.3}, {"algorithm": "fedsgd"}], ids=str)
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_both_ways_compute_and_tell_the_same(
    name: str, changes: dict[str, Any], asked: PerExample | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step of every client, in groups, with batches that are padded."""
    monkeypatch.setattr(batched, "MOST_EXAMPLES", {"cpu": 16})
    heard = [Heard(), Heard()]
    results = [trained(name, way, asked, tap, **changes) for way, tap in zip(WAYS, heard, strict=True)]
    agree(*results, 1e-11)
    one, other = heard
    plan = LocalPlan(**PLAN | changes)
    taken = {(u, k): own for u, n in enumerate(SIZES) for k, own in enumerate(batches(n, plan, ORDERS[u]))}
    assert one.steps.keys() == other.steps.keys() == taken.keys()
    for place, (own, gradients) in one.steps.items():
        assert own.tolist() == other.steps[place][0].tolist() == taken[place].tolist()
        near(other.steps[place][1].along, gradients.along)
        if asked is None:
            assert gradients.each is other.steps[place][1].each is None
        else:
            near(other.steps[place][1].each, gradients.each)


# What a step uses is what is heard


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_training_moves_along_what_is_heard_and_nothing_else(
    name: str, asked: PerExample | None, way: str
) -> None:
    """And to the same bits where nobody listens."""
    heard = Heard()
    results, silent = trained(name, way, asked, heard), trained(name, way, asked)
    for u, result in results.items():
        assert np.array_equal(result.upload, silent[u].upload)
        steps = [gradients.along for (v, _), (_, gradients) in heard.steps.items() if u == v]
        moved = -PLAN["lr"] * torch.stack(steps).sum(dim=0)
        torch.testing.assert_close(torch.tensor(result.upload), moved, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("asked", [None, MEAN], ids=["the mean", "of each"])
@pytest.mark.parametrize("name", ["mlp", "cnn", "gru"])
def test_a_step_goes_along_the_gradient_of_its_batch(name: str, asked: PerExample | None, way: str) -> None:
    """Of the loss alone: without momentum and the proximal term."""
    heard = Heard()
    trained(name, way, asked, heard, momentum=0.5, proximal=0.3)
    for u, own in shares_of(SIZES).items():
        batch, gradients = heard.steps[u, 0]
        near(gradients.along, gradient_of(name, own[batch]))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["mlp", "cnn", "gru"])
def test_an_examples_gradient_is_that_of_it_alone(name: str, way: str) -> None:
    heard = Heard()
    trained(name, way, MEAN, heard)
    for u, own in shares_of(SIZES).items():
        batch, gradients = heard.steps[u, 0]
        assert gradients.each.shape == (len(batch), len(gradients.along))
        for example, of_it in zip(own[batch], gradients.each, strict=True):
            near(of_it, gradient_of(name, np.array([example])))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_each_gradient_can_be_clipped_and_their_sum_made_noisy(name: str, way: str) -> None:
    """Beside the definition, for batches of 8 and of 7, which is padded where it stands beside them."""
    heard = Heard()
    trained(name, way, CLIPPED, heard)
    lengths = set()
    for u, own in shares_of(SIZES).items():
        batch, gradients = heard.steps[u, 0]
        clipped = []
        for example in own[batch]:
            gradient = gradient_of(name, np.array([example]))
            clipped.append(gradient * min(1.0, CLIP / float(gradient.norm())))
        near(gradients.each, torch.stack(clipped))
        near(gradients.along, (torch.stack(clipped).sum(dim=0) + NOISE) / LOT)
        lengths.add(len(batch))
    assert lengths == {7, 8}
    assert float(gradients.each.norm(dim=1).max()) == pytest.approx(CLIP)


@pytest.mark.parametrize("way", WAYS)
def test_what_pads_a_batch_is_in_no_sum_whatever_is_made_of_it(way: str) -> None:
    """A `bounded` that leaves a 1 of everything counts the examples."""
    counting = PerExample(lambda each: [torch.ones_like(g) for g in each], lambda total, of, largest: total)
    heard = Heard()
    trained("mlp", way, counting, heard, lr=0.0)
    assert all((gradients.along == len(batch)).all() for batch, gradients in heard.steps.values())


# Parts of a batch


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("changes", [{}, {"algorithm": "fedsgd"}], ids=str)
def test_a_batch_in_parts_is_released_once(
    way: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded: list[int] = []
    released: list[list[float]] = []

    def noted(each: step.Tensors) -> step.Tensors:
        bounded.append(each[0].shape[1])
        return CLIPPED.bounded(each)

    def noted_too(total: step.Tensors, of: torch.Tensor, largest: torch.Tensor) -> step.Tensors:
        released.append(of.tolist())
        return CLIPPED.released(total, of, largest)

    whole, parts = Heard(), Heard()
    asked = PerExample(noted, noted_too)
    expected = trained("cnn", way, asked, whole, **changes)
    at_once = sorted(released)
    bounded.clear()
    released.clear()
    monkeypatch.setattr(step, "GRADIENT_CHUNK", 3)
    agree(expected, trained("cnn", way, asked, parts, **changes), 1e-11)
    assert max(bounded) == 3
    assert sorted(released) == at_once
    for place, (_, gradients) in parts.steps.items():
        near(gradients.each, whole.steps[place][1].each)


def test_clients_are_taken_together_as_their_gradients_fit_into_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Room for the gradients of 20 examples: two clients with 8 each."""
    together: set[int] = set()

    def noted(each: step.Tensors) -> step.Tensors:
        together.add(len(each[0]))
        return each

    monkeypatch.setattr(batched, "MOST_NUMBERS", {"cpu": 20 * len(flat(model_of("mlp")))})
    expected = trained("mlp", "sequential", MEAN)
    agree(expected, trained("mlp", "batched", PerExample(noted, MEAN.released)), 1e-11)
    assert max(together) == 2


# Who may ask


@pytest.mark.parametrize("way", WAYS)
def test_where_examples_share_statistics_none_has_a_gradient_of_its_own(way: str) -> None:
    with pytest.raises(ConfigError, match="BatchNorm has no gradient of a single example: take another"):
        trained("tolpegin-fmnist", way, MEAN)


@pytest.mark.parametrize("way", WAYS)
def test_the_gradient_of_the_mean_is_heard_there_too(way: str) -> None:
    heard = Heard()
    trained("tolpegin-fmnist", way, None, heard, steps=1)
    assert all(gradients.along.any() for _, gradients in heard.steps.values())


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("way", WAYS)
def test_gradients_are_tensors_in_the_precision_of_the_weights(way: str, precision: str) -> None:
    """Where they were computed: nothing is copied to be heard."""
    heard = Heard()
    results = trained("cnn", way, MEAN, heard, steps=1, precision=precision)
    for (u, _), (_, gradients) in heard.steps.items():
        for heard_of in (gradients.along, gradients.each):
            assert heard_of.device == CPU
            assert not heard_of.requires_grad
            assert heard_of.numpy().dtype == results[u].upload.dtype
