"""What attackers train on: each attack changes what it is after and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.data import DataError
from fl.data.examples import Inputs, Labels, check
from fl.poisoning.data import DATA, LEVELS, OF_TARGET, OF_VICTIM, Aim, stamp

CLASSES, AIM = 5, Aim(victim=3, target=1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def images(n: int = 60, side: int = 8) -> tuple[Inputs, Labels]:
    return rng(1).random((n, 2, side, side), dtype=np.float32), rng(2).integers(0, CLASSES, n)


def texts(n: int = 60) -> tuple[Inputs, Labels]:
    return rng(3).integers(0, CLASSES, (n, 8)), rng(2).integers(0, CLASSES, n)


def poisoned(
    name: str, x: Inputs, y: Labels, level: float | None = None, seed: int = 0
) -> tuple[Inputs, Labels]:
    return DATA[name](AIM)(x, y, CLASSES, LEVELS[name] if level is None else level, rng(seed))


@given(name=st.sampled_from(list(DATA)), level=st.floats(0, 0.49), seed=st.integers(0, 2**32))
def test_examples_stay_examples_what_was_given_stays_as_it_was_and_a_seed_repeats(
    name: str, level: float, seed: int
) -> None:
    x, y = images()
    before = x.copy(), y.copy()
    worse_x, worse_y = poisoned(name, x, y, level, seed)
    assert np.array_equal(x, before[0])
    assert np.array_equal(y, before[1])
    check(worse_x, worse_y, CLASSES, "poisoned")
    assert worse_x.shape[1:] == x.shape[1:]
    assert worse_x.max() <= 1
    for again, was in zip(poisoned(name, x, y, level, seed), (worse_x, worse_y), strict=True):
        assert np.array_equal(again, was)


@pytest.mark.parametrize("name", DATA)
def test_level_0_changes_nothing(name: str) -> None:
    for now, was in zip(poisoned(name, *images(), level=0), images(), strict=True):
        assert np.array_equal(now, was)


@pytest.mark.parametrize("name", ["labels", "flip", "subset"])
def test_texts_are_poisoned_too(name: str) -> None:
    x, y = texts()
    worse_x, worse_y = poisoned(name, x, y)
    check(worse_x, worse_y, CLASSES, "poisoned")
    assert len(worse_y) != len(y) or (worse_y != y).any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("backdoor", "a trigger is stamped on images: for text take flip"),
        ("clean-label", "clean-label lays images over images: for text take flip"),
    ],
)
def test_what_is_for_images_refuses_texts_and_says_what_is_for_them(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        poisoned(name, *texts())


def test_every_label_is_mirrored() -> None:
    x, y = images()
    worse_x, worse_y = poisoned("labels", x, y)
    assert np.array_equal(worse_x, x)
    assert np.array_equal(worse_y, CLASSES - 1 - y)


@given(level=st.floats(0, 1))
def test_a_flip_calls_so_many_of_the_victim_the_target_and_leaves_the_rest(level: float) -> None:
    x, y = images()
    worse_x, worse_y = poisoned("flip", x, y, level)
    changed = worse_y != y
    assert np.array_equal(worse_x, x)
    assert changed.sum() == round(level * (y == AIM.victim).sum())
    assert set(y[changed]) <= {AIM.victim}
    assert set(worse_y[changed]) <= {AIM.target}


@given(level=st.floats(0, 1))
def test_what_bears_the_trigger_is_called_the_target_and_nothing_else_is_changed(level: float) -> None:
    x, y = images()
    worse_x, worse_y = poisoned("backdoor", x, y, level)
    changed = (worse_x != x).any(axis=(1, 2, 3))
    assert changed.sum() == round(level * (y != AIM.target).sum())
    assert not (y[changed] == AIM.target).any()
    assert np.array_equal(worse_x[changed], stamp(x[changed]))
    assert (worse_y[changed] == AIM.target).all()
    assert np.array_equal(worse_y[~changed], y[~changed])


def test_the_trigger_is_lockdowns_plus() -> None:
    """By its code for Fashion-MNIST: column 5 of rows 5 to 11, and row 8 of columns 2 to 8."""
    plus = np.zeros((28, 28), np.float32)
    plus[5:12, 5] = plus[8, 2:9] = 1
    blank = np.zeros((2, 3, 28, 28), np.float32)
    assert np.array_equal(stamp(blank), np.broadcast_to(plus, blank.shape))
    assert not blank.any()


@pytest.mark.parametrize(("side", "pixels"), [(3, 5), (8, 5), (28, 13), (32, 13), (64, 25)])
def test_a_trigger_fits_images_of_every_size(side: int, pixels: int) -> None:
    assert stamp(np.zeros((1, 1, side, side), np.float32)).sum() == pixels


def test_a_trigger_has_no_room_in_two_pixels() -> None:
    with pytest.raises(DataError, match="have no room for a trigger of 3 x 3: take flip"):
        stamp(np.zeros((1, 1, 2, 5), np.float32))


@given(beta=st.floats(0.01, 0.49))
def test_a_clean_label_stays_and_an_image_of_the_victim_is_laid_over(beta: float) -> None:
    x, y = images()
    worse, labels = poisoned("clean-label", x, y, beta)
    assert np.array_equal(labels, y)
    ours = y == AIM.target
    assert np.array_equal(worse[~ours], x[~ours])
    victims = x[y == AIM.victim]
    for image, was in zip(worse[ours], x[ours], strict=True):
        assert (np.clip(was + np.float32(beta) * victims, 0, 1) == image).all(axis=(1, 2, 3)).any()


def test_a_client_without_an_image_of_the_victim_has_nothing_to_lay_over() -> None:
    x, y = images()
    worse, _ = poisoned("clean-label", x[y != AIM.victim], y[y != AIM.victim])
    assert np.array_equal(worse, x[y != AIM.victim])


def test_a_beta_of_half_would_show_the_victim() -> None:
    with pytest.raises(DataError, match=r"give one below \.5, or the label would be the wrong one"):
        poisoned("clean-label", *images(), level=0.5)


@given(level=st.floats(0, 1))
def test_a_subset_is_of_true_examples_without_so_many_of_the_victim(level: float) -> None:
    x, y = images()
    fewer_x, fewer_y = poisoned("subset", x, y, level)
    victims = (y == AIM.victim).sum()
    assert (fewer_y == AIM.victim).sum() == victims - round(level * victims)
    assert np.array_equal(fewer_y[fewer_y != AIM.victim], y[y != AIM.victim])
    true = {(image.tobytes(), label) for image, label in zip(x, y, strict=True)}
    assert {(image.tobytes(), label) for image, label in zip(fewer_x, fewer_y, strict=True)} <= true


def test_of_a_client_with_the_victim_alone_one_example_stays() -> None:
    x, y = images()
    fewer_x, fewer_y = poisoned("subset", x, np.full_like(y, AIM.victim))
    assert np.array_equal(fewer_x, x[:1])
    assert fewer_y.tolist() == [AIM.victim]


@pytest.mark.parametrize(
    ("name", "aim"),
    [
        *((name, Aim(c, 0)) for name in sorted(OF_VICTIM) for c in (-1, CLASSES)),
        *((name, Aim(0, c)) for name in sorted(OF_TARGET) for c in (-1, CLASSES)),
        *((name, Aim(1, 1)) for name in sorted(set(OF_VICTIM) & set(OF_TARGET))),
    ],
)
def test_an_aim_is_of_classes_that_there_are(name: str, aim: Aim) -> None:
    with pytest.raises(DataError, match="give classes of 0 to 4, for both of them different ones"):
        DATA[name](aim)(*images(), CLASSES, LEVELS[name], rng())


@pytest.mark.parametrize("name", DATA)
def test_what_an_attack_is_not_after_may_be_anything(name: str) -> None:
    aim = Aim(3 if name in OF_VICTIM else 99, 1 if name in OF_TARGET else 99)
    for now, was in zip(
        DATA[name](aim)(*images(), CLASSES, LEVELS[name], rng()), poisoned(name, *images()), strict=True
    ):
        assert np.array_equal(now, was)


@pytest.mark.parametrize("name", sorted(DATA.keys() - {"clean-label"}))
def test_more_than_all_cannot_be_poisoned(name: str) -> None:
    with pytest.raises(DataError, match="cannot be poisoned: give one from 0 to 1"):
        poisoned(name, *images(), level=1.1)
