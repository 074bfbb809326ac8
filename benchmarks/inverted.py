"""Updates of single images, inverted where nothing hides them but what a benchmark puts there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.begun import Row
from benchmarks.noised import Training, mean_of
from fl.config.plan import LocalPlan
from fl.config.run import RunConfig
from fl.data import DataError, load
from fl.leakage import apart
from fl.leakage.attack import Budget, Guess, Knowledge, Public
from fl.leakage.baselines import CLASS_MEAN, TO_BEAT, baselines
from fl.leakage.metrics import Scores, matched, psnr
from fl.leakage.verdicts import FAILED, FEWEST, LEARNED, learned, reconstructed
from fl.leakage.views import Part, View
from fl.models.architectures import Description, build
from fl.models.weights import from_vector, to_vector
from fl.training.local import train
from fl.training.step import PerExample

IMAGES: Final = FEWEST
GRADIENT: Final = LocalPlan(algorithm="fedsgd", batch_size=1)
PUBLIC: Final = 10_000  # images of which means are taken
ORDER: Final = bytes(32)  # of one image there is one order

CLIENTS, EXAMPLES, RATE = 4, 1500, 0.02

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """Images that are attacked, each a client's only one but where it is said, of a kind that everybody has.

    x: (N, C, H, W), y: (N,), of the test set. public, of: images of the training set, with their labels.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    public: NDArray[np.float32]
    of: NDArray[np.int64]
    classes: int

    @classmethod
    def drawn(cls, dataset: str, seed: int, images: int = IMAGES) -> Target:
        """Raises: NotImplementedError where the data set is not to be had."""
        try:
            data = load(dataset)
        except DataError as error:
            raise NotImplementedError(str(error)) from error
        some = np.random.default_rng(seed).choice(len(data.test_y), images, replace=False)
        x, public = cast(NDArray[np.float32], data.test_x), cast(NDArray[np.float32], data.train_x)
        return cls(x[some], data.test_y[some], public[:PUBLIC], data.train_y[:PUBLIC], data.classes)

    def knowledge(self, model: str, seed: int, plan: LocalPlan = GRADIENT) -> Knowledge:
        """Of first weights, drawn from the seed."""
        _, *shape = self.x.shape
        described = Description(model, tuple(shape), self.classes)
        parameters = to_vector(build(model, described.shape, self.classes, seed))
        return Knowledge(described, parameters, plan, examples=1)

    def with_own(self, knowledge: Knowledge) -> Knowledge:
        """And images of the attacker's own, which are those that are public."""
        return replace(knowledge, public=Public(self.public, self.of))

    def uploads(
        self, knowledge: Knowledge, per_example: PerExample | None = None, order: bytes = ORDER
    ) -> list[Vector]:
        """What each client sends, as the plan says, which has as many of the images as it is known to hold.
        per_example: what its steps make of each. order: the key of the order in which it takes them.
        """
        torch.set_num_threads(1)
        described = knowledge.model
        model = build(described.model, described.shape, described.classes, 0)
        from_vector(model, knowledge.parameters)
        x, y = torch.tensor(self.x), torch.tensor(self.y)
        each = zip(torch.split(x, knowledge.examples), torch.split(y, knowledge.examples), strict=True)
        trained = [
            train(model, images, labels, knowledge.plan, order, per_example=per_example, counting=False)
            for images, labels in each
        ]
        return [result.upload.astype(np.float64) for result in trained]

    def attacked(
        self,
        knowledge: Knowledge,
        cells: Sequence[Sequence[Vector]],
        seconds: float,
        seed: int,
        attack: str = "inversion",
    ) -> list[Row]:
        """Of each cell, which has an upload of every client, what the attack makes of them, each for itself,
        chosen by its own loss: of every image its numbers, and of what can be guessed without an attack the
        mean PSNR. found: as verdicts are reached. seconds: of a processor, for each image.
        """
        # All in one: a process takes longer to begin than an image to be found.
        parts = [Part(frozenset({u}), x[None]) for cell in cells for u, x in enumerate(cell)]
        guess = apart.run(attack, View(tuple(parts)), knowledge, Budget(seconds=seconds), seed)
        n = len(self.y) // knowledge.examples
        own = attack in LEARNED
        return [self.scored(guess[i * n : (i + 1) * n], own=own) for i in range(len(cells))]

    def scored(self, guess: Guess, *, own: bool = False) -> Row:
        """Of a guess with a part for each client, in their order. own: by who has learned from images of its
        own.
        """
        images, guessed, start = list[NDArray[np.float64]](), list[NDArray[np.int64]](), 0
        for one in guess:  # of a client's images, which is which is not told
            made = cast(NDArray[np.float64], one.images)
            order = matched(self.x[start : start + len(made)], made)
            images.append(made[order])
            guessed.append(one.labels[order])
            start += len(made)
        scores = Scores.of(self.x, self.y, np.concatenate(images), np.concatenate(guessed))
        without = baselines(self.x, self.y, self.public, self.of)
        to_beat = {name: psnr(self.x, without[name]) for name in TO_BEAT}
        return {
            "psnr": np.round(scores.psnr, 2).tolist(),
            "mse": np.round(scores.mse, 5).tolist(),
            "mse_unclipped": [float(f"{each:.4g}") for each in scores.mse_unclipped],
            "l2": np.round(scores.l2, 4).tolist(),
            "ssim": [None if np.isnan(each) else round(float(each), 4) for each in scores.ssim],
            "labels": int(scores.labels.sum()),
            "baselines": {name: round(float(each.mean()), 2) for name, each in to_beat.items()},
            "found": self._found(scores, to_beat, own=own),
            "losses": [float(f"{one.loss:.3g}") if np.isfinite(one.loss) else None for one in guess],
            "seconds": round(sum(one.seconds for one in guess), 1),
        }

    def _found(self, scores: Scores, to_beat: dict[str, Vector], *, own: bool) -> bool | None:
        if len(self.y) < FEWEST:
            return None
        return learned(scores.psnr, to_beat[CLASS_MEAN]) if own else reconstructed(scores.psnr, to_beat)


