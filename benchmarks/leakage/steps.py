"""What is left of images after several local steps, and in later rounds: Wei and Liu's figure 5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import HEADER, Summary, Target, cells_of, over_rounds, word
from benchmarks.spread import seeds
from fl.config.plan import LocalPlan
from fl.training.local import batches

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Updates of MNIST images of `lenet-4conv`, without momentum, inverted with half a second of a "
    "processor an image and step. Of one image a client, at rate 0.05: who takes an update of several "
    "steps for one step finds nothing, which is what a figure that falls with the steps measures; who "
    "takes the steps again, as everybody knows how many they were, finds the image after nine steps as "
    "after one (44 to 49 dB). Local steps hide nothing by being several. Of four images a client, at "
    "rate 0.005 in two epochs, they come out of two steps of all four as of one step; of batches of "
    "two, or one by one, at all three seeds or two where the attacker happens to guess the order in "
    "which the client takes them, and at one or none where it does not: the secret order hides, not the "
    "steps, and not the labels. By round, with 2 s an image: 74 dB at first weights, 78 after two "
    "rounds and 34 after six, of a net that is better by then: later rounds are harder and hide "
    "nothing."
)
ONCE, AGAIN, OTHER = "as one step", "steps taken again", "again, in another order"
CONTROL = Control("one step, of the same round", lambda row: row["steps"] == 1, by=("by", "seed", "round"))
ALONE = False
SECONDS = {"quick": 0.2, "full": 0.5}  # of a processor, an image and step
LONGER = {"quick": 0.2, "full": 2.0}  # after the first weights, as gradients are smaller then
SEEDS = {"quick": 1, "full": 3}
STEPS = {"quick": (1, 9), "full": (1, 3, 5, 7, 9)}
ROUNDS = {"quick": (0, 1), "full": (0, 2, 6)}
IMAGES = 4  # of a client that holds several
EPOCHS = 2
BATCHES = {"quick": (2,), "full": (1, 2, 4)}
RATE = 0.05
SLOW = 0.005  # of several images: at .05 a few steps change the net so much that not even labels are read
BY = ("steps", "order", "round")
PLAN = LocalPlan(steps=1, batch_size=1, lr=RATE, momentum=0.0)


def cases(size: str, seed: int) -> list[Case]:
    these = seeds(seed, SEEDS[size])
    return [
        *(
            Case(f"one image, seed {each}", partial(of_steps, each, STEPS[size], SECONDS[size]))
            for each in these
        ),
        *(
            Case(f"several, seed {each}", partial(of_order, each, BATCHES[size], SECONDS[size]))
            for each in these
        ),
        *(
            Case(f"rounds, seed {each}", partial(of_rounds, each, ROUNDS[size], LONGER[size]))
            for each in these
        ),
    ]


def of_steps(seed: int, counts: Sequence[int], seconds: float) -> Iterator[Row | str]:
    """By local steps, of one image a client.

    Raises: NotImplementedError where the data set is not to be had.
    """
    target = Target.drawn("mnist", seed)
    first = target.knowledge("lenet-4conv", seed)
    knows = {steps: replace(first, plan=msgspec.structs.replace(PLAN, steps=steps)) for steps in counts}
    uploads = {steps: target.uploads(knows[steps]) for steps in counts}
    head = {"by": "steps", "seed": seed, "round": 0, "images": 1, "batch": 1}
    yield ONCE
    # To who takes it for one step, a mean step: as far as all together, at so many times the rate.
    means = [[x / steps for x in each] for steps, each in uploads.items()]
    found = target.attacked(replace(first, plan=PLAN), means, seconds, seed)
    for steps, one in zip(counts, found, strict=True):
        yield head | {"steps": steps, "attacker": ONCE, "budget": seconds} | one
    for steps in counts:
        if steps > 1:
            yield f"{steps} {AGAIN}"
            (one,) = target.attacked(knows[steps], [uploads[steps]], steps * seconds, seed)
            yield head | {"steps": steps, "attacker": AGAIN, "budget": steps * seconds} | one


def of_order(seed: int, sizes: Sequence[int], seconds: float) -> Iterator[Row | str]:
    """By batches, of several images a client: once of clients who took them in the order
    in which the attacker takes them, and once of others.
    """
    target = by_label(Target.drawn("mnist", seed))
    first = replace(target.knowledge("lenet-4conv", seed), examples=IMAGES)
    one_step = msgspec.structs.replace(PLAN, lr=SLOW, batch_size=IMAGES)
    for plan in (one_step, *map(plan_of, sizes)):
        knowledge = replace(first, plan=plan)
        head = {"by": "order", "seed": seed, "round": 0, "images": IMAGES, "batch": plan.batch_size}
        head |= {"steps": plan.steps, "budget": plan.steps * seconds}
        for attacker, lucky in ((AGAIN, True), (OTHER, False)):
            if plan.batch_size == IMAGES and not lucky:
                continue  # of a batch of all there is one order
            yield f"{plan.steps} of {plan.batch_size}, {attacker}"
            uploads = target.uploads(knowledge, order=order_of(plan, seed, lucky=lucky))
            (one,) = target.attacked(knowledge, [uploads], plan.steps * seconds, seed)
            yield head | {"attacker": attacker} | one


def plan_of(batch: int) -> LocalPlan:
    """All epochs in steps of so many images."""
    return msgspec.structs.replace(PLAN, lr=SLOW, batch_size=batch, steps=EPOCHS * IMAGES // batch)


def by_label(target: Target) -> Target:
    """The images of each client by their labels, as an attack has them, which knows no order."""
    order = np.concatenate(
        [i + np.argsort(target.y[i : i + IMAGES]) for i in range(0, len(target.y), IMAGES)]
    )
    return replace(target, x=target.x[order], y=target.y[order])


def order_of(plan: LocalPlan, seed: int, *, lucky: bool) -> bytes:
    """A key under which a client takes its batches in the order in which the attacker takes them, which is
    always the same, or does not.
    """
    cut = [frozenset(range(i, i + plan.batch_size)) for i in range(0, IMAGES, plan.batch_size)]
    taken = [cut[step % len(cut)] for step in range(plan.steps)]
    for tried in count():
        key = np.random.default_rng([seed, tried]).bytes(32)
        if ([frozenset(batch.tolist()) for batch in batches(IMAGES, plan, key)] == taken) == lucky:
            return key
    raise AssertionError


def of_rounds(seed: int, rounds: Sequence[int], seconds: float) -> Iterator[Row | str]:
    """By round, of one image a client and one step."""
    target = Target.drawn("mnist", seed)
    for trained in over_rounds(target.knowledge("lenet-4conv", seed), seed, rounds):
        yield f"round {trained.round}"
        knowledge = replace(trained.knowledge, plan=PLAN)
        (one,) = target.attacked(knowledge, [target.uploads(knowledge)], seconds, seed)
        head = {"by": "round", "seed": seed, "round": trained.round, "accuracy": trained.accuracy}
        yield head | {"images": 1, "batch": 1, "steps": 1, "attacker": ONCE, "budget": seconds} | one


def table(rows: Sequence[Row]) -> Table:
    """round: after which. of: images of a client. s: of a processor, for each. loss: the median of what the
    attacker sees of how well its images explain what was sent, beside the length of that.
    """
    by = cells_of(rows, "by", "round", "images", "batch", "steps", "attacker")
    single = {
        what: [row for row in rows if (row["by"], row["round"], row["steps"]) == (what, 0, 1)] for what in BY
    }
    return Table.of(
        ("round", "of", "batch", "steps", "attacker", "s", *HEADER, "loss", "so"),
        [
            (
                str(round),
                str(images),
                str(batch),
                str(steps),
                attacker if steps > 1 else "",
                f"{some[0]['budget']:g}",
                *Summary.of(some).cells,
                f"{np.median([loss for row in some for loss in row['losses']]):.1g}",
                word(some, single[what], "hidden from this attack"),
            )
            for (what, round, images, batch, steps, attacker), some in by.items()
        ],
    )


def plot(rows: Sequence[Row]) -> Figure:
    """Figure 5: by local steps, from first weights; by round, of one step."""
    from benchmarks.plots import lines

    by = {
        key: Summary.of(some).mean for key, some in cells_of(rows, "by", "round", "steps", "attacker").items()
    }

    def by_steps(attacker: str) -> list[tuple[float, float]]:
        return [(steps, x) for (what, _, steps, who), x in by.items() if (what, who) == ("steps", attacker)]

    of_steps = {ONCE: by_steps(ONCE), AGAIN: [(1, by["steps", 0, 1, ONCE]), *by_steps(AGAIN)]}
    of_rounds = {"1 step": [(round, x) for (what, round, *_), x in by.items() if what == "round"]}
    return lines(
        {
            "first weights": ("local steps", "PSNR, dB", of_steps),
            "later rounds": ("round", "PSNR, dB", of_rounds),
        },
        log=False,
    )
