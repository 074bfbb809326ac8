"""What is left of an image after several local steps, and in later rounds: Wei and Liu's figure 5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import HEADER, Summary, Target, cells_of, over_rounds, word
from benchmarks.spread import seeds
from fl.config.plan import LocalPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Updates of one MNIST image each, `lenet-4conv`, after so many local steps on it at rate 0.05. To who "
    "takes the update for that of one step, at so many times the rate, three steps already hide the "
    "image, as figure 5 has it of more steps. Who knows the plan, as everybody does who takes part, takes "
    "the steps again, and finds the image after three and after nine of them as well as after one: "
    "several steps hide nothing, they only take as many times as long (0.3 s of a processor for each "
    "image and step). By round, of 4 clients of 1,500 images as in `trained`, one step and 1 s an image: "
    "after two rounds the image is still found with every seed, and after six with two of three. Later "
    "rounds are harder, as in figure 5, and no protection."
)
ONCE, AGAIN = "as one step", "steps taken again"
CONTROL = Control("one step, in the same round", lambda row: row["steps"] == 1, by=("seed", "round"))
ALONE = False
SECONDS = 0.3  # of a processor, an image; who takes steps again has as many times that
LONGER = 1.0  # after the first weights, as gradients are smaller then
SEEDS = {"quick": 1, "full": 3}
STEPS = {"quick": (1, 9), "full": (1, 3, 5, 7, 9)}
TAKEN_AGAIN = {"quick": (9,), "full": (3, 9)}  # from first weights
ROUNDS = {"quick": (0, 1), "full": (0, 2, 6)}
LATER = (1,)  # steps that are looked at after the first weights
PLAN = LocalPlan(steps=1, batch_size=1, lr=0.05, momentum=0.0)


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(f"seed {each}", partial(run_case, each, ROUNDS[size], STEPS[size], TAKEN_AGAIN[size]))
        for each in seeds(seed, SEEDS[size])
    ]


def run_case(
    seed: int, rounds: Sequence[int], of_steps: Sequence[int], again: Sequence[int]
) -> Iterator[Row | str]:
    """Raises: NotImplementedError where the data set is not to be had."""
    target = Target.drawn("mnist", seed)
    first = target.knowledge("lenet-4conv", seed)
    for trained in over_rounds(first, seed, rounds):
        at_once = of_steps if trained.round == 0 else LATER
        knows = {
            steps: replace(trained.knowledge, plan=msgspec.structs.replace(PLAN, steps=steps))
            for steps in at_once
        }
        uploads = {steps: target.uploads(knows[steps]) for steps in at_once}
        head = {"seed": seed, "round": trained.round, "accuracy": trained.accuracy}
        yield f"round {trained.round}, {ONCE}"
        # To who takes it for one step, a mean step: as far as all together, at so many times the rate.
        means = [[x / steps for x in each] for steps, each in uploads.items()]
        seconds = LONGER if trained.round else SECONDS
        found = target.attacked(replace(trained.knowledge, plan=PLAN), means, seconds, seed)
        for steps, one in zip(at_once, found, strict=True):
            yield head | {"steps": steps, "attacker": ONCE} | one
        for steps in () if trained.round else again:
            yield f"round {trained.round}, {steps} {AGAIN}"
            (one,) = target.attacked(knows[steps], [uploads[steps]], steps * SECONDS, seed)
            yield head | {"steps": steps, "attacker": AGAIN} | one


def table(rows: Sequence[Row]) -> Table:
    """accuracy: of the model that the client received, on the test set."""
    by = cells_of(rows, "round", "steps", "attacker")
    return Table.of(
        ("round", "accuracy", "steps", "attacker", *HEADER, "so"),
        [
            (
                "before any" if round == 0 else f"after {round}",
                f"{np.mean([row['accuracy'] for row in some]):.2f}",
                str(steps),
                attacker if steps > 1 else "",
                *Summary.of(some).cells,
                word(some, by[round if steps > 1 else 0, 1, ONCE], "hidden from this attack"),
            )
            for (round, steps, attacker), some in by.items()
        ],
    )


def plot(rows: Sequence[Row]) -> Figure:
    """Figure 5: by local steps, from first weights; by round, of one step."""
    from benchmarks.plots import lines

    by = {key: Summary.of(some).mean for key, some in cells_of(rows, "round", "steps", "attacker").items()}

    def by_steps(attacker: str) -> list[tuple[float, float]]:
        return [(steps, x) for (round, steps, who), x in by.items() if round == 0 and who == attacker]

    of_steps = {ONCE: by_steps(ONCE), AGAIN: [(1, by[0, 1, ONCE]), *by_steps(AGAIN)]}
    of_rounds = {"1 step": [(round, x) for (round, steps, _), x in by.items() if steps == 1]}
    return lines(
        {
            "first weights": ("local steps", "PSNR, dB", of_steps),
            "later rounds": ("round", "PSNR, dB", of_rounds),
        },
        log=False,
    )
