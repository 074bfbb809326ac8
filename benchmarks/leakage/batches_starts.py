"""Which images of a batch come out with which start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.batched import RECOGNISED, Batches, ended, ends
from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import cells_of
from benchmarks.spread import seeds
from fl.leakage import apart
from fl.leakage.attack import Budget
from fl.leakage.baselines import TO_BEAT, baselines
from fl.leakage.metrics import matched, psnr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "One gradient of eight MNIST images, of `lenet-4conv` at its first weights, from five starts, with "
    "8 s of a processor: eight images looked for together, and one alone, as in equation 2 of Wei and "
    "Liu. Looked for together, which image comes out best is another one with nearly every start, and "
    "so is how many: from the mean image of each label 21 of 24 above 20 dB, from grey 14, from noise "
    "5, from one bit a pixel none; that is a matter of time, as all of them ended with it. One image "
    "alone in the gradient of eight is none of them, from whatever start: 3 to 4 dB, stuck, where the "
    "best guess without an attack has 13. The mean of eight gradients is no image's."
)
TOGETHER, ALONE_ = "eight together", "one alone"
CONTROL = Control("eight together, of the same batch", lambda row: row["looked"] == TOGETHER, by=("seed",))
ALONE = False
SIZE: Final = 8
STARTS = {"quick": ("grey", "uniform"), "full": ("grey", "uniform", "patterned", "binary", "class-mean")}
SECONDS = {"quick": 0.3, "full": 1.0}  # of a processor, for each of the eight, however many are looked for
SEEDS = {"quick": 1, "full": 3}


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(f"batch {each}", partial(run_case, STARTS[size], each, SECONDS[size]))
        for each in seeds(seed, SEEDS[size])
    ]


def run_case(starts: Sequence[str], seed: int, seconds: float) -> Iterator[Row | str]:
    """psnr: of each true image, of the guess that is matched to it, or of the only one. best: which comes out
    best. Raises: NotImplementedError where the data set is not to be had.
    """
    batch = Batches.drawn("mnist", SIZE, None, seed)
    knowledge = batch.knowledge("lenet-4conv", seed)
    (part,) = batch.view(knowledge).parts
    target = batch.target
    without = baselines(target.x, target.y, target.public, target.of)
    guessed = max(float(psnr(target.x, without[name]).mean()) for name in TO_BEAT)
    for looked in (TOGETHER, ALONE_):
        n = SIZE if looked == TOGETHER else 1
        view = replace(batch.view(knowledge), parts=(replace(part, examples=n),))
        for start in starts:
            yield f"{looked}, {start}"
            budget = Budget(seconds=seconds * SIZE / n, starts=1, start=start)
            (found,) = apart.run("inversion", view, replace(knowledge, examples=n), budget, seed)
            images = cast(NDArray[np.float64], found.images)
            made = images[matched(target.x, images)] if n == SIZE else np.repeat(images, SIZE, axis=0)
            near = np.round(psnr(target.x, made), 2).tolist()
            row = {
                "looked": looked,
                "start": start,
                "seed": seed,
                "budget": seconds * SIZE,
                "without": guessed,
            }
            yield row | {"psnr": near, "best": int(np.argmax(near)), "ended": ended(found)}


def table(rows: Sequence[Row]) -> Table:
    """best: which image of each batch comes out best, counted from 0. its PSNR: the mean over the batches.
    mean, worst, > 20 dB: of all images.
    """
    return Table.of(
        ("looked for", "start", "best", "its PSNR", "mean", "worst", "> 20 dB", "without", "ended"),
        [
            (
                looked,
                start,
                ", ".join(str(row["best"]) for row in some),
                f"{np.mean([max(row['psnr']) for row in some]):.1f}",
                f"{np.mean([row['psnr'] for row in some]):.1f}",
                f"{min(min(row['psnr']) for row in some):.1f}",
                f"{sum(x > RECOGNISED for row in some for x in row['psnr'])} of {SIZE * len(some)}",
                f"{np.mean([row['without'] for row in some]):.1f}",
                ends([row["ended"] for row in some]),
            )
            for (looked, start), some in cells_of(rows, "looked", "start").items()
        ],
    )


def plot(rows: Sequence[Row]) -> Figure:
    """Of the first batch: PSNR of each image from each start."""
    from benchmarks.plots import grids

    first = cells_of([row for row in rows if row["seed"] == rows[0]["seed"]], "looked")
    images = [str(i) for i in range(SIZE)]
    return grids(
        {
            looked: ([row["start"] for row in some], images, [row["psnr"] for row in some])
            for (looked,), some in first.items()
        },
        "image of the batch",
        "PSNR, dB",
    )
