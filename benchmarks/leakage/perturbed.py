"""What noise and compression hide of the image in a gradient, and from whom."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import HEADER, Summary, Target, Vector, cells_of, word
from benchmarks.spread import seeds
from fl.config.privacy import Perturbation
from fl.leakage.attack import Knowledge
from fl.privacy.mechanisms import perturbed
from secagg.crypto import KEY_BYTES

CLAIM = (
    "Gradients of one MNIST image each, of `lenet-4conv` at its first weights, perturbed as a client "
    "perturbs what it sends. plain: L-BFGS, 1 s of a processor an image. aware: it does not ask for "
    "numbers that were left out, which are 0 and so are seen, or for the largest, where only these are "
    "noised; 2.5 s an image. learned: a net that has learned from 6,000 public images, perturbed "
    "likewise, 8 s for eight images. Half of the numbers left out hide nothing from who is aware of it, "
    "and 90 % not for sure; 99 % hide the image from both, and none of this hides it from who has learned "
    "(18 dB and 16, where the class mean has 13). Noise of deviation 0.01 hides nothing; 0.03 and 0.1 "
    "stop L-BFGS, and leave 20 and 17 dB to who has learned; 1 on every number leaves that one at the "
    "class mean, above it with one seed of three, and takes half of the labels away. On the largest tenth "
    "of the numbers alone even 1 does not stop who has learned: that is no substitute. What hides an "
    "image from one attack hides it from one attack."
)
NONE = "none"
CONTROL = Control(
    "the gradient as it is, by the same attack", lambda row: row["what"] == NONE, by=("dataset", "seed")
)
ALONE = False
PLAIN, AWARE, LEARNED = "inversion", "sparse", "learned"
ATTACKERS = {PLAIN: "plain", AWARE: "aware", LEARNED: "learned"}
SECONDS = {"quick": {PLAIN: 0.3, AWARE: 0.3, LEARNED: 0.5}, "full": {PLAIN: 1.0, AWARE: 2.5, LEARNED: 1.0}}
SEEDS = {"quick": 1, "full": 3}
NEVER: Final = 1e6  # a clip that no gradient reaches: what is studied is noise of one size


@dataclass(frozen=True)
class Cell:
    """A perturbation, and who attacks. unsure: the share of the largest numbers that who is aware does not
    ask to be met, since it knows that noise is there. published: of figure 6 whether the face is to be seen.
    """

    what: str
    asked: Perturbation | None = None
    by: tuple[str, ...] = (PLAIN, LEARNED)
    unsure: float = 0.0
    published: str = ""


def gaussian(deviation: float, largest: float = 1.0) -> Perturbation:
    """Gaussian noise of this deviation on the `largest` share of the coordinates."""
    return Perturbation("local", clip=NEVER, multiplier=deviation / NEVER, largest=largest)


def without(share: float) -> Perturbation:
    """This share of the coordinates, those that are smallest, is left out."""
    return Perturbation(compress=share)


ALL: Final = (PLAIN, AWARE, LEARNED)
LEFT_OUT = {
    share: Cell(f"{100 * share:g} % left out", without(share), ALL) for share in (0.1, 0.5, 0.9, 0.99)
}
NOISED = {sd: Cell(f"sd {sd:g} on all", gaussian(sd)) for sd in (0.001, 0.01, 0.03, 0.1, 1.0)}
ON_LARGEST = tuple(
    Cell(f"sd {sd:g} on the largest 10 %", gaussian(sd, 0.1), ALL, unsure=0.1) for sd in (0.1, 1.0)
)
CELLS = (Cell(NONE), *LEFT_OUT.values(), *NOISED.values(), *ON_LARGEST)
FEW = (Cell(NONE), LEFT_OUT[0.5], NOISED[0.1])


def cases(size: str, seed: int) -> list[Case]:
    cells = FEW if size == "quick" else CELLS
    return [
        Case(f"mnist, seed {each}", partial(run_case, "mnist", "lenet-4conv", cells, each, SECONDS[size]))
        for each in seeds(seed, SEEDS[size])
    ]


def run_case(
    dataset: str, model: str, cells: Sequence[Cell], seed: int, seconds: Mapping[str, float]
) -> Iterator[Row | str]:
    """seconds: of a processor, an image, of each attack. Raises: NotImplementedError where the data set is
    not to be had.
    """
    target = Target.drawn(dataset, seed)
    knowledge = target.knowledge(model, seed)
    gradients = target.uploads(knowledge)
    head = {"dataset": dataset, "seed": seed, "size": float(np.mean(np.abs(gradients)))}
    for attack in seconds:
        for cell in cells:
            if attack not in cell.by:
                continue
            yield f"{ATTACKERS[attack]}, {cell.what}"
            who = {"what": cell.what, "attack": attack, "published": cell.published}
            yield head | who | attacked(cell, target, knowledge, gradients, seed, attack, seconds[attack])


def attacked(
    cell: Cell,
    target: Target,
    knowledge: Knowledge,
    gradients: Sequence[Vector],
    seed: int,
    attack: str,
    seconds: float,
) -> Row:
    """What one attacker makes of the cell: who is aware of what it is not to trust, who learns of all."""
    if attack == LEARNED:
        knowledge = replace(target.with_own(knowledge), perturbation=cell.asked)
    read = received(cell.asked, gradients, seed)
    if attack == AWARE:
        read = [untrusted(x, cell.unsure, target.classes) for x in read]
    (found,) = target.attacked(knowledge, [read], seconds, seed, attack)
    return found


def received(asked: Perturbation | None, gradients: Sequence[Vector], seed: int) -> list[Vector]:
    """Of each gradient what a client sends."""
    rng = np.random.default_rng(seed)  # of an experiment that is to be repeated: a client's is a secret
    return [perturbed(asked, x, rng.bytes(KEY_BYTES)).astype(np.float64) for x in gradients]


def untrusted(x: Vector, share: float, classes: int) -> Vector:
    """x without its largest numbers, of which a client is known to have noised this share. The last bias,
    which has the label, stays: what it says is plain in spite of noise.
    """
    doubted = np.argsort(-np.abs(x))[: math.ceil(share * len(x))]
    rest = x.copy()
    rest[doubted[doubted < len(x) - classes]] = 0.0
    return rest


def table(rows: Sequence[Row]) -> Table:
    """attacker: aware, if it knows what was left out, or that the largest numbers are noised; learned, if it
    has images of its own, and then found is more than the class mean. L2: the distance, of pixels clipped to
    [0, 1], the median.
    """
    by = cells_of(rows, "dataset", "what", "attack")
    return Table.of(
        ("data", "perturbed", "attacker", *HEADER, "L2", "published", "so"),
        [
            (
                dataset,
                what,
                ATTACKERS[attack],
                *Summary.of(some).cells,
                f"{np.median([row['l2'] for row in some]):.2g}",
                some[0]["published"] or "",
                said(some, by[dataset, NONE, PLAIN if attack == AWARE else attack], others(by, key)),
            )
            for key, some in by.items()
            for dataset, what, attack in [key]
        ],
    )


def others(by: Mapping[tuple[Any, ...], list[Row]], key: tuple[Any, ...]) -> dict[str, list[Row]]:
    """What other attackers make of the same: by what they are called."""
    return {
        ATTACKERS[other[-1]]: some for other, some in by.items() if other[:-1] == key[:-1] and other != key
    }


def said(some: Sequence[Row], control: Sequence[Row], others: Mapping[str, list[Row]]) -> str:
    """`word`, but that nothing is hidden which another attacker finds."""
    finds = [who for who, theirs in others.items() if any(row["found"] for row in theirs)]
    so = word(some, control, "hidden from these attacks" if others else "hidden from this attack")
    if so.startswith("hidden") and finds:
        return f"not hidden: {' and '.join(finds)} {'finds' if len(finds) == 1 else 'find'} it"
    return so
