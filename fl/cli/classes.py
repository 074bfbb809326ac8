"""Images of classes out of a model that a real run has trained, beside those out of its first weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fl.cli import pictures
from fl.cli.attacked import Doing
from fl.cli.recorded import model_of
from fl.cli.scored import Tally, parts_of, spent
from fl.cohort.layout import Layout
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.federation.simulation import simulated
from fl.leakage import apart, views
from fl.leakage.attack import Budget, Guess, Knowledge
from fl.leakage.metrics import psnr
from fl.leakage.verdicts import guessed, of_model
from fl.leakage.views import View
from secagg.errors import ClientId


@dataclass(frozen=True)
class Trained:
    """What came of a run of so many rounds. parameters, first: (d,), the model then, and before the first
    round. accuracy: on the test set; None where the clients keep the model.
    """

    config: RunConfig
    layout: Layout
    knowledge: Knowledge
    parameters: NDArray[np.float32]
    first: NDArray[np.float32]
    accuracy: float | None

    @property
    def members(self) -> frozenset[ClientId]:
        return frozenset(self.layout.shares)

    def view(self, party: str) -> View:
        """What the party can read of the model, and nothing besides."""
        if party in ("relay", "eavesdropper"):
            return View((), "it has no model")
        if party == "server" and self.config.protection.kept:
            return View((), "the clients keep the model, and the server has none")
        return views.of_model(self.parameters, self.members)

    @property
    def means(self) -> NDArray[np.float64]:
        """(classes, C, H, W): of the training images of each class."""
        dataset = self.layout.serving.dataset
        x = cast(NDArray[np.float32], dataset.train_x)
        return np.stack([x[dataset.train_y == c].mean(axis=0, dtype=float) for c in range(dataset.classes)])


def trained(config: RunConfig, layout: Layout, secrets: RunSecrets) -> Trained:
    """All rounds of the run, each by a session of its scheme."""
    server = simulated(config, layout, secrets=secrets, evaluate_every=config.training.rounds)
    first, accuracy = server.model.broadcast, None
    for round in server.rounds():
        accuracy = round.record.accuracy
    knowledge = Knowledge(
        server.description, first, config.training.plan, max(map(len, layout.shares.values()))
    )
    return Trained(config, layout, knowledge, model_of(server), first, accuracy)


@dataclass(frozen=True)
class Classes:
    """An image of each class, (classes, C, H, W), beside the mean of its training images.

    A class is a hit where of all class means that which correlates most with its image is its own.
    """

    view: View
    means: NDArray[np.float64] = field(repr=False)
    images: NDArray[np.float64] = field(repr=False)
    guesses: Guess = field(repr=False)

    @property
    def right(self) -> NDArray[np.bool_]:
        images, means = _standard(self.images), _standard(self.means)
        hits: NDArray[np.bool_] = (images @ means.T).argmax(axis=1) == np.arange(len(means))
        return hits

    @property
    def hits(self) -> int:
        return int(self.right.sum())

    @property
    def psnr(self) -> NDArray[np.float64]:
        return psnr(self.means, self.images)

    @property
    def grey(self) -> NDArray[np.float64]:
        return psnr(self.means, np.full_like(self.means, 0.5))

    @property
    def found(self) -> bool | None:
        """By chance one of them all is right; None of so few that all right would be chance."""
        trials = len(self.means)
        return guessed(self.hits, trials, 1 / trials) if guessed(trials, trials, 1 / trials) else None

    @property
    def tally(self) -> Tally:
        return Tally(self.hits, len(self.means), 1.0)

    @property
    def beside(self) -> str:
        return f"{self.brief}, beside 1"

    @property
    def brief(self) -> str:
        return f"{self.hits} of {len(self.means)} classes"

    @property
    def says(self) -> str:
        return (
            f"and the images of {self.brief} out of it are nearest to the mean of theirs, beside 1 by chance "
            f"({self.psnr.mean():.1f} dB to it in the mean, grey {self.grey.mean():.1f})"
        )

    @property
    def besides(self) -> str:
        return ""

    @property
    def header(self) -> tuple[str, ...]:
        return "classes", "right", "by chance", "PSNR", "grey"

    @property
    def row(self) -> tuple[str, ...]:
        near, grey = f"{self.psnr.mean():.1f} dB", f"{self.grey.mean():.1f}"
        return str(len(self.means)), str(self.hits), "1", near, grey

    @property
    def lines(self) -> Sequence[str]:
        return ()

    def told(self) -> dict[str, Any]:
        return parts_of(self.view) | {
            "classes": len(self.means),
            "hits": self.hits,
            "right": self.right.tolist(),
            "psnr": np.round(self.psnr, 2).tolist(),
            "grey": np.round(self.grey, 2).tolist(),
            "found": self.found,
            **spent(self.guesses),
        }

    def draw(self, path: Path, title: str) -> None:
        pictures.images(path, title, {"class mean": (self.means, None), "found": (self.images, self.psnr)})


def _standard(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, d), of mean 0 and length 1; an image of one colour has length 0."""
    flat = images.reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    standard: NDArray[np.float64] = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    return standard


@dataclass(frozen=True)
class Outcome:
    """What the attack makes of the model that a party has, and of its first weights, where it has to fail."""

    seen: Classes | None
    untrained: Classes
    why: str

    @property
    def verdict(self) -> str:
        if self.seen is None:
            return of_model(None, untrained=bool(self.untrained.found))
        return of_model(self.seen.found, untrained=bool(self.untrained.found), few=self.seen.found is None)

    @property
    def cells(self) -> dict[str, Classes]:
        there = {"seen": self.seen, "untrained": self.untrained}
        return {name: cell for name, cell in there.items() if cell is not None}


def attacked(run: Trained, party: str, budget: Budget, seed: int, doing: Doing | None = None) -> Outcome:
    """doing: holds what is attacked meanwhile. Raises: ConfigError for a model of text."""
    means, now = run.means, Doing() if doing is None else doing

    def cell(name: str, view: View) -> Classes:
        with now.this(name):
            guess = apart.run("face", view, run.knowledge, budget, seed)
        images = guess[0].images
        assert images is not None  # noqa: S101 - of an attack that looks for images
        return Classes(view, means, images, guess)

    view = run.view(party)
    seen = cell("seen", view) if view.parts else None
    return Outcome(seen, cell("untrained", views.of_model(run.first, run.members)), view.why)
