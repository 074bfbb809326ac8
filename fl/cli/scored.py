"""What an attack guessed, beside the truth, by the kind of what it looks for: how near it came, and whether
that is more than anybody guesses without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fl.cli import pictures
from fl.cli.recorded import GALLERY, Round
from fl.leakage.attack import Found, Guess
from fl.leakage.baselines import TO_BEAT, baselines, likely_counts
from fl.leakage.metrics import Scores, identified, matched, psnr
from fl.leakage.verdicts import FEWEST, guessed, reconstructed
from fl.leakage.views import View
from secagg.errors import counted

RIGHT: Final = 30.0  # dB, from which on a claimed image is a true one


class Cell(Protocol):
    """An attack on what somebody reads, or would, and how near it came."""

    @property
    def view(self) -> View: ...

    @property
    def found(self) -> bool | None:
        """Whether it beat what can be guessed without one; None of too few to say, or of nothing."""

    @property
    def brief(self) -> str:
        """How near, in a word or two."""

    @property
    def says(self) -> str:
        """The same in a sentence that begins with what was read."""

    @property
    def header(self) -> tuple[str, ...]: ...

    @property
    def row(self) -> tuple[str, ...]: ...

    def told(self) -> dict[str, Any]:
        """As JSON holds it."""

    def draw(self, path: Path, title: str) -> None: ...


# Images


@dataclass(frozen=True)
class Images:
    """All (N, ...), in the true order. found: None of fewer than 8. claimed: which the attack says to be true
    ones, of one that knows.
    """

    view: View
    truth: NDArray[np.float32] = field(repr=False)
    guess: NDArray[np.float64] = field(repr=False)
    baselines: Mapping[str, NDArray[np.float64]] = field(repr=False)
    scores: Scores
    identified: NDArray[np.bool_] = field(repr=False)
    guesses: Guess = field(repr=False)
    claimed: NDArray[np.bool_] | None = None

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
        return reconstructed(self.scores.psnr, {name: self.baseline_psnr[name] for name in TO_BEAT})

    @property
    def brief(self) -> str:
        return f"{self.scores.psnr.mean():.1f} dB"

    @property
    def says(self) -> str:
        best = self.best_baseline
        claims = ""
        if self.claimed is not None:
            claims = (
                f"; of {len(self.claimed)} it says {counted(int(self.claimed.sum()), 'image')}, "
                f"{self.right} of them rightly"
            )
        return (
            f"and the images found in it have {self.brief} in the mean, beside "
            f"{self.baseline_psnr[best].mean():.1f} of the {best} without any attack{claims}"
        )

    @property
    def right(self) -> int:
        """Of the claimed ones those that are within `RIGHT` of a true image, each counted once."""
        near = self.scores.psnr >= RIGHT
        return int((near if self.claimed is None else near & self.claimed).sum())

    @property
    def header(self) -> tuple[str, ...]:
        return "images", "PSNR", "best guess without", "SSIM", "labels"

    @property
    def row(self) -> tuple[str, ...]:
        best, labels = self.best_baseline, self.scores.labels
        ssim = float(np.mean(self.scores.ssim))
        return (
            str(len(self.truth)),
            self.brief,
            f"{self.baseline_psnr[best].mean():.1f} ({best})",
            "-" if np.isnan(ssim) else f"{ssim:.2f}",
            f"{labels.sum()} of {len(labels)}",
        )

    def told(self) -> dict[str, Any]:
        psnr = self.scores.psnr
        return _read(self.view) | {
            "mean_psnr": round(float(psnr.mean()), 2),
            "median_psnr": round(float(np.median(psnr)), 2),
            "identified": round(float(self.identified.mean()), 3),
            "baselines": {n: round(float(each.mean()), 2) for n, each in self.baseline_psnr.items()},
            "found": self.found,
            "images": self.scores.told(),
            **self._claims(),
            **_spent(self.guesses),
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


def of_images(round: Round, view: View, guess: Guess, *, tapped: bool = False) -> Images:
    """Each part's images beside the true ones of its members, in the order that fits best."""
    truths, labels, images, told, claimed = [], [], [], [], []
    for part, found in zip(view.parts, guess, strict=True):
        x, y = round.truth_of(part, tapped=tapped)
        assert found.images is not None  # noqa: S101 - of an attack that looks for images
        order = matched(x, found.images)
        truths.append(x)
        labels.append(y)
        images.append(found.images[order])
        told.append(found.labels[order])
        if found.claimed is not None:
            claimed.append(found.claimed[order])
    x, y, made = np.concatenate(truths), np.concatenate(labels), np.concatenate(images)
    public = round.layout.serving.dataset
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
        np.concatenate(claimed) if claimed else None,
    )


