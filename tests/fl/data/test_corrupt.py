"""Examples made worse: exactly as much as asked, and never the ones given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.data import DataError
from fl.data.corrupt import CORRUPTERS, labels, missing, noise
from fl.data.examples import Inputs, Labels, check

CLASSES = 5


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def images(n: int = 40) -> tuple[Inputs, Labels]:
    """Of 3 x 6 x 5, in (0, 1]."""
    x = 1 - rng(1).random((n, 3, 6, 5), dtype=np.float32)
    return x, rng(2).integers(0, CLASSES, n)


def texts(n: int = 40) -> tuple[Inputs, Labels]:
    """Of 8 words, none unknown."""
    return rng(3).integers(1, CLASSES, (n, 8)), rng(2).integers(0, CLASSES, n)


GIVEN = {"images": images, "texts": texts}
SENSIBLE = [(name, kind) for name in CORRUPTERS for kind in GIVEN if (name, kind) != ("noise", "texts")]
levels = st.floats(0, 1)
seeds = st.integers(0, 2**32)


@given(which=st.sampled_from(SENSIBLE), level=levels, seed=seeds)
def test_examples_stay_examples_what_was_given_stays_as_it_was_and_a_seed_repeats(
    which: tuple[str, str], level: float, seed: int
) -> None:
    name, kind = which
    x, y = GIVEN[kind]()
    before = x.copy(), y.copy()
    worse_x, worse_y = CORRUPTERS[name](x, y, CLASSES, level, rng(seed))
    assert np.array_equal(x, before[0])
    assert np.array_equal(y, before[1])
    check(worse_x, worse_y, CLASSES, "made worse")
    assert worse_x.shape == x.shape
    again_x, again_y = CORRUPTERS[name](x, y, CLASSES, level, rng(seed))
    assert np.array_equal(worse_x, again_x)
    assert np.array_equal(worse_y, again_y)


@pytest.mark.parametrize(("name", "kind"), SENSIBLE)
def test_level_0_changes_nothing(name: str, kind: str) -> None:
    x, y = GIVEN[kind]()
    same_x, same_y = CORRUPTERS[name](x, y, CLASSES, 0, rng())
    assert np.array_equal(x, same_x)
    assert np.array_equal(y, same_y)


@given(level=levels, seed=seeds)
def test_dead_pixels_are_the_same_in_every_image_and_channel_and_the_others_live(
    level: float, seed: int
) -> None:
    x, y = images()
    worse, _ = missing(x, y, CLASSES, level, rng(seed))
    dead = (worse == 0).all(axis=(0, 1))
    assert dead.sum() == round(level * 30)
    assert np.array_equal(worse[:, :, ~dead], x[:, :, ~dead])


@given(level=levels, seed=seeds)
def test_missing_words_are_unknown_at_the_same_places_of_every_window(level: float, seed: int) -> None:
    x, y = texts()
    worse, _ = missing(x, y, CLASSES, level, rng(seed))
    dead = (worse == 0).all(axis=0)
    assert dead.sum() == round(level * 8)
    assert np.array_equal(worse[:, ~dead], x[:, ~dead])


@given(level=levels, seed=seeds)
def test_as_many_labels_as_asked_become_another_class(level: float, seed: int) -> None:
    x, y = images()
    same, worse = labels(x, y, CLASSES, level, rng(seed))
    assert (worse != y).sum() == round(level * len(y))
    assert same is x


def test_wrong_labels_are_of_every_other_class_as_often() -> None:
    y = np.full(4000, 2)
    _, worse = labels(images(1)[0], y, CLASSES, 1.0, rng())
    counts = np.bincount(worse, minlength=CLASSES)
    assert counts[2] == 0
    assert counts[[0, 1, 3, 4]].min() > 850


def test_noise_has_the_deviation_asked_for_and_stays_in_range() -> None:
    x, y = np.full((20, 1, 30, 30), 0.5, dtype=np.float32), np.zeros(20, dtype=np.int64)
    small, _ = noise(x, y, CLASSES, 0.05, rng())
    assert abs((small - x).std() - 0.05) < 0.001
    large, _ = noise(x, y, CLASSES, 3.0, rng())
    assert (large.min(), large.max()) == (0, 1)


@pytest.mark.parametrize(
    ("name", "kind", "classes", "level", "says"),
    [
        ("noise", "texts", CLASSES, 0.1, "sensor noise is for images: take missing or labels for text"),
        ("noise", "images", CLASSES, -0.1, "noise of -0.1: give a standard deviation of 0 to 100"),
        ("noise", "images", CLASSES, 1.7e308, "noise of 1.7e+308: give a standard deviation of 0 to 100"),
        ("noise", "images", CLASSES, float("nan"), "noise of nan"),
        ("noise", "images", CLASSES, float("inf"), "noise of inf"),
        ("missing", "images", CLASSES, 1.1, "a share of 1.1 cannot be made worse: give one from 0 to 1"),
        ("missing", "texts", CLASSES, -0.1, "a share of -0.1"),
        ("labels", "images", CLASSES, 1.1, "a share of 1.1"),
        ("labels", "texts", CLASSES, float("nan"), "a share of nan"),
        ("labels", "images", 1, 0.1, "labels of a single class cannot be replaced by another"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, kind: str, classes: int, level: float, says: str) -> None:
    with pytest.raises(DataError) as caught:
        CORRUPTERS[name](*GIVEN[kind](), classes, level, rng())
    assert says in str(caught.value)