@dataclass(frozen=True)
class Trained:
    """accuracy: on the test set."""

    round: int
    accuracy: float
    knowledge: Knowledge


def over_rounds(knowledge: Knowledge, seed: int, looks: Sequence[int]) -> Iterator[Trained]:
    """The model after each of these rounds of 4 clients of 1,500 MNIST images, none of them a target, in one
    pass a round of batches of 10 at rate 0.02; 0 is before the first. (At 0.1 sigmoids stay at chance.)
    """
    settings: dict[str, Any] = {"model": knowledge.model.model, "seed": seed, "rounds": max(looks)}
    layout = {"dataset": "mnist", "clients": CLIENTS, "examples_per_client": EXAMPLES, "partition": "iid"}
    plan = {"local_epochs": 1, "batch_size": 10, "lr": RATE, "momentum": 0.0, "execution": "sequential"}
    training = Training(RunConfig.of(**(settings | layout | plan)))
    training.parameters = knowledge.parameters.astype(np.float64)
    if 0 in looks:
        yield Trained(0, training.accuracy(), knowledge)
    for round in training.rounds(mean_of):
        if round in looks:
            yield Trained(round, training.accuracy(), at(knowledge, training.parameters))


def at(knowledge: Knowledge, parameters: NDArray[np.floating]) -> Knowledge:
    """Of another model of the same kind."""
    return replace(knowledge, parameters=parameters.astype(np.float32))


@dataclass(frozen=True)
class Summary:
    """A cell over seeds. mean: of all images, sd: of the seeds' means, in dB. low: the worst image. found: in
    how many seeds; labels: of all, how many right.
    """

    mean: float
    sd: float
    low: float
    baseline: float
    found: int
    seeds: int
    labels: int
    images: int

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Summary:
        means = [float(np.mean(row["psnr"])) for row in rows]
        return cls(
            float(np.mean(means)),
            float(np.std(means, ddof=1)) if len(means) > 1 else 0.0,
            min(min(row["psnr"]) for row in rows),
            float(np.mean([max(row["baselines"].values()) for row in rows])),
            sum(bool(row["found"]) for row in rows),
            len(rows),
            sum(row["labels"] for row in rows),
            sum(len(row["psnr"]) for row in rows),
        )

    @property
    def cells(self) -> tuple[str, ...]:
        """Under `HEADER`."""
        return (
            f"{self.mean:.1f} ± {self.sd:.1f}",
            f"{self.low:.1f}",
            f"{self.baseline:.1f}",
            f"{self.labels} of {self.images}",
            f"{self.found} of {self.seeds}",
        )


HEADER: Final = ("PSNR", "worst", "without", "labels", "found")
"""PSNR: mean and the seeds' deviation. without: the best of grey, mean and class-mean image. found: in how
many seeds images were found, 3 dB above that.
"""


def cells_of(rows: Sequence[Row], *fields: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows of all seeds by what else tells them apart, in their order."""
    by: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        by.setdefault(tuple(row[field] for field in fields), []).append(row)
    return by


def word(cell: Sequence[Row], control: Sequence[Row], hidden: str) -> str:
    """What may be said: whether it leaks, or that it is hidden, and by what; and where not even the control
    gave the images away, that nothing may be. A seed in which it leaks is one too many.
    """
    if any(row["found"] for row in cell):
        return "leaks"
    return hidden if all(row["found"] for row in control) else FAILED
