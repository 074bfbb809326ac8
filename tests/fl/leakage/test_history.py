"""What several rounds of the same clients give away together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fl.config.plan import LocalPlan
from fl.config.section import ConfigError
from fl.leakage import apart
from fl.leakage.attack import Budget, Knowledge
from fl.leakage.gradients import Matching
from fl.leakage.history import history
from fl.leakage.inversion import inversion
from fl.leakage.labels import of_gradients
from fl.leakage.metrics import psnr
from fl.leakage.views import Part, View, over_rounds
from tests.fl.leakage.helpers import GRADIENT, IMAGES, LABELS, knowing, sent, view

QUICK = Budget(seconds=1e9, iterations=15, starts=1)
ROUNDS = 6


def followed(deviation: float = 0.0) -> tuple[View, Knowledge]:
    """Of a client with one image, what it sent in six rounds, each of a model moved on, with noise on it."""
    rng = np.random.default_rng(3)
    models = [knowing()]
    for _ in range(ROUNDS - 1):
        moved = models[-1].parameters + rng.normal(scale=0.02, size=len(models[-1].parameters))
        models.append(replace(models[-1], parameters=moved.astype(np.float32)))
    last, *earlier = models

    def noisy(knowledge: Knowledge) -> Part:
        part = sent(knowledge, 0)
        return replace(part, updates=part.updates + rng.normal(scale=deviation, size=part.updates.shape))

    seen = over_rounds(view(noisy(last)), [(each.parameters, view(noisy(each))) for each in earlier])
    return seen, last


def test_what_noise_hides_in_a_round_is_found_in_several() -> None:
    seen, knowledge = followed(0.006)
    (alone,), (found,) = (attack(seen, knowledge, QUICK, 0) for attack in (inversion, history))
    assert found.labels.tolist() == [LABELS[0]]
    assert psnr(IMAGES[:1], found.images)[0] > psnr(IMAGES[:1], alone.images)[0] + 8


def test_each_round_is_explained_from_its_own_model() -> None:
    seen, knowledge = followed()
    (found,) = history(seen, knowledge, QUICK, 0)
    assert psnr(IMAGES[:1], found.images)[0] > 50


def test_of_one_round_it_is_the_inversion() -> None:
    knowledge = knowing()
    one = view(sent(knowledge, 0))
    (alone,), (found,) = (attack(one, knowledge, QUICK, 0) for attack in (inversion, history))
    np.testing.assert_allclose(found.images, alone.images, atol=1e-6)


def test_rounds_go_along_to_where_the_attack_is() -> None:
    seen, knowledge = followed()
    content = apart.packed(seen, knowledge, QUICK, 0)
    (part,) = apart.unpacked(content)[0].parts
    assert (part.members, part.examples, part.before) == ({0}, 1, None)
    for one, other in zip(part.earlier, seen.parts[0].earlier, strict=True):
        np.testing.assert_array_equal(one.updates, other.updates)
        np.testing.assert_array_equal(one.before, other.before)


def test_labels_are_those_that_the_rounds_tell_in_the_mean() -> None:
    """Of two rounds, in which one image each has moved the last layer by far more than the other."""
    knowledge = knowing(examples=2)
    first, second = (Matching(knowledge, sent(knowledge, i, i).updates[0], 1) for i in (0, 1))
    assert of_gradients([first], knowledge, 2).tolist() == [3, 3]
    assert of_gradients([first, second], knowledge, 2).tolist() == [3, 7]
    strong = Matching(knowledge, 10 * sent(knowledge, 1).updates[0], 1)
    assert of_gradients([first, strong], knowledge, 1).tolist() == [7]


@pytest.mark.parametrize(
    ("part", "plan", "words"),
    [
        (Part(frozenset({0}), np.zeros((2, 5)), 1), GRADIENT, "here are candidates: try inversion"),
        (
            Part(frozenset({0}), np.zeros((1, 5)), 4, earlier=(Part(frozenset({0}), np.zeros((1, 5)), 4),)),
            LocalPlan(steps=1, batch_size=2),
            "history is of the same images in every round: let a client's steps take all that it holds",
        ),
    ],
)
def test_what_history_is_not_for_is_said(part: Part, plan: LocalPlan, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        history(View((part,)), knowing(plan), QUICK, 0)


def test_other_clients_are_no_part_of_a_history() -> None:
    last = Part(frozenset({0, 1}), np.ones((1, 3)))
    same, other = replace(last, updates=np.zeros((1, 3))), Part(frozenset({0, 2}), np.ones((1, 3)))
    model = torch.zeros(3).numpy()
    (part,) = over_rounds(View((last,), "why"), [(model, View((same,))), (model, View((other,)))]).parts
    (only,) = part.earlier
    assert (only.members, only.before is model) == ({0, 1}, True)
    np.testing.assert_array_equal(only.updates, same.updates)