# Labels


@dataclass(frozen=True)
class Labels:
    """Of each part how many labels of each class, (P, classes): the true ones, those that the attack guessed,
    and those that hit most of what is drawn by the public shares of the classes. expected: how many of these
    hit in the mean, of all parts together.

    A class of k guessed and K true labels has min(k, K) hits. found: by the bound of as many independent
    guesses; hits of a multiset spread less (of ten labels of ten even classes by 0.9 where those spread by
    1.5). None where all of them right would be no more than chance.
    """

    view: View
    truth: NDArray[np.int64] = field(repr=False)
    guess: NDArray[np.int64] = field(repr=False)
    without: NDArray[np.int64] = field(repr=False)
    expected: float
    guesses: Guess = field(repr=False)

    @property
    def trials(self) -> int:
        return int(self.truth.sum())

    @property
    def hits(self) -> int:
        return int(np.minimum(self.truth, self.guess).sum())

    @property
    def found(self) -> bool | None:
        chance = self.expected / self.trials
        return guessed(self.hits, self.trials, chance) if guessed(self.trials, self.trials, chance) else None

    @property
    def brief(self) -> str:
        return f"{self.hits} of {self.trials} labels"

    @property
    def says(self) -> str:
        return (
            f"and {self.brief} in it are told right, beside {self.expected:.1f} of the best guess without "
            "any attack"
        )

    @property
    def header(self) -> tuple[str, ...]:
        return "labels", "right", "best guess without"

    @property
    def row(self) -> tuple[str, ...]:
        return str(self.trials), str(self.hits), f"{self.expected:.1f}"

    def told(self) -> dict[str, Any]:
        return _read(self.view) | {
            "labels": self.trials,
            "hits": self.hits,
            "chance": round(self.expected / self.trials, 4),
            "found": self.found,
            "true": self.truth.tolist(),
            "guessed": self.guess.tolist(),
            **_spent(self.guesses),
        }

    def draw(self, path: Path, title: str) -> None:
        rows = {"true": self.truth.sum(axis=0), "guessed": self.guess.sum(axis=0)}
        rows["best guess without"] = self.without.sum(axis=0)
        pictures.counts(path, title, rows, f"labels, of {len(self.truth)} read: {self.hits} right")


def of_labels(round: Round, view: View, guess: Guess, *, tapped: bool = False) -> Labels:
    """How many of each class, beside how many are in what was read; the shares are those of the test set."""
    dataset = round.layout.serving.dataset
    shares = np.bincount(dataset.test_y, minlength=dataset.classes) / len(dataset.test_y)
    true = [round.truth_of(part, tapped=tapped)[1] for part in view.parts]
    likely = [likely_counts(shares, len(y)) for y in true]
    return Labels(
        view,
        _counted(true, dataset.classes),
        _counted([found.labels for found in guess], dataset.classes),
        np.stack([counts for counts, _ in likely]),
        sum(hits for _, hits in likely),
        guess,
    )


def _counted(labels: Sequence[NDArray[np.int64]], classes: int) -> NDArray[np.int64]:
    return np.stack([np.bincount(each, minlength=classes) for each in labels])


# By attack

Score = Callable[..., Cell]
"""(round, view, guess, tapped=) -> cell. tapped: what was read is of clients' first steps alone."""

SCORES: Mapping[str, Score] = {"labels": of_labels}
"""Of attacks that look for something else than images."""


def score_of(attack: str) -> Score:
    return SCORES.get(attack, of_images)


def _read(view: View) -> dict[str, Any]:
    return {
        "parts": [sorted(part.members) for part in view.parts],
        "candidates": max(len(part.updates) for part in view.parts),
    }


def _spent(guess: Guess) -> dict[str, Any]:
    return {
        "losses": [_finite(one) for one in guess],
        "seconds": [round(one.seconds, 2) for one in guess],
    }


def _finite(one: Found) -> float | None:
    return one.loss if np.isfinite(one.loss) else None
