"""The ten starts of Wei and Liu's figure 3, and grey: how near an inversion is after each iteration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import Target, cells_of
from benchmarks.spread import seeds, spread
from fl.leakage import apart
from fl.leakage.attack import Budget, Found, Public
from fl.leakage.metrics import mse, psnr, ssim
from fl.leakage.starts import CLASS_IMAGE, CLASS_MEAN, NAMES, OWN
from fl.leakage.views import Part, View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Gradients of one CIFAR-10 image each, at a net's first weights, inverted from one start each with 1.5 "
    "s of a processor an image: how near the image is after each iteration, of 20 steps of L-BFGS. Figure 3 "
    "has every geometric start faster than a random one. Here that holds only against noise from N(0, 1), "
    "from which no image has 20 dB. Beside uniform noise the tiles of a quarter are no faster (15 and 12 "
    "iterations to 20 dB in the median, on `lenet-zhu` and on `lenet-4conv`, where it has 14 and 12) and "
    "end less than 1 dB above it; those of a sixteenth are as fast, and end above it on `lenet-zhu` and "
    "below it on `lenet-4conv`; patterns and noise of 0 and 1 and the three colours are slower, and have 20 "
    "dB of fewer than half of the images in this time. Two that are none of the ten are faster than all of "
    "them: the mean of the class, of images of the attacker's own (5 and 6 iterations; all 48 images have "
    "20 dB), and grey, which needs none (8 and 6; 47 do). Both end at 28 dB in the mean; grey is 6.1 and "
    "4.7 dB above uniform noise then, and above it for each of the 48 images. An image of the class is a "
    "little faster than noise (11 and 11). Their figure is of CIFAR-100, which is no data set here: its "
    "images are of the same size and kind, and its hundred classes would make the last layer alone another "
    "one."
)
RANDOM: Final = "uniform"
CONTROL = Control(
    "the random start, of the same net and seed",
    lambda row: row["start"] == RANDOM,
    by=("model", "seed"),
)
ALONE = False
SECONDS = {"quick": 0.2, "full": 1.5}  # of a processor, an image
SEEDS = {"quick": 1, "full": 3}
LOOKS: Final = 40  # iterations, of 20 steps each: as many as the time is enough for
REACHED: Final = 20.0  # dB


NETS = {"quick": ("lenet-zhu",), "full": ("lenet-zhu", "lenet-4conv")}


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(f"{model}, seed {each}", partial(run_case, model, each, SECONDS[size]))
        for model in NETS[size]
        for each in seeds(seed, SEEDS[size])
    ]


def run_case(model: str, seed: int, seconds: float) -> Iterator[Row | str]:
    """A row a start. after: iterations until an image has 20 dB, None where it never has. by_ssim, by_mse:
    means over the images after each iteration; of one that ended before, as it ended.

    Raises: NotImplementedError where the data set is not to be had.
    """
    target = Target.drawn("cifar-10", seed)
    knowledge = replace(target.knowledge(model, seed), public=Public(target.public, target.of))
    view = View(tuple(Part(frozenset({u}), x[None]) for u, x in enumerate(target.uploads(knowledge))))
    for start in NAMES:
        yield start
        budget = Budget(seconds=seconds, starts=1, start=start, looks=LOOKS)
        guess = apart.run("inversion", view, knowledge, budget, seed)
        near = _along(psnr, target.x, guess)
        head = {"model": model, "start": start, "seed": seed, "budget": seconds}
        ways = {
            "after": [int(each.argmax()) + 1 if each.any() else None for each in near >= REACHED],
            "by_ssim": np.round(_along(ssim, target.x, guess).mean(axis=0), 4).tolist(),
            "by_mse": [float(f"{each:.4g}") for each in _along(mse, target.x, guess).mean(axis=0)],
        }
        yield head | ways | target.scored(guess)


def _along(
    metric: Callable[..., NDArray[np.float64]], truth: NDArray[np.float32], guess: Sequence[Found]
) -> NDArray[np.float64]:
    """(N, LOOKS): of each image after each iteration."""
    each = []
    for x, one in zip(truth, guess, strict=True):
        path = cast(NDArray[np.float64], one.path)[:, 0]
        numbers = metric(np.broadcast_to(x, path.shape), path)
        each.append(np.pad(numbers, (0, LOOKS - len(numbers)), mode="edge"))
    return np.stack(each)


def table(rows: Sequence[Row]) -> Table:
    """20 dB after: the median of all images, of which those that never have it are the last. reached: how
    many have it. PSNR: of what the attack chose at the end, mean and the seeds' deviation.
    """
    by = cells_of(rows, "model", "start")
    return Table.of(
        ("net", "start", "20 dB after", "reached", "PSNR", "SSIM at the end", "worst", "without"),
        [
            (
                model,
                start,
                _median([each for row in some for each in row["after"]]),
                _reached(some),
                spread([float(np.mean(row["psnr"])) for row in some], ".1f"),
                f"{np.mean([row['by_ssim'][-1] for row in some]):.2f}",
                f"{min(min(row['psnr']) for row in some):.1f}",
                f"{np.mean([max(row['baselines'].values()) for row in some]):.1f}",
            )
            for (model, start), some in by.items()
        ],
    )


def _median(after: Sequence[int | None]) -> str:
    """The lower one of two."""
    middle = sorted(after, key=lambda each: np.inf if each is None else each)[(len(after) - 1) // 2]
    return "never" if middle is None else str(middle)


def _reached(some: Sequence[Row]) -> str:
    all_ = [each for row in some for each in row["after"]]
    return f"{sum(each is not None for each in all_)} of {len(all_)}"


def plot(rows: Sequence[Row]) -> Figure:
    """Figure 3: SSIM and MSE by every second iteration, a line a start, of the first net. Dashed, in the
    colours of grey and of uniform noise: the mean of a class, and an image of it.
    """
    from benchmarks.plots import lines

    by = cells_of([row for row in rows if row["model"] == rows[0]["model"]], "start")

    def curves(what: str) -> dict[str, list[tuple[float, float]]]:
        order = ("grey", CLASS_MEAN, RANDOM, CLASS_IMAGE, *(start for (start,) in by))
        means = {start: np.mean([row[what] for row in by[start,]], axis=0) for start in dict.fromkeys(order)}
        return {
            f"~{start}" if start in OWN else start: [(i + 1, float(mean[i])) for i in range(0, LOOKS, 2)]
            for start, mean in means.items()
        }

    panels = {what: ("iterations", what, curves(f"by_{what.lower()}")) for what in ("SSIM", "MSE")}
    return lines(panels, log=False, below=True)
