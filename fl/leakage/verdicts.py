"""What may be said of a protection, after an attack: only beside controls that were attacked in the same run.

An attack that finds nothing where nothing hides anything says nothing of what hides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtri
from scipy.stats import t as student

ABOVE_BASELINE: Final = 3.0  # dB
FEWEST: Final = 8  # images: single ones can pass by luck (one of four of a ReLU net gave 17.3 dB)
CONFIDENCE: Final = 0.95

LEARNED: Final = frozenset({"learned"})
"""Attacks, by name, that are trained on images of the kind of those that they look for."""

LEAKS = "leaks"
PROTECTS = "protects"
ROUNDING = "rounding hides it"
NOISED = "noise or rounding hides it"
FAILED = "attack failed on the control"
NOTHING = "nothing to read"
TOO_FEW = "too few for a verdict"
MISSED = "this attack does not find it"
NO_MODEL = "hidden from who lacks the model"


def to_reach(baselines: Mapping[str, NDArray[np.float64]]) -> float:
    """dB in the mean, from which on images count as found by optimisation. baselines: (N,) of each."""
    return max(float(each.mean()) for each in baselines.values()) + ABOVE_BASELINE


def reconstructed(psnr: NDArray[np.float64], baselines: Mapping[str, NDArray[np.float64]]) -> bool:
    """Whether images were found by optimisation: 3 dB above the best of the baselines, in the mean.

    psnr: (N,) of the attack; baselines: of each, likewise. Raises: ValueError for fewer than 8 images.
    """
    if len(psnr) < FEWEST:
        raise ValueError(f"{len(psnr)} images: a verdict is on the mean of at least {FEWEST}")
    return float(psnr.mean()) >= to_reach(baselines)


def to_pass(psnr: NDArray[np.float64], class_mean: NDArray[np.float64]) -> float:
    """dB in the mean, above which a learned attack has found something: the class mean, and half of the
    paired 95 % interval of the gain over it.
    """
    gain = psnr - class_mean
    half = student.ppf((1 + CONFIDENCE) / 2, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
    return float(class_mean.mean() + half)


def learned(psnr: NDArray[np.float64], class_mean: NDArray[np.float64]) -> bool:
    """Whether a learned attack finds more than the class mean: the lower end of the paired 95 % interval of
    its gain is above 0. psnr, class_mean: (N,) of the same images. Raises: as `reconstructed`.
    """
    if len(psnr) < FEWEST:
        raise ValueError(f"{len(psnr)} images: a verdict is on the mean of at least {FEWEST}")
    return float(psnr.mean()) > to_pass(psnr, class_mean)


def guessed(hits: int, trials: int, chance: float) -> bool:
    """Whether guesses are better than chance: their Clopper-Pearson lower bound at 95 % is above it."""
    return hits > 0 and float(bdtri(hits - 1, trials, CONFIDENCE)) > chance


@dataclass(frozen=True)
class Controls:
    """Whether the same attack found the images, in the same run, where nothing hid them.

    single: in single updates in the clear, each encoded as it was for the session. exact: in those before
    they were encoded; None where nobody had to look. summed: in the sum of as many as the party saw together,
    before they were encoded; None where it saw single ones. informed: in what the party saw, by who has the
    model; None where the attack itself had it. noised: what the party saw carries noise that none of these
    does.
    """

    single: bool
    exact: bool | None = None
    summed: bool | None = None
    informed: bool | None = None
    noised: bool = False


def verdict(found: bool | None, controls: Controls) -> str:
    """The one word for a cell. found: by the attack on what the party reads; None where it reads nothing.

    A sum protects only where single updates give the images away and their sum does not, whether it is
    encoded or not. What is found in exact numbers alone, the rounding of the encoding hides, or noise that is
    in nothing but what was read.
    """
    if found is None:
        return NOTHING
    if found:
        return LEAKS
    if controls.informed:  # it lies there open, and no scheme may be praised for that it was not found
        return NO_MODEL
    lost = NOISED if controls.noised else ROUNDING
    if not controls.single:
        return lost if controls.exact else FAILED
    return lost if controls.summed else PROTECTS


def of_model(found: bool | None, *, untrained: bool, few: bool = False) -> str:
    """The one word for what a finished model gives away, which no way of adding updates up protects. found:
    as of `verdict`. untrained: whether the same attack finds it in the first weights, where it is not. few:
    whether all that could be found would be chance.
    """
    if few:
        return TOO_FEW
    if found is None:
        return NOTHING
    if untrained:
        return FAILED
    return LEAKS if found else MISSED
