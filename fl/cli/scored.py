"""What an attack found, beside the truth: how near it came, and whether that is more than anybody guesses
without one. Of images; of what is counted, `fl.cli.guessed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fl.cli import pictures
from fl.cli.recorded import GALLERY, Round
from fl.leakage.attack import Found, Guess
from fl.leakage.baselines import CLASS_MEAN, TO_BEAT, baselines, likely_counts
from fl.leakage.metrics import WINDOW, Scores, identified, matched, psnr
from fl.leakage.verdicts import FEWEST, guessed, learned, reconstructed, to_pass, to_reach
from fl.leakage.views import View
from secagg.errors import counted

RIGHT: Final = 30.0  # dB, from which on a claimed image is a true one


class Tally(NamedTuple):
    """How much came out: `right` of `of`, where `chance` of them are hit without any attack."""

    right: int
    of: int
    chance: float


class Cell(Protocol):
    """An attack on what somebody reads, or would, and how near it came."""

    @property
    def view(self) -> View: ...

    @property
    def found(self) -> bool | None:
        """Whether it beat what can be guessed without one; None of too few to say, or of nothing."""

    @property
    def tally(self) -> Tally: ...

    @property
    def brief(self) -> str:
        """How near, in a word or two."""

    @property
    def beside(self) -> str:
        """The same beside what anybody hits."""

    @property
    def says(self) -> str:
        """The same in a sentence that begins with what was read."""

    @property
    def besides(self) -> str:
        """What came out that was not looked for, in words."""

    @property
    def header(self) -> tuple[str, ...]: ...

    @property
    def row(self) -> tuple[str, ...]: ...

    @property
    def lines(self) -> Sequence[str]:
        """What else is to be looked at."""

    def told(self) -> dict[str, Any]:
        """As JSON holds it."""

    def draw(self, path: Path, title: str) -> None: ...


@dataclass(frozen=True)
class Images:
    """All (N, ...), in the true order. found: in the mean; or some images as good as exactly, more than are
    so without any attack; None of fewer than 8. hits: how many labels of each part are right, whatever their
    order; by_chance: of the best guess without any attack. claimed: which the attack says to be true ones, of
    one that knows. learned: from images of the same kind, and so held against the class mean.
    """

    view: View
    truth: NDArray[np.float32] = field(repr=False)
    guess: NDArray[np.float64] = field(repr=False)
    baselines: Mapping[str, NDArray[np.float64]] = field(repr=False)
    scores: Scores
    identified: NDArray[np.bool_] = field(repr=False)
    guesses: Guess = field(repr=False)
    hits: int
    by_chance: float
    claimed: NDArray[np.bool_] | None = None
    learned: bool = False

    @property
    def baseline_psnr(self) -> dict[str, NDArray[np.float64]]:
        return {name: psnr(self.truth, images) for name, images in self.baselines.items()}

    @property
    def best_baseline(self) -> str:
        each = self.baseline_psnr
        return max(TO_BEAT, key=lambda name: float(each[name].mean()))

    @property
    def found(self) -> bool | None:
        if len(self.truth) < FEWEST:
            return None
        if self.learned:
            return learned(self.scores.psnr, self.baseline_psnr[CLASS_MEAN])
        right, of, chance = self.tally
        return reconstructed(self.scores.psnr, self._to_beat) or guessed(right, of, chance / of)

    @property
    def tally(self) -> Tally:
        lucky = int((self.baseline_psnr[self.best_baseline] >= RIGHT).sum())
        return Tally(self.right, len(self.truth), lucky)

    @property
    def needed(self) -> float:
        """dB in the mean, from which on they are found; of too few, as if they were enough."""
        if self.learned and len(self.truth) > 1:
            return to_pass(self.scores.psnr, self.baseline_psnr[CLASS_MEAN])
        return to_reach(self._to_beat)

    @property
    def _to_beat(self) -> dict[str, NDArray[np.float64]]:
        return {name: self.baseline_psnr[name] for name in TO_BEAT}

    @property
    def brief(self) -> str:
        """With the images that decide where the mean does not."""
        few = f", {self.right} of {counted(len(self.truth), 'image')} at {RIGHT:.0f} dB"
        return self._mean + (few if self.found and self.scores.psnr.mean() < self.needed else "")

    @property
    def _mean(self) -> str:
        return f"{self.scores.psnr.mean():.{self._digits}f} dB"

    @property
    def _digits(self) -> int:
        """So many that what was reached is told from what was needed."""
        alike = f"{self.scores.psnr.mean():.1f}" == f"{self.needed:.1f}"
        return 2 if alike else 1

    @property
    def beside(self) -> str:
        best = self.baseline_psnr[self.best_baseline].mean()
        at = f"{self.right} of {counted(len(self.truth), 'image')} at {RIGHT:.0f} dB"
        return f"{at}; {self._mean} in the mean, beside {best:.1f}"

    @property
    def says(self) -> str:
        best = self.best_baseline
        claims = f"; {self.right} of {len(self.truth)} are at {RIGHT:.0f} dB" if self.right else ""
        if self.claimed is not None:
            many = int(self.claimed.sum())
            claims = f"; of {len(self.claimed)} it says "
            claims += f"{counted(many, 'image')}, {self.right} of them rightly" if many else "none"
        return (
            f"and images made of it have {self._mean} in the mean, {self.needed:.{self._digits}f} needed, "
            f"beside {self.baseline_psnr[best].mean():.1f} of the {best} without any attack{claims}"
        )

    @property
    def besides(self) -> str:
        labels = len(self.truth)
        if not guessed(self.hits, labels, self.by_chance / labels):
            return ""
        return f"{'all ' if self.hits == labels else f'{self.hits} of '}{counted(labels, 'label')}"

    @property
    def right(self) -> int:
        """Of the claimed ones those that are within `RIGHT` of a true image, each counted once."""
        near = self.scores.psnr >= RIGHT
        return int((near if self.claimed is None else near & self.claimed).sum())

    @property
    def header(self) -> tuple[str, ...]:
        return "images", "PSNR", "needed", "best guess without", "SSIM", "labels"

    @property
    def row(self) -> tuple[str, ...]:
        best = self.best_baseline
        ssim = float(np.mean(self.scores.ssim))
        return (
            str(len(self.truth)),
            self._mean,
            f"{self.needed:.{self._digits}f}",
            f"{self.baseline_psnr[best].mean():.1f} ({best})",
            "-" if np.isnan(ssim) else f"{ssim:.2f}",
            f"{self.hits} of {len(self.truth)}",
        )

    @property
    def lines(self) -> Sequence[str]:
        height, width = self.truth.shape[2:]
        if min(height, width) >= WINDOW:
            return ()
        return (f"no SSIM: its window of {WINDOW} x {WINDOW} does not fit into {height} x {width} pixels",)

    def told(self) -> dict[str, Any]:
        psnr = self.scores.psnr
        return parts_of(self.view) | {
            "mean_psnr": round(float(psnr.mean()), 2),
            "needed_psnr": round(self.needed, 2),
            "median_psnr": round(float(np.median(psnr)), 2),
            "identified": round(float(self.identified.mean()), 3),
            "baselines": {n: round(float(each.mean()), 2) for n, each in self.baseline_psnr.items()},
            "found": self.found,
            "labels_right": self.hits,
            "images": self.scores.told(),
            **self._claims(),
            **spent(self.guesses),
        }

    def _claims(self) -> dict[str, Any]:
        if self.claimed is None:
            return {}
        return {"claimed": int(self.claimed.sum()), "right": self.right}

    def draw(self, path: Path, title: str) -> None:
        best = self.best_baseline
        rows: dict[str, tuple[NDArray[Any], NDArray[np.float64] | None]] = {
            "original": (self.truth, None),
            "found": (self.guess, self.scores.psnr),
            best: (self.baselines[best], self.baseline_psnr[best]),
        }
        pictures.images(path, title, rows)


def of_images(
    round: Round, view: View, guess: Guess, *, tapped: bool = False, learned: bool = False
) -> Images:
    """Each part's images beside the true ones of its members, in the order that fits best."""
    public = round.layout.serving.dataset
    shares = np.bincount(public.test_y, minlength=public.classes) / len(public.test_y)
    truths, labels, images, told, claimed = [], [], [], [], []
    hits, by_chance = 0, 0.0
    for part, found in zip(view.parts, guess, strict=True):
        x, y = round.truth_of(part, tapped=tapped)
        counts = [np.bincount(each, minlength=public.classes) for each in (y, found.labels)]
        found = _as_many(found, len(x))
        assert found.images is not None  # noqa: S101 - of an attack that looks for images
        order = matched(x, found.images)
        truths.append(x)
        labels.append(y)
        images.append(found.images[order])
        told.append(found.labels[order])
        hits += int(np.minimum(*counts).sum())
        by_chance += likely_counts(shares, len(y))[1]
        if found.claimed is not None:
            claimed.append(found.claimed[order])
    x, y, made = np.concatenate(truths), np.concatenate(labels), np.concatenate(images)
    public_x = cast(NDArray[np.float32], public.test_x)  # that it is of images was seen to before
    gallery = np.concatenate([public_x[:GALLERY], x])
    return Images(
        view,
        x,
        made,
        baselines(x, y, public_x, public.test_y),
        Scores.of(x, y, made, np.concatenate(told)),
        identified(made, gallery, len(gallery) - len(x) + np.arange(len(x))),
        guess,
        hits,
        by_chance,
        np.concatenate(claimed) if claimed else None,
        learned,
    )


def _as_many(found: Found, images: int) -> Found:
    """With grey for those that are there besides: who reads a sum may not know how many images are in it."""
    missing = images - len(found.labels)
    if missing <= 0 or found.images is None:
        return found
    grey = np.full((missing, *found.images.shape[1:]), 0.5)
    claimed = None if found.claimed is None else np.append(found.claimed, np.zeros(missing, dtype=bool))
    labels = np.append(found.labels, np.full(missing, -1))
    return replace(found, images=np.concatenate([found.images, grey]), labels=labels, claimed=claimed)


def parts_of(view: View) -> dict[str, Any]:
    return {
        "parts": [sorted(part.members) for part in view.parts],
        "candidates": max(len(part.updates) for part in view.parts),
    }


def spent(guess: Guess) -> dict[str, Any]:
    return {
        "losses": [_finite(one) for one in guess],
        "seconds": [round(one.seconds, 2) for one in guess],
    }


def _finite(one: Found) -> float | None:
    return one.loss if np.isfinite(one.loss) else None
