"""One image from one gradient: the control of every verdict on what hides gradients."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.geiping import Engine
from benchmarks.harness import Case, Control, Row, Table
from benchmarks.spread import seeds
from fl.cli.attack import described
from fl.cli.recorded import Round, record
from fl.cli.scored import of_images
from fl.cohort.layout import Layout, Serving
from fl.config.secret import RunSecrets
from fl.data import DataError, load
from fl.leakage import apart
from fl.leakage.attack import Budget
from fl.leakage.baselines import TO_BEAT

CLAIM = (
    "Who reads a client's gradient of one image reads the image. As the server of a plain session has it, "
    "in float32, from first weights that everybody knows, with the label read off the gradient. MNIST's "
    "first twenty test images, from a patterned start (CPL): all 60 of three seeds of weights above 68 dB, "
    "where 30 is asked, in 1.1 s of a processor in the mean and 2.7 at most, where 4 may be taken. "
    "CIFAR-10's first eight training images: 58 dB in the mean and 40 the least of 24, where 45 and 35 are "
    "asked, in 8.1 s in the mean and 10.1 at most, where 10 may be taken and a step that has begun is "
    "finished. Geiping et al.'s own engine (cosine and total variation 0.01 on signs, 4,800 iterations, one "
    "start, float32), on the same images, weights, labels and one thread, in the same run: 21 dB in the "
    "mean, 26 at best, in 19 s. Its code is not ours: it is run out of a clone of their repository, whose "
    "folder `SECAGG_GEIPING` names, and its rows are left out without one. Quick: one seed, few images."
)
CONTROL = Control("the best of grey, mean image and class mean, in each row", lambda row: "baseline" in row)
ALONE = False
SEEDS = {"quick": 1, "full": 3}


@dataclass(frozen=True)
class Setup:
    """Images of one set, inverted one by one. seconds: of ours; theirs takes its iterations. least: dB that
    every image is to have.
    """

    dataset: str
    part: str
    images: int
    model: str
    attack: str  # ours by name, or theirs
    start: str
    seconds: float
    least: float

    @property
    def name(self) -> str:
        return f"{self.dataset}, {self.attack}"


GEIPINGS = "Geiping's"
SETUPS = (
    Setup("mnist", "test", 20, "lenet-4conv", "inversion", "patterned", 4.0, 30.0),
    Setup("cifar-10", "train", 8, "lenet-zhu", "inversion", "grey", 10.0, 35.0),
    Setup("cifar-10", "train", 8, "lenet-zhu", GEIPINGS, "normal", 0.0, 35.0),
)
FEW = {"mnist": 3, "cifar-10": 1}
"""Images of the quick size."""


def cases(size: str, seed: int) -> list[Case]:
    setups = [replace(setup, images=FEW[setup.dataset]) if size == "quick" else setup for setup in SETUPS]
    return [
        Case(f"{setup.name}, seed {each}", partial(run_case, setup, each))
        for setup in setups
        for each in seeds(seed, SEEDS[size])
    ]


def session(setup: Setup, seed: int) -> Round:
    """A plain round in which each client's gradient is that of one image. Raises: DataError without data."""
    dataset = load(setup.dataset)
    x, y = (dataset.test_x, dataset.test_y) if setup.part == "test" else (dataset.train_x, dataset.train_y)
    flags: dict[str, Any] = {
        "scheme": "plain",
        "algorithm": "fedsgd",
        "dataset": setup.dataset,
        "model": setup.model,
    }
    config = described(flags, setup.images, 1, None, 1, seed)
    shares = {u: np.array([u]) for u in range(setup.images)}
    layout = Layout(x[: setup.images], y[: setup.images], shares, frozenset(), Serving(dataset))
    return record(config, layout, RunSecrets.of_seed(seed))


def run_case(setup: Setup, seed: int) -> Iterator[Row | str]:
    """A row for each image. skipped: why, where the data set or their engine is not to be had."""
    head: Row = {"dataset": setup.dataset, "model": setup.model, "attack": setup.attack, "start": setup.start}
    head |= {"seed": seed, "target": setup.least}
    try:
        round = session(setup, seed)
        theirs = Engine.found() if setup.attack == GEIPINGS else None
    except (DataError, NotImplementedError) as error:
        yield head | {"skipped": str(error)}
        return
    budget, view = Budget(seconds=setup.seconds, start=setup.start), round.view("server")
    yield f"{setup.images} images"
    if theirs is None:
        guess, head["budget"] = apart.run(setup.attack, view, round.knowledge, budget, seed), setup.seconds
    else:
        guess, head["engine"] = theirs(view, round.knowledge, budget, seed), theirs.commit
    cell = of_images(round, view, guess)
    for i, part in enumerate(view.parts):
        (u,) = part.members
        yield head | {
            "image": u,
            "psnr": round_to(cell.scores.psnr[i]),
            "mse": float(cell.scores.mse[i]),
            "l2": round_to(cell.scores.l2[i], 4),
            "ssim": round_to(cell.scores.ssim[i], 4),
            "label": bool(cell.scores.labels[i]),
            "baseline": round_to(max(cell.baseline_psnr[name][i] for name in TO_BEAT)),
            "loss": cell.guesses[i].loss,
            "seconds": round_to(cell.guesses[i].seconds),
        }


def round_to(x: float, digits: int = 2) -> float:
    """A number for JSON, of whatever type."""
    return round(float(x), digits)


def table(rows: Sequence[Row]) -> Table:
    """PSNR, L2, SSIM, best guess: means. least: of the worst image of all seeds. reached: how many have the
    target. s: of a processor, the mean.
    """
    header = (
        *("data", "model", "attack", "start", "images", "PSNR", "least", "reached", "target", "L2", "SSIM"),
        *("labels", "best guess", "s"),
    )
    by: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        by.setdefault(tuple(row[name] for name in ("dataset", "model", "attack", "start")), []).append(row)
    return Table.of(header, [(*which, *_cells(some)) for which, some in by.items()])


def _cells(some: Sequence[Row]) -> tuple[str, ...]:
    there = [row for row in some if "skipped" not in row]
    if not there:
        return ("not there", *[""] * 9)

    def mean(name: str) -> float:
        return statistics.fmean(row[name] for row in there)

    target = there[0]["target"]
    return (
        str(len(there)),
        f"{mean('psnr'):.1f} dB",
        f"{min(row['psnr'] for row in there):.1f}",
        f"{sum(row['psnr'] >= target for row in there)}",
        f"{target:.0f}",
        f"{mean('l2'):.3f}",
        f"{mean('ssim'):.3f}",
        f"{sum(row['label'] for row in there)}",
        f"{mean('baseline'):.1f}",
        f"{mean('seconds'):.1f}",
    )
