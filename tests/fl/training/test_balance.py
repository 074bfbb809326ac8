"""Classes that a client has few of, taken more often or weighed more, in both ways. In float64."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fl.config.plan import LocalPlan
from fl.training.local import batches
from fl.training.step import MEAN, PerExample, class_weights
from tests.fl.training.test_batched import SIZES, WAYS, shares_of
from tests.fl.training.test_step import CLIP, CLIPPED, LOT, NOISE, Heard, examples, model_of, near, trained


def balanced_gradient(name: str, own: np.ndarray, batch: np.ndarray) -> torch.Tensor:
    """(B, d): of the loss of each of these examples times its weight, at the received model."""
    x, y, _ = examples(name)
    counts, rows = Counter(y[own].tolist()), []
    for example in own[batch]:
        model = model_of(name).double()
        logits = model(torch.tensor(x[example : example + 1]).double())
        weight = len(own) / (len(counts) * counts[int(y[example])])
        loss = cross_entropy(logits, torch.tensor(y[example : example + 1])) * weight
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    return torch.stack(rows)


def test_classes_weigh_alike_whatever_there_is_of_them() -> None:
    y = torch.tensor([4, 4, 4, 7, 9, 9])
    weights = class_weights(y)
    assert weights.tolist() == pytest.approx([2 / 3] * 3 + [2.0, 1.0, 1.0])
    assert float(weights.mean()) == pytest.approx(1.0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("plan", [{}, {"algorithm": "fedsgd"}], ids=str)
@pytest.mark.parametrize("asked", [None, MEAN], ids=["the mean", "of each"])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_a_step_goes_along_the_gradient_of_the_weighed_loss(
    name: str, asked: PerExample | None, plan: dict[str, Any], way: str
) -> None:
    heard = Heard()
    results = trained(name, way, asked, heard, balance="loss", steps=0 if plan else 1, **plan)
    for u, own in shares_of(SIZES).items():
        batch, gradients = heard.steps[u, 0]
        near(gradients.along, balanced_gradient(name, own, batch).mean(dim=0))
        # The written-out steps of the mlp, too.
        moved = torch.tensor(results[u].upload) / (1.0 if plan else -0.05)
        torch.testing.assert_close(moved, gradients.along, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_a_gradient_is_weighed_before_it_is_clipped(way: str) -> None:
    """So that no weight makes it longer than the clip."""
    heard = Heard()
    trained("cnn", way, CLIPPED, heard, balance="loss", steps=1)
    for u, own in shares_of(SIZES).items():
        batch, gradients = heard.steps[u, 0]
        each = balanced_gradient("cnn", own, batch)
        clipped = each * (CLIP / each.norm(dim=1)).clamp(max=1.0)[:, None]
        near(gradients.along, (clipped.sum(dim=0) + NOISE) / LOT)


def test_samples_take_every_class_as_often() -> None:
    """Of 90 of one and 10 of the other a batch of 10 has 5 and 5, and each example by its own coin."""
    y = torch.tensor([0] * 90 + [1] * 10)
    plan = LocalPlan(steps=2_000, batch_size=10, sampling="poisson", balance="sampling")
    taken = np.zeros((2_000, 100))
    for row, batch in zip(taken, batches(100, plan, bytes(32), class_weights(y)), strict=True):
        row[batch] = 1
    rates = np.array([10 / 100 / 2 / 0.9] * 90 + [10 / 100 / 2 / 0.1] * 10)
    within = 5 * np.sqrt(rates * (1 - rates) / 2_000)
    assert (np.abs(taken.mean(axis=0) - rates) < within).all()


def test_an_example_alone_in_its_class_is_in_every_batch_if_that_is_its_share() -> None:
    y = torch.tensor([0] * 7 + [1])
    plan = LocalPlan(steps=50, batch_size=4, sampling="poisson", balance="sampling")
    assert all(7 in batch for batch in batches(8, plan, bytes(32), class_weights(y)))
