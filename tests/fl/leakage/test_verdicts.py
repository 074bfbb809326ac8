"""What may be said of a protection, and what may not."""

from __future__ import annotations

import numpy as np
import pytest

from fl.leakage.verdicts import (
    FAILED,
    LEAKS,
    NO_MODEL,
    NOISED,
    NOTHING,
    PROTECTS,
    ROUNDING,
    Controls,
    guessed,
    learned,
    reconstructed,
    verdict,
)

EIGHT = np.full(8, 15.0)


def test_images_are_found_from_3_db_above_the_best_baseline_in_the_mean() -> None:
    baselines = {"grey": EIGHT - 6, "class mean": EIGHT - 2}
    assert reconstructed(EIGHT + 1, baselines)
    assert not reconstructed(EIGHT + 0.9, baselines)
    one_by_luck = EIGHT - 2 + np.array([20.0, *[0] * 7])
    assert not reconstructed(one_by_luck, baselines)


def test_there_is_no_verdict_on_fewer_than_8_images() -> None:
    for decides in (lambda few: reconstructed(few, {"grey": few}), lambda few: learned(few, few)):
        with pytest.raises(ValueError, match="7 images: a verdict is on the mean of at least 8"):
            decides(EIGHT[:7])


def test_a_learned_attack_is_better_than_the_class_mean_where_its_paired_interval_is() -> None:
    gains = np.array([0.5, 1.5, 1.0, 1.0, 0.5, 1.5, 1.0, 1.0])
    assert learned(EIGHT + gains, EIGHT)
    assert not learned(EIGHT + gains - 0.75, EIGHT)  # 0.25 in the mean, and half an interval of 0.32


def test_guesses_are_better_than_chance_by_their_lower_bound() -> None:
    assert guessed(8, 8, 0.68)  # the bound is 0.05^(1/8) = 0.6877
    assert not guessed(8, 8, 0.69)
    assert not guessed(0, 8, 0.0)


@pytest.mark.parametrize(
    ("found", "controls", "word"),
    [
        (True, Controls(True, summed=True), LEAKS),
        (False, Controls(True, summed=False), PROTECTS),
        # The exact sum gives the images away: it is not the summing that hides them.
        (False, Controls(True, summed=True), ROUNDING),
        (False, Controls(False, exact=True, summed=False), ROUNDING),
        (False, Controls(True, summed=True, noised=True), NOISED),
        (False, Controls(True, summed=False, noised=True), PROTECTS),
        (False, Controls(False, exact=False, summed=False), FAILED),
        (False, Controls(False, summed=False), FAILED),
        (False, Controls(True), PROTECTS),  # single ones that a party cannot tell from others
        (None, Controls(True), NOTHING),
        # It was the model that was lacking: no scheme hid it.
        (False, Controls(True, summed=False, informed=True), NO_MODEL),
        (False, Controls(True, summed=False, informed=False), PROTECTS),
        (True, Controls(True, informed=True), LEAKS),
    ],
)
def test_a_protection_is_named_only_where_the_controls_say_so(
    found: bool | None, controls: Controls, word: str
) -> None:
    assert verdict(found, controls) == word
