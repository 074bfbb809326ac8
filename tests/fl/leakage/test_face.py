"""An image of each class is made out of a model, and of nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fl.config.section import ConfigError
from fl.leakage import apart
from fl.leakage.attack import Budget, Knowledge
from fl.leakage.face import SURE, face, processed
from fl.leakage.views import of_model
from fl.models.architectures import Description, build
from fl.models.weights import to_vector
from tests.fl.leakage.helpers import CLASSES, SHAPE, knowing

BUDGET = Budget(seconds=1e9, iterations=3000)
rng = np.random.default_rng(1)
PATTERNS = rng.random((CLASSES, *SHAPE)) > 0.5
"""Of each class, where its images are bright: weights that a logistic regression would have learned."""


def learned() -> Knowledge:
    weight = (2.0 * PATTERNS - 1).reshape(CLASSES, -1)
    knowledge = knowing(model="logistic")
    parameters = np.concatenate([weight.ravel(), np.zeros(CLASSES)])
    return replace(knowledge, parameters=parameters.astype(np.float32))


def test_the_model_is_sure_of_the_images_which_look_like_their_classes() -> None:
    knowledge = learned()
    elsewhere = replace(knowledge, parameters=np.zeros_like(knowledge.parameters))  # the part has the model
    (found,) = face(of_model(knowledge.parameters, frozenset({0})), elsewhere, BUDGET, 0)
    assert found.images is not None
    assert (found.images.shape, found.labels.tolist()) == ((CLASSES, *SHAPE), list(range(CLASSES)))
    assert found.loss <= 1 - SURE
    assert (found.images.min() >= 0, found.images.max() <= 1) == (True, True)
    for image, pattern in zip(found.images, PATTERNS, strict=True):
        assert image[pattern].mean() > image[~pattern].mean() + 0.02


def test_it_stops_where_it_is_sure_and_where_nothing_moves() -> None:
    knowledge = learned()
    flat = np.zeros_like(knowledge.parameters)
    (found,) = face(of_model(flat, frozenset({0})), knowledge, replace(BUDGET, iterations=10**6), 0)
    assert found.images is not None
    assert (found.images == 0.5).all()
    assert found.loss == pytest.approx(1 - 1 / CLASSES)


def test_what_is_processed_has_no_single_bright_pixel_and_sharper_edges() -> None:
    x = np.zeros((1, 1, 9, 9))
    x[0, 0, 4, 4] = 1.0
    assert (processed(x) == 0).all()
    x[..., :5] = 0.4
    x[..., 5:] = 0.6
    sharp = processed(x)
    assert sharp[0, 0, 4, 4] < 0.4
    assert sharp[0, 0, 4, 5] > 0.6
    knowledge = learned()
    budget = replace(BUDGET, processed=True, iterations=2)
    view = of_model(knowledge.parameters, frozenset({0}))
    _, _, told, _ = apart.unpacked(apart.packed(view, knowledge, budget, 0))  # as its process gets it
    (found,) = face(view, knowledge, told, 0)
    (plain,) = face(view, knowledge, replace(budget, processed=False), 0)
    assert found.images is not None
    assert plain.images is not None
    assert not np.array_equal(found.images, plain.images)


def test_text_has_no_face() -> None:
    description = Description("bag-of-words", (8,), 20)
    knowledge = Knowledge(description, to_vector(build("bag-of-words", (8,), 20, 0)), knowing().plan, 1)
    with pytest.raises(ConfigError, match="face makes images, and bag-of-words is for text"):
        face(of_model(knowledge.parameters, frozenset({0})), knowledge, BUDGET, 0)
