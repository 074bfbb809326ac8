"""Models that are others by their numbers, and of which clients send the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fl.config.plan import LocalPlan
from fl.config.section import ConfigError
from fl.leakage.disguised import DISGUISES, Disguise, renumbered, rescaled, shifted
from fl.models.architectures import Description, build
from fl.models.weights import from_vector, to_vector
from fl.training.local import train
from secagg.sketch import is_near, sketch
from tests.fl.leakage.helpers import CLASSES, IMAGES, LABELS, SHAPE

EXACT = [
    (name, model)
    for name in ("renumbered", "rescaled", "shifted")
    for model in ("mlp", "mlp-200", "cnn", "lenet-zhu")
    if (name, model) != ("rescaled", "lenet-zhu")
]


def first(model: str) -> tuple[Description, np.ndarray]:
    return Description(model, SHAPE, CLASSES), to_vector(build(model, SHAPE, CLASSES, 0))


def disguised(name: str, model: str) -> Disguise:
    return DISGUISES[name](*first(model), np.random.default_rng(1))


def sent(model: str, parameters: np.ndarray, plan: LocalPlan) -> np.ndarray:
    built = build(model, SHAPE, CLASSES, 0)
    from_vector(built, parameters)
    return train(built, torch.tensor(IMAGES), torch.tensor(LABELS), plan, bytes(32)).upload


def off(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.linalg.norm(found - true) / np.linalg.norm(true))


@pytest.mark.parametrize(("name", "model"), EXACT)
def test_a_disguised_model_is_far_off_for_a_client_and_tells_the_server_the_same(
    name: str, model: str
) -> None:
    _, parameters = first(model)
    disguise, plan = disguised(name, model), LocalPlan(algorithm="fedsgd", precision="float64")
    sketches = [sketch(each, bytes(32)).tobytes() for each in (parameters, disguise.parameters)]
    assert not is_near(*sketches)
    true, seen = sent(model, parameters, plan), sent(model, disguise.parameters, plan)
    assert off(disguise.back(seen), true) < 1e-4  # of parameters in float32
    assert name == "shifted" or off(seen, true) > 0.04  # for who does not read it back


@pytest.mark.parametrize(("name", "most"), [("renumbered", 1e-4), ("shifted", 1e-4), ("rescaled", 0.1)])
def test_so_it_does_over_several_steps_where_the_order_is_the_same(name: str, most: float) -> None:
    plan = LocalPlan(steps=4, batch_size=2, lr=0.05, momentum=0.9, precision="float64")
    disguise = disguised(name, "mlp")
    assert (
        off(disguise.back(sent("mlp", disguise.parameters, plan)), sent("mlp", first("mlp")[1], plan)) < most
    )


def test_a_model_that_is_really_another_is_just_beyond_what_clients_take_for_near() -> None:
    _, parameters = first("mlp")
    assert off(disguised("nearby", "mlp").parameters, parameters) == pytest.approx(0.02, rel=1e-3)


@pytest.mark.parametrize("disguise", [renumbered, rescaled, shifted])
@pytest.mark.parametrize("model", ["fed-cdp", "resnet18"])
def test_other_models_are_not_disguised_so(disguise: object, model: str) -> None:
    described = Description(model, (3, 16, 16), CLASSES)
    with pytest.raises(ConfigError, match=f"one after the other, .* not {model}, but mlp"):
        disguise(described, np.ones(3, np.float32), np.random.default_rng(0))  # type: ignore[operator]


def test_nor_are_sigmoids_rescaled() -> None:
    with pytest.raises(ConfigError, match="with ReLU between: not lenet-zhu, but mlp"):
        disguised("rescaled", "lenet-zhu")
