"""A crafted model sorts images into bins, and what is in a bin alone comes out of a sum, with its label."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fl.config.plan import LocalPlan
from fl.config.section import ConfigError
from fl.leakage.attack import Budget, Found, Knowledge
from fl.leakage.imprint import crafted, imprint
from fl.leakage.metrics import matched, psnr
from fl.leakage.views import Part, View
from fl.models.architectures import Description, build
from fl.models.weights import from_vector
from tests.fl.leakage.helpers import CLASSES, SHAPE, gradient

rng = np.random.default_rng(20)
PUBLIC = (rng.random((500, 1, 1, 1)) * rng.random((500, *SHAPE))).astype(np.float32)
BRIGHT = np.array([0.1, 0.3, 0.5, 0.7, 0.9]).reshape(5, 1, 1, 1)
X = (BRIGHT * rng.random((5, *SHAPE))).astype(np.float32)
Y = np.array([3, 0, 9, 3, 5])
GRADIENT = LocalPlan(algorithm="fedsgd")


def read(parameters: np.ndarray, x: np.ndarray, y: np.ndarray, model: str, deviation: float = 0.0) -> Found:
    described = Description(model, SHAPE, CLASSES)
    net = build(model, SHAPE, CLASSES, 0)
    from_vector(net, parameters)
    update = gradient(net, x, y)
    update += rng.normal(0, deviation, len(update))
    knowledge = Knowledge(described, parameters, GRADIENT, len(x))
    part = Part(frozenset({0}), update[None], len(x), deviation)
    (found,) = imprint(View((part,)), knowledge, Budget(), 0)
    return found


@pytest.mark.parametrize("model", ["mlp", "mlp-1000"])
def test_an_image_that_is_in_its_bin_alone_comes_out_of_the_sum_with_its_label(model: str) -> None:
    found = read(crafted(Description(model, SHAPE, CLASSES), PUBLIC), X, Y, model)
    assert found.images is not None
    assert found.claimed is not None
    assert found.claimed.all()
    order = matched(X, found.images)
    assert (psnr(X, found.images[order]) > 80).all()
    assert found.labels[order].tolist() == Y.tolist()


@pytest.mark.parametrize("labels", [(3, 3), (0, 9), (4, 1)])
def test_two_images_in_one_bin_are_not_taken_for_one(labels: tuple[int, int]) -> None:
    """Of one label and of two, of such as add up and such as cancel: of none the sum is what a third adds."""
    parameters = crafted(Description("mlp", SHAPE, CLASSES), PUBLIC)
    x = np.stack([X[1], X[1].reshape(-1)[::-1].reshape(SHAPE), X[4]])
    found = read(parameters, x, np.array([*labels, 5]), "mlp")
    assert found.images is not None
    assert found.claimed is not None
    assert found.claimed.sum() == 1
    assert psnr(X[4:], found.images[found.claimed]) > 80


def test_bins_are_alike_full_of_public_images_and_all_neurons_change_the_logits_alike() -> None:
    net = build("mlp-1000", SHAPE, CLASSES, 0)
    from_vector(net, crafted(Description("mlp-1000", SHAPE, CLASSES), PUBLIC, bins=10, largest=60.0))
    first, relu, last = list(net.children())[1:]
    fires = relu(first(torch.tensor(PUBLIC).flatten(1))) > 0
    rates = fires.double().mean(dim=0)
    np.testing.assert_allclose(rates[:10], 1 - np.arange(10) / 10, atol=0.005)
    assert not rates[10:].any()
    effects = last.weight.detach()  # type: ignore[union-attr]
    assert (effects == effects[:, :1]).all()
    assert effects.abs().max() == 60
    assert len(effects[:, 0].unique()) == CLASSES
    assert net(torch.tensor(PUBLIC)).abs().max() < 0.01


def test_blocks_keep_the_images_of_one_client_apart_from_those_of_the_others() -> None:
    """Each client has a part of the neurons for itself: of the sum each part is read for itself."""
    described = Description("mlp-1000", SHAPE, CLASSES)
    models = [crafted(described, PUBLIC, block=(j, 2)) for j in range(2)]
    shares = [(X[:3], Y[:3]), (X[1:4], Y[2:])]
    sent = []
    for parameters, (x, y) in zip(models, shares, strict=True):
        net = build("mlp-1000", SHAPE, CLASSES, 0)
        from_vector(net, parameters)
        sent.append(gradient(net, x, y))
    part = Part(frozenset({0, 1}), np.mean(sent, axis=0)[None], 6)
    for parameters, (x, _) in zip(models, shares, strict=True):
        (found,) = imprint(View((part,)), Knowledge(described, parameters, GRADIENT, 3), Budget(), 0)
        assert found.images is not None
        assert found.claimed is not None
        mine = found.images[found.claimed]
        assert len(mine) == 3
        assert (psnr(x, mine[matched(x, mine)]) > 80).all()


def test_rounding_is_known_and_what_it_blurs_is_not_said_to_be_an_image() -> None:
    parameters = crafted(Description("mlp-1000", SHAPE, CLASSES), PUBLIC, largest=1.0)
    fine = read(parameters, X, Y, "mlp-1000", deviation=1e-4)
    coarse = read(parameters, X, Y, "mlp-1000", deviation=0.1)
    assert fine.claimed is not None
    assert coarse.claimed is not None
    assert fine.claimed.sum() == 5
    assert not coarse.claimed.any()


def test_what_cannot_be_crafted_is_said() -> None:
    with pytest.raises(ConfigError, match="an imprint is of a linear layer, ReLU and a last layer: not cnn"):
        crafted(Description("cnn", SHAPE, CLASSES), PUBLIC)


def test_a_model_that_was_not_crafted_is_said_to_be_none() -> None:
    dead = np.zeros_like(crafted(Description("mlp", SHAPE, CLASSES), PUBLIC))
    with pytest.raises(ConfigError, match="read through a model that was crafted for it, and this one was"):
        read(dead, X, Y, "mlp")
