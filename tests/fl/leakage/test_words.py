"""Words are read off the rows of an embedding that moved, and off the last bias: of updates and of sums."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from fl.config.section import ConfigError
from fl.leakage import apart
from fl.leakage.attack import Budget, Knowledge
from fl.leakage.views import Part
from fl.leakage.words import words
from fl.models.architectures import Description, build
from fl.models.weights import to_vector
from tests.fl.leakage.helpers import GRADIENT, gradient, knowing, sent, summed, view

rng = np.random.default_rng(3)
WORDS, LENGTH = 200, 8
X = rng.integers(0, 60, (6, LENGTH))
Y = np.array([70, 71, 70, 3, 80, 81])  # next words, most of which stand in no text


def of_text(model: str = "bag-of-words") -> tuple[nn.Module, Knowledge]:
    made = build(model, (LENGTH,), WORDS, 0)
    return made, Knowledge(Description(model, (LENGTH,), WORDS), to_vector(made), GRADIENT, 2)


def typed(model: nn.Module, *texts: int, u: int = 0) -> Part:
    """What client u with these texts sends."""
    return Part(frozenset({u}), gradient(model, X[list(texts)], Y[list(texts)])[None], len(texts))


def there(*texts: int) -> list[int]:
    return sorted({*X[list(texts)].ravel().tolist(), *Y[list(texts)].tolist()})


@pytest.mark.parametrize("model", ["bag-of-words", "gru"])
def test_an_update_names_the_words_it_comes_of_and_those_that_follow(model: str) -> None:
    net, knowledge = of_text(model)
    (found,) = words(view(typed(net, 0, 1)), knowledge, Budget(), 0)
    assert found.words is not None
    assert found.words.tolist() == there(0, 1)
    assert found.labels.tolist() == [70, 71]
    assert found.images is None


def test_a_sum_names_the_words_of_all_and_each_part_its_own() -> None:
    net, knowledge = of_text()
    each = [typed(net, 2 * u, 2 * u + 1, u=u) for u in range(3)]
    found = words(view(summed(*each), *each), knowledge, Budget(), 0)
    named = [one.words.tolist() for one in found if one.words is not None]
    assert named == [there(*range(6)), there(0, 1), there(2, 3), there(4, 5)]


def test_what_noise_moves_is_not_named() -> None:
    net, knowledge = of_text()
    part = typed(net, 0, 1)
    least = np.abs(part.updates[part.updates != 0]).mean()
    noise = rng.normal(0, 1e-3 * least, part.updates.shape)
    noised, alone = (Part(part.members, update) for update in (part.updates + noise, noise))
    here, nothing = words(view(noised, alone), knowledge, Budget(), 0)
    assert here.words is not None
    assert nothing.words is not None
    assert here.words.tolist() == there(0, 1)
    assert (nothing.words.tolist(), nothing.labels.tolist()) == ([], [])


def test_of_candidates_the_words_are_those_of_the_one_that_leaves_most_rows() -> None:
    net, knowledge = of_text()
    part = typed(net, 0, 1)
    decoy = rng.normal(0, 0.01, part.updates.shape)  # in which no row stands out, and none is as it was
    for candidates in ((part.updates, decoy), (decoy, part.updates)):
        (found,) = words(view(Part(part.members, np.concatenate(candidates))), knowledge, Budget(), 0)
        assert found.words is not None
        assert found.words.tolist() == there(0, 1)


@pytest.mark.slow
def test_words_come_back_from_a_process_that_can_read_no_text() -> None:
    net, knowledge = of_text()
    (found,) = apart.run("words", view(typed(net, 0, 1)), knowledge, Budget(), 0)
    assert found.words is not None
    assert (found.words.tolist(), found.labels.tolist()) == (there(0, 1), [70, 71])


def test_a_model_of_images_has_no_words() -> None:
    with pytest.raises(ConfigError, match="off the gradient of an embedding, and this model has none"):
        words(view(sent(knowing(), 0)), knowing(), Budget(), 0)
