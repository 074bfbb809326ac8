"""What an attack guessed that is right or wrong, counted, beside what anybody hits without an attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl.cli import pictures
from fl.cli.recorded import Round
from fl.cli.scored import Tally, parts_of, spent
from fl.leakage.attack import Guess
from fl.leakage.baselines import likely_counts
from fl.leakage.verdicts import guessed
from fl.leakage.views import View
from secagg.errors import counted

Tokens = NDArray[np.int64]
UNKNOWN = 0  # as fl.data.docstrings has it


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
    def tally(self) -> Tally:
        return Tally(self.hits, self.trials, self.expected)

    @property
    def beside(self) -> str:
        return f"{self.brief}, beside {self.expected:.1f}"

    @property
    def brief(self) -> str:
        return f"{self.hits} of {self.trials} labels"

    @property
    def says(self) -> str:
        return (
            f"and {self.brief} are told right, beside {self.expected:.1f} of the best guess without "
            "any attack"
        )

    @property
    def besides(self) -> str:
        return ""

    @property
    def header(self) -> tuple[str, ...]:
        return "labels", "right", "best guess without"

    @property
    def row(self) -> tuple[str, ...]:
        return str(self.trials), str(self.hits), f"{self.expected:.1f}"

    @property
    def lines(self) -> Sequence[str]:
        return ()

    def told(self) -> dict[str, Any]:
        return parts_of(self.view) | {
            "labels": self.trials,
            "hits": self.hits,
            "chance": round(self.expected / self.trials, 4),
            "found": self.found,
            "true": self.truth.tolist(),
            "guessed": self.guess.tolist(),
            **spent(self.guesses),
        }

    def draw(self, path: Path, title: str) -> None:
        rows = {"true": self.truth.sum(axis=0), "guessed": self.guess.sum(axis=0)}
        rows["best guess without"] = self.without.sum(axis=0)
        pictures.counts(path, title, rows, "labels", "class")


def of_labels(round: Round, view: View, guess: Guess, *, tapped: bool = False) -> Labels:
    """How many of each class, beside how many are in what was read; the shares are those of the test set.
    Of clients who were not dealt their labels by these, what a guess by them hits is counted.
    """
    dataset = round.layout.serving.dataset
    shares = np.bincount(dataset.test_y, minlength=dataset.classes) / len(dataset.test_y)
    true = [round.truth_of(part, tapped=tapped)[1] for part in view.parts]
    likely = [likely_counts(shares, len(y)) for y in true]
    truth, without = _counted(true, dataset.classes), np.stack([counts for counts, _ in likely])
    expected = sum(hits for _, hits in likely)
    if round.config.data.partition != "iid":
        expected = float(np.minimum(truth, without).sum())
    told = _counted([found.labels for found in guess], dataset.classes)
    return Labels(view, truth, told, without, expected, guess)


def _counted(labels: Sequence[NDArray[np.int64]], classes: int) -> NDArray[np.int64]:
    return np.stack([np.bincount(each, minlength=classes) for each in labels])


# Words


@dataclass(frozen=True)
class Words:
    """Of each part the set of words, each an array of tokens: the true ones, those that the attack named, and
    as many of those that are most frequent in public text. names: what each token means; token 0, all words
    that have none of their own, names nothing and is left out.

    found: of the words named so many are right that the lower bound is above the share of the frequent ones
    that are.
    """

    view: View
    truth: Sequence[Tokens] = field(repr=False)
    guess: Sequence[Tokens] = field(repr=False)
    without: Sequence[Tokens] = field(repr=False)
    names: Sequence[str] = field(repr=False)
    guesses: Guess = field(repr=False)

    @property
    def true(self) -> int:
        return sum(map(len, self.truth))

    @property
    def named(self) -> int:
        return sum(map(len, self.guess))

    @property
    def hits(self) -> int:
        return int(_in_common(self.truth, self.guess).sum())

    @property
    def chance(self) -> int:
        """How many of the frequent ones are right."""
        return int(_in_common(self.truth, self.without).sum())

    @property
    def precision(self) -> float:
        return self.hits / self.named if self.named else 0.0

    @property
    def recall(self) -> float:
        return self.hits / self.true

    @property
    def found(self) -> bool:
        return self.named > 0 and guessed(self.hits, self.named, self.chance / self.named)

    @property
    def tally(self) -> Tally:
        return Tally(self.hits, self.true, self.chance)

    @property
    def beside(self) -> str:
        wrong = self.named - self.hits
        return f"{self.brief}, and {wrong} wrong, beside {self.chance} of the most frequent"

    @property
    def brief(self) -> str:
        return f"{self.hits} of {counted(self.true, 'word')}"

    @property
    def says(self) -> str:
        return (
            f"and {self.brief} in it are named, and {self.named - self.hits} that are not, where of as many "
            f"of the most frequent words {self.chance} are right"
        )

    @property
    def besides(self) -> str:
        return ""

    @property
    def header(self) -> tuple[str, ...]:
        return "words", "named", "right", "precision", "recall", "as many frequent ones"

    @property
    def row(self) -> tuple[str, ...]:
        numbers = str(self.true), str(self.named), str(self.hits)
        return *numbers, f"{self.precision:.2f}", f"{self.recall:.2f}", f"{self.chance} right"

    def told(self) -> dict[str, Any]:
        return parts_of(self.view) | {
            "words": self.true,
            "named": self.named,
            "hits": self.hits,
            "precision": round(self.precision, 4),
            "recall": round(self.recall, 4),
            "frequent": self.chance,
            "found": self.found,
            "true": [self.spelt(each) for each in self.truth],
            "guessed": [self.spelt(each) for each in self.guess],
            **spent(self.guesses),
        }

    def spelt(self, tokens: Tokens) -> list[str]:
        return sorted(self.names[i] for i in tokens)

    @property
    def lines(self) -> Sequence[str]:
        """The words of the first part, true and named."""
        right = np.intersect1d(self.truth[0], self.guess[0])
        missed, wrong = np.setdiff1d(self.truth[0], right), np.setdiff1d(self.guess[0], right)
        of = {"named right": right, "not named": missed, "named wrong": wrong}
        return [f"{what}: {' '.join(self.spelt(each)) or '-'}" for what, each in of.items()]

    def draw(self, path: Path, title: str) -> None:
        rows = {
            "true": np.array([len(each) for each in self.truth]),
            "named right": _in_common(self.truth, self.guess),
            "frequent ones right": _in_common(self.truth, self.without),
        }
        pictures.counts(path, title, rows, "words", "what was read, one after the other")


def of_words(round: Round, view: View, guess: Guess, *, tapped: bool = False) -> Words:
    """The words of each part, next ones among them, beside the most frequent ones of the test set."""
    dataset = round.layout.serving.dataset
    public = np.bincount(
        np.append(dataset.test_x, dataset.test_y).astype(np.int64), minlength=dataset.classes
    )
    frequent = np.argsort(-public, kind="stable")
    frequent = frequent[frequent != UNKNOWN]
    truth, named = [], []
    for part, found in zip(view.parts, guess, strict=True):
        x, y = round.truth_of(part, tapped=tapped)
        assert found.words is not None  # noqa: S101 - of an attack that looks for words
        truth.append(_known(np.append(x, y)))
        named.append(_known(found.words))
    without = [frequent[: len(each)] for each in named]
    return Words(view, truth, named, without, dataset.words, guess)


def _known(tokens: NDArray[Any]) -> Tokens:
    return np.setdiff1d(tokens.astype(np.int64), [UNKNOWN])


def _in_common(some: Sequence[Tokens], others: Sequence[Tokens]) -> NDArray[np.int64]:
    """(P,): how many, of each part."""
    return np.array([len(np.intersect1d(*both)) for both in zip(some, others, strict=True)])
